"""A detector's scores as chances that its boxes are right, so that detectors can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.tasks.detections import Detections
from adaptive.tasks.matching import Matches

#: Share of the score itself in the map, so that it rises everywhere and no order is lost.
_SLOPE = 1e-3

#: Knots nearer to each other than this are one; chances of double precision tell no more.
_APART = 1e-9


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """A rising map from 0..1 to 0..1, straight between its knots.

    Parameters
    ----------
    scores : knots, ndarray of shape (k,), float64, rising from 0 to 1
    chances : what they become, ndarray of shape (k,), float64, rising within 0..1
    """

    scores: NDArray[np.float64]
    chances: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or self.scores.shape != self.chances.shape:
            raise InputError(
                f"a map of scores has knots of the shapes {self.scores.shape} and "
                f"{self.chances.shape}; two rows of one length are needed"
            )
        if len(self.scores) < 2 or self.scores[0] != 0 or self.scores[-1] != 1:
            raise InputError("the knots of a map of scores must reach from 0 to 1")
        if not ((np.diff(self.scores) > 0).all() and (np.diff(self.chances) > 0).all()):
            raise InputError("the knots of a map of scores must rise")
        if not (self.chances[0] >= 0 and self.chances[-1] <= 1):
            raise InputError(
                f"a map of scores reaches from {self.chances[0]} to {self.chances[-1]}; "
                "0..1 is allowed"
            )

    @classmethod
    def identity(cls) -> ScoreMap:
        """Leaves scores as they are."""
        return cls(np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    @classmethod
    def fit(cls, scores: NDArray[Any], right: NDArray[Any]) -> ScoreMap:
        """Learn the chance that a box is right from its score, by isotonic regression.

        The rising steps that fit best in squares are found by pooling adjacent violators (Ayer et
        al. 1955, doi 10.1214/aoms/1177728423); the map runs straight between their middles.

        Parameters
        ----------
        scores : of boxes, 0..1, shape (n,)
        right : whether each is right, or its chance, shape (n,)

        Raises
        ------
        InputError
            when there is no box, or a score is outside 0..1.
        """
        if scores.shape != right.shape or scores.ndim != 1 or not scores.size:
            raise InputError(
                f"a map of scores is learnt from at least one box; here are scores of the shape "
                f"{scores.shape} and answers of {right.shape}"
            )
        if not (scores.min() >= 0 and scores.max() <= 1):
            raise InputError(f"scores reach from {scores.min()} to {scores.max()}; 0..1 is allowed")
        middles, means = _pooled(scores.astype(np.float64), right.astype(np.float64))
        inner = (middles > _APART) & (middles < 1 - 2 * _APART)
        knots = np.concatenate([[0.0], middles[inner], [1.0]])
        knots = knots[np.concatenate([[True], np.diff(knots) > _APART])]
        steps = np.interp(knots, middles, means)
        return cls(knots, (1 - _SLOPE) * steps + _SLOPE * knots)

    @classmethod
    def learn(cls, matches: Matches) -> ScoreMap:
        """Learn it from a candidate's matches at an overlap of 0.5; what is ignored is left out.

        Use the images of the tuning part. Without any box it leaves scores as they are.
        """
        counted = (matches.ignored[0] & 1) == 0
        if not counted.any():
            return cls.identity()
        return cls.fit(matches.scores[counted], (matches.hits[0] & 1)[counted])

    def __call__(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """The chances of these scores."""
        mapped: NDArray[np.float64] = np.interp(scores, self.scores, self.chances)
        return mapped

    def detections(self, found: Detections) -> Detections:
        """The same boxes with chances as their scores."""
        return Detections.of(found.boxes, self(found.scores), found.classes)

    def matches(self, matches: Matches) -> Matches:
        """The same matches with chances as their scores; no order changes, so none is lost."""
        return matches.with_scores(self(matches.scores))


def _pooled(
    scores: NDArray[np.float64], right: NDArray[np.float64]
) -> Tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean score and mean answer of each step; both rise."""
    values, place = np.unique(scores, return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    answers = np.bincount(place, right)
    steps: List[Tuple[float, float, float]] = []  # boxes, sum of scores, sum of answers
    for count, score, answer in zip(weight.tolist(), (values * weight).tolist(), answers.tolist()):
        while steps and steps[-1][2] * count >= answer * steps[-1][0]:
            more, further, others = steps.pop()
            count, score, answer = count + more, score + further, answer + others
        steps.append((count, score, answer))
    table = np.array(steps)
    return table[:, 1] / table[:, 0], table[:, 2] / table[:, 0]
