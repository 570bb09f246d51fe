"""Learn the gain of going on from the tuning images, by least squares.

The gain of a way is [right after it] - [right if it stopped here], in {-1, 0, 1}, and is fitted
as a linear function of `policy.gain.describe`. What is reported for the images that it was
learned from is cross-fitted: each by coefficients that did not see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping, Tuple

import numpy as np

from adaptive.policy.gain import Gain, describe, paths_of

Path = Tuple[int, ...]

#: Penalty on the squared coefficients of standardised columns, in images.
RIDGE = 10.0

#: Steps in which the price of a unit of cost is bracketed.
_HALVINGS = 22


@dataclass(frozen=True)
class Learned:
    """Gains of the ways through two or three candidates, on n images.

    Attributes
    ----------
    count : number of candidates
    right : for each path, bool (n,): whether the answer after it is right
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
        """Right or wrong (n,) and cost (n,) where a unit of cost must gain `price`.

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

    def price(self, budget: float, own: bool = False) -> float:
        """The least price of a unit of cost, from 0, at which the mean cost is within `budget`."""
        if self.walk(0.0, own)[1].mean() <= budget:
            return 0.0
        steps = [self.steps((*path, *way[:1])) for path, ways in paths_of(self.count).items()
                 for way in ways]  # fmt: skip
        low, high = 0.0, 2.0 / min(steps)
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
    chances: np.ndarray,
    fold: np.ndarray,
) -> Learned:
    """Fit every gain for a policy of `count` candidates.

    Parameters
    ----------
    signal : the deferral signal after a path, (n,)
    right : whether the answer after a path is right, bool (n,)
    steps : cost of the last candidate of a path
    chances : ndarray (n, count), the premodel's; (n, 0) learns from the signal alone
    fold : ndarray (n,), the part of each image in cross-fitting
    """
    values: dict[Path, np.ndarray] = {}
    coefficients: dict[Path, np.ndarray] = {}
    outcomes: dict[Path, np.ndarray] = {(0,): right((0,))}
    served: dict[Path, np.ndarray] = {}
    for path, ways in paths_of(count).items():
        described = describe(np.asarray(signal(path), np.float64), chances)
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
    penalty = RIDGE * np.eye(Z.shape[1])
    penalty[0, 0] = 1e-9
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
