"""What every policy can do.

A policy works on arrays: n images that share the same path so far. Candidates are numbers here,
positions in the policy's own order. One live image is n = 1, or plain numbers: see
`policy.on_columns`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, FrozenSet, Mapping, Sequence

import numpy as np

from adaptive.candidate import check_name, positions
from adaptive.checks import listed, number, numbers, shown, texts
from adaptive.columns import Column
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.change import Change
from adaptive.policy.exponents import Exponents, pool
from adaptive.policy.grounds import Grounds
from adaptive.policy.history import Conclusion, History, Output
from adaptive.policy.signals import top
from adaptive.policy.spending import STOP, Spending
from adaptive.premodel.base import Premodel

#: All that another's policy needs to name.
__all__ = ["ADVISES", "CHOOSES", "STOP", "Conclusion", "History", "Output", "Policy"]

#: What a premodel does in a policy: it alone chooses who answers, or it is heard beside what the
#: networks say.
CHOOSES, ADVISES = "chooses", "advises"


@dataclass
class Policy(ABC):
    """Which candidate answers first, and whether another is asked.

    It is not changed once it is made; `dataclasses.replace` makes another.

    Parameters
    ----------
    candidates : names in the policy's own order
    premodel : what judges an image from its features, or None
    upper_ms : for each candidate, milliseconds that a run hardly ever exceeds; only with them
        can a deadline be kept. None where nothing is known.
    costs_ms, costs_mj : for each candidate, what it costs in the mean when it is asked first;
        only with them can a mean time or an energy be kept. None where nothing is known.
    exponents : for each set of candidates that may have run, how what they said is combined;
        the answer's score is calibrated wherever they know the set that ran
    abstain_below : an answer with a score below it is none: the policy abstains, and its best
        guess is for a person to look at. None abstains nowhere

    Attributes
    ----------
    kind : the name under which files know the class
    premodel_role : what the premodel does in it, `CHOOSES` or `ADVISES`; None where there is none
    on_numbers : whether a single image is carried through it on plain numbers; see `OnColumns`
    """

    candidates: tuple[str, ...]
    premodel: Premodel | None = field(default=None, repr=False, compare=False)
    upper_ms: tuple[float, ...] | None = None
    costs_ms: tuple[float, ...] | None = None
    costs_mj: tuple[float, ...] | None = None
    exponents: tuple[Exponents, ...] = ()
    abstain_below: float | None = None

    kind: ClassVar[str]
    premodel_role: ClassVar[str | None] = None
    on_numbers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.candidates = texts(self.candidates, "candidates")
        if not self.candidates:
            raise InputError(f"a {self.kind} policy needs at least one candidate")
        for name in self.candidates:
            check_name(name)
        if len(set(self.candidates)) != len(self.candidates):
            raise InputError(f"a candidate stands twice in the policy's order {self.candidates}")
        self._as_numbers("upper_ms", "costs_ms", "costs_mj")
        if self.premodel is not None:
            if not isinstance(self.premodel, Premodel):
                raise InputError(
                    f"premodel {shown(self.premodel)} is no premodel; `load_premodel` reads one"
                )
            positions(self.candidates, self.premodel.candidates, "the premodel")
        if self.abstain_below is not None:
            self.abstain_below = number(self.abstain_below, "abstain_below")
            if not 0 <= self.abstain_below <= 1:
                raise InputError(f"abstain_below {self.abstain_below:g} is not between 0 and 1")
        self.exponents = tuple(listed(self.exponents, "exponents", "sets"))
        for fitted in self.exponents:
            if not isinstance(fitted, Exponents):
                raise InputError(f"exponents holds {shown(fitted)}, which is no `Exponents`")
        sets = [fitted.members for fitted in self.exponents]
        if len(set(sets)) != len(sets) or any(s[-1] >= len(self.candidates) for s in sets):
            raise InputError(
                f"exponents of {len(self.candidates)} candidates are for sets of positions below "
                f"that, each once, not for {[list(s) for s in sets]}"
            )
        if any(len(row) != self.traits for fitted in self.exponents for row in fitted.slopes):
            raise InputError(
                f"slopes of exponents must have {self.traits} numbers, one for each trait that "
                "the policy's premodel tells of an image"
            )
        for name, what in (("upper_ms", "times"), ("costs_ms", "times"), ("costs_mj", "energies")):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != len(self.candidates):
                raise InputError(
                    f"{name} has {len(values)} {what} for {len(self.candidates)} candidates"
                )
            if not all(value > 0 for value in values):
                raise InputError(f"{name} {list(values)} must be numbers above 0")

    def _as_numbers(self, *names: str) -> None:
        """Turn lists and arrays that were handed over into tuples of floats."""
        for name in names:
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, numbers(values, name))

    @cached_property
    def spending(self) -> Spending:
        """What its candidates cost, and what limits can pay for."""
        given = {name: getattr(self, name) for name in ("upper_ms", "costs_ms", "costs_mj")}
        return Spending(self.candidates, {n: own for n, own in given.items() if own is not None})

    @cached_property
    def _sets(self) -> dict[tuple[int, ...], Exponents]:
        """The exponents by the set that they are for."""
        return {fitted.members: fitted for fitted in self.exponents}

    @cached_property
    def _columns(self) -> np.ndarray:
        """Which columns of what the premodel says the policy goes by, in its own order."""
        assert self.premodel is not None
        judged = self.premodel.candidates
        own = positions(self.candidates, judged, "the premodel")
        traits = range(len(judged), len(judged) + self.traits) if self.needs_traits else ()
        return np.array([*own, *traits])

    @property
    def needs_features(self) -> bool:
        """Whether features must be computed, and are charged."""
        return self.premodel is not None

    @property
    def needs_traits(self) -> bool:
        """Whether `chances` are to be followed by the premodel's traits."""
        return any(fitted.slopes for fitted in self.exponents)

    @property
    def traits(self) -> int:
        """How many traits the premodel tells of an image."""
        return 0 if self.premodel is None else self.premodel.traits

    @property
    def needs_probabilities(self) -> bool:
        """Whether decisions or answers need whole probability vectors, not only confidences."""
        return self.abstain_below is not None and bool(self.exponents)

    @property
    def always(self) -> str | None:
        """The candidate that answers every image, where the policy knows of no other."""
        return None

    @property
    def weighs_times(self) -> bool:
        """Whether its choices depend on `costs_ms` without any limit being set.

        Such a policy keeps the costs that it was tuned with: with others it would answer
        otherwise, and what is promised about it would no longer hold.
        """
        return False

    def chances(self, features: np.ndarray) -> np.ndarray | None:
        """What the premodel says of images with these features, one column a candidate.

        Where the policy goes by them, the premodel's traits follow.

        features : ndarray (n, d), in the order of the premodel's features
        """
        if self.premodel is None:
            return None
        ask = self.premodel.judge if self.needs_traits else self.premodel.predict
        return ask(features).take(self._columns, axis=1)

    @abstractmethod
    def start(self, chances: np.ndarray | None, count: int, limits: Limits) -> np.ndarray:
        """First candidate for each of `count` images, shape (count,), or STOP to abstain.

        chances : ndarray (count, m), what the premodel says, or None
        """

    @abstractmethod
    def next(self, history: History, limits: Limits) -> np.ndarray:
        """Next candidate for each image, shape (n,), or STOP."""

    def ways(self) -> tuple[tuple[int, ...], ...]:
        """The longest paths that images may take, as positions; any of them may end early.

        Here every candidate alone: a policy that goes on, and knows how, says more.
        """
        return tuple((position,) for position in range(len(self.candidates)))

    def afresh(self) -> Policy:
        """The policy as it was before it was asked anything: itself, unless asking changes it."""
        return self

    def affordable(self, choice: Column, path: tuple[int, ...], limits: Limits) -> Column:
        """`choice` with what the limits cannot pay for taken out.

        As a start, the latest candidate of the order that fits takes its place, or STOP when
        none does; after that, nothing more is started.

        choice : ndarray (n,), or the position of a single image
        """
        return choice if limits is UNLIMITED else self.spending.affordable(choice, path, limits)

    def without(
        self, absent: FrozenSet[int], chances: np.ndarray | None, count: int, limits: Limits
    ) -> np.ndarray:
        """First candidate for each image where some cannot be reached, shape (count,), or STOP.

        The start that the policy chooses where the premodel gives those no chance. Where it
        still is one of them, a cascade begins at the first of its order that can be reached, and
        any other policy at the latest.

        absent : positions of those that cannot be reached
        """
        instead = self._instead(absent)
        if chances is None or instead == STOP:
            return np.full(count, instead)
        given = chances.copy()
        given[:, list(absent)] = 0.0
        found = np.array(self.start(given, count, limits))
        found[np.isin(found, list(absent))] = instead
        return found

    def _instead(self, absent: FrozenSet[int]) -> int:
        """Where an image starts whose start cannot be reached."""
        there = set(range(len(self.candidates))).difference(absent)
        return max(there, default=STOP)

    def further(
        self, wanted: int, absent: FrozenSet[int], history: History, limits: Limits
    ) -> Column:
        """Next candidate for images that want one that cannot be reached, or STOP.

        Here nobody more is asked: a policy that knows who else may be says so.
        """
        return history.math.all(STOP)

    def short_of(self, candidate: int, path: tuple[int, ...], limits: Limits) -> tuple[str, ...]:
        """Which limits do not pay for a candidate after `path`, for one image: see `Change`."""
        return self.spending.short_of(candidate, path, limits)

    def conclude(self, history: History) -> Conclusion:
        """What is answered to images that are finished, on which at least one candidate ran."""
        combined = self.answer(history)
        calibrated = self.calibrated(history.path)
        if self.abstain_below is None:
            return Conclusion(combined, history.math.all(False), calibrated)
        if combined is None:
            score = history.confidence(len(history.path) - 1)
        else:
            score = history.math.of(top(combined))
        return Conclusion(combined, score < self.abstain_below, calibrated)

    def answer(self, history: History) -> np.ndarray | None:
        """The answer's probabilities (n, classes), or None where they are the last one's own.

        Of the exponents of the set that ran, where they are known. Those of a single network
        change how sure it is and not what it says.
        """
        weights = self.weights_in(history, history.path)
        if weights is None:
            return None
        logs = [history.logs(step) for step in range(len(history.path))]
        known = [own for own in logs if own is not None]
        return pool(known, weights) if len(known) == len(logs) else None

    def weights_in(self, history: History, path: tuple[int, ...]) -> Sequence[Column] | None:
        """The exponents of a path's set, in the path's order; None where they are not known.

        They are numbers or, where they follow the image by its traits, columns.
        """
        fitted = self._sets.get(path)
        if fitted is None:
            return None
        if fitted.slopes and history.told is not None:
            return fitted.following(history.told[len(self.candidates) :], history.math)
        return fitted.weights

    def calibrated(self, path: tuple[int, ...]) -> bool:
        """Whether the score of an answer after this path is a probability that was fitted."""
        return path in self._sets

    def reason(
        self, history: History, preference: float = 0.0, changes: Sequence[Change] = ()
    ) -> str:
        """One sentence for a person: why the (single) image, which is finished, took this path.

        Parameters
        ----------
        preference : of its request
        changes : the choices of this policy that limits did not allow, in order
        """
        first = next((change for change in changes if not change.path), None)
        later = next((c for c in changes if c.path and c.given is None), None)
        if first is None and not history.path:
            return self.why_none(history.chances, preference)
        told = []
        if first is not None:
            why = self.why_start(first.wanted, history.chances, preference)
            told.append(f"{why}, but {first.text(self.candidates)}")
        on = self.why_path(history, preference, later) if history.path else None
        if on is not None:
            told.append(on)
        elif first is None:
            told.append(self.why_start(history.path[0], history.chances, preference))
        told += [c.text(self.candidates) for c in changes if c.path and c.given is not None]
        return "; ".join(told)

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why the policy chooses to start an image, of these chances (1, m), at a candidate."""
        return f"the {self.kind} policy chose {self.candidates[candidate]}"

    def why_none(self, chances: np.ndarray | None, preference: float) -> str:
        """Why the policy abstains on an image."""
        return f"the {self.kind} policy gives no answer to this image"

    def why_path(self, history: History, preference: float, cut: Change | None) -> str | None:
        """Why the image went on and stopped as it did; None where nothing follows the start.

        cut : the candidate that was not asked at the end, since a limit did not allow it
        """
        if len(history.path) == 1 and cut is None:
            return None
        names = [self.candidates[c] for c in history.path]
        asked = f"the {self.kind} policy asked {' and '.join(names)}"
        return asked if cut is None else f"{asked}, but {cut.text(self.candidates)}"

    def grounds(self, history: History, limits: Limits) -> Grounds:
        """What `next` goes by for the (single) image, for an explanation."""
        return Grounds()

    def words(self) -> str:
        """What the policy does, for a person; the file has the numbers."""
        return f"a {self.kind} policy over {', '.join(self.candidates)}"

    def settings(self) -> dict[str, Any]:
        """What `from_settings` needs to build the policy again, as JSON values."""
        return {}

    @classmethod
    def from_settings(cls, fields: Fields, given: Mapping[str, Any]) -> Policy:
        """Build what `settings` told of.

        Parameters
        ----------
        fields : of the policy's file; a kind that has settings reads them here
        given : the constructor's other arguments
        """
        return cls(**given)
