"""Does routing pay? The policy and its premodel against what would cost the same without them.

A comparison pays when the 95% interval of the paired difference in top-1 lies above 0, does not
when it lies below, and cannot be decided when it holds 0. Time for features and premodel is
charged everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Sequence

import numpy as np

from adaptive.candidate import run_order
from adaptive.errors import InputError
from adaptive.evaluation.evaluation import paired
from adaptive.evaluation.replay import Replay, replay
from adaptive.evaluation.verdict_words import break_even_words, comparison_words, summary
from adaptive.intervals import Estimate, mean, random_mix
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.base import Premodel

#: What a comparison is with; the keys of `Comparison.opponent`.
MIX, FIXED, CASCADE = "random mix", "fixed", "cascade"


@dataclass(frozen=True)
class Comparison:
    """Top-1 of one side minus the other's, paired over the images.

    Attributes
    ----------
    subject : "policy" or "premodel"
    opponent : "random mix", "fixed" or "cascade"
    name : of the opponent: the candidate, or the candidates of a mix or cascade
    ms, opponent_ms : mean milliseconds of both
    """

    subject: str
    opponent: str
    name: str
    difference: Estimate
    ms: float
    opponent_ms: float
    images: int

    @property
    def pays(self) -> bool | None:
        """Whether the subject is better; None where the interval holds 0."""
        return decided(self.difference)

    @property
    def needed(self) -> int | None:
        """About how many images would show a difference of this size; None when it is shown."""
        value = abs(self.difference.value)
        if self.pays is not None or value == 0:
            return None
        half = (self.difference.high - self.difference.low) / 2
        return math.ceil(self.images * (half / value) ** 2)

    def words(self) -> str:
        """One sentence."""
        return comparison_words(self)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "subject": self.subject,
            "opponent": self.opponent,
            "name": self.name,
            "difference": self.difference.to_json(),
            "ms": self.ms,
            "opponent_ms": self.opponent_ms,
            "pays": self.pays,
            "images_needed": self.needed,
            "words": self.words(),
        }


@dataclass(frozen=True)
class BreakEven:
    """What a premodel costs, and what it saves by not always starting with the small network.

    Against a cascade that starts every image at the small network and keeps as many there, a
    router that decides before saves (1 - share kept small) x the small network's time.

    Attributes
    ----------
    cost : mean milliseconds of features and premodel
    small : the fastest candidate of the policy's order
    kept : share of the images for which it ran
    saving : (1 - kept) x its mean milliseconds
    margin : saving minus cost, with its 95% interval over the images
    """

    subject: str
    cost: float
    small: str
    small_ms: float
    kept: float
    saving: float
    margin: Estimate

    @property
    def pays(self) -> bool | None:
        """Whether it saves more than it costs."""
        return decided(self.margin)

    def words(self) -> str:
        """One sentence."""
        return break_even_words(self)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "subject": self.subject,
            "cost_ms": self.cost,
            "small": self.small,
            "small_ms": self.small_ms,
            "share_kept_small": self.kept,
            "saving_ms": self.saving,
            "margin_ms": self.margin.to_json(),
            "pays": self.pays,
            "words": self.words(),
        }


@dataclass(frozen=True)
class Verdict:
    """All comparisons, and what follows from them.

    Attributes
    ----------
    kind : the policy's
    top1, ms : the policy's, means
    comparisons : the policy's, then the premodel's
    break_even : one for the premodel alone and, for a hybrid, one for the hybrid
    cautions : what weakens the comparisons, in sentences
    """

    kind: str
    images: int
    top1: float
    ms: float
    comparisons: tuple[Comparison, ...]
    break_even: tuple[BreakEven, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def pays(self) -> bool | None:
        """Whether the policy beats a random mix at equal cost."""
        return self.find("policy", MIX)[0].pays

    @property
    def premodel_pays(self) -> bool | None:
        """Whether the premodel is worth having; None where it cannot be said, or there is none.

        In a hybrid: whether the policy beats the best cascade at equal cost. Elsewhere, and
        where no cascade is known, whether the premodel alone beats all that it was held against.
        """
        against = self.find("policy", CASCADE) if self.kind == "hybrid" else ()
        flags = [c.pays for c in against or self.find("premodel")]
        if not flags or (None in flags and False not in flags):
            return None
        return False not in flags

    @property
    def has_premodel(self) -> bool:
        """Whether a premodel was judged."""
        return bool(self.find("premodel"))

    def find(self, subject: str, opponent: str | None = None) -> tuple[Comparison, ...]:
        """The comparisons of one subject, with one kind of opponent or all."""
        return tuple(
            c for c in self.comparisons if c.subject == subject and opponent in (None, c.opponent)
        )

    def shown(self) -> tuple[Comparison, ...]:
        """The comparisons to read; those of a premodel that is the policy are not said twice."""
        own = {(c.opponent, c.difference) for c in self.find("policy")}
        return tuple(
            c
            for c in self.comparisons
            if c.subject == "policy"
            or self.kind != "premodel"
            or (c.opponent, c.difference) not in own
        )

    def overall(self) -> str:
        """The verdict on routing, and on the premodel where there is one."""
        return summary(self)

    def words(self) -> list[str]:
        """The whole verdict in plain English, a sentence or two a line."""
        lines = [self.overall()]
        lines += [c.words() for c in self.shown()]
        lines += [b.words() for b in self.break_even]
        return [*lines, *self.cautions]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "pays": self.pays,
            "premodel_pays": self.premodel_pays,
            "overall": self.overall(),
            "comparisons": [c.to_json() for c in self.comparisons],
            "break_even": [b.to_json() for b in self.break_even],
            "cautions": list(self.cautions),
        }


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
    # A policy that draws must draw as it would alone, so a fresh one is driven. What it is held
    # against answers every image, so its best guess counts where it abstains with one.
    policy = replace(policy, abstain_below=None)
    done = replay(policy, table, premodel_ms=premodel_ms)
    curve = sorted((replay(c, table) for c in cascades), key=lambda r: float(r.ms.mean()))
    comparisons = [_against_mix("policy", done, table), *_against_fixed(policy, done, table)]
    break_even: list[BreakEven] = []
    # For one that is no cascade itself; a cascade would only meet its like.
    if curve and policy.kind in ("hybrid", "premodel"):
        comparisons.append(_against_cascade("policy", done, curve))
    alone = policy if policy.kind == "premodel" else _alone(premodel or policy.premodel, table)
    if alone is not None:
        own = done if alone is policy else replay(alone, table, premodel_ms=premodel_ms)
        comparisons.append(_against_mix("premodel", own, table))
        if curve:
            comparisons.append(_against_cascade("premodel", own, curve))
        break_even.append(_break_even("premodel", own, table, premodel_ms))
    if policy.kind == "hybrid":
        break_even.append(_break_even("policy", done, table, premodel_ms))
    return Verdict(
        policy.kind,
        len(table),
        float(done.top1.mean()),
        float(done.ms.mean()),
        tuple(comparisons),
        tuple(break_even),
        tuple(cautions),
    )


def decided(difference: Estimate) -> bool | None:
    """True above 0, False below, None where the interval holds 0."""
    if difference.low > 0:
        return True
    return False if difference.high < 0 else None


def _alone(premodel: Premodel | None, table: OutcomeTable) -> Policy | None:
    """The premodel by the papers' rule: the first yes answers, the last where all say no."""
    if premodel is None:
        return None
    judged = tuple(n for n in premodel.candidates if n in table.outcomes)
    return ByPremodel(judged, premodel) if judged else None


