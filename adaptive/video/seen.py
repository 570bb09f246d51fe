"""What was seen in a frame, on its way into an index."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.opencv import cv2

#: Longest side of the pictures of centroids, pixels, and JPEG's quality.
LONGEST, QUALITY = 640, 95


class SeenObject(NamedTuple):
    """One object of a frame.

    box : x1 y1 x2 y2, pixels of the frame
    kinds : classes that it may be of
    features : ndarray (width,), float32, rounded to 16 bits, as they are stored
    picture : ndarray (height, width, 3), uint8, RGB, which a strong network may be shown
    inside : the box in pixels of the picture
    """

    box: np.ndarray
    kinds: Sequence[int]
    features: np.ndarray
    picture: np.ndarray
    inside: np.ndarray


class SeenFrame(NamedTuple):
    """One frame that was looked at, and its objects."""

    number: int
    time_s: float
    objects: Sequence[SeenObject]


def encoded_picture(pixels: np.ndarray) -> Tuple[bytes, float]:
    """A picture as JPEG, and what it was scaled by so that it is not too large."""
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    if scale < 1:
        sides = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, sides, interpolation=cv2.INTER_AREA))
    right, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    assert right
    return bytes(data), scale
