"""Thresholds of re-identification, tuned to a stated rate of false matches, and what is promised.

A false match is a person who is not in the store and gets a name of it. Photographs of one person
are not independent of each other, so the promise is over persons: each counts by the share of his
or her photographs that were matched to somebody else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.intervals import Estimate, share
from adaptive.tuning.certificate import Counts, betting_p_value


@dataclass(frozen=True)
class MatchRates:
    """What thresholds come to on persons.

    Attributes
    ----------
    false : share of photographs of persons who are not in the store that get a name
    right : share of photographs of persons who are that get the right one
    wrong : share of those that get another one
    stopped : by network, the share of photographs that it answers, of persons who are in the store
    """

    false: Estimate
    right: Estimate
    wrong: Estimate
    stopped: Dict[str, float]


@dataclass(frozen=True)
class MatchPromise:
    """A promise on false matches, or why there is none.

    Attributes
    ----------
    rate : of false matches, at most
    delta : probability with which the promise may be broken
    persons, photographs : that it is from, none of which tuned the thresholds
    seen : the mean over these persons of the share that was matched falsely
    p_value : of "the rate is higher"; the promise holds where it is at most `delta`
    """

    rate: float
    delta: float
    persons: int
    photographs: int
    seen: float
    p_value: float

    @property
    def holds(self) -> bool:
        """Whether it is promised."""
        return self.p_value <= self.delta

    def words(self) -> str:
        """The promise, or why there is none, as one sentence."""
        seen = f"{100 * self.seen:.3g}% were, of {self.persons} persons"
        if self.holds:
            return (
                f"With probability at least {100 * (1 - self.delta):g}%, at most "
                f"{100 * self.rate:g}% of a person's photographs are matched to somebody else, "
                f"for persons like these who are not in the store ({seen})."
            )
        fewest = fewest_persons(self.rate, self.delta)
        return (
            f"Nothing is promised: a rate of {100 * self.rate:g}% cannot be shown ({seen}; "
            f"without a single false match {fewest} persons are needed)."
        )

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values."""
        return {"format": 1, "claim": self.words(), "holds": self.holds, **asdict(self)}


def fewest_persons(rate: float, delta: float) -> int:
    """Persons without a single false match from which a rate can be promised."""
    low, high = 1, 1
    while betting_p_value(Counts(high, 0, 0), rate) > delta:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if betting_p_value(Counts(middle, 0, 0), rate) > delta:
            low = middle + 1
        else:
            high = middle
    return high


def tune_thresholds(
    embeddings: Mapping[str, np.ndarray], persons: Sequence[str], rate: float
) -> Dict[str, float]:
    """For each network, the largest threshold that keeps false matches at a rate.

    Each person in turn is taken out of a store of the others. The rate is shared evenly among the
    networks, since a photograph that one does not match is shown to the next.

    Parameters
    ----------
    embeddings : by network, cheap first, ndarray (n, width)
    persons : of each photograph, whom it shows
    rate : of false matches, 0..1

    Raises
    ------
    InputError
        when there are fewer than two persons, or the rate cannot be.
    """
    if not 0 < rate < 1:
        raise InputError(f"rate {rate} is not between 0 and 1")
    thresholds = {}
    for name, rows in embeddings.items():
        apart = impostors(rows, persons)
        allowed = int(rate / len(embeddings) * len(apart) + 1e-9)
        ordered = np.sort(apart)
        # just below the first distance that would be one false match too many
        thresholds[name] = max(0.0, float(np.nextafter(ordered[allowed], -np.inf)))
    return thresholds


def impostors(rows: np.ndarray, persons: Sequence[str]) -> np.ndarray:
    """Of each photograph, the distance to the nearest mean of another person, (n,)."""
    units, means, names = _means(np.asarray(rows, np.float64), persons)
    apart = 1 - units @ means.T
    apart[np.array(persons)[:, None] == np.array(names)] = np.inf
    return np.asarray(apart.min(axis=1))


def promise(
    embeddings: Mapping[str, np.ndarray],
    persons: Sequence[str],
    thresholds: Mapping[str, float],
    rate: float,
    delta: float = 0.05,
) -> MatchPromise:
    """What can be promised of thresholds, from persons who did not tune them.

    By the betting bound (Waudby-Smith and Ramdas 2024), which holds for every number of persons.
    """
    matched = np.zeros(len(persons), bool)
    for name, rows in embeddings.items():
        matched |= impostors(rows, persons) <= thresholds[name]
    names = sorted(set(persons))
    of = np.array(persons)
    shares = np.array([matched[of == name].mean() for name in names])
    p_value = betting_p_value(Counts.of(shares, np.zeros(len(shares))), rate)
    return MatchPromise(rate, delta, len(names), len(of), float(shares.mean()), p_value)


def rates(
    embeddings: Mapping[str, np.ndarray],
    persons: Sequence[str],
    thresholds: Mapping[str, float],
) -> MatchRates:
    """What thresholds come to: each photograph is taken out of the store, and then its person too.

    Intervals are over photographs, and too narrow where persons are few.
    """
    matched = np.zeros(len(persons), bool)
    answer = np.full(len(persons), -1)  # places among the names
    stopped: Dict[str, float] = {}
    for name, rows in embeddings.items():
        matched |= impostors(rows, persons) <= thresholds[name]
        apart = _left_out(rows, persons)
        answers = (answer < 0) & (apart.min(axis=1) <= thresholds[name])
        answer[answers] = apart.argmin(axis=1)[answers]
        stopped[name] = float(answers.mean())
    right = answer == np.unique(persons, return_inverse=True)[1]
    return MatchRates(share(matched), share(right), share((answer >= 0) & ~right), stopped)


def _left_out(rows: np.ndarray, persons: Sequence[str]) -> np.ndarray:
    """Each photograph's distances to the mean of each name's other photographs, (n, names).

    Who has no other photograph is infinitely far.
    """
    units, means, _ = _means(np.asarray(rows, np.float64), persons)
    apart = 1 - units @ means.T
    place = np.unique(persons, return_inverse=True)[1]
    sums = np.zeros_like(means)
    np.add.at(sums, place, units)
    others = sums[place] - units
    lengths = np.linalg.norm(others, axis=1)
    cosines = np.einsum("ij,ij->i", others, units) / np.maximum(lengths, 1e-12)
    alone = np.bincount(place)[place] == 1
    apart[np.arange(len(units)), place] = np.where(alone, np.inf, 1 - cosines)
    return np.asarray(apart)


def _means(rows: np.ndarray, persons: Sequence[str]) -> tuple[np.ndarray, np.ndarray, List[str]]:
    """Unit rows, and each person's mean of them at length one."""
    names = sorted(set(persons))
    if len(names) < 2:
        raise InputError(f"thresholds are tuned on two persons or more, and got {names}")
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    of = np.array(persons)
    means = np.stack([units[of == name].mean(axis=0) for name in names])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return units, means, names
