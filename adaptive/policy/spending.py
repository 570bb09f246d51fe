"""What candidates cost after a path, and what limits can pay for."""

from __future__ import annotations

from typing import Iterator, Mapping, Sequence

import numpy as np

from adaptive.candidate import exit_of
from adaptive.columns import ONE, Column, Columns, Many, One
from adaptive.limits import Limits

#: "No further candidate": what ran last answers; as a start, the policy abstains.
STOP = -1

#: Limit -> the costs that it is held against, what of them an earlier exit paid, and its name.
_HELD = {
    "remaining_ms": ("upper_ms", "costs_ms", "deadline"),
    "allowance_ms": ("costs_ms", "costs_ms", "allowance"),
    "remaining_mj": ("costs_mj", "costs_mj", "energy"),
}


class Spending:
    """The costs of a policy's candidates, held against limits.

    An exit NET@3 that follows NET@1 or NET@2 is charged less by what that one costs in the mean.

    Parameters
    ----------
    candidates : names
    costs : those of "upper_ms", "costs_ms" and "costs_mj" that are known, one a candidate
    """

    def __init__(self, candidates: Sequence[str], costs: Mapping[str, Sequence[float]]) -> None:
        self._count = len(candidates)
        self._costs = costs
        exits = [exit_of(name) for name in candidates]
        #: for each candidate, the positions of the deeper exits of its network
        self._later = [
            [p for p, (own, deep) in enumerate(exits) if own == network and deep > number > 0]
            for network, number in exits
        ]

    def affordable(self, choice: Column, path: tuple[int, ...], limits: Limits) -> Column:
        """See `Policy.affordable`."""
        math = Many(len(choice)) if isinstance(choice, np.ndarray) else ONE
        fits: Columns = []
        for _, within in self._within(path, limits, math):
            fits = [a & b for a, b in zip(fits, within)] if fits else within
        if not fits:
            return choice
        allowed, latest = choice == STOP, STOP
        for candidate, fit in enumerate(fits):
            allowed = allowed | ((choice == candidate) & fit)
            latest = math.pick(fit, candidate, latest)
        return math.pick(allowed, choice, STOP if path else latest)

    def short_of(self, candidate: int, path: tuple[int, ...], limits: Limits) -> tuple[str, ...]:
        """See `Policy.short_of`."""
        return tuple(
            "bucket" if limits.of_bucket(limit) else _HELD[limit][2]
            for limit, within in self._within(path, limits, ONE)
            if not within[candidate]
        )

    def _within(
        self, path: tuple[int, ...], limits: Limits, math: Many | One
    ) -> Iterator[tuple[str, Columns]]:
        """For each limit that is set, for each candidate whether it pays for it."""
        for limit, (name, mean, _) in _HELD.items():
            costs, left = self._costs.get(name), getattr(limits, limit)
            unlimited = left == np.inf
            if costs is None or (unlimited.all() if isinstance(left, np.ndarray) else unlimited):
                continue
            left = math.of(left)
            if not path and name == "costs_ms":
                left = math.most(left, min(costs))
            if mean in self._costs and any(self._later[ran] for ran in path):
                paid = self._paid(path, self._costs[mean])
                costs = [cost - own for cost, own in zip(costs, paid)]
            yield limit, [cost <= left for cost in costs]

    def _paid(self, path: tuple[int, ...], means: Sequence[float]) -> Sequence[float]:
        """What of each candidate's cost ran already as an earlier exit of its network."""
        paid = [0.0] * self._count
        for ran in path:
            for later in self._later[ran]:
                paid[later] = max(paid[later], means[ran])
        return paid
