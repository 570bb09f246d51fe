"""What every policy can do, and what it is told.

A policy works on arrays: n images that share the same path so far. One live image is n = 1.
Candidates are numbers here, positions in the policy's own order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from adaptive.candidate import check_name, positions
from adaptive.errors import InputError
from adaptive.limits import Limits
from adaptive.premodel.base import Premodel

#: "No further candidate": what ran last answers; as a start, the policy abstains.
STOP = -1


@dataclass(frozen=True)
class Output:
    """What one candidate said about n images.

    Attributes
    ----------
    confidence : ndarray (n,), the highest probability
    probabilities : ndarray (n, classes), or None in a replay of a table that holds none
    """

    confidence: np.ndarray
    probabilities: np.ndarray | None = None

    def rows(self, chosen: np.ndarray) -> Output:
        """The same for some of the images."""
        probabilities = None if self.probabilities is None else self.probabilities[chosen]
        return Output(self.confidence[chosen], probabilities)


@dataclass(frozen=True)
class History:
    """What has run for n images, in order, and what it said.

    Attributes
    ----------
    path : positions of the candidates that ran, the same for all n images
    outputs : what each of them said
    chances : ndarray (n, m), the premodel's numbers, or None when the policy has no premodel
    """

    path: tuple[int, ...]
    outputs: tuple[Output, ...]
    chances: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.outputs[-1].confidence)


@dataclass(frozen=True)
class Policy(ABC):
    """Which candidate answers first, and whether another is asked.

    Parameters
    ----------
    candidates : names in the policy's own order
    premodel : what judges an image from its features, or None
    upper_ms : for each candidate, milliseconds that a run hardly ever exceeds; only with them
        can a deadline be kept. None where nothing is known.
    """

    candidates: tuple[str, ...]
    premodel: Premodel | None = field(default=None, repr=False, compare=False)
    upper_ms: tuple[float, ...] | None = None

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        if isinstance(self.candidates, str):
            raise InputError(f"candidates is the text {self.candidates!r}; give a list of names")
        object.__setattr__(self, "candidates", tuple(self.candidates))
        if not self.candidates:
            raise InputError(f"a {self.kind} policy needs at least one candidate")
        for name in self.candidates:
            check_name(name)
        if len(set(self.candidates)) != len(self.candidates):
            raise InputError(f"a candidate stands twice in the policy's order {self.candidates}")
        if self.premodel is not None:
            columns = positions(self.candidates, self.premodel.candidates, "the premodel")
            object.__setattr__(self, "_columns", columns)
        if self.upper_ms is not None:
            if len(self.upper_ms) != len(self.candidates):
                raise InputError(
                    f"upper_ms has {len(self.upper_ms)} times for {len(self.candidates)} candidates"
                )
            if not all(ms > 0 for ms in self.upper_ms):
                raise InputError(f"upper_ms {list(self.upper_ms)} must be numbers above 0")

    @property
    def needs_features(self) -> bool:
        """Whether features must be computed, and are charged."""
        return self.premodel is not None

    @property
    def needs_probabilities(self) -> bool:
        """Whether decisions or answers need whole probability vectors, not only confidences."""
        return False

    def chances(self, features: np.ndarray) -> np.ndarray | None:
        """What the premodel says of images with these features, one column a candidate.

        features : ndarray (n, d), in the order of the premodel's features
        """
        if self.premodel is None:
            return None
        columns: list[int] = self._columns  # type: ignore[attr-defined]
        return self.premodel.predict(features)[:, columns]

    @abstractmethod
    def start(self, chances: np.ndarray | None, count: int, limits: Limits) -> np.ndarray:
        """First candidate for each of `count` images, shape (count,), or STOP to abstain.

        chances : ndarray (count, m), what the premodel says, or None
        """

    @abstractmethod
    def next(self, history: History, limits: Limits) -> np.ndarray:
        """Next candidate for each image, shape (n,), or STOP."""

    def affordable(self, choice: np.ndarray, path: tuple[int, ...], limits: Limits) -> np.ndarray:
        """`choice` with what could not finish in time taken out.

        As a start, the latest candidate of the order that can finish takes its place, or STOP
        when none can; after that, nothing more is started.
        """
        if self.upper_ms is None or np.all(np.isinf(limits.remaining_ms)):
            return choice
        upper = np.asarray(self.upper_ms)
        remaining = np.broadcast_to(limits.remaining_ms, choice.shape)
        late = (choice != STOP) & (upper[choice] > remaining)
        if not late.any():
            return choice
        if path:
            return np.where(late, STOP, choice)
        fits = upper[np.newaxis, :] <= remaining[:, np.newaxis]
        latest = len(upper) - 1 - np.argmax(fits[:, ::-1], axis=1)
        return np.where(late, np.where(fits.any(axis=1), latest, STOP), choice)

    def answer(self, history: History) -> np.ndarray | None:
        """Combined probabilities (n, classes), or None where the last candidate answers alone."""
        return None

    def reason(self, history: History) -> str:
        """One sentence for a person: why the (single) image took this path."""
        return f"the {self.kind} policy asked {self.candidates[history.path[-1]]}"

    def settings(self) -> dict[str, Any]:
        """What `from_settings` needs to build the policy again, as JSON values."""
        return {}
