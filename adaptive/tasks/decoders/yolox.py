"""YOLOX (Ge et al. 2021, arXiv 2107.08430): a box, an objectness and class chances a cell."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adaptive.errors import EngineError
from adaptive.tasks.boxes import corners, rows
from adaptive.tasks.raw import Chances, Frame, Outputs, cells, shapes


def decode(
    outputs: Outputs,
    frame: Frame,
    *,
    strides: Tuple[int, ...] = (8, 16, 32),
    decoded: bool = False,
) -> Chances:
    """One output, (cells, 5 + classes): x, y, log width, log height, objectness, class chances.

    strides : pixels of the input a cell, level by level
    decoded : whether the file itself already makes centre and sides in pixels of the first four
    """
    wanted = f"decoder 'yolox' needs one output of (cells, {5 + frame.classes})"
    if len(outputs) != 1:
        raise EngineError(f"{wanted}; the network has {shapes(outputs)}")
    values = rows(next(iter(outputs.values())), "the output").astype(np.float32, copy=False)
    places, steps = cells(frame.size, strides)
    if values.shape[1] != 5 + frame.classes or (not decoded and len(values) != len(places)):
        raise EngineError(
            f"{wanted}, {len(places)} cells for the strides {list(strides)}; "
            f"the network has {shapes(outputs)}"
        )
    boxes = values[:, :4]
    if not decoded:
        sides = np.exp(boxes[:, 2:]) * steps
        boxes = np.concatenate([(boxes[:, :2] + places) * steps, sides], axis=1)
    return Chances(corners(boxes, "cxcywh"), values[:, 4:5] * values[:, 5:])
