"""Does routing pay? The policy and its premodel against what would cost the same without them.

A comparison pays when the 95% interval of the paired difference in quality lies above 0, does not
when it lies below, and cannot be decided when it holds 0. Time for features and premodel is
charged everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

import numpy as np

from adaptive.candidate import run_order
from adaptive.errors import InputError
from adaptive.evaluation.evaluation import paired
from adaptive.evaluation.findings import CASCADE, FIXED, MIX, BreakEven, Comparison, Verdict
from adaptive.evaluation.replay import Replay, replay
from adaptive.intervals import Estimate, mean, random_mix
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import ADVISES, CHOOSES, Policy
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.base import Premodel


def verdict(
    policy: Policy,
    table: OutcomeTable,
    premodel_ms: float = 0.0,
    cascades: Sequence[Policy] = (),
    cautions: Sequence[str] = (),
    premodel: Premodel | None = None,
) -> Verdict:
    """Hold `policy`, and the premodel alone, against what costs the same.

    Parameters
    ----------
    premodel_ms : what one prediction of the premodel is charged with
    cascades : confidence cascades of several mean costs, best chosen on other images; between
        two of them, images are divided at random so that the mean cost is the wanted one
    cautions : what a reader must know about how they were chosen, in sentences
    premodel : judged alone, by the first yes; the policy's when left out. A premodel policy is
        judged by its own rule

    Raises
    ------
    InputError
        for a table without images, or one that lacks what a policy needs.
    """
    if not len(table):
        raise InputError("a verdict needs at least one image")
    # What it is held against answers every image, so its best guess counts where it abstains with
    # one. A policy that draws must draw as it would alone, so a fresh one is driven.
    policy = replace(policy.afresh(), abstain_below=None)
    done = replay(policy, table, premodel_ms=premodel_ms)
    curve = sorted((replay(c, table) for c in cascades), key=lambda r: float(r.ms.mean()))
    comparisons = [_against_mix("policy", done, table), *_against_fixed(policy, done, table)]
    break_even: list[BreakEven] = []
    # A policy without a premodel would only meet its like.
    if curve and policy.premodel_role is not None:
        comparisons.append(_against_cascade("policy", done, curve, table))
    chooses = policy.premodel_role == CHOOSES
    alone = policy if chooses else _alone(premodel or policy.premodel, table)
    if alone is not None:
        own = done if alone is policy else replay(alone, table, premodel_ms=premodel_ms)
        comparisons.append(_against_mix("premodel", own, table))
        if curve:
            comparisons.append(_against_cascade("premodel", own, curve, table))
        break_even.append(_break_even("premodel", own, table, premodel_ms))
    if policy.premodel_role == ADVISES:
        break_even.append(_break_even("policy", done, table, premodel_ms))
    return Verdict(
        policy.kind,
        policy.premodel_role,
        len(table),
        float(done.quality.mean()),
        float(done.ms.mean()),
        tuple(comparisons),
        tuple(break_even),
        tuple(cautions),
        table.quality_name,
    )


def _alone(premodel: Premodel | None, table: OutcomeTable) -> Policy | None:
    """The premodel by the papers' rule: the first yes answers, the last where all say no."""
    if premodel is None:
        return None
    judged = tuple(n for n in premodel.candidates if n in table.outcomes)
    return ByPremodel(judged, premodel) if judged else None


def _against_mix(subject: str, done: Replay, table: OutcomeTable) -> Comparison:
    names = table.candidates
    right = [table.quality(n).astype(float) for n in names]
    cost = [float(table.ms(n).mean()) for n in names]
    mix = random_mix(cost, [float(r.mean()) for r in right], float(done.ms.mean()))
    members = dict.fromkeys((names[mix.first], names[mix.second]))
    difference = paired(done.quality - mix.apply(right))
    return _comparison(subject, MIX, " and ".join(members), difference, done, mix.cost, table)


def _against_fixed(policy: Policy, done: Replay, table: OutcomeTable) -> list[Comparison]:
    """One for each candidate that costs as much or more, but for the one that always answers."""
    found = []
    for name in table.candidates:
        cost = float(table.ms(name).mean())
        if cost >= float(done.ms.mean()) and name != policy.always:
            difference = paired(done.quality - table.quality(name).astype(float))
            found.append(_comparison("policy", FIXED, name, difference, done, cost, table))
    return sorted(found, key=lambda c: c.opponent_ms)


def _against_cascade(
    subject: str, done: Replay, curve: Sequence[Replay], table: OutcomeTable
) -> Comparison:
    cost = [float(r.ms.mean()) for r in curve]
    wanted = min(max(float(done.ms.mean()), cost[0]), cost[-1])
    above = int(np.searchsorted(cost, wanted))
    below = max(above - 1, 0)
    gap = cost[above] - cost[below]
    share = (wanted - cost[below]) / gap if gap > 0 else 1.0
    right = (1 - share) * curve[below].quality + share * curve[above].quality
    nearest = curve[above if share >= 0.5 else below]
    name = " then ".join(nearest.policy.candidates)
    difference = paired(done.quality - right)
    return _comparison(subject, CASCADE, name, difference, done, wanted, table)


def _comparison(
    subject: str,
    opponent: str,
    name: str,
    difference: Estimate,
    done: Replay,
    cost: float,
    table: OutcomeTable,
) -> Comparison:
    own = float(done.ms.mean())
    quality = table.quality_name
    return Comparison(
        subject, opponent, name, difference, own, float(cost), len(done.quality), quality
    )


def _break_even(subject: str, done: Replay, table: OutcomeTable, premodel_ms: float) -> BreakEven:
    policy = done.policy
    assert policy.premodel is not None
    charge = table.features_cost(tuple(policy.premodel.features)) + premodel_ms
    means = {n: float(table.ms(n).mean()) for n in policy.candidates}
    small = min(means, key=lambda n: means[n])
    # An exit that comes after the small one has run it too.
    chains = run_order({n: o.after for n, o in table.outcomes.items()})
    through = [small in chains[n] for n in policy.candidates]
    kept = done.ran[:, through].any(axis=1)
    saved = np.where(kept, 0.0, means[small])
    return BreakEven(
        subject,
        float(charge.mean()),
        small,
        means[small],
        float(kept.mean()),
        float(saved.mean()),
        mean(saved - charge),
    )
