"""What each feature does for a policy, by permutation (Breiman 2001), and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaptive.evaluation.evaluation import paired
from adaptive.evaluation.replay import replay
from adaptive.features.catalogue import FEATURES
from adaptive.intervals import Estimate
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy

#: Shuffles of each feature.
REPEATS = 3

#: At most so many images are asked again.
MOST = 1000


@dataclass(frozen=True)
class FeatureUse:
    """One feature's part in the decisions.

    Attributes
    ----------
    group : the computation that gives it; its cost is shared within the group. None where
        the feature is not one of this library's
    changed : share of the images that take another way when it is shuffled
    worth : quality as it is, minus that with the feature shuffled
    saved_ms : mean time with the feature shuffled, minus that as it is
    cost_ms : measured milliseconds, None where they are not known
    """

    name: str
    group: str | None
    changed: float
    worth: Estimate
    saved_ms: float
    cost_ms: float | None


def feature_use(policy: Policy, table: OutcomeTable, seed: int = 0) -> tuple[FeatureUse, ...]:
    """Every feature that the policy reads, the most used first; empty where it reads none."""
    if policy.premodel is None or not policy.needs_features:
        return ()
    if len(table) > MOST:
        rows = np.linspace(0, len(table) - 1, MOST).astype(np.intp)
        table = table.select(rows)
    names = tuple(policy.premodel.features)
    own = policy.premodel.own_features
    X = table.feature_columns(names, own)
    before = policy.chances(X)
    plain = replay(policy, table, chances=before)
    groups = {feature.name: feature.group for feature in FEATURES}
    costs = table.feature_ms
    generator = np.random.default_rng(seed)
    found = []
    for column, name in enumerate(names):
        changed, right, ms = 0.0, np.zeros(len(table)), 0.0
        for _ in range(REPEATS):
            shuffled = X.copy()
            shuffled[:, column] = generator.permutation(X[:, column])
            chances = policy.chances(shuffled)
            same = chances is None or np.array_equal(np.asarray(before), chances)
            again = plain if same else replay(policy, table, chances=chances)
            changed += float((again.ran != plain.ran).any(axis=1).mean()) / REPEATS
            right += again.quality / REPEATS
            ms += float(again.ms.mean()) / REPEATS
        found.append(
            FeatureUse(
                name,
                None if name in own else groups.get(name),
                changed,
                paired(plain.quality - right),
                ms - float(plain.ms.mean()),
                costs.get(name),
            )
        )
    return tuple(sorted(found, key=lambda use: -use.changed))
