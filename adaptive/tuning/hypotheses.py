"""What was tuned, and policies held against drops in an order that is fixed before testing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from adaptive.errors import InputError
from adaptive.policy.base import Policy
from adaptive.tuning.certificate import P_VALUES, Certificate, Counts, points
from adaptive.tuning.trial import Choice

#: Of several drops, hypotheses with such a p-value on the tuning images are tested before all
#: others. Little more than the least that the exact test can give.
SURE = 2e-5


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes
    ----------
    policy : what to serve; None when nothing can be promised
    certificate : what is promised about it, where a promise was asked for
    reason : why this policy, or why none, in words
    choice : the winning trial and how the families compared
    needed : about how many calibration images would be needed, where nothing could be promised
    """

    policy: Policy | None
    reason: str
    choice: Choice | None = None
    certificate: Certificate | None = None
    needed: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hypothesis:
    """One policy held against one drop.

    Attributes
    ----------
    before, seen : p-value and counts on the tuning images
    p_value, counts : on the calibration images
    """

    tuned: Tuned
    drop: float
    before: float
    seen: Counts
    p_value: float
    counts: Counts

    @property
    def policy(self) -> Policy:
        """What is tested."""
        assert self.tuned.policy is not None
        return self.tuned.policy

    @property
    def cost(self) -> float:
        """Its mean cost on the tuning images."""
        assert self.tuned.choice is not None
        return self.tuned.choice.trial.cost


def checked_drops(
    epsilon: float | Sequence[float], delta: float, bound: str, take: float | None
) -> tuple[float, ...]:
    """The drops, largest first, each once."""
    given = [epsilon] if isinstance(epsilon, (int, float)) else list(epsilon)
    if bound not in P_VALUES:
        raise InputError(f"bound {bound!r} is not one of {list(P_VALUES)}")
    if not 0 < delta < 1:
        raise InputError(f"delta {delta} is not between 0 and 1")
    if not given:
        raise InputError("no accuracy drop was given")
    for drop in given:
        if not -1 < drop < 1:
            raise InputError(f"an accuracy drop of {drop} is not between -1 and 1")
    if take is not None and take not in given:
        raise InputError(f"{take:g} is not one of the drops that are tested, {given}")
    return tuple(sorted(set(given), reverse=True))


def summary_of(drops: Sequence[float], passed: Sequence[Hypothesis]) -> str:
    """What came of each of several drops, with a semicolon; nothing for a single one."""
    if len(drops) == 1:
        return ""
    said = []
    for drop in drops:
        costs = [one.cost for one in passed if one.drop == drop]
        said.append(
            f"{points(drop)} " + (f"at a mean cost of {min(costs):.4g}" if costs else "infeasible")
        )
    return f"tested as one family: {', '.join(said)}; "


def in_order(family: Sequence[Hypothesis], drops: Sequence[float]) -> list[Hypothesis]:
    """The order in which hypotheses are tested, by the tuning images alone.

    The most promising come first; but before any that is not all but sure there stands the most
    promising one of each drop, so that a policy which is too cheap for a large drop does not keep
    a small one from being tested.

    Parameters
    ----------
    drops : largest first
    """
    # Many p-values are exactly 1, or the least there is: of those the one with most room.
    ranked = sorted(family, key=lambda one: (one.before, one.seen.drop - one.drop))
    sure = [one for one in ranked if one.before <= SURE]
    best = [next(one for one in ranked if one.drop == drop) for drop in drops]
    begun = [*sure, *(one for one in best if one.before > SURE)]
    return [*begun, *(one for one in ranked if not any(one is other for other in begun))]
