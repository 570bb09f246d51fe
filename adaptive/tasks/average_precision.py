"""COCO's average precision and recall, of one candidate or of any mix of candidates by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.tasks.matching import IOUS, MOST, SIZES, Matches, Truth, flags

#: Recalls at which precision is read.
RECALLS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Precision:
    """The twelve numbers of COCO's summary, 0..1; -1 where no true box counts.

    `ap` and the areas are means over overlaps of 0.50 to 0.95, `ar_N` is of the surest N boxes of
    an image and a class.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float


class Ranking:
    """The boxes of several candidates on one set of images, ranked once for all mixes of them.

    A mix takes, for each image, the boxes of one candidate. Its boxes are then among these in the
    right order already, and its average precision is one sum over them.

    Parameters
    ----------
    truth : the true boxes
    candidates : each one's matches with them. Scores are compared with each other, so those of
        different candidates should be on one scale: see ScoreMap
    """

    def __init__(self, truth: Truth, candidates: Sequence[Matches]) -> None:
        for matches in candidates:
            if matches.images != truth.images:
                raise InputError(
                    f"matches of {matches.images} images do not fit {truth.images} true ones"
                )
        self.truth = truth
        self.candidates = len(candidates)
        joined = _joined(candidates)
        order = np.lexsort((joined["image"], -joined["scores"], joined["classes"]))
        self._image, self._owner = joined["image"][order], joined["owner"][order]
        self._classes, self._rank = joined["classes"][order], joined["rank"][order]
        self._hits, self._ignored = joined["hits"][:, order], joined["ignored"][:, order]
        self._kinds = 1 + max(
            self._classes.max(initial=-1), truth.classes.max(initial=-1)
        )  # classes that any box names
        self._flags = {0: self._right_wrong(0)}

    def ap(self, choice: NDArray[np.int64]) -> float:
        """Average precision of a mix; -1 where no true box counts.

        choice : for each image, the candidate whose boxes are taken, or -1 to leave the image out
        """
        return _mean(self.precisions(choice))

    def precisions(self, choice: NDArray[np.int64], size: str = "all") -> NDArray[np.float64]:
        """Average precision at each of IOUS for each class, NaN for a class without objects.

        size : one of SIZES

        Returns
        -------
        ndarray of shape (len(IOUS), classes)
        """
        area = SIZES.index(size)
        objects = self._objects(choice, area)
        rows = np.flatnonzero(choice[self._image] == self._owner)
        right, wrong = (table[:, rows] for table in self._both(area))
        classes = self._classes[rows]
        # Precision is highest at boxes that are right, and recall rises there alone.
        level, place = np.nonzero(right)
        kind = classes[place]
        group = level * self._kinds + kind
        begin = np.searchsorted(group, np.arange(len(IOUS) * self._kinds))
        found = np.arange(len(group)) - begin[group] + 1.0
        before = np.zeros((len(IOUS), len(rows) + 1), np.int32)
        np.cumsum(wrong, axis=1, out=before[:, 1:])
        start = np.searchsorted(classes, np.arange(self._kinds))
        false = before[level, place] - before[level, start[kind]]
        precision = found / (found + false + np.spacing(1))
        highest = _from_here_on(precision, group)
        with np.errstate(divide="ignore"):
            recall, earlier = found / objects[kind], (found - 1) / objects[kind]
        passed = np.searchsorted(RECALLS, recall, "right")
        passed -= np.where(found == 1, 0, np.searchsorted(RECALLS, earlier, "right"))
        total = np.bincount(group, highest * passed, len(IOUS) * self._kinds)
        table = total.reshape(len(IOUS), self._kinds) / len(RECALLS)
        table[:, objects == 0] = np.nan
        return table

    def recalls(
        self, choice: NDArray[np.int64], size: str = "all", most: int = MOST
    ) -> NDArray[np.float64]:
        """Share of the objects that are found, at each of IOUS for each class; as `precisions`.

        most : boxes of an image and a class that count
        """
        area = SIZES.index(size)
        objects = self._objects(choice, area)
        rows = np.flatnonzero((choice[self._image] == self._owner) & (self._rank < most))
        level, place = np.nonzero(self._both(area)[0][:, rows])
        group = level * self._kinds + self._classes[rows][place]
        found = np.bincount(group, minlength=len(IOUS) * self._kinds)
        table = np.full((len(IOUS), self._kinds), np.nan)
        np.divide(found.reshape(table.shape), objects, out=table, where=objects > 0)
        return table

    def summary(self, choice: NDArray[np.int64]) -> Precision:
        """The twelve numbers of a mix; `choice` as for `ap`."""
        overall = self.precisions(choice)
        return Precision(
            _mean(overall),
            _mean(overall[:1]),
            _mean(overall[5:6]),
            *(_mean(self.precisions(choice, size)) for size in SIZES[1:]),
            *(_mean(self.recalls(choice, most=most)) for most in (1, 10, MOST)),
            *(_mean(self.recalls(choice, size)) for size in SIZES[1:]),
        )

    def _both(self, area: int) -> Any:
        if area not in self._flags:
            self._flags[area] = self._right_wrong(area)
        return self._flags[area]

    def _right_wrong(self, area: int) -> Any:
        """Whether each box is right, and whether it is wrong, at each of IOUS."""
        hits, ignored = flags(self._hits[area]), flags(self._ignored[area])
        return hits & ~ignored, ~hits & ~ignored

    def _objects(self, choice: NDArray[np.int64], area: int) -> NDArray[np.int64]:
        """How many objects of each class count."""
        if choice.shape != (self.truth.images,):
            raise InputError(
                f"a choice has the shape {choice.shape}; for {self.truth.images} images "
                f"({self.truth.images},) is needed"
            )
        if choice.size and not (choice.min() >= -1 and choice.max() < self.candidates):
            raise InputError(
                f"a choice names the candidates {choice.min()} to {choice.max()}; "
                f"-1 to {self.candidates - 1} are allowed"
            )
        counts = self.truth.counts[area] & (choice[self.truth.image] >= 0)
        return np.bincount(self.truth.classes[counts], minlength=self._kinds)


def _joined(candidates: Sequence[Matches]) -> Any:
    """The boxes of all candidates one after the other."""
    none = np.empty(0, np.int64)
    flag = np.empty((len(SIZES), 0), np.uint16)
    return {
        "owner": np.repeat(np.arange(len(candidates)), [len(m) for m in candidates]),
        "image": np.concatenate([none, *(m.image for m in candidates)]),
        "classes": np.concatenate([none, *(m.classes for m in candidates)]),
        "rank": np.concatenate([none, *(m.rank for m in candidates)]),
        "scores": np.concatenate([np.empty(0), *(m.scores for m in candidates)]),
        "hits": np.concatenate([flag, *(m.hits for m in candidates)], axis=1),
        "ignored": np.concatenate([flag, *(m.ignored for m in candidates)], axis=1),
    }


def _from_here_on(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """The highest of each value, 0..1, and those after it in its group; groups rise."""
    apart = 2.0 * (group[-1] - group) if group.size else np.empty(0)
    highest: NDArray[np.float64] = np.maximum.accumulate((values + apart)[::-1])[::-1] - apart
    return highest


def _mean(table: NDArray[np.float64]) -> float:
    known = table[~np.isnan(table)]
    return float(known.mean()) if known.size else -1.0
