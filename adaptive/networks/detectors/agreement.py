"""How far an ONNX file's boxes lie from torch's."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

#: Share of boxes that must be found again where the file itself chooses boxes: equal to rounding,
#: one may be chosen in place of another.
FOUND_AGAIN = 0.99


def largest_difference(
    expected: Mapping[str, NDArray[Any]],
    answers: Mapping[str, NDArray[Any]],
    scale: tuple[float, float] = (1.0, 1.0),
    chosen: bool = False,
) -> float:
    """Largest difference of boxes, and of what belongs to them.

    Parameters
    ----------
    expected, answers : outputs by name, `boxes` among them; (n, k, ...), or (k, ...) of one image
    scale : what boxes' x and y are divided by
    chosen : whether the file chooses boxes. Then each expected one is held against the answer
        that is most like it, and the hundredth part that is least like any is left out
    """
    worst = 0.0
    for wanted, got in zip(_rows(expected, scale), _rows(answers, scale)):
        if not chosen:
            apart = np.abs(wanted - got).max(axis=1)
        elif not len(wanted) or not len(got):
            apart = np.full(1, 0.0 if len(wanted) == len(got) else np.inf)
        else:
            apart = np.sort(cKDTree(got).query(wanted, p=np.inf)[0])
            apart = apart[: max(1, int(np.ceil(FOUND_AGAIN * len(apart))))]
        worst = max(worst, float(apart.max()))
    return worst


def _rows(
    outputs: Mapping[str, NDArray[Any]], scale: tuple[float, float]
) -> Iterator[NDArray[Any]]:
    """Of each image, a row a box: its four numbers, and what belongs to it."""
    several = outputs["boxes"].ndim == 3
    sides = np.array(scale * 2)
    for image in zip(*(part if several else part[None] for part in outputs.values())):
        columns = [part.reshape(len(part), -1).astype(np.float64) for part in image]
        yield np.hstack([c / sides if name == "boxes" else c for name, c in zip(outputs, columns)])
