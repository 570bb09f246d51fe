"""Weighted box fusion: one answer from the boxes of several detectors.

Solovyev, Wang, Gabruseva 2021, doi 10.1016/j.imavis.2021.104117. Boxes that overlap are averaged,
not thrown away, and what only some of the detectors found is trusted less.
"""

from __future__ import annotations

from typing import Dict, List, Sequence

import numpy as np

from adaptive.errors import InputError
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
    # As Python numbers: there are tens of boxes, and an array's operation takes longer than them.
    order = np.argsort(-(scores * own), kind="stable")
    rows = zip(*(values[order].tolist() for values in (boxes, scores, own, classes)))
    clusters: Dict[int, List[_Cluster]] = {}
    for box, score, weight, kind in rows:
        if score > 0:
            _join(clusters.setdefault(kind, []), box, score, weight, iou)
    total = sum(trust)
    fused = [
        (one.box, one.score(total), kind) for kind in sorted(clusters) for one in clusters[kind]
    ]
    fused.sort(key=lambda one: -one[1])
    kept = fused[:most]
    return Detections.of(
        [box for box, _, _ in kept], [score for _, score, _ in kept], [kind for _, _, kind in kept]
    )


class _Cluster:
    """Boxes of one class that are taken for one: their mean, and the sums that it is made of."""

    __slots__ = ("area", "box", "pull", "sums", "weight")

    def __init__(self) -> None:
        self.box, self.area = [0.0] * 4, 0.0
        self.sums, self.pull, self.weight = [0.0] * 4, 0.0, 0.0

    def add(self, box: List[float], score: float, weight: float) -> None:
        """Take one more box in."""
        pull = score * weight
        self.sums = [before + pull * side for before, side in zip(self.sums, box)]
        self.pull += pull
        self.weight += weight
        self.box = [side / self.pull for side in self.sums]
        self.area = _area(self.box)

    def score(self, total: float) -> float:
        """The mean of the scores, times the share of all weight that is in it."""
        return min(self.pull / self.weight * min(self.weight, total) / total, 1.0)


def _join(
    clusters: List[_Cluster], box: List[float], score: float, weight: float, iou: float
) -> None:
    """Put a box into the cluster that it overlaps most, by more than `iou`, or into a new one."""
    left, top, right, bottom = box
    area, chosen, most = _area(box), None, iou
    for cluster in clusters:
        x1, y1, x2, y2 = cluster.box
        if x1 >= right or left >= x2 or y1 >= bottom or top >= y2:
            continue
        shared = (min(x2, right) - max(x1, left)) * (min(y2, bottom) - max(y1, top))
        overlap = shared / (area + cluster.area - shared)
        if overlap > most:
            chosen, most = cluster, overlap
    if chosen is None:
        chosen = _Cluster()
        clusters.append(chosen)
    chosen.add(box, score, weight)


def _area(box: List[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
