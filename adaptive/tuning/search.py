"""Try many policies at one mean cost, and pick one without falling for the luckiest.

A *trial* is a policy without thresholds plus the shares of images that go on at each step; the
shares follow from the budget, so two trials at one budget differ in whom they send on, not in
how many. Every trial gives one vector of right and wrong, and choosing among thousands of them
by their mean on the same images is what makes a tuner promise too much. So a whole family of
trials is judged by cross-validation (choose on nine tenths, count on the rest; what several
networks come to is by exponents of the other nine tenths too), and a more complicated family is
taken only where it is better by more than chance.
"""

from __future__ import annotations

import math
from typing import Callable, Iterator, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.policy.cascade import expected_gain
from adaptive.tuning.learned import learned_trials, premodel_explains
from adaptive.tuning.members import FOLDS, Members, ordered
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
#: standard errors of the paired difference, in cross-validation. An average of what ran anyway
#: costs nothing and hardly ever hurts, so it stands before the plain cascade.
FAMILIES = {
    "fixed": 0.0,
    "premodel": 2.0,
    "averaging cascade": 0.0,
    "cascade": 2.0,
    "cascade of three": 2.0,
    "learned hybrid": 2.0,
    "hybrid": 2.0,
}


def trials(
    members: Members,
    budget: float,
    chances: np.ndarray | None = None,
    charge: float = 0.0,
    fold: np.ndarray | None = None,
) -> Iterator[Trial]:
    """All trials whose mean cost is `budget` or, where that is more than they can use, less.

    Parameters
    ----------
    chances : ndarray (n, m), the premodel's numbers in the order of `members.names`; without
        them there are no hybrids
    charge : what features and premodel cost, paid by hybrids
    fold : ndarray (n,), the part of each image where gains are cross-fitted; without it there
        are no hybrids by learned gains
    """
    for name in members.names:
        if members.cost[name] <= budget:
            yield Trial("fixed", (name,), (), members.top1[name], members.cost[name])
    yield from _pairs(members, budget)
    yield from _threes(members, budget)
    if chances is not None:
        yield from _premodels(members, budget, chances, charge)
        yield from _hybrids(members, budget, chances, charge)
        if fold is not None:
            yield from learned_trials(members, budget, chances, charge, fold)


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
            order = np.argsort(members.score(path[:1], False, signal), kind="stable")
            right = members.top1[path[0]].copy()
            on = order[:count]
            right[on] = members.right(path, average)[on]
            yield Trial(
                "averaging cascade" if average else "cascade",
                path,
                (count / len(members),),
                right,
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
            early = members.score(path[:1], False, signal)
            late = members.score(path[:2], average, signal)
            order = np.argsort(early, kind="stable")
            for relative in MIDDLES:
                reach = relative * most
                last = min((rest - reach * second) / third, reach)
                if last <= 0:
                    continue
                on = order[: _count(reach, n)]
                further = on[np.argsort(late[on], kind="stable")[: _count(last, n)]]
                right = members.top1[path[0]].copy()
                right[on] = members.right(path[:2], average)[on]
                right[further] = members.right(path, average)[further]
                yield Trial(
                    "cascade of three",
                    path,
                    (len(on) / n, len(further) / n),
                    right,
                    first + len(on) / n * second + len(further) / n * third,
                    signal,
                    average,
                )


def _premodels(
    members: Members, budget: float, chances: np.ndarray, charge: float
) -> Iterator[Trial]:
    """One candidate an image, by chance less price times cost, at the least price that fits."""
    judged = [i for i in range(len(members.names)) if not np.isnan(chances[:, i]).any()]
    names = tuple(members.names[i] for i in judged)
    own, cost = chances[:, judged], np.array([members.cost[n] for n in names])
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
        right = np.stack([members.top1[n] for n in names])[choice, np.arange(len(members))]
        yield Trial("premodel", names, (), right, spent, price=high)


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
                    right = members.top1[path[0]].copy()
                    right[direct] = members.top1[path[1]][direct]
                    right[on] = members.right(path, average)[on]
                    cost = (len(rest) * first + len(direct) * straight + len(on) * second) / n
                    yield Trial(
                        "hybrid",
                        path,
                        (count / n,),
                        right,
                        charge + cost,
                        signal,
                        average,
                        shift,
                        len(direct) / n,
                    )


def choose(
    members: Members,
    budget: float,
    chances: np.ndarray | None = None,
    charge: float = 0.0,
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
    fold = members.fold
    found = [
        t
        for t in trials(members, budget, chances, charge, fold)
        if kind in (None, t.kind) and (fits is None or fits(t))
    ]
    if not found:
        if kind is not None:
            raise InputError(f"no {kind} policy has a mean cost of at most {budget:g}")
        cheapest = min(members.names, key=lambda n: members.cost[n])
        raise InputError(
            f"a mean cost of {budget:g} cannot be met: the cheapest candidate, {cheapest}, "
            f"takes {members.cost[cheapest]:.4g}"
        )
    judged: dict[str, tuple[Trial, np.ndarray]] = {}
    for family in FAMILIES:
        own = [t for t in found if t.family == family]
        # Beside other kinds a hybrid is only judged as a change to what they come to.
        if own and (own[0].kind != "hybrid" or kind == "hybrid"):
            judged[family] = _judge(own, fold)
    values = {family: float(vector.mean()) for family, (_, vector) in judged.items()}
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
        lead, error = _lead(judged[family][1], judged[best][1])
        if lead > FAMILIES[family] * error and lead > 0:
            why = (
                f"{family} is {100 * lead:.2f} points above {best} in cross-validation "
                f"{_beyond(error, FAMILIES[family])}"
            )
            best = family
    base = Choice(judged[best][0], values[best], values, why)
    hybrids = [t for t in found if t.kind == "hybrid"]
    if kind == "hybrid" or not hybrids:
        return base
    assert chances is not None
    learned = [t for t in hybrids if t.learned]
    if learned:
        explains = premodel_explains(members, chances, fold)
        changed = _or_learned(base, judged[best][1], _judge(learned, fold), explains)
        if changed.trial is not base.trial:
            return changed
        base = changed
    return _or_moved(base, [t for t in hybrids if not t.learned], fold)


def _or_learned(
    base: Choice,
    right: np.ndarray,
    learned: tuple[Trial, np.ndarray],
    explains: tuple[float, float],
) -> Choice:
    """The hybrid with learned gains where the premodel tells something, else `base`.

    The premodel must foretell the gains better than the signal alone does (`explains`), which
    all images together tell sharply. Then the hybrid is to be expected above what it would
    replace, and is only left out where it is behind it by more than two standard errors in
    cross-validation; `right` is what it would replace.
    """
    trial, vector = learned
    lead, error = _lead(vector, right)
    share, errors = explains
    asked = FAMILIES["learned hybrid"]
    values = {**base.families, "hybrid": base.expected + lead}
    why = (
        f"{base.reason}. The premodel foretells what asking another network gains with "
        f"{100 * abs(share):.2f}% {'less' if share >= 0 else 'more'} squared error than "
        f"confidence alone ({errors:+.1f} standard errors; at least {asked:g} are needed). "
        f"A hybrid that uses it is {100 * lead:+.2f} points against the {base.trial.kind} policy, "
        f"its time counted (standard error {100 * error:.2f})"
    )
    if errors > asked and lead > -asked * error:
        return Choice(trial, base.expected + lead, values, why)
    return Choice(base.trial, base.expected, values, f"{why}: it is left out")


def _or_moved(base: Choice, hybrids: Sequence[Trial], fold: np.ndarray) -> Choice:
    """`base` with its thresholds moved by the premodel where that is better, else `base`.

    The same path, signal and average, with and without the premodel: the two differ on few
    images, so that a small lead can be told from chance.
    """
    own = [t for t in hybrids if _design(t) == _design(base.trial)]
    if not own:
        return base
    right = np.stack([t.right for t in own])
    inside = _by_fold(right, fold)
    outside = inside.sum(axis=1, keepdims=True) - inside
    moved = right[outside.argmax(axis=0)[fold], np.arange(len(fold))]
    lead, error = _lead(moved, base.trial.right)
    asked = FAMILIES["hybrid"]
    values = dict(base.families)
    values["hybrid"] = max(values.get("hybrid", 0.0), base.expected + lead)
    why = (
        f"{base.reason}. Moving its thresholds by the premodel adds {100 * lead:+.2f} points "
        f"{_beyond(error, asked)}"
    )
    if lead > asked * error and lead > 0:
        chosen = own[int(inside.sum(axis=1).argmax())]
        return Choice(chosen, base.expected + lead, values, why)
    return Choice(base.trial, base.expected, values, f"{why}: they stay as they are")


def _beyond(error: float, needed: float) -> str:
    """How sure a lead is, and how many standard errors it must have, where it must."""
    least = f"; a lead of at least {needed:g} of them is needed" if needed else ""
    return f"(standard error {100 * error:.2f}{least})"


def _lead(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean paired difference of two right-or-wrong arrays, and its standard error."""
    difference = one.astype(np.float64) - other
    return float(difference.mean()), float(np.std(difference)) / math.sqrt(len(difference))


def _design(trial: Trial) -> tuple[object, ...]:
    """What a trial has in common with its like, but for who goes on."""
    return trial.path, trial.signal, trial.average


def _judge(own: Sequence[Trial], fold: np.ndarray) -> tuple[Trial, np.ndarray]:
    """The family's trial to take, and the family's cross-validated right-or-wrong by image."""
    right = np.stack([t.right for t in own])
    paths = np.unique([",".join(t.path) for t in own], return_inverse=True)[1]
    inside = _by_fold(right, fold)
    outside = inside.sum(axis=1, keepdims=True) - inside
    vector = np.empty(len(fold), bool)
    for part in range(FOLDS):
        here = fold == part
        vector[here] = right[_pick(right, paths, outside[:, part], ~here), here]
    whole = _pick(right, paths, inside.sum(axis=1), np.ones(len(fold), bool))
    return own[whole], vector.astype(np.float64)


def _by_fold(right: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """How often each row of `right` is right in each fold, shape (rows, FOLDS)."""
    order = np.argsort(fold, kind="stable")
    edges = np.searchsorted(fold[order], np.arange(FOLDS))
    # In blocks: the counts need wider numbers than the table, which may have thousands of rows.
    blocks = [right[first : first + 256, order] for first in range(0, len(right), 256)]
    return np.concatenate([np.add.reduceat(b, edges, axis=1, dtype=np.int32) for b in blocks])


def _pick(right: np.ndarray, paths: np.ndarray, count: np.ndarray, images: np.ndarray) -> int:
    """Which row of `right`, shape (trials, n), to take; not simply the one with most ones.

    First the path, by the mean of its four best trials, then on that path the first trial in
    the order of preference that is within one standard error of the best: many trials are
    alike, and the highest of them is above the others mostly by luck (the one-standard-error
    rule of Breiman et al. 1984).

    Only the `images`, bool (n,), are looked at, of which each row has `count` right.
    """
    total = int(images.sum())
    score = count / total
    best_four = [float(np.sort(score[paths == p])[-4:].mean()) for p in range(paths.max() + 1)]
    on_path = np.flatnonzero(paths == int(np.argmax(best_four)))
    best = on_path[int(np.argmax(score[on_path]))]
    # A row further behind than this is so even if it differs from the best on every image.
    near = on_path[(score[best] - score[on_path]) <= 1 / math.sqrt(total)]
    differs = np.count_nonzero((right[near] != right[best]) & images, axis=1) / total
    behind = score[best] - score[near]
    error = np.sqrt(np.maximum(differs - behind**2, 0) / total)
    return int(near[int(np.argmax(behind <= error))])


def _count(share: float, n: int) -> int:
    return int(min(max(math.floor(share * n), 0), n))
