"""The confidence cascades that a premodel must be held against, found by the tuner."""

from __future__ import annotations

import numpy as np

from adaptive.errors import InputError
from adaptive.intervals import concave_hull
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.tuning.build import built
from adaptive.tuning.members import Members
from adaptive.tuning.search import choose

#: Mean times at which the best cascade is looked for.
POINTS = 12

#: They are chosen on at most so many images, to keep the wait short.
MOST = 5000

#: Fewer images than this are too few to choose a cascade on.
FEWEST = 50


def best_cascades(table: OutcomeTable, points: int = POINTS, seed: int = 0) -> tuple[Policy, ...]:
    """The best confidence cascade at each of several mean times, chosen on `table`.

    Only those on the hull of cross-validated quality against time are kept. The times rise from
    the cheapest candidate's to that of the most expensive one which is still worth it. Empty
    where there is nothing to cascade, or too few images to choose on.
    """
    if len(table) > MOST:
        table = table.select(np.linspace(0, len(table) - 1, MOST).astype(np.intp))
    cost = {n: float(table.ms(n).mean()) for n in table.candidates}
    if len(cost) < 2 or len(table) < FEWEST:
        return ()
    accuracy = {n: float(table.quality(n).mean()) for n in table.candidates}
    low, high = min(cost.values()), cost[max(accuracy, key=lambda n: accuracy[n])]
    if high <= low:
        high = max(cost.values())
    members = Members.of(table, cost, seed=seed)
    policies: list[Policy] = []
    at: list[tuple[float, float]] = []
    for budget in np.geomspace(low * 1.02, max(high, low * 1.05), points):
        try:
            choice = choose(members, float(budget), kind="cascade")
        except InputError:
            continue  # no cascade is that cheap
        policy = built(choice.trial, table, members)
        if policy not in policies:
            policies.append(policy)
            at.append((choice.trial.cost, choice.expected))
    # One that two others beat by dividing the images at random is nobody's best.
    kept = concave_hull([cost for cost, _ in at], [top1 for _, top1 in at])
    return tuple(policies[i] for i in kept)
