"""Try many policies at one mean cost, and pick one without falling for the luckiest.

A *trial* is a policy without thresholds plus the shares of images that go on at each step; the
shares follow from the budget, so two trials at one budget differ in whom they send on, not in
how many. Choosing among thousands of them by how often they were right on the same images is what
makes a tuner promise too much. So trials are compared by how likely their answers were to be
right, as all candidates together foresee it (`Members.foreseen`), and a whole family of trials is
judged by cross-validation (choose on nine tenths, count on the rest; what several networks come to
is by exponents of the other nine tenths too).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Callable, Iterator, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.policy.hybrid import expected_gain
from adaptive.tuning.crossed import cross_judged
from adaptive.tuning.gate import Gate, gate
from adaptive.tuning.judged import Judged
from adaptive.tuning.learned import learned_trials
from adaptive.tuning.members import Members, ordered
from adaptive.tuning.trial import Choice, Trial

#: Signals, the one to prefer first where nothing tells them apart.
SIGNALS = ("margin", "top", "entropy")

#: How far one unit of expected gain moves a threshold, tried for hybrids.
SHIFTS = (0.2, 0.4, 0.1, 0.8)

#: Shares of the images that a hybrid may start at the second candidate.
STARTS = (0.0, 0.1, 0.3)

#: Shares that reach the second of three candidates, relative to those that the budget allows.
MIDDLES = (0.75, 0.6, 0.9, 0.45, 0.3, 0.15)

#: Families in the order of preference; a later one must beat those before it by this many
#: standard errors of the paired difference, in cross-validation. What is foreseen scatters so
#: little that among cascades a lead alone will do. Whether a hybrid is taken is not decided
#: here: see `gate`.
FAMILIES = {
    "fixed": 0.0,
    "premodel": 2.0,
    "averaging cascade": 0.0,
    "cascade": 0.0,
    "cascade of three": 0.0,
    "learned cascade": 0.0,
    "learned hybrid": 0.0,
    "hybrid": 2.0,
}


def trials(members: Members, budget: float, judged: Judged | None = None) -> Iterator[Trial]:
    """All trials whose mean cost is `budget` or, where that is more than they can use, less.

    Parameters
    ----------
    judged : what a premodel says; without it there are no hybrids
    """
    yield from _plain(members, budget, judged)
    if judged is not None:
        yield from learned_trials(members, budget, judged)
        yield from _hybrids(members, budget, judged.chances, judged.charge)


def _plain(members: Members, budget: float, judged: Judged | None) -> Iterator[Trial]:
    """All but the hybrids."""
    for name in members.names:
        if members.cost[name] <= budget:
            yield Trial("fixed", (name,), (), *_alone(members, name), members.cost[name])
    yield from _pairs(members, budget)
    yield from _threes(members, budget)
    yield from learned_trials(members, budget)
    if judged is not None:
        yield from _premodels(members, budget, judged)


def _settings(members: Members, length: int) -> Iterator[tuple[str, bool]]:
    """(signal, average) to try for paths of `length` candidates, preferred ones first."""
    if members.logs is None:
        yield "top", False
        return
    for average in (True, False):
        for signal in SIGNALS if length == 2 else (*SIGNALS[:2], "agreement"):
            yield signal, average


def _pairs(members: Members, budget: float) -> Iterator[Trial]:
    for path in ordered(members, 2):
        first, second = members.steps(path)
        share = (budget - first) / second
        if share <= 0:
            continue
        count = _count(share, len(members))
        for signal, average in _settings(members, 2):
            on = _unsure(members, path[:1], False, signal)[:count]
            right, value = _mixed(members, path, average, on)
            yield Trial(
                "averaging cascade" if average else "cascade",
                path,
                (count / len(members),),
                right,
                value,
                first + count / len(members) * second,
                signal,
                average,
            )


def _threes(members: Members, budget: float) -> Iterator[Trial]:
    n = len(members)
    for path in ordered(members, 3):
        first, second, third = members.steps(path)
        rest = budget - first
        most = min(1.0, rest / second)
        if most <= 0:
            continue
        for signal, average in _settings(members, 3):
            order = _unsure(members, path[:1], False, signal)
            later = _unsure(members, path[:2], average, signal)
            for relative in MIDDLES:
                reach = relative * most
                last = min((rest - reach * second) / third, reach)
                if last <= 0:
                    continue
                on = order[: _count(reach, n)]
                reached = np.zeros(n, bool)
                reached[on] = True
                further = later[reached[later]][: _count(last, n)]
                right, value = _mixed(members, path, average, on, further)
                yield Trial(
                    "cascade of three",
                    path,
                    (len(on) / n, len(further) / n),
                    right,
                    value,
                    first + len(on) / n * second + len(further) / n * third,
                    signal,
                    average,
                )


def _unsure(members: Members, path: tuple[str, ...], average: bool, signal: str) -> np.ndarray:
    """All images, those first of which a signal after `path` is least sure.

    Of equals those come first of which it was less sure one candidate earlier. The order is the
    same at every budget, so it is made once.
    """
    key = ("unsure", path, average, signal)
    if key not in members.orders:
        order = np.arange(len(members))
        if len(path) > 1:
            order = _unsure(members, path[:-1], False, signal)
        score = members.score(path, average, signal)[order]
        members.orders[key] = order[np.argsort(score, kind="stable")]
    return members.orders[key]


def _premodels(members: Members, budget: float, judged: Judged) -> Iterator[Trial]:
    """One candidate an image, by chance less price times cost, at the least price that fits."""
    chances, charge = judged.chances, judged.charge
    known = [i for i in range(len(members.names)) if not np.isnan(chances[:, i]).any()]
    names = tuple(members.names[i] for i in known)
    own, cost = chances[:, known], np.array([members.cost[n] for n in names])
    if len(names) < 2 or charge + cost.min() > budget:
        return

    def chosen(price: float) -> np.ndarray:
        return np.asarray(np.argmax(own - price * cost, axis=1))

    low, high = 0.0, 1.0 / float(np.diff(np.sort(cost)).min() or cost.min())
    if charge + cost[chosen(low)].mean() <= budget:
        high = low
    for _ in range(40 if high > low else 0):
        middle = (low + high) / 2
        fits = charge + cost[chosen(middle)].mean() <= budget
        low, high = (low, middle) if fits else (middle, high)
    choice = chosen(high)
    spent = charge + float(cost[choice].mean())
    if spent <= budget:
        at = choice, np.arange(len(members))
        right = np.stack([members.quality[n] for n in names])[at]
        value = np.stack([members.foreseen((n,), False) for n in names])[at]
        yield Trial("premodel", names, (), right, value, spent, price=high)


def _alone(members: Members, name: str) -> tuple[np.ndarray, np.ndarray]:
    return members.quality[name], members.foreseen((name,), False)


def _mixed(
    members: Members, path: tuple[str, ...], average: bool, *reached: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong, and its value, where rows `reached` go on to the second, the third."""
    right, value = (own.copy() for own in _alone(members, path[0]))
    for length, rows in enumerate(reached, 2):
        right[rows] = members.right(path[:length], average)[rows]
        value[rows] = members.foreseen(path[:length], average)[rows]
    return right, value