def _against_mix(subject: str, done: Replay, table: OutcomeTable) -> Comparison:
    names = table.candidates
    right = [table.top1(n).astype(float) for n in names]
    cost = [float(table.ms(n).mean()) for n in names]
    mix = random_mix(cost, [float(r.mean()) for r in right], float(done.ms.mean()))
    members = dict.fromkeys((names[mix.first], names[mix.second]))
    difference = paired(done.top1 - mix.apply(right))
    return _comparison(subject, MIX, " and ".join(members), difference, done, mix.cost)


def _against_fixed(policy: Policy, done: Replay, table: OutcomeTable) -> list[Comparison]:
    """One for each candidate that costs as much or more, but for a fixed policy's own."""
    itself = policy.candidates[0] if policy.kind == "fixed" else None
    found = []
    for name in table.candidates:
        cost = float(table.ms(name).mean())
        if cost >= float(done.ms.mean()) and name != itself:
            difference = paired(done.top1 - table.top1(name).astype(float))
            found.append(_comparison("policy", FIXED, name, difference, done, cost))
    return sorted(found, key=lambda c: c.opponent_ms)


def _against_cascade(subject: str, done: Replay, curve: Sequence[Replay]) -> Comparison:
    cost = [float(r.ms.mean()) for r in curve]
    wanted = min(max(float(done.ms.mean()), cost[0]), cost[-1])
    above = int(np.searchsorted(cost, wanted))
    below = max(above - 1, 0)
    gap = cost[above] - cost[below]
    share = (wanted - cost[below]) / gap if gap > 0 else 1.0
    right = (1 - share) * curve[below].top1 + share * curve[above].top1
    nearest = curve[above if share >= 0.5 else below]
    name = " then ".join(nearest.policy.candidates)
    return _comparison(subject, CASCADE, name, paired(done.top1 - right), done, wanted)


def _comparison(
    subject: str, opponent: str, name: str, difference: Estimate, done: Replay, cost: float
) -> Comparison:
    own = float(done.ms.mean())
    return Comparison(subject, opponent, name, difference, own, float(cost), len(done.top1))


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
