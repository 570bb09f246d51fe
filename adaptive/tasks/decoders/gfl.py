"""Generalised focal loss (Li et al. 2020, arXiv 2006.04388), the head of NanoDet.

Each side of a box is a distribution over distances from the cell's centre, in strides; its mean
is the distance.
"""

from __future__ import annotations

from typing import Any, List, Literal, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import EngineError
from adaptive.tasks.boxes import rows
from adaptive.tasks.raw import Chances, Frame, Outputs, cells, shapes, sigmoid, softmax


def decode(
    outputs: Outputs,
    frame: Frame,
    *,
    strides: Tuple[int, ...] = (8, 16, 32),
    bins: int = 8,
    centre: Literal["pixel", "middle", "corner"] = "pixel",
    scores: Literal["chances", "logits"] = "chances",
) -> Chances:
    """Two outputs a level, (cells, classes) and (cells, 4 x bins), or both in one; by shape.

    strides : pixels of the input a cell, level by level
    bins : of the distribution of each side
    centre : where a cell's centre lies; "middle": the middle of its square, "pixel": half a pixel
        before that, in the middle of a pixel (NanoDet-m), "corner": its first corner
        (NanoDet-Plus)
    scores : whether the file already makes chances of the logits
    """
    places, steps = cells(frame.size, strides)
    counts = [int((steps == stride).sum()) for stride in strides]
    chances, sides = _joined(outputs, frame.classes, 4 * bins, counts)
    if scores == "logits":
        chances = sigmoid(chances)
    middle = {"pixel": (steps - 1) / 2, "middle": steps / 2, "corner": steps * 0}[centre]
    centres = places * steps + middle
    distances = softmax(sides.reshape(-1, 4, bins)) @ np.arange(bins, dtype=np.float32) * steps
    boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
    return Chances(boxes, chances)


def _joined(
    outputs: Outputs, classes: int, width: int, counts: List[int]
) -> Tuple[NDArray[Any], NDArray[Any]]:
    """Class chances and sides of all levels, one level after the other."""
    arrays = [rows(array, f"output {name!r}") for name, array in outputs.items()]
    arrays = [array.astype(np.float32, copy=False) for array in arrays]
    total = sum(counts)
    levels = []
    for count in [total] if any(len(array) == total for array in arrays) else counts:
        same = [array for array in arrays if len(array) == count]
        both = [array for array in same if array.shape[1] == classes + width]
        if len(both) == 1:
            levels.append((both[0][:, :classes], both[0][:, classes:]))
            continue
        first = [array for array in same if array.shape[1] == classes]
        second = [array for array in same if array.shape[1] == width]
        if classes == width and len(first) == 2:  # of one shape: chances are the earlier output
            first, second = first[:1], first[1:]
        if len(first) != 1 or len(second) != 1:
            raise EngineError(
                f"decoder 'gfl' needs the outputs ({count}, {classes}) and ({count}, {width}), "
                f"or ({count}, {classes + width}); the network has {shapes(outputs)}"
            )
        levels.append((first[0], second[0]))
    return np.concatenate([a for a, _ in levels]), np.concatenate([b for _, b in levels])
