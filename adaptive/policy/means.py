"""Means of what several networks said, with one weight for each network."""

from __future__ import annotations

from typing import Callable, NamedTuple, Sequence

import numpy as np

from adaptive.policy.exponents import pool

Rows = Sequence[np.ndarray]


def arithmetic(members: Rows, weights: Sequence[float]) -> np.ndarray:
    """Weighted mean of several networks' probabilities, each (n, classes) or (classes,)."""
    return MEANS["arithmetic"].of(members, weights)


def geometric(members: Rows, weights: Sequence[float]) -> np.ndarray:
    """Weighted geometric mean of several networks' probabilities, normalised."""
    return MEANS["geometric"].of(members, weights)


class Mean(NamedTuple):
    """A mean in two steps, so that what is made of one network's answer is made once.

    Attributes
    ----------
    prepare : what goes into the mean of one network's probabilities
    join : the mean of several such, whose weights sum to 1
    """

    prepare: Callable[[np.ndarray], np.ndarray]
    join: Callable[[Rows, Sequence[float]], np.ndarray]

    def of(self, members: Rows, weights: Sequence[float]) -> np.ndarray:
        """The mean of probabilities; the weights need not sum to 1."""
        return self.join([self.prepare(own) for own in members], shares(weights))


def shares(weights: Sequence[float]) -> list[float]:
    """The weights so that they sum to 1."""
    total = 0.0
    for weight in weights:
        total += float(weight)
    return [float(weight) / total for weight in weights]


def _exact(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.astype(np.float32, copy=False)


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(_exact(probabilities), np.float32(1e-12))))


def _added(members: Rows, weights: Sequence[float]) -> np.ndarray:
    total = members[0] * np.float32(weights[0])
    for own, weight in zip(members[1:], weights[1:]):
        total += own * np.float32(weight)
    return np.asarray(total)


MEANS = {"arithmetic": Mean(_exact, _added), "geometric": Mean(_logarithms, pool)}
