"""Confidence cascades, and the hybrid of cascade and premodel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Mapping

import numpy as np

from adaptive.checks import chosen, finite, numbers, shown
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.base import ADVISES, STOP, History, Policy
from adaptive.policy.change import Change, prefers
from adaptive.policy.exponents import pooled
from adaptive.policy.gain import ALONE, Gain, bar, describe, log_odds
from adaptive.policy.grounds import Grounds
from adaptive.policy.signals import COMBINATIONS, PAIRED, SIGNALS, soften


@dataclass
class Cascade(Policy):
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
            chosen(self.combine, "combine", COMBINATIONS)
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

    def _told(self, history: History) -> np.ndarray | None:
        """The premodel's numbers that gains go by, (n, count); None where they are not there."""
        return None

    @property
    def needs_probabilities(self) -> bool:
        """Only the plain top probability can do without."""
        fitted = self.temperatures is not None or bool(self.exponents)
        return self.signal != "top" or self.combine is not None or fitted

    def start(self, chances: np.ndarray | None, count: int, limits: Limits) -> np.ndarray:
        """The first candidate, for every image."""
        return np.zeros(count, np.intp)

    def next(self, history: History, limits: Limits) -> np.ndarray:
        """Where the gains say, else the candidate after the last where the signal is low."""
        found = self._promise(history)
        if found is not None:
            gain, values = found
            best = values.argmax(axis=1)
            on = np.maximum.reduce(values, axis=1) > bar(limits.preference)
            return np.where(on, gain.first[best], STOP)
        last = history.path[-1]
        if last == len(self.candidates) - 1:
            return np.full(len(history), STOP, np.intp)
        return np.where(self.score(history) < self.asked_below(history, limits), last + 1, STOP)

    def asked_below(self, history: History, limits: Limits) -> np.ndarray | float:
        """The signal below which the next candidate is asked, the preference included."""
        return _shifted(self.threshold(history), limits.preference)

    def _promise(self, history: History) -> tuple[Gain, np.ndarray] | None:
        """The gain that knows the path, and the values of its ways, (n, ways); None without."""
        gain = next((g for g in self.gains if g.path == history.path), None)
        told = None if gain is None or gain.alone else self._told(history)
        if gain is None or (told is None and not gain.alone):
            return None
        return gain, gain.values(describe(self.score(history), told))

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

    def threshold(self, history: History) -> np.ndarray | float:
        """What the signal is held against: a number, or one for each image."""
        return self.thresholds[history.path[-1]]

    def score(self, history: History) -> np.ndarray:
        """The signal of the answer as it stands, shape (n,)."""
        if not self.needs_probabilities:
            return history.outputs[-1].confidence
        if self.signal in PAIRED:
            last = len(history.path) - 1
            # Nothing ran before the first answer, so it is held against itself.
            before = self._member(history, max(last - 1, 0))
            return PAIRED[self.signal](before, self._member(history, last))
        combined = self.answer(history) if history.answer is None else history.answer
        if combined is None:
            combined = self._member(history, len(history.path) - 1)
        return SIGNALS[self.signal](combined)

    def answer(self, history: History) -> np.ndarray | None:
        """By exponents, or the mean of all that ran, or the last at its temperature."""
        if self.exponents:
            return super().answer(history)
        if self.combine is None or len(history.path) == 1:
            if self.temperatures is None or history.outputs[-1].probabilities is None:
                return None
            return self._member(history, len(history.path) - 1)
        weights = np.asarray(self.weights or (1.0,) * len(self.candidates))[list(history.path)]
        members = [self._member(history, step) for step in range(len(history.path))]
        return COMBINATIONS[self.combine](members, weights)

    def _member(self, history: History, step: int) -> np.ndarray:
        values = history.outputs[step].probabilities
        if values is None:
            raise InputError(
                f"this {self.kind} policy needs probabilities, and those of candidate "
                f"{self.candidates[history.path[step]]!r} are not there"
            )
        if self.exponents:
            own = self.weights_in(history, (history.path[step],))
            return values if own is None else pooled([values], own)
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
        unsure, sure = self._said(history)
        would = preference == 0 or self.next(history, UNLIMITED)[0] != STOP
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
        before = History(history.path[:count], history.outputs[:count], history.chances)
        unsure, sure = self._said(before)
        # A preference for speed asks nobody whom the policy would not ask anyway.
        if preference <= 0 or self.next(before, UNLIMITED)[0] != STOP:
            return unsure
        return f"{sure}, but {prefers(preference)}"

    def _said(self, history: History) -> tuple[str, str]:
        """What is said of the last that ran where another is asked, and where none is."""
        last = self.candidates[history.path[-1]]
        if any(g.path == history.path for g in self.gains):
            going = f"going on from {last} promised"
            return f"{going} a gain", f"{going} too little"
        return f"{last} was not sure enough", f"{last} was sure enough"

    def grounds(self, history: History, limits: Limits) -> Grounds:
        """What each way on promises; or the signal, and what it is held against."""
        found = self._promise(history)
        if found is not None:
            gain, values = found
            gains = tuple(
                (tuple(self.candidates[c] for c in way), float(value))
                for way, value in zip(gain.ways, values[0])
            )
            value = float(self.score(history)[0])
            return Grounds(self.signal, value, None, gains, bar(limits.preference))
        threshold = None
        if history.path[-1] < len(self.candidates) - 1:
            threshold = float(np.ravel(self.asked_below(history, limits))[0])
        return Grounds(self.signal, float(self.score(history)[0]), threshold)

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


