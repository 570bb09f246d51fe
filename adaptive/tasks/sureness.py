"""How good one image's boxes are as a whole, before anybody knows: a number in 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.tasks.detections import Detections
from adaptive.tasks.score_map import ScoreMap
from adaptive.tasks.signals import box_signals

#: Signals that the model reads, in its order.
SIGNALS = ("expected", "boxes", "entropy", "unsure", "least", "mean", "best", "small")

#: Of what is learnt, the constant.
CONSTANT = "constant"

#: Penalty on squared weights of standardised signals: few images must not make them wild.
_PENALTY = 1.0


def expected_f1(scores: NDArray[np.float64], shown: NDArray[np.bool_]) -> float:
    """F1 to be expected of the boxes that are shown, if each score is the chance that it is right.

    Twice the right boxes to be expected, by those shown and the objects to be expected, which are
    what all boxes add up to; where none is shown, the chance that there is no object.
    """
    total = float(scores.sum())
    if not shown.any():
        return float(np.prod(1 - scores))
    return min(1.0, 2 * float(scores[shown].sum()) / (float(shown.sum()) + total))


def signals_of(found: Detections, score_map: ScoreMap, least: float) -> Dict[str, float]:
    """Numbers about one image's boxes, by SIGNALS; counts are in logarithms.

    Parameters
    ----------
    found : all boxes that the network is asked for
    score_map : from their scores to chances
    least : score from which a box is shown
    """
    numbers = box_signals(found, least)
    for name in ("boxes", "entropy", "unsure"):
        numbers[name] = float(np.log1p(numbers[name]))
    chances = score_map(found.scores.astype(np.float64))
    numbers["expected"] = expected_f1(chances, found.scores >= least)
    return numbers


@dataclass(frozen=True)
class Sureness:
    """A logistic model of an answer's quality by its boxes' signals.

    Parameters
    ----------
    weights : by signal, and CONSTANT; None takes the expected F1 as it is
    """

    weights: Mapping[str, float] | None = None

    @classmethod
    def of(cls, weights: Mapping[str, float] | None) -> Sureness:
        """From a manifest's numbers.

        Raises
        ------
        InputError
            when a name is none of SIGNALS and not CONSTANT.
        """
        for name in weights or ():
            if name not in (*SIGNALS, CONSTANT):
                raise InputError(
                    f"sureness goes by {name!r}, which is no signal; there are {list(SIGNALS)}"
                )
        return cls(weights)

    @classmethod
    def learn(
        cls, signals: Sequence[Mapping[str, float]], quality: NDArray[np.float64]
    ) -> Sureness:
        """Learn it on images of known quality, 0..1, by penalised maximum likelihood.

        Raises
        ------
        InputError
            when there is no image.
        """
        if not signals:
            raise InputError("how sure boxes are is learnt from at least one image")
        table = np.array([[row[name] for name in SIGNALS] for row in signals])
        weights, constant = fit_logistic(table, quality)
        own = dict(zip(SIGNALS, (round(float(w), 6) for w in weights)))
        return cls({**own, CONSTANT: round(float(constant), 6)})

    def __call__(self, found: Detections, score_map: ScoreMap, least: float) -> float:
        """How good one image's boxes are to be expected, 0..1."""
        return self.judge(signals_of(found, score_map, least))

    def judge(self, signals: Mapping[str, float]) -> float:
        """The same from signals that are known already."""
        if self.weights is None:
            return signals["expected"]
        total = sum(w * signals.get(name, 1.0) for name, w in self.weights.items())
        return float(1 / (1 + np.exp(-np.clip(total, -30, 30))))


def fit_logistic(
    table: NDArray[np.float64], quality: NDArray[np.float64]
) -> Tuple[NDArray[np.float64], float]:
    """Weights and constant of a logistic model with a penalty on standardised weights.

    Newton's steps, halved where one would make it worse; the quality may lie between 0 and 1.

    table : ndarray (n, d); quality : ndarray (n,)
    """
    middle, spread = table.mean(axis=0), table.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    scaled = np.column_stack([(table - middle) / spread, np.ones(len(table))])
    penalty = np.diag([*[_PENALTY] * table.shape[1], 1e-6])

    def loss(own: NDArray[np.float64]) -> float:
        z = scaled @ own
        return float((np.logaddexp(0, z) - quality * z).sum() + own @ penalty @ own / 2)

    weights = np.zeros(scaled.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(scaled @ weights, -30, 30)))
        slope = scaled.T @ (chance - quality) + penalty @ weights
        curve = scaled.T @ (scaled * (chance * (1 - chance))[:, np.newaxis]) + penalty
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and loss(weights - size * step) > loss(weights) + 1e-12:
            size /= 2
        weights = weights - size * step
        if np.abs(step).max() < 1e-9:
            break
    own = weights[:-1] / spread
    return own, float(weights[-1] - own @ middle)
