"""Cascades: one candidate after the other, until one is sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, FrozenSet, Mapping, Sequence

import numpy as np

from adaptive.checks import chosen, numbers, shown
from adaptive.columns import Column, Columns, Many, One, leading
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.base import Policy
from adaptive.policy.change import Change, prefers
from adaptive.policy.exponents import pool
from adaptive.policy.gain import ALONE, Gain, bar, described
from adaptive.policy.grounds import Grounds
from adaptive.policy.history import History
from adaptive.policy.means import MEANS, shares
from adaptive.policy.on_columns import OnColumns
from adaptive.policy.signals import PAIRED, SIGNALS, soften
from adaptive.policy.spending import STOP


@dataclass
class Cascade(OnColumns):
    """Ask the candidates in order until one is sure enough.

    Parameters
    ----------
    thresholds : after candidate j the next is asked when the signal is below thresholds[j];
        one number less than there are candidates, each in 0..1
    signal : "top" probability, "margin" between the first two, "entropy" (as certainty), or
        "agreement" of the last two that ran; each in 0..1, higher is surer
    temperatures : one a candidate, applied to its probabilities before anything else, or None
    combine : None (the last that ran answers), "arithmetic" or "geometric" mean of all that ran
    weights : one a candidate for `combine`; equal when left out
    gains : for each path that they know, they take the thresholds' place: the image goes the
        way that promises most, to whichever later candidate that is, where it promises
        anything; see `Gain`

    With `exponents` there are none of these three: what ran answers together, by its set's.
    """

    kind: ClassVar[str] = "cascade"
    plain: ClassVar[bool] = True

    thresholds: tuple[float, ...] = ()
    signal: str = "top"
    temperatures: tuple[float, ...] | None = None
    combine: str | None = None
    weights: tuple[float, ...] | None = None
    gains: tuple[Gain, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.thresholds = numbers(self.thresholds, "thresholds")
        self._as_numbers("temperatures", "weights")
        count = len(self.candidates)
        if len(self.thresholds) != count - 1:
            raise InputError(
                f"{count} candidates need {count - 1} thresholds, got {list(self.thresholds)}"
            )
        # A hybrid's thresholds are moved by the premodel and may lie anywhere.
        bounded = self.kind == "cascade"
        if not all(np.isfinite(t) and (0 <= t <= 1 or not bounded) for t in self.thresholds):
            raise InputError(f"thresholds {list(self.thresholds)} must lie between 0 and 1")
        chosen(self.signal, "signal", (*SIGNALS, *PAIRED))
        if self.combine is not None:
            chosen(self.combine, "combine", MEANS)
        if self.exponents and (self.temperatures or self.combine or self.weights):
            raise InputError(
                "exponents take the place of temperatures, combine and weights; give either "
                "those or these"
            )
        for name, values in (("temperatures", self.temperatures), ("weights", self.weights)):
            if values is not None and (
                len(values) != count or not all(v > 0 and np.isfinite(v) for v in values)
            ):
                raise InputError(f"{name} {values} must be {count} numbers above 0")
        if not isinstance(self.gains, (list, tuple)):
            raise InputError(f"gains {shown(self.gains)} is not a list of gains")
        self.gains = tuple(self.gains)
        for gain in self.gains:
            if not isinstance(gain, Gain):
                raise InputError(f"gains holds {shown(gain)}, which is no `Gain`")
            furthest = max(max(way) for way in gain.ways)
            needed = ALONE + 2 * self._told_count
            if furthest >= count or gain.coefficients.shape[1] not in (ALONE, needed):
                raise InputError(
                    f"a gain for {count} candidates needs {needed} coefficients a way and "
                    f"positions below {count}, got {gain.coefficients.shape[1]} and {furthest}"
                )

    @property
    def _told_count(self) -> int:
        """How many numbers of the premodel gains go by."""
        return 0

    def _told(self, history: History) -> Columns | None:
        """The premodel's numbers that gains go by; None where they are not there."""
        return None

    @property
    def needs_probabilities(self) -> bool:
        """Only the plain top probability can do without."""
        fitted = self.temperatures is not None or bool(self.exponents)
        return self.signal != "top" or self.combine is not None or fitted

    def first(self, told: Columns | None, math: Many | One, limits: Limits) -> Column:
        """The first candidate, for every image."""
        return math.all(0)

    def next(self, history: History, limits: Limits) -> Column:
        """Where the gains say, else the candidate after the last where the signal is low."""
        math, last = history.math, history.path[-1]
        found = self._promise(history)
        if found is not None:
            gain, values = found
            best, most = leading(values, math)
            on = most > bar(limits.preference)
            return math.pick(on, math.at(gain.first, best), STOP)
        if last == len(self.candidates) - 1:
            return math.all(STOP)
        low = self.score(history) < self.asked_below(history, limits)
        return math.pick(low, last + 1, STOP)

    def _instead(self, absent: FrozenSet[int]) -> int:
        """The first of the order that is there."""
        there = set(range(len(self.candidates))).difference(absent)
        return min(there, default=STOP)

    def further(
        self, wanted: int, absent: FrozenSet[int], history: History, limits: Limits
    ) -> Column:
        """The best way that needs none of those absent, or the next of the order that is there."""
        math, found = history.math, self._promise(history)
        if found is None:
            later = (c for c in range(wanted + 1, len(self.candidates)) if c not in absent)
            return math.all(next(later, STOP))
        gain, values = found
        there = [place for place, way in enumerate(gain.ways) if not absent.intersection(way)]
        if not there:
            return math.all(STOP)
        best, most = leading([values[place] for place in there], math)
        first = math.at([gain.first[place] for place in there], best)
        return math.pick(most > bar(limits.preference), first, STOP)

    def asked_below(self, history: History, limits: Limits) -> Column:
        """The signal below which the next candidate is asked, the preference included."""
        return _shifted(self.threshold(history), limits.preference)

    @cached_property
    def _gains(self) -> dict[tuple[int, ...], Gain]:
        """By path, the gain that knows it; of several the first."""
        return {gain.path: gain for gain in reversed(self.gains)}

    def _promise(self, history: History) -> tuple[Gain, Sequence[Column]] | None:
        """The gain that knows the path, and the values of its ways; None without."""
        gain = self._gains.get(history.path)
        told = None if gain is None or gain.alone else self._told(history)
        if gain is None or (told is None and not gain.alone):
            return None
        return gain, gain.values(described(self.score(history), told or [], history.math))

    def ways(self) -> tuple[tuple[int, ...], ...]:
        """In order from each candidate that an image may start at, and what gains skip to."""
        count = len(self.candidates)
        plain = [tuple(range(start, count)) for start in self.starts()]
        known = [(*gain.path, *way) for gain in self.gains for way in gain.ways]
        return tuple(dict.fromkeys((*plain, *known)))

    def starts(self) -> tuple[int, ...]:
        """Where images may start: at the first, or where limits rule that out and not a later."""
        known = [c for c in (self.upper_ms, self.costs_ms, self.costs_mj) if c is not None]
        cheaper = [p for p in range(len(self.candidates)) if any(c[p] < c[0] for c in known)]
        return (0, *cheaper)

    def threshold(self, history: History) -> Column:
        """What the signal is held against: a number, or one for each image."""
        return self.thresholds[history.path[-1]]

    def score(self, history: History) -> Column:
        """The signal of the answer as it stands."""
        last = len(history.path) - 1
        if not self.needs_probabilities:
            return history.confidence(last)
        if self.signal in PAIRED:
            # Nothing ran before the first answer, so it is held against itself.
            before, own = self._member(history, max(last - 1, 0)), self._member(history, last)
            return history.math.of(PAIRED[self.signal](before, own))
        combined = self.answer(history) if history.answer is None else history.answer
        if combined is None:
            combined = self._member(history, last)
        return history.math.of(SIGNALS[self.signal](combined))

    def answer(self, history: History) -> np.ndarray | None:
        """By exponents, or the mean of all that ran, or the last at its temperature."""
        if self.exponents:
            return super().answer(history)
        last = len(history.path) - 1
        if self.combine is None or not last:
            if self.temperatures is None or history.said(last) is None:
                return None
            return self._member(history, last)
        mean = MEANS[self.combine]

        def prepared(step: int) -> np.ndarray:
            return mean.prepare(self._member(history, step))

        members = [history.once(n, "mean", partial(prepared, n)) for n in range(last + 1)]
        weights = self.weights or (1.0,) * len(self.candidates)
        return mean.join(members, shares([weights[c] for c in history.path]))

    def _member(self, history: History, step: int) -> np.ndarray:
        """What one candidate alone comes to."""
        values = history.said(step)
        if values is None:
            raise InputError(
                f"this {self.kind} policy needs probabilities, and those of candidate "
                f"{self.candidates[history.path[step]]!r} are not there"
            )
        if self.exponents:
            own = self.weights_in(history, (history.path[step],))
            logs = history.logs(step)
            return values if own is None or logs is None else pool([logs], own)
        if self.temperatures is None:
            return values
        return soften(values, self.temperatures[history.path[step]])

    def calibrated(self, path: tuple[int, ...]) -> bool:
        """Where exponents know the set; by temperatures alone, where one network answers."""
        alone = self.combine is None or len(path) == 1
        return super().calibrated(path) or (self.temperatures is not None and alone)

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why an image starts there."""
        if len(self.candidates) == 1:
            return f"every image goes to {self.candidates[candidate]}"
        return f"{self.candidates[candidate]} comes first"

    def why_path(self, history: History, preference: float, cut: Change | None) -> str | None:
        """Why the image went on, and why it stopped."""
        path = history.path
        on = [self._asked_on(history, count, preference) for count in range(1, len(path))]
        parts = [f"{_listed(on)}, so {self.candidates[path[-1]]} was asked"] if on else []
        if path[-1] == len(self.candidates) - 1:
            return "; ".join(parts) or None  # nothing comes after it
        unsure, sure = self._said(path)
        would = preference == 0 or self._goes_on(history)
        if cut is not None:
            liking = "" if would else f"; {prefers(preference)}"
            parts.append(f"{unsure if would else sure}{liking}, but {cut.text(self.candidates)}")
        elif preference < 0 and would:
            parts.append(f"{unsure}, but {prefers(preference)}")
        else:
            parts.append(sure)
        return "; ".join(parts)

    def _asked_on(self, history: History, count: int, preference: float) -> str:
        """Why another candidate was asked after the first `count`."""
        unsure, sure = self._said(history.path[:count])
        # A preference for speed asks nobody whom the policy would not ask anyway.
        if preference <= 0 or self._goes_on(history.until(count)):
            return unsure
        return f"{sure}, but {prefers(preference)}"

    def _goes_on(self, history: History) -> bool:
        """Whether the (single) image would go on without limits and preference."""
        return bool(history.math.first(self.next(history, UNLIMITED)) != STOP)

    def _said(self, path: tuple[int, ...]) -> tuple[str, str]:
        """What is said of the last that ran where another is asked, and where none is."""
        last = self.candidates[path[-1]]
        if path in self._gains:
            going = f"going on from {last} promised"
            return f"{going} a gain", f"{going} too little"
        return f"{last} was not sure enough", f"{last} was sure enough"

    def grounds(self, history: History, limits: Limits) -> Grounds:
        """What each way on promises; or the signal, and what it is held against."""
        first, found = history.math.first, self._promise(history)
        value = float(first(self.score(history)))
        if found is not None:
            gain, values = found
            gains = tuple(
                (tuple(self.candidates[c] for c in way), float(first(promised)))
                for way, promised in zip(gain.ways, values)
            )
            return Grounds(self.signal, value, None, gains, bar(limits.preference))
        threshold = None
        if history.path[-1] < len(self.candidates) - 1:
            threshold = float(np.ravel(self.asked_below(history, limits))[0])
        return Grounds(self.signal, value, threshold)

    def words(self) -> str:
        """Who is asked first, and what decides about the next one."""
        if self.gains:
            return (
                f"{self.candidates[0]} first, then one or more of "
                f"{', '.join(self.candidates[1:])}, as the {self.signal} promises a gain"
                f"{self._together()}"
            )
        later = [
            f"{name} where the {self.signal} is below {threshold:.3g}"
            for name, threshold in zip(self.candidates[1:], self.thresholds)
        ]
        return f"{', then '.join([f'{self.candidates[0]} first', *later])}{self._together()}"

    def _together(self) -> str:
        return "" if self.combine is None else f"; answers are averaged ({self.combine} mean)"

    def settings(self) -> dict[str, Any]:
        """Thresholds, signal and combination."""
        return {
            "thresholds": list(self.thresholds),
            "signal": self.signal,
            "temperatures": None if self.temperatures is None else list(self.temperatures),
            "combine": self.combine,
            "weights": None if self.weights is None else list(self.weights),
            **({"gains": [gain.to_json() for gain in self.gains]} if self.gains else {}),
        }

    @classmethod
    def from_settings(cls, fields: Fields, given: Mapping[str, Any]) -> Policy:
        """Read thresholds, signal and combination."""
        own = {
            "thresholds": fields.numbers("thresholds"),
            "signal": fields.get("signal", str, default="top"),
            "temperatures": fields.numbers("temperatures", default=None),
            "combine": fields.get("combine", str, default=None),
            "weights": fields.numbers("weights", default=None),
            "gains": tuple(
                Gain.from_json(entry, f"gain {number} of the policy")
                for number, entry in enumerate(fields.get("gains", list, default=[]))
            ),
        }
        return super().from_settings(fields, {**given, **own})


def _listed(clauses: list[str]) -> str:
    """Clauses after each other; those that say the same of several candidates as one."""
    end = " was not sure enough"
    names = [clause[: -len(end)] for clause in clauses if clause.endswith(end)]
    if len(names) == len(clauses) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]} were not sure enough"
    return ", then ".join(clauses)


def _shifted(threshold: Column, preference: float) -> Column:
    """A threshold pulled towards 0 (fast) or above 1 (accurate) by a preference in -1..1."""
    if preference == 0:
        return threshold
    if preference < 0:
        return threshold * (1 + preference)
    return threshold + preference * (1.0 + 1e-6 - threshold)
