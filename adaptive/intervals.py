"""95% intervals over images, and the mix of fixed choices that any routing must beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.errors import InputError

#: An upper time is exceeded by a new run with at most this probability.
EXCEEDED = 0.01

#: two-sided 95% quantile of the normal distribution
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, infinite where one image alone tells nothing."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """As plain JSON values; null for an infinite end."""
        ends = {"low": self.low, "high": self.high}
        return {
            "value": self.value,
            **{k: v if math.isfinite(v) else None for k, v in ends.items()},
        }


def share(right: np.ndarray) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927).

    right : ndarray (n,), bool
    """
    n = len(right)
    p = float(np.mean(right))
    centre = p + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    low, high = (centre - half) / scale, (centre + half) / scale
    # Rounding may carry an end past 0, 1 or the share itself.
    return Estimate(p, min(p, max(0.0, low)), max(p, min(1.0, high)))


def mean(values: np.ndarray) -> Estimate:
    """A mean with its normal interval; for differences of paired images too.

    values : ndarray (n,)
    """
    n = len(values)
    value = float(np.mean(values))
    half = Z95 * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(value, value - half, value + half)


def quantile(values: np.ndarray, level: float) -> Estimate:
    """A quantile with the distribution-free interval of its order statistics."""
    ordered = np.sort(values)
    n = len(ordered)
    half = Z95 * math.sqrt(n * level * (1 - level))
    low = int(np.clip(math.floor(n * level - half), 0, n - 1))
    high = int(np.clip(math.ceil(n * level + half), 0, n - 1))
    return Estimate(float(np.quantile(ordered, level)), float(ordered[low]), float(ordered[high]))


def conformal_upper(values: np.ndarray, exceeded: float = EXCEEDED) -> float:
    """What a new value, drawn like these, exceeds with probability at most `exceeded`.

    The split conformal quantile: of n values the ceil((n + 1) (1 - exceeded))-th smallest (Vovk,
    Gammerman and Shafer 2005).

    values : ndarray (n,)

    Raises
    ------
    InputError
        when there are too few values.
    """
    rank = math.ceil((len(values) + 1) * (1 - exceeded) - 1e-9)
    if rank > len(values):
        raise InputError(
            f"{len(values)} images are too few for a time that is exceeded in at most "
            f"{100 * exceeded:g}% of the runs; at least {fewest(exceeded)} are needed"
        )
    return float(np.partition(values, rank - 1)[rank - 1])


def fewest(exceeded: float = EXCEEDED) -> int:
    """Fewest values that `conformal_upper` can do with."""
    return math.ceil((1 - exceeded) / exceeded - 1e-9)


@dataclass(frozen=True)
class Mix:
    """Send a share of the images to `first`, the rest to `second`, blindly.

    `cost` is the mean cost that this has, which is the wanted one unless no mix has it.
    """

    first: int
    second: int
    share_first: float
    cost: float

    def apply(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Each image's expected value under the mix, from one array (n,) a candidate."""
        share_first = self.share_first
        return np.asarray(
            share_first * values[self.first] + (1 - share_first) * values[self.second]
        )


def random_mix(costs: Sequence[float], accuracies: Sequence[float], cost: float) -> Mix:
    """The best blind mix of fixed choices at a mean cost: a point on their concave hull.

    Below the cheapest candidate's cost it is that candidate alone; above that of the most
    accurate, that one alone.
    """
    hull = concave_hull(costs, accuracies)
    if cost <= costs[hull[0]]:
        return Mix(hull[0], hull[0], 1.0, float(costs[hull[0]]))
    for low, high in zip(hull, hull[1:]):
        if cost <= costs[high]:
            share_low = (costs[high] - cost) / (costs[high] - costs[low])
            return Mix(low, high, float(share_low), float(cost))
    return Mix(hull[-1], hull[-1], 1.0, float(costs[hull[-1]]))


def concave_hull(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Positions of the points on the upper concave hull, cheapest first, accuracy rising."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i]))
    hull: list[int] = []
    for point in order:
        if hull and accuracies[point] <= accuracies[hull[-1]]:
            continue
        while len(hull) >= 2 and _slope(costs, accuracies, hull[-2], hull[-1]) <= _slope(
            costs, accuracies, hull[-1], point
        ):
            hull.pop()
        if hull and costs[point] == costs[hull[-1]]:
            hull.pop()
        hull.append(point)
    return hull


def _slope(costs: Sequence[float], accuracies: Sequence[float], a: int, b: int) -> float:
    rise, run = accuracies[b] - accuracies[a], costs[b] - costs[a]
    return math.inf if run <= 0 else rise / run


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Positions that no other beats in both cost and accuracy, cheapest first."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i]))
    kept: list[int] = []
    for point in order:
        if not kept or accuracies[point] > accuracies[kept[-1]]:
            kept.append(point)
    return kept
