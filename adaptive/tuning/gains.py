"""Learn the gain of going on from the tuning images, by least squares.

The gain of a way is quality after it less quality if it stopped here, in -1..1, and is fitted
as a linear function of `policy.gain.describe`: first as all candidates together foresee it
(`Members.foreseen`), then what outcomes add to that. What is reported for the images that it was
learned from is cross-fitted: each by coefficients that did not see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Iterator, Mapping, Tuple

import numpy as np

from adaptive.columns import Columns, Many, columns_of, leading
from adaptive.policy.gain import ALONE, Gain, paths_of

Path = Tuple[int, ...]

#: Penalties on the squared coefficients of standardised columns, in images: of the constant, of
#: the signal's own, and of what a premodel tells, which is worth little beside it and must not be
#: believed at once. Of outcomes; of what is foreseen of them, which scatters less; and of what
#: outcomes add to that.
RIDGES = 1e-9, 10.0, 50.0
FORESEEN_RIDGES = 1e-9, 4.0, 20.0
BESIDE_RIDGES = 500.0, 300.0, 50.0

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
    foreseen : for each path (n,), what is to be expected of that, see `Members.foreseen`
    steps : cost of each candidate of a path after those before it, by path
    values : for each path that may go on, its ways' gains, (n, ways), cross-fitted
    coefficients : learned from all images, (ways, columns)
    served : gains by those coefficients, (n, ways)
    """

    count: int
    right: Mapping[Path, np.ndarray]
    foreseen: Mapping[Path, np.ndarray]
    steps: Callable[[Path], float]
    values: Mapping[Path, np.ndarray]
    coefficients: Mapping[Path, np.ndarray]
    served: Mapping[Path, np.ndarray]

    def walk(self, price: float, own: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Quality (n,), as foreseen (n,), and cost (n,) where a unit of cost must gain `price`.

        With `own` by the coefficients that are served, otherwise by the cross-fitted ones.
        """
        right, worth = self.right[(0,)].copy(), self.foreseen[(0,)].copy()
        cost = np.full(len(right), self.steps((0,)))
        for path, rows in self._reached(price, own):
            right[rows] = self.right[path][rows]
            worth[rows] = self.foreseen[path][rows]
            cost[rows] += self.steps(path)
        return right, worth, cost

    def _cost(self, price: float, own: bool) -> np.ndarray:
        """The cost alone, see `walk`."""
        cost = np.full(len(self.right[(0,)]), self.steps((0,)))
        for path, rows in self._reached(price, own):
            cost[rows] += self.steps(path)
        return cost

    def _reached(self, price: float, own: bool) -> Iterator[tuple[Path, np.ndarray]]:
        """Each path that images go on to, and which, those of shorter paths first."""
        rows: dict[Path, np.ndarray] = {}
        columns = self._served_columns if own else self._columns
        for path, ways in paths_of(self.count).items():
            here = rows.get(path)  # None of the first candidate, which all images reach
            if path != (0,) and (here is None or not len(here)):
                continue
            spent = [sum(self.steps((*path, *way[:end])) for end in range(1, len(way) + 1))
                     for way in ways]  # fmt: skip
            place, most = leading(
                [
                    (column if here is None else column[here]) - price * own_spent
                    for column, own_spent in zip(columns[path], spent)
                ],
                Many(len(self.right[(0,)]) if here is None else len(here)),
            )
            on = most > 0
            for target in {way[0] for way in ways}:
                chosen = on
                first = [way[0] == target for way in ways]
                if not all(first):
                    chosen = on & np.array(first)[place]
                reached = (*path, target)
                rows[reached] = np.flatnonzero(chosen) if here is None else here[chosen]
                yield reached, rows[reached]

    @cached_property
    def _columns(self) -> Mapping[Path, Columns]:
        return {path: columns_of(values) for path, values in self.values.items()}

    @cached_property
    def _served_columns(self) -> Mapping[Path, Columns]:
        return {path: columns_of(values) for path, values in self.served.items()}

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
            _, worth, cost = self.walk(price, own)
            found.append((price, _mean(cost), float(worth.mean())))
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
            if _mean(self._cost(middle, own)) <= budget:
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


def _mean(values: np.ndarray) -> float:
    """As the method of an array of float64, which takes longer than to add up so few."""
    return float(np.add.reduce(values) / len(values))


def learn(
    count: int,
    described: Callable[[Path], Regression],
    right: Callable[[Path], np.ndarray],
    foreseen: Callable[[Path], np.ndarray] | None,
    steps: Callable[[Path], float],
) -> Learned:
    """Fit every gain for a policy of `count` candidates.

    Parameters
    ----------
    described : what is known of the images after a path
    right : what the answer after a path is worth, (n,)
    foreseen : what is to be expected of that, see `Members.foreseen`; None where nobody knows
    steps : cost of the last candidate of a path
    """
    values: dict[Path, np.ndarray] = {}
    coefficients: dict[Path, np.ndarray] = {}
    served: dict[Path, np.ndarray] = {}
    paths = paths_of(count)
    reached = {(*p, *way[:end]) for p, ways in paths.items() for way in ways
               for end in range(len(way) + 1)}  # fmt: skip
    outcomes = {path: right(path) for path in sorted(reached)}
    seen = outcomes if foreseen is None else {path: foreseen(path) for path in outcomes}
    for path, ways in paths.items():
        likely = None
        if foreseen is not None:
            likely = np.stack([seen[(*path, *way)] - seen[path] for way in ways], axis=1)
        gained = (
            np.stack([outcomes[(*path, *way)] for way in ways], axis=1)
            - (outcomes[path].astype(np.float64)[:, np.newaxis])
        )
        values[path], served[path], coefficients[path] = described(path).fitted(gained, likely)
    return Learned(count, outcomes, seen, steps, values, coefficients, served)


class Regression:
    """What is known of n images after a path, made ready for many regressions on it.

    Parameters
    ----------
    X : ndarray (n, d), see `policy.gain.describe`
    fold : ndarray (n,), the part of each image in cross-fitting
    """

    def __init__(self, X: np.ndarray, fold: np.ndarray) -> None:
        self._order = np.argsort(fold, kind="stable")
        edges = np.flatnonzero(np.diff(fold[self._order], prepend=-1, append=-1))
        self._parts = [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist())]
        self._centre, self._spread = X.mean(axis=0), X.std(axis=0) + 1e-9
        # The constant stays what it is.
        self._centre[0], self._spread[0] = 0.0, 1.0
        self._Z = ((X - self._centre) / self._spread)[self._order]
        grams = np.stack([self._Z[part].T @ self._Z[part] for part in self._parts])
        gram = grams.sum(axis=0)
        self._grams = np.concatenate([gram - grams, gram[np.newaxis]])
        self._known: dict[tuple[float, ...], np.ndarray] = {}

    def _inverses(self, ridges: tuple[float, float, float]) -> np.ndarray:
        """Of the penalised sums of products without each part, and of them all."""
        if ridges not in self._known:
            whole, alone, beside = ridges
            told = self._Z.shape[1] - ALONE
            penalty = np.diag([whole] + [alone] * (ALONE - 1) + [beside] * told)
            self._known[ridges] = np.linalg.inv(self._grams + penalty)
        return self._known[ridges]

    def fitted(
        self, gained: np.ndarray, likely: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ridge regression on gains (n, k), and on what is foreseen of them.

        What is foreseen is believed first; where the outcomes differ from it, the difference is
        fitted beside it, with more penalty, since it scatters more.

        Returns
        -------
        Predictions (n, k) by the other folds, predictions by all, and coefficients (k, d) by all.
        """
        found: np.ndarray | float = 0.0
        stages = [(gained, RIDGES)]
        if likely is not None:
            stages = [(likely, FORESEEN_RIDGES), (gained - likely, BESIDE_RIDGES)]
        for targets, ridges in stages:
            inverses = self._inverses(ridges)
            own = targets[self._order]
            sums = np.stack([self._Z[part].T @ own[part] for part in self._parts])
            total = sums.sum(axis=0)
            found = found + inverses @ np.concatenate([total - sums, total[np.newaxis]])
        assert isinstance(found, np.ndarray)
        crossed, served = np.empty(gained.shape), np.empty(gained.shape)
        crossed[self._order] = np.concatenate(
            [self._Z[part] @ each for part, each in zip(self._parts, found)]
        )
        served[self._order] = self._Z @ found[-1]
        plain = found[-1] / self._spread[:, np.newaxis]
        plain[0] -= self._centre @ plain
        return crossed, served, plain.T
