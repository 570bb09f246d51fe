"""DETR (Carion et al. 2020, arXiv 2005.12872) and its kin: a fixed number of boxes, no rivals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from adaptive.errors import EngineError
from adaptive.tasks.boxes import Form, Unit, corners, in_pixels, rows
from adaptive.tasks.raw import Chances, Frame, Outputs, named, shapes, sigmoid, softmax


def decode(
    outputs: Outputs,
    frame: Frame,
    *,
    boxes: str = "",
    scores: str = "",
    nothing: Literal["last", "none"] = "last",
    form: Form = "cxcywh",
    unit: Unit = "shares",
) -> Chances:
    """Two outputs, (boxes, 4) and logits (boxes, classes + 1); by shape where not named.

    boxes, scores : names of the two outputs
    nothing : "last": a softmax, whose last entry says that there is no object (DETR); "none": a
        sigmoid for each class (Deformable DETR, Sparse R-CNN)
    """
    width = frame.classes + (nothing == "last")
    found = {name: rows(array, f"output {name!r}") for name, array in outputs.items() if array.ndim}
    if not boxes:
        boxes = _only({n for n, a in found.items() if a.shape[1] == 4} - {scores}, outputs, width)
    if not scores:
        scores = _only(
            {n for n, a in found.items() if a.shape[1] == width} - {boxes}, outputs, width
        )
    sides, logits = (rows(named(outputs, name), f"output {name!r}") for name in (boxes, scores))
    if sides.shape[1] != 4 or logits.shape != (len(sides), width):
        raise _unfit(outputs, width)
    logits = logits.astype(np.float32, copy=False)
    chances = softmax(logits)[:, :-1] if nothing == "last" else sigmoid(logits)
    placed = corners(sides.astype(np.float32, copy=False), form)
    return Chances(in_pixels(placed, unit, frame.size), chances)


def _only(names: set[str], outputs: Outputs, width: int) -> str:
    if len(names) != 1:
        raise _unfit(outputs, width)
    return next(iter(names))


def _unfit(outputs: Outputs, width: int) -> EngineError:
    return EngineError(
        f"decoder 'detr' needs the outputs (boxes, 4) and (boxes, {width}); name them with "
        f"'boxes' and 'scores' where shapes leave a choice; the network has {shapes(outputs)}"
    )
