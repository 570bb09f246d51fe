"""What every policy can do, and what it is told.

A policy works on arrays: n images that share the same path so far. One live image is n = 1.
Candidates are numbers here, positions in the policy's own order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from adaptive.candidate import check_name, exit_of, positions
from adaptive.checks import listed, number, numbers, shown, texts
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.change import Change
from adaptive.policy.exponents import Exponents, pooled
from adaptive.policy.grounds import Grounds
from adaptive.premodel.base import Premodel

if TYPE_CHECKING:
    from adaptive.tasks.detections import Detections

#: "No further candidate": what ran last answers; as a start, the policy abstains.
STOP = -1

#: What a premodel does in a policy: it alone chooses who answers, or it is heard beside what the
#: networks say.
CHOOSES, ADVISES = "chooses", "advises"


@dataclass(frozen=True)
class Output:
    """What one candidate said about n images.

    Attributes
    ----------
    confidence : ndarray (n,), the highest probability; of boxes, how good they are to be expected
    probabilities : ndarray (n, classes), or None in a replay of a table that holds none
    boxes : of each image, what a detector found in it, those that are no answer too; None of a
        classifier, and in a replay. No policy looks at them: `confidence` says how sure they are
    """

    confidence: np.ndarray
    probabilities: np.ndarray | None = None
    boxes: tuple[Detections, ...] | None = None

    def rows(self, chosen: np.ndarray) -> Output:
        """The same for some of the images."""
        probabilities = None if self.probabilities is None else self.probabilities[chosen]
        confidence, boxes = self.confidence[chosen], self.boxes
        if boxes is not None:
            boxes = tuple(boxes[row] for row in np.arange(len(boxes))[chosen])
        return Output(confidence, probabilities, boxes)


@dataclass(frozen=True)
class History:
    """What has run for n images, in order, and what it said.

    Attributes
    ----------
    path : positions of the candidates that ran, the same for all n images
    outputs : what each of them said
    chances : ndarray (n, m), the premodel's numbers, or None when the policy has no premodel;
        followed by its traits where the policy goes by them
    answer : ndarray (n, classes), the policy's own answer as it stands, or None where that is
        what ran last, or has not been computed
    """

    path: tuple[int, ...]
    outputs: tuple[Output, ...]
    chances: np.ndarray | None = None
    answer: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.outputs[-1].confidence)

    def rows(self, chosen: np.ndarray) -> History:
        """The same for some of the images."""
        chances = None if self.chances is None else self.chances[chosen]
        answer = None if self.answer is None else self.answer[chosen]
        return History(self.path, tuple(o.rows(chosen) for o in self.outputs), chances, answer)


class Conclusion(NamedTuple):
    """What a policy answers to n images that took the same path.

    Attributes
    ----------
    probabilities : ndarray (n, classes), or None where they are the last output's own
    abstained : ndarray (n,), bool, where it finds what was said too unsure to answer
    calibrated : whether the answer's score is a probability that was fitted
    """

    probabilities: np.ndarray | None
    abstained: np.ndarray
    calibrated: bool

    def rows(self, chosen: np.ndarray) -> Conclusion:
        """The same for some of the images."""
        combined = None if self.probabilities is None else self.probabilities[chosen]
        return Conclusion(combined, self.abstained[chosen], self.calibrated)


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

    An exit NET@3 that follows NET@1 or NET@2 is charged less by what that one costs in the mean.

    Attributes
    ----------
    kind : the name under which files know the class
    premodel_role : what the premodel does in it, `CHOOSES` or `ADVISES`; None where there is none
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
    def _costs(self) -> dict[str, np.ndarray]:
        """Those of upper_ms, costs_ms and costs_mj that are known, as arrays (m,)."""
        given = {name: getattr(self, name) for name in ("upper_ms", "costs_ms", "costs_mj")}
        return {name: np.asarray(v, np.float64) for name, v in given.items() if v is not None}

    @cached_property
    def _later_exits(self) -> tuple[tuple[int, ...], ...]:
        """For each candidate, the positions of the deeper exits of its network."""
        exits = [exit_of(name) for name in self.candidates]
        return tuple(
            tuple(p for p, (own, deep) in enumerate(exits) if own == network and deep > number > 0)
            for network, number in exits
        )

    @cached_property
    def _columns(self) -> list[int]:
        """Where the candidates stand in what the premodel predicts."""
        assert self.premodel is not None
        return positions(self.candidates, self.premodel.candidates, "the premodel")

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
        if not self.needs_traits:
            return self.premodel.predict(features)[:, self._columns]
        told = range(len(self.premodel.candidates), len(self.premodel.candidates) + self.traits)
        return self.premodel.judge(features)[:, [*self._columns, *told]]

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

    def affordable(self, choice: np.ndarray, path: tuple[int, ...], limits: Limits) -> np.ndarray:
        """`choice` with what the limits cannot pay for taken out.

        As a start, the latest candidate of the order that fits takes its place, or STOP when
        none does; after that, nothing more is started.
        """
        if limits is UNLIMITED:
            return choice
        fits = self._fits(len(choice), path, limits)
        if fits is None:
            return choice
        over = (choice != STOP) & ~fits[np.arange(len(choice)), choice]
        if not over.any():
            return choice
        if path:
            return np.where(over, STOP, choice)
        latest = len(self.candidates) - 1 - np.argmax(fits[:, ::-1], axis=1)
        return np.where(over, np.where(fits.any(axis=1), latest, STOP), choice)

    def short_of(self, candidate: int, path: tuple[int, ...], limits: Limits) -> tuple[str, ...]:
        """Which limits do not pay for a candidate after `path`, for one image: see `Change`."""
        names = {"remaining_ms": "deadline", "allowance_ms": "allowance", "remaining_mj": "energy"}
        return tuple(
            "bucket" if limits.of_bucket(limit) else names[limit]
            for limit, within in self._within(path, limits)
            if not within.reshape(-1)[candidate]
        )

    def _fits(self, count: int, path: tuple[int, ...], limits: Limits) -> np.ndarray | None:
        """Which candidates each image can pay for, (count, m); None where nothing is limited."""
        fits: np.ndarray | None = None
        for _, within in self._within(path, limits):
            fits = within if fits is None else fits & within
        if fits is None or fits.ndim == 2:
            return fits
        return fits[np.newaxis] if count == 1 else np.broadcast_to(fits, (count, len(fits)))

    def _within(self, path: tuple[int, ...], limits: Limits) -> Iterator[tuple[str, np.ndarray]]:
        """For each limit that is set, which candidates it pays for: (m,), or (n, m)."""
        known = self._costs
        for limit, name, mean, left in (
            ("remaining_ms", "upper_ms", "costs_ms", limits.remaining_ms),
            ("allowance_ms", "costs_ms", "costs_ms", limits.allowance_ms),
            ("remaining_mj", "costs_mj", "costs_mj", limits.remaining_mj),
        ):
            one = not isinstance(left, np.ndarray) or not left.ndim
            if name not in known or (left == np.inf if one else np.isposinf(left).all()):
                continue
            asked = known[name]
            if not path and name == "costs_ms":
                left = max(left, asked.min()) if one else np.maximum(left, asked.min())
            if mean in known and any(self._later_exits[ran] for ran in path):
                asked = asked - self._paid(path, known[mean])
            yield limit, asked <= (left if one else np.asarray(left)[:, np.newaxis])

    def _paid(self, path: tuple[int, ...], means: np.ndarray) -> np.ndarray:
        """What of each candidate's cost, (m,), ran already as an earlier exit of its network."""
        paid = np.zeros(len(self.candidates))
        for ran in path:
            for later in self._later_exits[ran]:
                paid[later] = max(paid[later], means[ran])
        return paid

    def conclude(self, history: History) -> Conclusion:
        """What is answered to images that are finished, on which at least one candidate ran."""
        combined = self.answer(history)
        unsure = np.zeros(len(history), bool)
        if self.abstain_below is not None:
            score = history.outputs[-1].confidence if combined is None else combined.max(axis=1)
            unsure = score < self.abstain_below
        return Conclusion(combined, unsure, self.calibrated(history.path))

    def answer(self, history: History) -> np.ndarray | None:
        """The answer's probabilities (n, classes), or None where they are the last one's own.

        Of the exponents of the set that ran, where they are known. Those of a single network
        change how sure it is and not what it says.
        """
        weights = self.weights_in(history, history.path)
        said = [o.probabilities for o in history.outputs if o.probabilities is not None]
        if weights is None or len(said) < len(history.outputs):
            return None
        return pooled(said, weights)

    def weights_of(self, path: tuple[int, ...]) -> tuple[float, ...] | None:
        """The exponents of a path's set, in the path's order; None where they are not known."""
        for fitted in self.exponents:
            if fitted.members == path:
                return fitted.weights
        return None

    def weights_in(
        self, history: History, path: tuple[int, ...]
    ) -> tuple[float, ...] | np.ndarray | None:
        """As `weights_of`; where they follow the image (n, len(path)), by its traits."""
        for fitted in self.exponents:
            if fitted.members == path:
                if fitted.slopes and history.chances is not None:
                    return fitted.of(history.chances[:, len(self.candidates) :])
                return fitted.weights
        return None

    def calibrated(self, path: tuple[int, ...]) -> bool:
        """Whether the score of an answer after this path is a probability that was fitted."""
        return self.weights_of(path) is not None

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
        later = next((change for change in changes if change.path), None)
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
