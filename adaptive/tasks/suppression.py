"""Non-maximum suppression: of boxes that overlap, the surest stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.tasks.boxes import ious

#: Boxes that are compared with each other at once.
_BLOCK = 128


def suppress(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    classes: NDArray[Any],
    iou: float,
    most: int | None = None,
) -> NDArray[np.int64]:
    """Which boxes stay, surest first.

    The surest box stays, and boxes of its class that overlap it by more than `iou` go; then the
    surest of the rest, and so on. Of equal scores the earlier box is the surer one.

    Parameters
    ----------
    boxes : ndarray of shape (k, 4), x1 y1 x2 y2
    scores, classes : ndarrays of shape (k,)
    iou : intersection over union above which a box goes
    most : stop once so many stay
    """
    order = np.argsort(-scores, kind="stable")
    limit = len(order) if most is None else most
    if iou >= 1:  # no overlap is more
        return order[:limit]
    kept = np.empty(0, np.int64)
    for begin in range(0, len(order), _BLOCK):
        if len(kept) >= limit:
            break
        # Held against what stays so far, which is little; the rest may never be looked at.
        head = order[begin : begin + _BLOCK]
        head = head[~_rivals(boxes, classes, kept, head, iou).any(axis=0)]
        stays = head[_greedy(_rivals(boxes, classes, head, head, iou))]
        kept = np.concatenate([kept, stays[: limit - len(kept)]])
    return kept


def _rivals(
    boxes: NDArray[Any],
    classes: NDArray[Any],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    iou: float,
) -> NDArray[np.bool_]:
    """Whether each of `first` and each of `second` are of one class and overlap by more."""
    close: NDArray[np.bool_] = ious(boxes[first], boxes[second]) > iou
    same: NDArray[np.bool_] = classes[first][:, np.newaxis] == classes[second]
    return close & same


def _greedy(rivals: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of some boxes stay, surest first, among themselves."""
    stays = np.ones(len(rivals), bool)
    for row in np.flatnonzero(np.triu(rivals, 1).any(axis=1)):
        if stays[row]:
            stays[row + 1 :] &= ~rivals[row, row + 1 :]
    return stays