def _gains(members: Members, path: Sequence[str], chances: np.ndarray) -> np.ndarray:
    """The expected gain of going on from each candidate of a path but the last."""
    own = chances[:, [members.names.index(name) for name in path]]
    return expected_gain(own)[:, :-1]


def _hybrids(
    members: Members, budget: float, chances: np.ndarray, charge: float
) -> Iterator[Trial]:
    n = len(members)
    for path in ordered(members, 2):
        first, second = members.steps(path)
        straight = members.cost[path[1]]
        gain = _gains(members, path, chances)[:, 0]
        if np.isnan(gain).any():
            continue
        judged = hash(gain.tobytes())
        eager = np.argsort(-gain, kind="stable")
        for start_share in STARTS:
            direct = eager[: _count(start_share, n)] if start_share else eager[:0]
            # Ties in the gain are sent together by a threshold, so they are cut together here.
            if len(direct) and len(direct) < n and gain[eager[len(direct)]] == gain[direct[-1]]:
                direct = eager[gain[eager] > gain[direct[-1]]]
            start_here = np.ones(n, bool)
            start_here[direct] = False
            rest = np.flatnonzero(start_here)
            left = budget - charge - (len(rest) * first + len(direct) * straight) / n
            count = min(_count(left / second, n), len(rest))
            if left <= 0 or count < 1:
                continue
            for signal, average in _settings(members, 2):
                if signal == "entropy":
                    continue  # nobody missed it, and every one makes the search longer
                score = members.score(path[:1], False, signal)
                for shift in SHIFTS if start_share == 0 else (0.0, *SHIFTS):
                    # The order is the same at every budget and for every combination.
                    key = (path[0], signal, judged, len(direct), shift)
                    if key not in members.orders:
                        moved = score[rest] - shift * (gain[rest] - gain.mean())
                        order = rest[np.argsort(moved, kind="stable")]
                        members.orders[key] = order.astype(np.int32)
                    on = members.orders[key][:count]
                    right, value = _mixed(members, path, average, on)
                    right[direct] = members.quality[path[1]][direct]
                    value[direct] = members.foreseen(path[1:], False)[direct]
                    cost = (len(rest) * first + len(direct) * straight + len(on) * second) / n
                    yield Trial(
                        "hybrid",
                        path,
                        (count / n,),
                        right,
                        value,
                        charge + cost,
                        signal,
                        average,
                        shift,
                        len(direct) / n,
                    )


