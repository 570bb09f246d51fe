"""How many corners the image has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive.opencv import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Grey levels by which the circle must differ from its centre.
THRESHOLD = 20
#: The circle of 16 pixels is 7 wide.
DIAMETER = 7


def keypoints(luma: NDArray[np.uint8]) -> tuple[float]:
    """Count FAST corners, 0..3721 on a 128x128 crop; 0 where a side is below 7 pixels.

    FAST-9 (Rosten and Drummond 2006): of the 16 pixels on a circle of radius 3, at least 9 in a
    row are all lighter or all darker than the centre by more than 20 grey levels. A corner's
    strength is the largest threshold at which it still is one, and it counts only if it is
    stronger than all eight neighbours. Taylor et al. 2018 count keypoints without saying which;
    these are the cheapest.
    """
    if min(luma.shape) < DIAMETER:
        return (0.0,)
    detector = cv2.FastFeatureDetector_create(  # type: ignore[attr-defined]
        THRESHOLD, True, cv2.FAST_FEATURE_DETECTOR_TYPE_9_16
    )
    return (float(len(detector.detect(luma))),)
