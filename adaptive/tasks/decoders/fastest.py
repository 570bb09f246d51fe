"""FastestDet: one level of cells; a box, an objectness and class chances a cell."""

from __future__ import annotations

import numpy as np

from adaptive.errors import EngineError
from adaptive.tasks.boxes import corners, in_pixels
from adaptive.tasks.raw import Chances, Frame, Outputs, cells, shapes, sigmoid

#: Score = objectness^0.6 x class chance^0.4.
_OBJECT = 0.6


def decode(outputs: Outputs, frame: Frame) -> Chances:
    """One output, (5 + classes, rows, columns): objectness, x, y, width, height, class chances.

    The centre is (cell + tanh), the sides are sigmoids, both as shares of the input.
    """
    arrays = list(outputs.values())
    width = 5 + frame.classes
    if (
        len(arrays) != 1
        or arrays[0].ndim < 3
        or arrays[0].size != width * np.prod(arrays[0].shape[-2:])
    ):
        raise EngineError(
            f"decoder 'fastest' needs one output of ({width}, rows, columns); "
            f"the network has {shapes(outputs)}"
        )
    grid = arrays[0].shape[-2:]
    values = arrays[0].astype(np.float32, copy=False).reshape(width, -1).T
    places, _ = cells((grid[0], grid[1]), (1,))
    centres = (places + np.tanh(values[:, 1:3])) / np.array(grid[::-1], np.float32)
    shares = np.concatenate([centres, sigmoid(values[:, 3:5])], axis=1)
    objects, chances = np.maximum(values[:, :1], 0), np.maximum(values[:, 5:], 0)
    boxes = in_pixels(corners(shares, "cxcywh"), "shares", frame.size)
    return Chances(boxes, objects**_OBJECT * chances ** (1 - _OBJECT))
