"""A verdict's numbers as plain English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive.intervals import Estimate
from adaptive.policy.base import ADVISES, CHOOSES

if TYPE_CHECKING:
    from adaptive.evaluation.verdict import BreakEven, Comparison, Verdict

#: Costs that differ by a smaller share are called the same.
_SAME = 0.02

#: Beyond so many images "how many more" is no advice.
_MANY = 10_000_000

SUBJECTS = {"policy": "The policy", "premodel": "The premodel alone"}


def comparison_words(c: Comparison) -> str:
    """One side against the other, and what that decides."""
    who, whom = SUBJECTS[c.subject], _opponent(c)
    size, interval = f"{100 * abs(c.difference.value):.2f} points", _interval(c.difference)
    if c.pays is True:
        return f"{who} is {size} of top-1 above {whom} {interval}."
    if c.pays is False:
        return f"{who} is {size} of top-1 below {whom} {interval}."
    text = (
        f"{who} is not shown to be better or worse than {whom}: {_signed(c.difference)} points of "
        f"top-1 {interval}."
    )
    if c.needed is None:
        return f"{text} On these {c.images:,} images neither is ahead."
    if c.needed > _MANY:
        return f"{text} To show a difference this small would take more images than is practical."
    about = float(f"{c.needed:.2g}")
    return f"{text} To show a difference of that size takes about {about:,.0f} images."


def break_even_words(b: BreakEven) -> str:
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


def summary(verdict: Verdict) -> str:
    """The overall sentence, and one on the premodel where one was judged."""
    c = verdict.find("policy", "random mix")[0]
    at = f"{100 * verdict.top1:.1f}% top-1 in {verdict.ms:.3g} ms an image"
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