@dataclass
class Hybrid(Cascade):
    """A cascade whose start and thresholds follow what the premodel expects of the image.

    With the premodel's chance c[j] that candidate j is right, the expected gain of going on
    from j is g[j] = max over k > j of c[k], minus c[j]. The image starts at the first candidate
    whose expected gain is at most `start_gain`, and goes on from j when

        signal < thresholds[j] + shift * (g[j] - typical_gain[j]).

    Parameters
    ----------
    shift : how far one unit of expected gain moves a threshold; 0 leaves the cascade's
    start_gain : gain above which a candidate is not worth starting with; None starts all images
        at the first candidate. With `shift` 0 and `start_gain` None this is the cascade.
    typical_gain : mean expected gain at each candidate but the last, so that the thresholds
        keep their meaning; zeros when left out

    Gains go by the premodel's conditions, or by its chances where it knows no conditions.
    """

    kind: ClassVar[str] = "hybrid"
    premodel_role: ClassVar[str | None] = ADVISES

    shift: float = 0.0
    start_gain: float | None = None
    typical_gain: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.premodel is None:
            raise InputError("a hybrid policy needs a premodel")
        self._as_numbers("typical_gain")
        self.shift = finite(self.shift, "shift")
        if self.start_gain is not None:
            self.start_gain = finite(self.start_gain, "start_gain")
        if self.typical_gain is not None and (
            len(self.typical_gain) != len(self.thresholds)
            or not np.all(np.isfinite(self.typical_gain))
        ):
            raise InputError(
                f"typical_gain {self.typical_gain} must be {len(self.thresholds)} finite numbers"
            )

    @property
    def needs_traits(self) -> bool:
        """Where gains go by conditions, or exponents follow the image."""
        conditions = self.premodel is not None and self.premodel.conditions > 0
        return super().needs_traits or (conditions and not all(g.alone for g in self.gains))

    @property
    def _told_count(self) -> int:
        if self.premodel is None:
            return 0
        return self.premodel.conditions or len(self.candidates)

    def _told(self, history: History) -> np.ndarray | None:
        chances, count = history.chances, len(self.candidates)
        if chances is None or self.premodel is None:
            return None
        if self.premodel.conditions:
            return chances[:, count : count + self.premodel.conditions]
        return log_odds(chances[:, :count])

    def start(self, chances: np.ndarray | None, count: int, limits: Limits) -> np.ndarray:
        """The first candidate from which going on promises little."""
        if self.start_gain is None:
            return np.zeros(count, np.intp)
        if chances is None:
            raise InputError("a hybrid policy needs the premodel's chances")
        judged = chances[:, : len(self.candidates)]
        return np.asarray(np.argmax(expected_gain(judged) <= self.start_gain, axis=1))

    def words(self) -> str:
        """Who may be asked, and what decides."""
        return (
            f"one or more of {', '.join(self.candidates)}, as network and premodel together "
            f"expect a gain from the next one{self._together()}"
        )

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why an image starts there."""
        if self.start_gain is None:
            return super().why_start(candidate, chances, preference)
        name = self.candidates[candidate]
        return f"{name} is the first from which the premodel expects little of going on"

    def starts(self) -> tuple[int, ...]:
        """Anywhere, where the gain decides."""
        return super().starts() if self.start_gain is None else tuple(range(len(self.candidates)))

    def threshold(self, history: History) -> np.ndarray | float:
        """The cascade's threshold, moved by the expected gain."""
        last = history.path[-1]
        plain = self.thresholds[last]
        if self.shift == 0 or history.chances is None:
            return plain
        typical = 0.0 if self.typical_gain is None else self.typical_gain[last]
        later = history.chances[:, last + 1 : len(self.candidates)].max(axis=1)
        gain = later - history.chances[:, last]
        return np.asarray(plain + self.shift * (gain - typical))

    def settings(self) -> dict[str, Any]:
        """The cascade's settings and how the premodel moves them."""
        return {
            **super().settings(),
            "shift": self.shift,
            "start_gain": self.start_gain,
            "typical_gain": None if self.typical_gain is None else list(self.typical_gain),
        }

    @classmethod
    def from_settings(cls, fields: Fields, given: Mapping[str, Any]) -> Policy:
        """Read what the premodel moves, and the cascade's."""
        own = {
            "shift": fields.get("shift", float, default=0.0),
            "start_gain": fields.get("start_gain", float, default=None),
            "typical_gain": fields.numbers("typical_gain", default=None),
        }
        return super().from_settings(fields, {**given, **own})


def expected_gain(chances: np.ndarray) -> np.ndarray:
    """The best later chance minus the own one, shape (n, m); minus infinity for the last.

    chances : ndarray (n, m)
    """
    gain = np.full(chances.shape, -np.inf)
    if chances.shape[1] > 1:
        later = np.maximum.accumulate(chances[:, ::-1], axis=1)[:, ::-1]
        gain[:, :-1] = later[:, 1:] - chances[:, :-1]
    return gain


def _listed(clauses: list[str]) -> str:
    """Clauses after each other; those that say the same of several candidates as one."""
    end = " was not sure enough"
    names = [clause[: -len(end)] for clause in clauses if clause.endswith(end)]
    if len(names) == len(clauses) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]} were not sure enough"
    return ", then ".join(clauses)


def _shifted(threshold: np.ndarray | float, preference: float) -> np.ndarray | float:
    """A threshold pulled towards 0 (fast) or above 1 (accurate) by a preference in -1..1."""
    if preference == 0:
        return threshold
    if preference < 0:
        return threshold * (1 + preference)
    return threshold + preference * (1.0 + 1e-6 - threshold)
