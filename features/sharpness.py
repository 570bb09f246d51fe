"""How sharp and how noisy the image is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptive.opencv import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def laplacian(luma: NDArray[np.uint8]) -> tuple[float]:
    """Standard deviation of luma's Laplacian, 0..1020 grey levels: the less, the more blurred.

    The focus measure that Pech-Pacheco et al. 2000 made known as its variance, with the kernel
    0 1 0, 1 -4 1, 0 1 0. Under replicated borders each neighbour's difference enters twice with
    opposite signs, so the mean is exactly 0 and the deviation is the root mean square.
    """
    response = cv2.Laplacian(luma, cv2.CV_16S, borderType=cv2.BORDER_REPLICATE)
    return (cv2.norm(response) / math.sqrt(luma.size),)


def noise(luma: NDArray[np.uint8]) -> tuple[float]:
    """Deviation of the noise in grey levels, 0..427, by Immerkaer 1996; 0 if a side is below 3.

    sqrt(pi / 2) / (6 (w - 2) (h - 2)) times the sum of |luma * N| over the inner pixels, where
    N = 1 -2 1, -2 4 -2, 1 -2 1 sees no structure that is linear in either direction. The
    deviation of white Gaussian noise comes out unchanged; fine texture counts as noise.
    """
    height, width = luma.shape
    if min(height, width) < 3:
        return (0.0,)
    # Sobel's second derivative in both directions is N
    response = cv2.Sobel(luma, cv2.CV_16S, 2, 2, ksize=3)[1:-1, 1:-1]
    inner = (width - 2) * (height - 2)
    return (math.sqrt(math.pi / 2) / 6 * (cv2.norm(response, cv2.NORM_L1) / inner),)
