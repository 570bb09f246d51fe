"""From the trial that won to the policy that is served: thresholds on whole probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.gain import Gain, describe
from adaptive.policy.history import History, Output
from adaptive.policy.hybrid import Hybrid, expected_gain
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.base import Premodel
from adaptive.tuning.gains import Learned, Regression, learn
from adaptive.tuning.judged import Judged
from adaptive.tuning.learned import followed, weighed
from adaptive.tuning.members import Members
from adaptive.tuning.trial import Trial


def build_policy(
    trial: Trial,
    table: OutcomeTable,
    members: Members,
    premodel: Premodel | None = None,
    judged: Judged | None = None,
    upper_ms: dict[str, float] | None = None,
    gains: tuple[Gain, ...] = (),
) -> Policy:
    """The policy that sends the trial's shares of the table's images on.

    Parameters
    ----------
    table : the tuning images
    members : what was fitted to them
    judged : what the premodel says of the table's images, for a hybrid
    upper_ms : for each candidate a time that a run hardly ever exceeds
    gains : of a cascade or hybrid that goes by them; see `learn_gains`
    """
    members = shown_to(trial, members, judged)
    alone = trial.kind in ("fixed", "premodel")
    path = trial.path
    if trial.family == "fixed":
        path += in_place_of(table, path[0])
    common: dict[str, Any] = {
        "costs_ms": tuple(float(table.ms(n).mean()) for n in path),
        "exponents": members.served(path, trial.average, alone),
    }
    energies = [table.path_mj((n,)) for n in path]
    if all(mj is not None for mj in energies):
        common["costs_mj"] = tuple(float(np.mean(mj)) for mj in energies)  # type: ignore[arg-type]
    if upper_ms is not None:
        common["upper_ms"] = tuple(upper_ms[n] for n in path)
    if trial.family == "fixed":
        return Fixed(path, **common)
    if trial.family == "premodel":
        return ByPremodel(trial.path, premodel, rule="utility", price=trial.price, **common)
    common["signal"] = trial.signal
    later = len(trial.path) - 1
    if trial.family == "learned cascade":
        return Cascade(trial.path, thresholds=(0.0,) * later, gains=gains, **common)
    if trial.kind != "hybrid":
        scorer: Cascade = Cascade(trial.path, thresholds=(0.0,) * later, **common)
        thresholds = _thresholds(scorer, trial, table, np.arange(len(table)), None)
        return Cascade(trial.path, thresholds=thresholds, **common)
    assert judged is not None
    if trial.learned:
        unused = (0.0,) * later
        return Hybrid(trial.path, premodel, thresholds=unused, gains=gains, **common)
    columns = [members.names.index(name) for name in trial.path]
    expected = expected_gain(judged.chances[:, columns])[:, :-1]
    gain = expected[:, 0]
    start_gain = None
    rest = np.arange(len(table))
    if trial.start_share > 0:
        direct = round(trial.start_share * len(table))
        start_gain = _cut(-gain, direct) * -1.0
        rest = np.flatnonzero(gain <= start_gain)
    typical = tuple(expected.mean(axis=0).tolist())
    scorer = Hybrid(
        trial.path,
        premodel,
        thresholds=(0.0,) * later,
        shift=trial.shift,
        typical_gain=typical,
        start_gain=start_gain,
        **common,
    )
    move = -trial.shift * (expected - np.asarray(typical))
    thresholds = _thresholds(scorer, trial, table, rest, move)
    return Hybrid(
        trial.path,
        premodel,
        thresholds=thresholds,
        shift=trial.shift,
        typical_gain=typical,
        start_gain=start_gain,
        **common,
    )


def in_place_of(table: OutcomeTable, name: str) -> tuple[str, ...]:
    """Who answers where a candidate cannot be reached that runs on another server.

    The best of those that run here; nobody where it runs here itself, or all of them run there.
    """
    entries = table.meta.get("candidates") or []
    away = {entry["name"] for entry in entries if entry.get("remote")}
    here = [n for n in table.candidates if n not in away]
    if name not in away or not here:
        return ()
    return (max(here, key=lambda n: float(table.of(n).quality.mean())),)


def learn_gains(
    trial: Trial,
    table: OutcomeTable,
    members: Members,
    premodel: Premodel | None = None,
    judged: Judged | None = None,
) -> Learned:
    """Gains along the trial's path on whole probabilities, for any price.

    Parameters
    ----------
    members : what was fitted to the table's images, and what paths cost
    premodel, judged : of a hybrid, and what it says of the table's images
    """
    later = (0.0,) * (len(trial.path) - 1)
    exponents = shown_to(trial, members, judged).served(trial.path, trial.average, False)
    common: dict[str, Any] = {"exponents": exponents, "thresholds": later, "signal": trial.signal}
    columns = [members.names.index(name) for name in trial.path]
    told = numbers = None
    if trial.kind == "hybrid":
        assert judged is not None
        scorer: Cascade = Hybrid(trial.path, premodel, **common)
        told = judged.told(columns) if trial.told else None
        numbers = judged.numbers(columns, scorer.needs_traits)
    else:
        scorer = Cascade(trial.path, **common)

    def history(path: tuple[int, ...]) -> History:
        names = [trial.path[p] for p in path]
        whole = scorer.needs_probabilities
        outputs = [
            Output(table.of(n).confidence, table.probabilities_of(n) if whole else None)
            for n in names
        ]
        return History(path, tuple(outputs), numbers)

    shown, halves = shown_to(trial, members, judged), np.arange(len(table)) % 2

    def names(path: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(trial.path[p] for p in path)

    def foreseen(path: tuple[int, ...]) -> np.ndarray:
        return shown.foreseen(names(path), trial.average)

    return learn(
        len(trial.path),
        lambda path: Regression(describe(scorer.score(history(path)), told), halves),
        lambda path: shown.right(names(path), trial.average),
        foreseen if shown.logs is not None else None,
        lambda path: members.steps(names(path))[-1],
    )


def shown_to(trial: Trial, members: Members, judged: Judged | None) -> Members:
    """The members whose exponents follow what the trial's follow."""
    if trial.told and not trial.follows and judged is not None:
        return weighed(members, judged)
    if not trial.follows:
        return members
    assert judged is not None
    return followed(members, judged, trial.follows)


