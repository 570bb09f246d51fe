"""How light the image is: luma, perceived brightness, and their spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of ITU-R BT.601, Y = 0.299 R + 0.587 G + 0.114 B, rounded to whole levels.

    OpenCV's fixed point, the same in versions 4 and 5 on x86:
    (9798 R + 19235 G + 3735 B + 2^14) >> 15. Its ARM builds may differ by one level.
    """
    luma: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return luma  # type: ignore[no-any-return]


def brightness(luma: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Mean, root mean square and standard deviation of luma, 0..255 grey levels.

    The names are those of Taylor et al. 2018; the deviation is the RMS contrast of Peli 1990,
    kept in grey levels (0..127.5) where he divides by the range.
    """
    # in whole numbers, so that a flat image has a deviation of exactly 0
    size = luma.size
    total = round(cv2.sumElems(luma)[0])
    squares = round(cv2.norm(luma, cv2.NORM_L2SQR))
    deviation = math.sqrt(size * squares - total * total) / size
    return total / size, math.sqrt(squares / size), deviation


def perceived_brightness(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and root mean square of perceived brightness, 0..255 grey levels.

    Perceived brightness of a pixel is sqrt(0.299 R^2 + 0.587 G^2 + 0.114 B^2), the HSP colour
    model of Finley 2006, in single precision.
    """
    squares = pixels.astype(np.float32, order="C")
    squares *= squares
    # luma's weights are those of this model
    perceived = cv2.cvtColor(squares, cv2.COLOR_RGB2GRAY)
    mean_square = cv2.mean(perceived)[0]
    cv2.sqrt(perceived, perceived)
    # rounding may lift white a hair above 255
    return min(cv2.mean(perceived)[0], 255.0), min(math.sqrt(mean_square), 255.0)
