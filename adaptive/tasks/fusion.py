"""Weighted box fusion: one answer from the boxes of several detectors.

Solovyev, Wang, Gabruseva 2021, doi 10.1016/j.imavis.2021.104117. Boxes that overlap are averaged,
not thrown away, and what only some of the detectors found is trusted less.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.tasks.boxes import ious
from adaptive.tasks.detections import Detections


def fuse(
    found: Sequence[Detections],
    weights: Sequence[float] | None = None,
    iou: float = 0.55,
    most: int = 100,
) -> Detections:
    """The boxes of several detectors of one image as one set, surest first.

    Boxes of a class are taken by falling weight x score. Each joins the cluster whose box it
    overlaps most, if by more than `iou`, or begins one. A cluster's box is the mean of its
    members' by weight x score; its score is the mean of theirs by weight, times the share of all
    weight that its members have, at most 1.

    Parameters
    ----------
    found : what each detector that ran has found; scores should be on one scale, see ScoreMap
    weights : trust in each detector, above 0; all alike when left out
    most : keep at most so many boxes, the surest

    Raises
    ------
    InputError
        when there is no detector, or the weights do not fit.
    """
    trust = [1.0] * len(found) if weights is None else [float(weight) for weight in weights]
    if not found:
        raise InputError("boxes of no detector cannot be fused")
    if len(trust) != len(found) or not all(np.isfinite(trust)) or min(trust) <= 0:
        raise InputError(f"{len(found)} detectors need as many weights above 0, not {trust}")
    boxes = np.concatenate([one.boxes for one in found]).astype(np.float64)
    scores = np.concatenate([one.scores for one in found]).astype(np.float64)
    classes = np.concatenate([one.classes for one in found])
    own = np.repeat(np.array(trust), [len(one) for one in found])
    fused: List[Tuple[NDArray[np.float64], float, int]] = []
    for kind in np.unique(classes):
        rows = np.flatnonzero((classes == kind) & (scores > 0))
        rows = rows[np.argsort(-(scores * own)[rows], kind="stable")]
        for box, score in _clusters(boxes[rows], scores[rows], own[rows], sum(trust), iou):
            fused.append((box, score, int(kind)))
    fused.sort(key=lambda one: -one[1])
    kept = fused[:most]
    return Detections.of(
        [box for box, _, _ in kept], [score for _, score, _ in kept], [kind for _, _, kind in kept]
    )


def _clusters(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    trust: NDArray[np.float64],
    total: float,
    iou: float,
) -> List[Tuple[NDArray[np.float64], float]]:
    """Box and score of each cluster of one class's boxes, which are given surest first."""
    members: List[List[int]] = []
    means = np.empty_like(boxes)
    for row in range(len(boxes)):
        there = ious(boxes[row : row + 1], means[: len(members)])[0]
        place = int(there.argmax()) if there.size else 0
        if there.size and there[place] > iou:
            members[place].append(row)
        else:
            place = len(members)
            members.append([row])
        own = members[place]
        pull = (scores[own] * trust[own])[:, np.newaxis]
        means[place] = (boxes[own] * pull).sum(axis=0) / pull.sum()
    fused = []
    for mean, own in zip(means, members):
        weight = trust[own].sum()
        score = float((scores[own] * trust[own]).sum() / weight * min(weight, total) / total)
        fused.append((mean, min(score, 1.0)))
    return fused
