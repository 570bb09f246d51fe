"""Raw proposals of any one-stage detector: boxes as they are, and numbers for the classes."""

from __future__ import annotations

from typing import Any, Literal, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import EngineError
from adaptive.tasks.boxes import Form, Unit, corners, in_pixels, rows
from adaptive.tasks.raw import Chances, Frame, Outputs, named, shapes, sigmoid, softmax


def decode(
    outputs: Outputs,
    frame: Frame,
    *,
    boxes: str = "",
    scores: str = "",
    form: Form = "xyxy",
    unit: Unit = "pixels",
    objectness: bool = False,
    background: Literal["none", "first", "last"] = "none",
    kind: Literal["chances", "sigmoid", "softmax"] = "chances",
) -> Chances:
    """Outputs (boxes, 4) and (boxes, classes), or one with both; by shape where not named.

    One output holds the four numbers first; it may lie the other way round, (4 + classes, boxes).

    boxes, scores : names of the two outputs
    form, unit : what the four numbers are
    objectness : whether one number before the classes multiplies them
    background : whether one of the entries is no class, and which
    kind : what the numbers of the classes are: chances, or what a sigmoid or softmax makes so
    """
    width = frame.classes + objectness + (background != "none")
    sides, values = _pair(outputs, boxes, scores, width)
    chances = values.astype(np.float32, copy=False)
    if kind == "softmax":
        chances = np.concatenate(
            [sigmoid(chances[:, : int(objectness)]), softmax(chances[:, int(objectness) :])], axis=1
        )
    elif kind == "sigmoid":
        chances = sigmoid(chances)
    if objectness:
        chances = chances[:, :1] * chances[:, 1:]
    if background != "none":
        chances = chances[:, 1:] if background == "first" else chances[:, :-1]
    placed = corners(sides.astype(np.float32, copy=False), form)
    return Chances(in_pixels(placed, unit, frame.size), chances)


def _pair(
    outputs: Outputs, boxes: str, scores: str, width: int
) -> Tuple[NDArray[Any], NDArray[Any]]:
    """The four numbers of each box, and those of its classes."""
    if boxes and scores:
        sides, values = (
            rows(_plain(named(outputs, name)), f"output {name!r}") for name in (boxes, scores)
        )
        if sides.shape[1] == 4 and values.shape == (len(sides), width):
            return sides, values
        raise _unfit(outputs, width)
    arrays = [rows(_plain(array), f"output {name!r}") for name, array in outputs.items()]
    if len(arrays) == 1:
        both = arrays[0]
        if both.shape[1] != 4 + width and both.shape[0] == 4 + width:
            both = both.T
        if both.shape[1] == 4 + width:
            return both[:, :4], both[:, 4:]
    if len(arrays) == 2:
        fits = [
            (a, b)
            for a, b in (arrays, arrays[::-1])
            if a.shape[1] == 4 and b.shape == (len(a), width)
        ]
        if len(fits) == 1:
            return fits[0]
    raise _unfit(outputs, width)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Without the axis of length one that some networks put before the four numbers."""
    return array.reshape(array.shape[0], array.shape[1], -1) if array.ndim == 4 else array


def _unfit(outputs: Outputs, width: int) -> EngineError:
    return EngineError(
        f"decoder 'proposals' needs the outputs (boxes, 4) and (boxes, {width}), named with "
        f"'boxes' and 'scores' where shapes leave a choice, or one of (boxes, {4 + width}); "
        f"the network has {shapes(outputs)}"
    )
