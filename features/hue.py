"""Which colours the image has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptive.features.catalogue import BINS
from adaptive.opencv import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Pixels with a saturation or value below this (of 255) are too grey or dark to have a hue.
COLOURED = 26

#: On 64-bit Arm OpenCV rounds a saturation of exactly 25.5 otherwise in the last pixels of a row,
#: those beyond a multiple of this.
_BLOCK = 8


def hue(pixels: NDArray[np.uint8]) -> list[float]:
    """Share of all pixels in each of seven equal bins of hue, 0..1 each; red starts the first.

    Hue is that of HSV (Smith 1978) in OpenCV's steps of two degrees, and each pixel counts the
    same. Pixels that are nearly grey or black are in no bin, so the shares add up to the part
    of the image that is coloured, and a grey image has seven zeros.
    """
    hsv = _hsv(pixels)
    hues, least, value = (cv2.extractChannel(hsv, channel) for channel in range(3))
    # What has none gets a hue outside all bins: a histogram with a mask takes three times as long.
    cv2.min(least, value, least)
    cv2.threshold(least, COLOURED - 1, 255, cv2.THRESH_BINARY_INV, least)
    cv2.bitwise_or(hues, least, hues)
    counts = cv2.calcHist([hues], [0], None, [BINS], [0, 180])
    size = hues.size
    # OpenCV 4 returns a column, OpenCV 5 a row
    return [count / size for count in counts.ravel().tolist()]


def _hsv(pixels: NDArray[np.uint8]) -> Any:
    """As HSV, each pixel by its colour alone, wherever in a row it stands."""
    width = pixels.shape[1]
    beyond = -width % _BLOCK
    padded: Any = pixels
    if beyond:
        padded = cv2.copyMakeBorder(pixels, 0, 0, 0, beyond, cv2.BORDER_REPLICATE)
    converted = cv2.cvtColor(padded, cv2.COLOR_RGB2HSV)
    return converted[:, :width] if beyond else converted
