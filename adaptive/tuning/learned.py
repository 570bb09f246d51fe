"""Hybrids that go by learned gains, tried at one mean cost."""

from __future__ import annotations

import itertools
import math
from typing import Iterator

import numpy as np

from adaptive.policy.gain import paths_of
from adaptive.tuning.gains import Learned, learn
from adaptive.tuning.members import Members, ordered
from adaptive.tuning.trial import Trial


def _gains_of(
    members: Members, path: tuple[str, ...], chances: np.ndarray | None, fold: np.ndarray
) -> Learned:
    """Gains along a path, learned once; from the signal alone where `chances` is None."""
    own = np.empty((len(members), 0))
    if chances is not None:
        own = chances[:, [members.names.index(name) for name in path]]
    key = ("gains", path, hash(own.tobytes()))
    if key not in members.learned:
        average, signal = _gain_setting(members)
        names = {p: tuple(path[i] for i in p) for p in _subsets(len(path))}
        steps = {p: members.steps(names[p])[-1] for p in names}
        members.learned[key] = learn(
            len(path),
            lambda p: members.score(names[p], average, signal),
            lambda p: members.right(names[p], average),
            steps.__getitem__,
            own,
            fold,
        )
    found: Learned = members.learned[key]
    return found


def _gain_setting(members: Members) -> tuple[bool, str]:
    """Whether what ran is averaged, and the signal."""
    return (False, "top") if members.logs is None else (True, "margin")


def _subsets(count: int) -> list[tuple[int, ...]]:
    return [p for k in range(1, count + 1) for p in itertools.combinations(range(count), k)]


def learned_trials(
    members: Members, budget: float, chances: np.ndarray, charge: float, fold: np.ndarray
) -> Iterator[Trial]:
    """Hybrids whose gains are learned, on paths that begin on the front."""
    for length in (2, 3):
        for path in ordered(members, length):
            judged = chances[:, [members.names.index(name) for name in path]]
            if charge + members.cost[path[0]] > budget or np.isnan(judged).any():
                continue
            learned = _gains_of(members, path, chances, fold)
            price = learned.price(budget - charge)
            right, cost = learned.walk(price)
            average, signal = _gain_setting(members)
            yield Trial(
                "learned hybrid",
                path,
                (),
                right,
                charge + float(cost.mean()),
                signal,
                average,
                price=price,
            )


def premodel_explains(
    members: Members, chances: np.ndarray, fold: np.ndarray
) -> tuple[float, float]:
    """How much better gains are foretold with the premodel than from the signal alone.

    Both are cross-fitted, so a premodel that knows nothing makes it worse. The squared errors of
    all ways on all paths that begin on the front are compared, image by image: unlike the
    answers of one policy, which differ on the few images near its thresholds, they use every
    image.

    Returns
    -------
    The share of the squared error that the premodel takes away, and by how many standard errors
    that is above nothing; (0, 0) where there is nothing to compare.
    """
    key = ("explains", hash(chances.tobytes()))
    if key not in members.learned:
        saved = np.zeros(len(members))
        whole = 0.0
        for path in (p for length in (2, 3) for p in ordered(members, length)):
            if np.isnan(chances[:, [members.names.index(name) for name in path]]).any():
                continue
            told = _gains_of(members, path, chances, fold)
            blind = _gains_of(members, path, None, fold)
            for begun, ways in paths_of(len(path)).items():
                outcome = np.stack([told.right[(*begun, *way)] for way in ways], axis=1)
                gain = outcome - told.right[begun].astype(np.float64)[:, np.newaxis]
                error = (gain - blind.values[begun]) ** 2
                saved += (error - (gain - told.values[begun]) ** 2).sum(axis=1)
                whole += float(error.sum())
        spread = float(saved.std())
        members.learned[key] = (0.0, 0.0)
        if spread > 0 and whole > 0:
            errors = float(saved.mean()) / spread * math.sqrt(len(saved))
            members.learned[key] = (float(saved.sum()) / whole, errors)
    found: tuple[float, float] = members.learned[key]
    return found
