"""What a verdict consists of, as numbers and as plain English."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from adaptive.intervals import Estimate
from adaptive.outcomes.quality import TOP1, quality_words
from adaptive.policy.base import ADVISES, CHOOSES

#: What a comparison is with; the keys of `Comparison.opponent`.
MIX, FIXED, CASCADE = "random mix", "fixed", "cascade"

#: Costs that differ by a smaller share are called the same.
_SAME = 0.02

#: Beyond so many images "how many more" is no advice.
_MANY = 10_000_000

SUBJECTS = {"policy": "The policy", "premodel": "The premodel alone"}


@dataclass(frozen=True)
class Comparison:
    """Quality of one side minus the other's, paired over the images.

    Attributes
    ----------
    subject : "policy" or "premodel"
    opponent : "random mix", "fixed" or "cascade"
    name : of the opponent: the candidate, or the candidates of a mix or cascade
    ms, opponent_ms : mean milliseconds of both
    quality : what it is called
    """

    subject: str
    opponent: str
    name: str
    difference: Estimate
    ms: float
    opponent_ms: float
    images: int
    quality: str = TOP1

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
        return _comparison_words(self)

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
        return _break_even_words(self)

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
    premodel_role : what a premodel does in the policy, see `Policy`
    quality, ms : the policy's, means
    comparisons : the policy's, then the premodel's
    break_even : one for the premodel alone and, where it advises, one for the policy
    cautions : what weakens the comparisons, in sentences
    quality_name : what the quality is called
    """

    kind: str
    premodel_role: str | None
    images: int
    quality: float
    ms: float
    comparisons: tuple[Comparison, ...]
    break_even: tuple[BreakEven, ...] = ()
    cautions: tuple[str, ...] = ()
    quality_name: str = TOP1

    @property
    def pays(self) -> bool | None:
        """Whether the policy beats a random mix at equal cost."""
        return self.find("policy", MIX)[0].pays

    @property
    def premodel_pays(self) -> bool | None:
        """Whether the premodel is worth having; None where it cannot be said, or there is none.

        Where it advises: whether the policy beats the best cascade at equal cost. Elsewhere, and
        where no cascade is known, whether the premodel alone beats all that it was held against.
        """
        against = self.find("policy", CASCADE) if self.premodel_role == ADVISES else ()
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
            or self.premodel_role != CHOOSES
            or (c.opponent, c.difference) not in own
        )

    def overall(self) -> str:
        """The verdict on routing, and on the premodel where there is one."""
        return _summary(self)

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


def decided(difference: Estimate) -> bool | None:
    """True above 0, False below, None where the interval holds 0."""
    if difference.low > 0:
        return True
    return False if difference.high < 0 else None


def _comparison_words(c: Comparison) -> str:
    """One side against the other, and what that decides."""
    who, whom = SUBJECTS[c.subject], _opponent(c)
    size, interval = f"{100 * abs(c.difference.value):.2f} points", _interval(c.difference)
    words = quality_words(c.quality)
    if c.pays is True:
        return f"{who} is {size} of {words} above {whom} {interval}."
    if c.pays is False:
        return f"{who} is {size} of {words} below {whom} {interval}."
    text = (
        f"{who} is not shown to be better or worse than {whom}: {_signed(c.difference)} points of "
        f"{words} {interval}."
    )
    if c.needed is None:
        return f"{text} On these {c.images:,} images neither is ahead."
    if c.needed > _MANY:
        return f"{text} To show a difference this small would take more images than is practical."
    about = float(f"{c.needed:.2g}")
    return f"{text} To show a difference of that size takes about {about:,.0f} images."


def _break_even_words(b: BreakEven) -> str:
    """What the premodel costs beside what it saves."""
    who = "The premodel" if b.subject == "premodel" else "The premodel within the policy"
    cost = f"{who} takes {b.cost:.3f} ms an image, its features included."
    text = (
        f"{cost} Because of it {100 * (1 - b.kept):.1f}% of the images do not start with "
        f"{b.small}, which saves {b.saving:.3f} ms an image "
        f"((1 - {b.kept:.3f}) x {b.small_ms:.3f} ms)."
    )
    margin = (
        f"{b.margin.value:+.3f} ms an image, 95% interval {b.margin.low:+.3f} to "
        f"{b.margin.high:+.3f}"
    )
    if b.pays is True:
        return f"{text} So it saves more time than it costs ({margin})."
    if b.kept == 1:
        return (
            f"{cost} It saves no time at the start, since every image still starts with "
            f"{b.small} ({margin}). It can pay only by choosing better which images go on."
        )
    if b.pays is False:
        return f"{text} So it costs more time than it saves ({margin})."
    return f"{text} It is not shown which of the two is more ({margin})."


def _summary(verdict: Verdict) -> str:
    """The overall sentence, and one on the premodel where one was judged."""
    c = verdict.find("policy", "random mix")[0]
    words = quality_words(verdict.quality_name)
    at = f"{100 * verdict.quality:.1f}% {words} in {verdict.ms:.3g} ms an image"
    blind = "a random choice of networks in the same time"
    size = f"{100 * abs(c.difference.value):.2f} points"
    if c.pays is True:
        text = f"Routing pays: {at}, {size} above {blind}."
    elif c.pays is False:
        text = f"Routing does not pay: {at}, {size} below {blind}."
    else:
        text = (
            f"These {verdict.images:,} images do not show whether routing pays: {at}, "
            f"{_signed(c.difference)} points against {blind} {_interval(c.difference)}."
        )
    return f"{text} {_premodel(verdict)}" if verdict.has_premodel else text


def _premodel(verdict: Verdict) -> str:
    lost = [c for c in verdict.find("premodel") if c.pays is False]
    against = verdict.find("policy", "cascade") if verdict.premodel_role == ADVISES else ()
    inside = f" (its policy: {_signed(against[0].difference)} points)" if against else ""
    than = "the best cascade of the same mean time" if against else "what takes as long without it"
    if verdict.premodel_pays is True:
        text = f"The premodel pays: it does better than {than}{inside}"
    elif verdict.premodel_pays is False:
        text = f"The premodel does not pay: it does worse than {than}{inside}"
    else:
        text = f"The premodel is not shown to pay, for it is not shown to beat {than}{inside}"
    if lost:
        parts = " and ".join(
            f"{'a random mix' if c.opponent == 'random mix' else 'the best cascade'} "
            f"({_signed(c.difference)} points)"
            for c in lost
        )
        text += f"; {'' if verdict.premodel_role == CHOOSES else 'alone '}it lost to {parts}"
    return text + "."


def _opponent(c: Comparison) -> str:
    if c.opponent == "fixed":
        times = f"{c.opponent_ms / c.ms:.2f} times as long ({c.ms:.3g} ms)"
        return f"always {c.name}, which takes {times}"
    near = abs(c.opponent_ms - c.ms) <= _SAME * c.ms
    at = f"at {'the same mean time, ' if near else 'a mean time of '}{c.opponent_ms:.3g} ms"
    if not near:
        at += f" to its {c.ms:.3g} ms"
    if c.opponent == "cascade":
        return f"the best confidence cascade ({c.name}) {at}"
    if " and " not in c.name:
        return f"always {c.name}, the best blind choice, {at}"
    return f"a random mix of {c.name} {at}"


def _signed(e: Estimate) -> str:
    return f"{100 * e.value:+.2f}"


def _interval(e: Estimate) -> str:
    return f"(95% interval {100 * e.low:+.2f} to {100 * e.high:+.2f})"
