"""Learn the gain of going on from the tuning images, by least squares.

The gain of a way is quality after it less quality if it stopped here, in -1..1, and is fitted
as a linear function of `policy.gain.describe`. What is reported for the images that it was
learned from is cross-fitted: each by coefficients that did not see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Mapping, Tuple

import numpy as np

from adaptive.policy.gain import ALONE, Gain, describe, paths_of

Path = Tuple[int, ...]

#: Penalty on the squared coefficients of standardised columns, in images: of the signal's own,
#: and of what a premodel tells, which is worth little beside it and must not be believed at once.
RIDGE, TOLD_RIDGE = 10.0, 50.0

#: Prices at which every path's cost and accuracy are known, each half of the one before.
_PRICES = 16

#: Halvings of what lies between two of them.
_HALVINGS = 10


@dataclass(frozen=True)
class Learned:
    """Gains of the ways through two or three candidates, on n images.

    Attributes
    ----------
    count : number of candidates
    right : for each path, (n,): what the answer after it is worth, bool where right or wrong
    steps : cost of each candidate of a path after those before it, by path
    values : for each path that may go on, its ways' gains, (n, ways), cross-fitted
    coefficients : learned from all images, (ways, columns)
    served : gains by those coefficients, (n, ways)
    """

    count: int
    right: Mapping[Path, np.ndarray]
    steps: Callable[[Path], float]
    values: Mapping[Path, np.ndarray]
    coefficients: Mapping[Path, np.ndarray]
    served: Mapping[Path, np.ndarray]

    def walk(self, price: float, own: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Quality (n,) and cost (n,) where a unit of cost must gain `price`.

        With `own` by the coefficients that are served, otherwise by the cross-fitted ones.
        """
        n = len(self.right[(0,)])
        right = self.right[(0,)].copy()
        cost = np.full(n, self.steps((0,)))
        rows: dict[Path, np.ndarray] = {(0,): np.arange(n)}
        values = self.served if own else self.values
        for path, ways in paths_of(self.count).items():
            here = rows.get(path)
            if here is None or not len(here):
                continue
            spent = [sum(self.steps((*path, *way[:end])) for end in range(1, len(way) + 1))
                     for way in ways]  # fmt: skip
            net = values[path][here] - price * np.array(spent)
            best = np.argmax(net, axis=1)
            on = net[np.arange(len(here)), best] > 0
            for target in {way[0] for way in ways}:
                first = np.array([way[0] == target for way in ways])
                chosen = here[on & first[best]]
                reached = (*path, target)
                right[chosen] = self.right[reached][chosen]
                cost[chosen] += self.steps(reached)
                rows[reached] = chosen
        return right, cost

    @cached_property
    def curve(self) -> np.ndarray:
        """(price, mean cost, share right) at prices from 0 up, cross-fitted, (_PRICES + 1, 3)."""
        return self._curve(False)

    @cached_property
    def _own_curve(self) -> np.ndarray:
        return self._curve(True)

    def _curve(self, own: bool) -> np.ndarray:
        steps = [self.steps((*path, *way[:1])) for path, ways in paths_of(self.count).items()
                 for way in ways]  # fmt: skip
        prices = [0.0, *(2.0 / min(steps) * 2.0**-power for power in range(_PRICES)[::-1])]
        found = []
        for price in prices:
            right, cost = self.walk(price, own)
            found.append((price, float(cost.mean()), float(right.mean())))
        return np.array(found)

    def reached(self, budget: float) -> float:
        """About the mean quality at a mean cost of `budget`; nothing below the cheapest."""
        _, cost, right = self.curve[::-1].T
        if budget < cost[0]:
            return 0.0
        return float(np.interp(budget, np.maximum.accumulate(cost), right))

    def price(self, budget: float, own: bool = False) -> float:
        """The least price of a unit of cost, from 0, at which the mean cost is within `budget`."""
        prices, costs, _ = (self._own_curve if own else self.curve).T
        within = np.flatnonzero(costs <= budget)
        if not len(within):
            return float(prices[-1])
        if within[0] == 0:
            return 0.0
        low, high = float(prices[within[0] - 1]), float(prices[within[0]])
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self.walk(middle, own)[1].mean() <= budget:
                high = middle
            else:
                low = middle
        return high

    def gains(self, price: float) -> tuple[Gain, ...]:
        """What a policy is given: the coefficients, with the cost of each way taken off."""
        found = []
        for path, ways in paths_of(self.count).items():
            net = self.coefficients[path].copy()
            for row, way in enumerate(ways):
                spent = sum(self.steps((*path, *way[:end])) for end in range(1, len(way) + 1))
                net[row, 0] -= price * spent
            found.append(Gain(path, ways, net))
        return tuple(found)


def learn(
    count: int,
    signal: Callable[[Path], np.ndarray],
    right: Callable[[Path], np.ndarray],
    steps: Callable[[Path], float],
    told: np.ndarray | None,
    fold: np.ndarray,
) -> Learned:
    """Fit every gain for a policy of `count` candidates.

    Parameters
    ----------
    signal : the deferral signal after a path, (n,)
    right : what the answer after a path is worth, (n,)
    steps : cost of the last candidate of a path
    told : what a premodel tells, see `policy.gain.describe`; None learns from the signal alone
    fold : ndarray (n,), the part of each image in cross-fitting
    """
    values: dict[Path, np.ndarray] = {}
    coefficients: dict[Path, np.ndarray] = {}
    outcomes: dict[Path, np.ndarray] = {(0,): right((0,))}
    served: dict[Path, np.ndarray] = {}
    for path, ways in paths_of(count).items():
        described = describe(np.asarray(signal(path), np.float64), told)
        for way in ways:
            for end in range(len(way) + 1):
                reached = (*path, *way[:end])
                if reached not in outcomes:
                    outcomes[reached] = right(reached)
        before = outcomes[path].astype(np.float64)
        targets = np.stack([outcomes[(*path, *way)] - before for way in ways], axis=1)
        values[path], coefficients[path] = _cross_fitted(described, targets, fold)
        served[path] = described @ coefficients[path].T
    return Learned(count, outcomes, steps, values, coefficients, served)


def _cross_fitted(X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression: predictions (n, k) by the other folds, coefficients (k, d) by all."""
    centre, spread = X.mean(axis=0), X.std(axis=0) + 1e-9
    centre[0], spread[0] = 0.0, 1.0  # the constant stays what it is, and is not penalised
    Z = (X - centre) / spread
    penalty = np.diag([1e-9] + [RIDGE] * (ALONE - 1) + [TOLD_RIDGE] * (Z.shape[1] - ALONE))
    parts = [fold == part for part in np.unique(fold)]
    grams = [Z[part].T @ Z[part] for part in parts]
    sums = [Z[part].T @ Y[part] for part in parts]
    gram, total = sum(grams) + penalty, sum(sums)
    predicted = np.empty(Y.shape)
    for part, own, own_sum in zip(parts, grams, sums):
        predicted[part] = Z[part] @ np.linalg.solve(gram - own, total - own_sum)
    plain = np.linalg.solve(gram, total) / spread[:, np.newaxis]
    plain[0] -= centre @ plain
    return predicted, plain.T
