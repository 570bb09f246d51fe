"""The contract of a premodel: from an image's features, each candidate's chance of being right."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Sequence

import numpy as np

from adaptive.candidate import check_name
from adaptive.columns import Columns
from adaptive.errors import InputError
from adaptive.features.schema import SCHEMA
from adaptive.files import Fields, folder_aside, refuse_existing

#: the number that `premodel.json` carries; a newer one is refused
FORMAT = 1

#: the file that makes a folder a premodel
HEADER = "premodel.json"

#: the decision that no candidate is expected to be right
NONE = -1

#: a premodel reads at most so many features: up to here distances are exact, see `scaling`
MAX_FEATURES = 512


class Premodel(ABC):
    """What a policy may ask of a premodel, whatever its kind.

    A premodel is a score: one number in 0..1 for each candidate. Which candidate that means is
    another function's business (`first_yes`), so that thresholds are tuned without retraining.

    Attributes
    ----------
    kind : the name under which `load_premodel` knows the class
    features : names of the features that it reads, in the order of the columns of X
    candidates : names of the candidates that it judges, in the chain's order
    schema_version : version of the schema under which this library computed features, or None
        where all are a user's own columns, whatever they are called
    training_ : what is known about the training, as JSON values; for reading, not for computing
    """

    kind: ClassVar[str]
    features: tuple[str, ...]
    candidates: tuple[str, ...]
    schema_version: int | None
    training_: dict[str, Any]

    @property
    def conditions(self) -> int:
        """How many conditions it tells apart, see `judge`; 0 for a kind that knows none."""
        return 0

    @property
    def traits(self) -> int:
        """How many numbers of its own `judge` adds, of which the first are the conditions'."""
        return 0

    @property
    def own_features(self) -> tuple[str, ...]:
        """Those features that are a user's own, which this library never fills in by name."""
        if self.schema_version is None:
            return tuple(self.features)
        return tuple(name for name in self.features if name not in SCHEMA.names)

    @abstractmethod
    def unfitted(self) -> Premodel:
        """Another premodel with the same settings that has learned nothing yet."""

    @abstractmethod
    def fit(self, X: np.ndarray, outcomes: np.ndarray) -> Premodel:
        """Learn from images whose outcomes are known, and return self.

        Parameters
        ----------
        X : ndarray of shape (n, features), float64
        outcomes : ndarray of shape (n, candidates), 0 or 1
        """

    def relearned(self, X: np.ndarray, outcomes: np.ndarray) -> Premodel:
        """A twin that learned from these images alone what outcomes teach.

        What is learned without outcomes, such as the conditions, may stay as it is.
        """
        return self.unfitted().fit(X, outcomes)

    @abstractmethod
    def predict(self, X: np.ndarray) -> np.ndarray:
        """Each candidate's chance of being right.

        Parameters
        ----------
        X : ndarray of shape (n, features), float64, finite

        Returns
        -------
        ndarray of shape (n, candidates), float64, 0..1; a row does not depend on the others

        Raises
        ------
        InputError
            for another number of columns, NaN or an infinity.
        """

    def judge(self, X: np.ndarray) -> np.ndarray:
        """Chances as of `predict`, followed by `traits` numbers that a policy may go by.

        First the probability of each condition, which sum to 1, then whatever else the kind
        tells of an image, centred and scaled. Shape (n, candidates + traits).
        """
        return self.predict(X)

    def posterior(self, X: np.ndarray) -> np.ndarray:
        """Each condition's probability: shape (n, conditions), rows sum to 1.

        X : ndarray of shape (n, features), float64, finite
        """
        first = len(self.candidates)
        return self.judge(X)[:, first : first + self.conditions]

    def descriptions(self) -> tuple[str, ...]:
        """Each condition in words, no two alike."""
        return tuple(f"condition {number}" for number in range(1, self.conditions + 1))

    @abstractmethod
    def explain(self, x: np.ndarray) -> dict[str, Any]:
        """Why one image, of shape (features,), gets its chances; JSON values.

        There is always "chances", {candidate: number}, and "choice", a candidate or None.
        """

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the files into a folder that exists; `load_premodel` reads them."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, fields: Fields) -> Premodel:
        """Read what `write` wrote; `fields` is the header."""

    def save(self, folder: Path | str, force: bool = False) -> None:
        """Write a new folder, whole or not at all; with `force` it may replace a premodel."""
        folder = Path(folder)
        check_output(folder, force)
        with folder_aside(folder) as aside:
            self.write(aside)


def first_yes(chances: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The chain's decision: the first candidate whose chance is above the threshold.

    A chance of exactly one half is no majority, so it is a no.

    Parameters
    ----------
    chances : ndarray of shape (..., candidates)

    Returns
    -------
    ndarray of shape (...), int64: index of a candidate, or NONE (-1) where all say no
    """
    yes = np.asarray(chances) > threshold
    return np.where(yes.any(axis=-1), yes.argmax(axis=-1), NONE)


def check_output(folder: Path, force: bool) -> None:
    """Refuse an output folder that exists, or with `force` one that is something else.

    Raises
    ------
    InputError
        when it may not be written.
    """
    refuse_existing(folder, force)
    if not folder.exists() or (folder / HEADER).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise InputError(f"{folder} exists and is no premodel; --force replaces only a premodel")


def check_names(features: Sequence[str], candidates: Sequence[str]) -> None:
    """Raise InputError unless both are lists of distinct names, and neither is empty."""
    for what, names in (("feature", features), ("candidate", candidates)):
        if not names:
            raise InputError(f"a premodel needs at least one {what}")
        for position, name in enumerate(names):
            if name in names[:position]:
                raise InputError(f"{what} {name!r} occurs twice; each may occur once")
    for name in candidates:
        check_name(name)
        if name == "none":
            raise InputError("no candidate may be called 'none': that means that none is right")
    if len(features) > MAX_FEATURES:
        raise InputError(
            f"{len(features)} features are given; at most {MAX_FEATURES} are allowed, so choose "
            "among them"
        )


def check_X(X: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """X as float64 of shape (n, features), or an InputError that names what is wrong."""
    X = np.asarray(X, np.float64)
    if X.ndim != 2 or X.shape[1] != len(features):
        raise InputError(
            f"features have shape {X.shape}; (images, {len(features)}) is needed: {list(features)}"
        )
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        raise InputError(
            f"feature {features[column]!r} of image {row} is {X[row, column]}; it must be finite"
        )
    return X


def single_row(X: np.ndarray, width: int) -> Columns | None:
    """The numbers of a single image; None for what `check_X` is to look at.

    X : ndarray of shape (1, width), float64
    """
    if type(X) is not np.ndarray or X.shape != (1, width) or X.dtype != np.float64:
        return None
    numbers: Columns = X[0].tolist()
    return numbers if all(map(math.isfinite, numbers)) else None


def check_outcomes(outcomes: np.ndarray, rows: int, candidates: Sequence[str]) -> np.ndarray:
    """Outcomes as uint8 of shape (rows, candidates), or an InputError."""
    outcomes = np.asarray(outcomes)
    if outcomes.shape != (rows, len(candidates)):
        raise InputError(
            f"outcomes have shape {outcomes.shape}; ({rows}, {len(candidates)}) is needed: one "
            "row an image, one column a candidate"
        )
    wrong = (outcomes != 0) & (outcomes != 1)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"the outcome of {candidates[column]!r} on image {row} is {outcomes[row, column]}; "
            "only 0 and 1 are allowed"
        )
    return outcomes.astype(np.uint8)