def built(trial: Trial, table: OutcomeTable, members: Members) -> Policy:
    """The policy of a trial that needs no premodel, its gains learned here."""
    gains: tuple[Gain, ...] = ()
    if trial.learned:
        learned = learn_gains(trial, table, members)
        gains = learned.gains(learned.price(trial.cost, own=True))
    return build_policy(trial, table, members, gains=gains)


def _thresholds(
    scorer: Cascade, trial: Trial, table: OutcomeTable, rows: np.ndarray, move: np.ndarray | None
) -> tuple[float, ...]:
    """One threshold a step, so that the trial's share of all images goes on."""
    found: list[float] = []
    outputs: tuple[Output, ...] = ()
    for step, share in enumerate(trial.shares):
        name = trial.path[step]
        probabilities = table.probabilities_of(name, rows) if scorer.needs_probabilities else None
        outputs = (*outputs, Output(table.of(name).confidence[rows], probabilities))
        score = scorer.score(History(tuple(range(step + 1)), outputs))
        if move is not None:
            score = score + move[rows, step]
        threshold = _cut(score, round(share * len(table)))
        if move is None:
            threshold = min(max(threshold, 0.0), 1.0)
        found.append(threshold)
        on = score < threshold
        rows = rows[on]
        outputs = tuple(o.rows(on) for o in outputs)
    return tuple(found)


def _cut(score: np.ndarray, count: int) -> float:
    """A threshold below which `count` of the scores lie, as nearly as ties allow."""
    ordered = np.sort(score.astype(np.float64))
    if not len(ordered) or count <= 0:
        return float(ordered[0]) if len(ordered) else 0.0
    if count >= len(ordered):
        return float(np.nextafter(ordered[-1], np.inf))
    return float((ordered[count - 1] + ordered[count]) / 2)
