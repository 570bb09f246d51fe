"""Final boxes: the file itself has chosen them, and hands over box, score and class."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import EngineError
from adaptive.tasks.boxes import Form, Unit, corners, in_pixels, rows
from adaptive.tasks.raw import Chosen, Frame, Outputs, named, shapes


def decode(
    outputs: Outputs,
    frame: Frame,
    *,
    boxes: str = "",
    scores: str = "",
    classes: str = "",
    count: str = "",
    columns: Tuple[str, ...] = ("box", "score", "class"),
    form: Form = "xyxy",
    unit: Unit = "pixels",
) -> Chosen:
    """Outputs (k, 4), (k,) and (k,), or one matrix of k rows.

    boxes, scores, classes : names of the outputs. Where they are left out, boxes are what has
        four columns, classes are whole numbers, or an output with "class" or "label" in its
        name, and scores are the rest
    count : name of an output that says how many of the rows are meant; one with "num" in its
        name is taken where it is left out
    columns : of the one matrix: "box" (four numbers), "score", "class", and "skip" for one that
        is passed over
    form, unit : what the four numbers of a box are
    """
    if len(outputs) == 1:
        sides, certain, kinds = _from_matrix(outputs, columns)
    else:
        sides, certain, kinds = _from_three(outputs, boxes, scores, classes, count)
    numbers = np.rint(kinds)
    if not np.isfinite(kinds).all() or (numbers != kinds).any():
        raise EngineError("decoder 'final' found classes that are no whole numbers")
    placed = corners(sides.astype(np.float32, copy=False), form)
    return Chosen(in_pixels(placed, unit, frame.size), certain, numbers.astype(np.int64))


def _from_matrix(
    outputs: Outputs, columns: Tuple[str, ...]
) -> Tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    matrix = rows(next(iter(outputs.values())), "the output")
    starts, width = {}, 0
    for word in columns:
        starts[word] = width
        width += 4 if word == "box" else 1
    if not {"box", "score", "class"} <= set(starts) <= {"box", "score", "class", "skip"}:
        raise EngineError(
            f"columns {list(columns)} must have 'box', 'score' and 'class', and may have 'skip'"
        )
    if matrix.shape[1] != width:
        raise EngineError(
            f"decoder 'final' needs rows of {width} numbers for the columns {list(columns)}; "
            f"the network has {shapes(outputs)}"
        )
    first = starts["box"]
    return matrix[:, first : first + 4], matrix[:, starts["score"]], matrix[:, starts["class"]]


def _from_three(
    outputs: Outputs, boxes: str, scores: str, classes: str, count: str
) -> Tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    said = {name for name in (boxes, scores, classes, count) if name}
    for name in sorted(said):
        named(outputs, name)
    left = {name: array for name, array in outputs.items() if name not in said}
    count = count or _taken(left, lambda n, a: "num" in n.lower() and a.size == 1)
    axes = max([2, *(array.ndim for array in left.values())])  # scores of four boxes have fewer
    boxes = boxes or _taken(left, lambda _, a: a.ndim == axes and a.shape[-1] == 4)
    classes = (
        classes
        or _taken(left, lambda n, _: "class" in n.lower() or "label" in n.lower())
        or _taken(left, lambda _, a: a.dtype.kind in "iu")
    )
    scores = scores or _taken(left, lambda n, a: a.dtype.kind == "f")
    if not (boxes and scores and classes):
        raise _unfit(outputs)
    sides = rows(outputs[boxes], f"output {boxes!r}")
    certain, kinds = outputs[scores].reshape(-1), outputs[classes].reshape(-1)
    if sides.shape != (len(certain), 4) or kinds.shape != certain.shape:
        raise _unfit(outputs)
    meant = len(sides)
    if count:
        number = outputs[count].reshape(-1)
        if len(number) != 1 or not 0 <= number[0] <= meant:
            raise EngineError(f"output {count!r} says {number.tolist()} boxes; there are {meant}")
        meant = int(number[0])
    return sides[:meant], certain[:meant], kinds[:meant]


def _taken(left: dict[str, NDArray[Any]], fits: Any) -> str:
    """The name of the one output that fits, taken out of `left`; empty where there is no one."""
    names = [name for name, array in left.items() if fits(name, array)]
    if len(names) != 1:
        return ""
    del left[names[0]]
    return names[0]


def _unfit(outputs: Outputs) -> EngineError:
    return EngineError(
        "decoder 'final' needs outputs of boxes (k, 4), scores (k,) and classes (k,), or one "
        "matrix; name them with 'boxes', 'scores' and 'classes' where shapes leave a choice; "
        f"the network has {shapes(outputs)}"
    )
