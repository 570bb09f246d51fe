"""Arithmetic of boxes: arrays of shape (k, 4), x1 y1 x2 y2, a corner and the one opposite."""

from __future__ import annotations

from typing import Any, Literal, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import EngineError

#: How four numbers say a box: two corners, the same with y first, centre and sides, or corner
#: and sides.
Form = Literal["xyxy", "yxyx", "cxcywh", "xywh"]

#: What they are measured in: pixels of the network's input, or shares of its sides.
Unit = Literal["pixels", "shares"]

#: An array of numbers with a fraction.
Floats = NDArray[Any]


def corners(boxes: Floats, form: Form = "xyxy") -> Floats:
    """Boxes of any form as x1 y1 x2 y2."""
    if form == "xyxy":
        return boxes
    if form == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    first, sides = boxes[:, :2], boxes[:, 2:]
    if form == "cxcywh":  # from the centre both ways, since a side may be infinite
        return np.concatenate([first - sides / 2, first + sides / 2], axis=1)
    return np.concatenate([first, first + sides], axis=1)


def in_pixels(boxes: Floats, unit: Unit, size: Tuple[int, int]) -> Floats:
    """Corners in pixels of an input of `size` (height, width)."""
    if unit == "pixels":
        return boxes
    height, width = size
    scaled: Floats = boxes * np.array([width, height, width, height], boxes.dtype)
    return scaled


def areas(boxes: Floats) -> Floats:
    """Width times height; a box whose corners are the wrong way round has none."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: Floats = sides[:, 0] * sides[:, 1]
    return product


def intersections(first: Floats, second: Floats) -> Floats:
    """Area that each of `first` shares with each of `second`, shape (len first, len second)."""
    x1, y1, x2, y2 = (first[:, side, np.newaxis] for side in range(4))
    across = np.minimum(x2, second[:, 2]) - np.maximum(x1, second[:, 0])
    down = np.minimum(y2, second[:, 3]) - np.maximum(y1, second[:, 1])
    shared: Floats = np.maximum(across, 0) * np.maximum(down, 0)
    return shared


def ious(first: Floats, second: Floats) -> Floats:
    """Intersection over union, shape (len first, len second); 0 where a box has no area."""
    shared = intersections(first, second)
    union = areas(first)[:, np.newaxis] + areas(second) - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return ratio


def clipped(boxes: Floats, width: float, height: float) -> Floats:
    """Boxes cut off at the edges of an image."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def rows(array: NDArray[Any], what: str) -> NDArray[Any]:
    """An output of one image as a matrix: the last axis stays, axes of one before it go.

    Raises
    ------
    EngineError
        when it has more axes than that, as the outputs of several images have.
    """
    kept = [side for side in array.shape[:-1] if side != 1]
    if array.ndim < 1 or len(kept) > 1:
        raise EngineError(
            f"{what} has the shape {array.shape}; of one image a matrix is needed, "
            "with axes of length one before it at most"
        )
    return array.reshape(-1, array.shape[-1])
