"""Cascades and hybrids that go by learned gains, tried at one mean cost."""

from __future__ import annotations

import itertools
from typing import Iterator

import numpy as np

from adaptive.policy.gain import describe
from adaptive.tuning.gains import Learned, Regression, learn
from adaptive.tuning.judged import Judged
from adaptive.tuning.members import Members, ordered
from adaptive.tuning.trial import Trial

#: Paths that are tried at a budget: those that seem best there by every path's curve.
TRIED = 6


def gains_of(members: Members, path: tuple[str, ...], judged: Judged | None) -> Learned:
    """Gains along a path, learned once; from the signal alone where `judged` is None."""
    key = ("gains", path, None if judged is None else judged.key)
    if key not in members.learned:
        average, _ = gain_setting(members)
        names = {p: tuple(path[i] for i in p) for p in _subsets(len(path))}
        steps = {p: members.steps(names[p])[-1] for p in names}
        members.learned[key] = learn(
            len(path),
            lambda p: described(members, names[p], path, judged),
            lambda p: members.right(names[p], average),
            (lambda p: members.foreseen(names[p], average)) if members.logs is not None else None,
            steps.__getitem__,
        )
    found: Learned = members.learned[key]
    return found


def described(
    members: Members, ran: tuple[str, ...], path: tuple[str, ...], judged: Judged | None
) -> Regression:
    """What is known after some candidates of a path ran, made once for all that share it."""
    told, whose = None, ran
    if judged is not None:
        whose = ran if judged.conditions else path
        told = judged.told([members.names.index(name) for name in path])
    key = ("described", ran, whose, None if judged is None else judged.key)
    if key not in members.learned:
        average, signal = gain_setting(members)
        score = members.score(ran, average, signal)
        members.learned[key] = Regression(describe(score, told), members.fold)
    found: Regression = members.learned[key]
    return found


def gain_setting(members: Members) -> tuple[bool, str]:
    """Whether what ran is averaged, and the signal."""
    return (False, "top") if members.logs is None else (True, "margin")


def _subsets(count: int) -> list[tuple[int, ...]]:
    return [p for k in range(1, count + 1) for p in itertools.combinations(range(count), k)]


def gain_paths(members: Members, judged: Judged | None) -> tuple[tuple[str, ...], ...]:
    """The paths along which gains are learned: they begin on the front."""
    found = [path for length in (2, 3) for path in ordered(members, length)]
    if judged is None:
        return tuple(found)
    return tuple(p for p in found if judged.knows([members.names.index(name) for name in p]))


def learned_trials(
    members: Members,
    budget: float,
    judged: Judged | None = None,
    told: bool = True,
    follows: str = "",
) -> Iterator[Trial]:
    """Policies with learned gains whose mean cost is `budget` or less, on the best paths there.

    Parameters
    ----------
    judged : what a premodel says, which is then paid for; None for cascades
    told : whether gains go by it, or by the signal alone
    follows : what exponents follow, see `Trial`
    """
    charge = 0.0 if judged is None else judged.charge
    by = judged if told else None
    shown = members
    if follows:
        assert judged is not None
        shown = followed(members, judged, follows)
    if budget - charge <= min(members.cost.values()):
        return
    paths = [p for p in gain_paths(members, judged) if members.cost[p[0]] <= budget - charge]
    # Exponents that follow the image move a path's accuracy little, so common ones screen.
    reached = [-gains_of(members, path, by).reached(budget - charge) for path in paths]
    average, signal = gain_setting(members)
    if told and judged is not None and not follows:
        shown = weighed(members, judged)
    for place in np.sort(np.argsort(reached, kind="stable")[:TRIED]).tolist():
        learned = gains_of(shown, paths[place], by)
        price = learned.price(budget - charge)
        right, value, cost = learned.walk(price)
        yield Trial(
            "learned cascade" if judged is None else "learned hybrid",
            paths[place],
            (),
            right,
            value,
            charge + float(cost.mean()),
            signal,
            average,
            price=price,
            told=judged is not None and told,
            follows=follows,
        )


def weighed(members: Members, judged: Judged) -> Members:
    """The members, with what is foreseen under the conditions that a premodel tells."""
    if members.logs is None or not judged.conditions:
        return members
    key = ("weighed", judged.key)
    if key not in members.learned:
        members.learned[key] = members.judged_by(followed(members, judged, "conditions"))
    found: Members = members.learned[key]
    return found


def followed(members: Members, judged: Judged, what: str) -> Members:
    """The members with exponents that follow what the premodel tells, made once."""
    key = ("followed", judged.key, what)
    if key not in members.learned:
        assert judged.traits is not None
        members.learned[key] = members.following(judged.traits, judged.followed(what))
    found: Members = members.learned[key]
    return found