def choose(
    members: Members,
    budget: float,
    judged: Judged | None = None,
    kind: str | None = None,
    fits: Callable[[Trial], bool] | None = None,
) -> Choice:
    """The trial to take at a mean cost of `budget`.

    `kind` restricts it to policies of one kind: "fixed", "premodel", "cascade" or "hybrid";
    `fits` to whatever else a caller demands.

    Raises
    ------
    InputError
        when not even the cheapest candidate fits the budget.
    """
    decided = None if judged is None or kind not in (None, "hybrid") else gate(members, judged)
    proposed = trials(members, budget, judged) if kind == "hybrid" else _plain(
        members, budget, judged
    )  # fmt: skip
    found = [t for t in proposed if kind in (None, t.kind) and (fits is None or fits(t))]
    if not found:
        if kind is not None:
            raise InputError(f"no {kind} policy has a mean cost of at most {budget:g}")
        cheapest = min(members.names, key=lambda n: members.cost[n])
        raise InputError(
            f"a mean cost of {budget:g} cannot be met: the cheapest candidate, {cheapest}, "
            f"takes {members.cost[cheapest]:.4g}"
        )
    base = _among(found, members.fold, kind)
    if decided is None or judged is None:
        return base
    if not decided.taken or kind == "hybrid":
        return replace(base, reason=f"{base.reason}. {_sentence(decided, base.trial)}")
    told = [
        t
        for t in learned_trials(members, budget, judged, decided.told, decided.follows)
        if fits is None or fits(t)
    ]
    if not told:
        why = f"{base.reason}. {_sentence(decided)}; at this cost no hybrid fits"
        return replace(base, reason=why)
    taken = cross_judged(told, members.fold)
    expected = float(taken.quality.mean())
    families = {**base.families, taken.trial.family: expected}
    return Choice(taken.trial, expected, families, _sentence(decided))


def _among(found: Sequence[Trial], fold: np.ndarray, kind: str | None) -> Choice:
    """The best family's trial to take."""
    judged = {
        family: cross_judged([t for t in found if t.family == family], fold)
        for family in FAMILIES
        if any(t.family == family for t in found)
    }
    values = {family: float(own.quality.mean()) for family, own in judged.items()}
    best = next(iter(judged))
    if kind == "hybrid":
        why = "only hybrid policies were asked for"
    elif len(judged) > 1:
        why = f"nothing more complicated than {best} was better in cross-validation"
    elif kind is not None:
        why = f"only {kind} policies were asked for"
    else:
        why = f"{best} is all that fits the budget"
    for family in list(judged)[1:]:
        lead, error = _lead(judged[family].foreseen, judged[best].foreseen)
        if lead > FAMILIES[family] * error and lead > 0:
            why = (
                f"{family} is {100 * lead:.2f} points above {best} in cross-validation "
                f"{_beyond(error, FAMILIES[family])}"
            )
            best = family
    return Choice(judged[best].trial, values[best], values, why)


def _sentence(decided: Gate, taken: Trial | None = None) -> str:
    """What the gate says, beside a trial that is taken whatever it says."""
    words = decided.words
    if taken is not None and not decided.taken:
        why = words.partition(": ")[2]
        if taken.kind == "premodel":
            words = f"hybrids with the premodel are left out: {why}"
        elif taken.kind == "hybrid":
            words = f"unasked, the premodel would be left out: {why}"
    return words[0].upper() + words[1:]


def _beyond(error: float, needed: float) -> str:
    """How sure a lead is, and how many standard errors it must have, where it must."""
    least = f"; a lead of at least {needed:g} of them is needed" if needed else ""
    return f"(standard error {100 * error:.2f}{least})"


def _lead(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean paired difference of two right-or-wrong arrays, and its standard error."""
    difference = one.astype(np.float64) - other
    return float(difference.mean()), float(np.std(difference)) / math.sqrt(len(difference))


def _count(share: float, n: int) -> int:
    return int(min(max(math.floor(share * n), 0), n))
