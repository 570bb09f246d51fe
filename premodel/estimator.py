"""Premodels that are a handful of arrays: scikit-learn learns them, numpy asks them.

A kind says which settings it has, which arrays it consists of and how chances follow from them;
checking, saving and reading are the same for all. Every sum over features, support vectors or
trees is taken along the last axis of a contiguous array, never by a matrix product: a BLAS adds
up one row in another order than many, and one image must get the same bits as a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Callable, ClassVar, Mapping, Sequence, Tuple, Type, TypeVar

import numpy as np

from adaptive.errors import BundleError, InputError
from adaptive.files import Fields, write_json
from adaptive.premodel.arrays import read_array, write_array
from adaptive.premodel.base import (
    FORMAT,
    HEADER,
    NONE,
    Premodel,
    check_names,
    check_outcomes,
    check_X,
    first_yes,
)

Own = TypeVar("Own", bound="Estimator")

#: type on disk, and sizes by name: "features", "candidates", another name, or a fixed number
Shape = Tuple[str, Tuple[Any, ...]]

Arrays = Mapping[str, Shape]
Settings = Mapping[str, Tuple[type, ...]]

#: fewer images than this teach nothing that cross-validation could check
LEAST_ROWS = 10

#: numbers held at a time when many images are asked about, 16 MB
BLOCK = 1 << 21

#: a size in a header beyond this is a mistake
MOST = 100_000_000


class Estimator(Premodel):
    """What the kinds made of arrays have in common.

    Attributes
    ----------
    SETTINGS : settings of `__init__` beside the names -> types that each may have
    ARRAYS : learned array -> its `Shape`
    arrays_ : what was learned, by these names
    """

    SETTINGS: ClassVar[Settings] = {}
    ARRAYS: ClassVar[Arrays]

    arrays_: dict[str, np.ndarray]

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        schema_version: int | None = None,
    ) -> None:
        self.features = tuple(features)
        self.candidates = tuple(candidates)
        self.schema_version = schema_version

    def __repr__(self) -> str:
        own = "".join(f", {name}={value!r}" for name, value in self.settings().items())
        return (
            f"{type(self).__name__}({len(self.features)} features, candidates={self.candidates}"
            f"{own}, schema_version={self.schema_version})"
        )

    def settings(self) -> dict[str, Any]:
        """The settings beside the names, as JSON values."""
        return {name: getattr(self, name) for name in self.SETTINGS}

    def unfitted(self: Own) -> Own:
        """Another premodel with the same settings that has learned nothing yet."""
        return type(self)(
            self.features, self.candidates, schema_version=self.schema_version, **self.settings()
        )

    def fit(self: Own, X: np.ndarray, outcomes: np.ndarray) -> Own:
        """Learn with scikit-learn; see `Premodel.fit`.

        Raises
        ------
        InputError
            for NaN, outcomes other than 0 and 1, settings that make no sense, or fewer than
            LEAST_ROWS images.
        MissingExtra
            without scikit-learn.
        """
        self.learn(X, outcomes)
        return self

    def learn(self, X: np.ndarray, outcomes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """As `fit`, but returns what asks scikit-learn itself for the same chances."""
        check_names(self.features, self.candidates)
        self._check_settings()
        X = check_X(X, self.features)
        outcomes = check_outcomes(outcomes, len(X), self.candidates)
        if len(X) < LEAST_ROWS:
            raise InputError(
                f"{len(X)} rows are too few; a {self.kind} premodel needs at least {LEAST_ROWS}"
            )
        arrays, chosen, theirs = self._train(np.ascontiguousarray(X), outcomes)
        self._accept(arrays)
        self.training_ = {"chosen": chosen} if chosen else {}
        return theirs

    @classmethod
    def from_arrays(
        cls: Type[Own],
        features: Sequence[str],
        candidates: Sequence[str],
        arrays: Mapping[str, np.ndarray],
        schema_version: int | None = None,
        **settings: Any,
    ) -> Own:
        """A fitted premodel from what `fit` would have learned; needs no scikit-learn.

        Raises
        ------
        InputError
            for names, settings or arrays that are not as they must be.
        """
        premodel = cls(features, candidates, schema_version=schema_version, **settings)
        check_names(premodel.features, premodel.candidates)
        premodel._check_settings()
        premodel._accept(arrays)
        premodel.training_ = {}
        return premodel

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Each candidate's chance of being right; see `Premodel.predict`."""
        return self._in_blocks(X, self._chances)

    def _in_blocks(self, X: np.ndarray, ask: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What `ask` says of images that it is shown some at a time."""
        self._check_fitted()
        X = np.ascontiguousarray(check_X(X, self.features))
        step = max(1, BLOCK // self._width)
        if len(X) <= step:
            return ask(X)
        return np.concatenate([ask(X[start : start + step]) for start in range(0, len(X), step)])

    def explain(self, x: np.ndarray) -> dict[str, Any]:
        """Chances, choice, and what the kind adds; see `Premodel.explain`."""
        self._check_fitted()
        X = np.ascontiguousarray(check_X(np.asarray(x, np.float64)[None], self.features))
        chances = self._chances(X)[0]
        choice = int(first_yes(chances))
        return {
            "choice": None if choice == NONE else self.candidates[choice],
            "chances": dict(zip(self.candidates, chances.tolist())),
            **self._reasons(X),
        }

    def write(self, folder: Path) -> None:
        """Write `premodel.json` and one `.npy` file an array."""
        self._check_fitted()
        sizes: dict[str, int] = {}
        for name, (dtype, shape) in self.ARRAYS.items():
            write_array(folder, f"{name}.npy", self.arrays_[name], dtype)
            for size, value in zip(shape, self.arrays_[name].shape):
                if isinstance(size, str) and size not in ("features", "candidates"):
                    sizes[size] = value
        header = {
            "format": FORMAT,
            "kind": self.kind,
            "features": list(self.features),
            "schema_version": self.schema_version,
            "candidates": list(self.candidates),
            "settings": self.settings(),
            "sizes": sizes,
            "training": self.training_,
        }
        write_json(folder / HEADER, header)

    @classmethod
    def read(cls: Type[Own], folder: Path, fields: Fields) -> Own:
        """Read what `write` wrote; `fields` is the header.

        Raises
        ------
        BundleError
            when anything in the folder is not as it must be.
        """
        features = fields.texts("features")
        candidates = fields.texts("candidates")
        known: dict[Any, int] = {"features": len(features), "candidates": len(candidates)}
        if not features or not candidates:
            raise BundleError(
                f"{fields.where} has {len(features)} features and {len(candidates)} candidates; "
                "at least one of each is needed"
            )
        sizes = Fields(fields.get("sizes", dict), f"{fields.where}: 'sizes'")
        own = Fields(fields.get("settings", dict), f"{fields.where}: 'settings'")
        settings = {
            name: own.get(name, *kinds, default=None) for name, kinds in cls.SETTINGS.items()
        }
        arrays = {}
        for name, (dtype, shape) in cls.ARRAYS.items():
            for size in shape:
                if isinstance(size, str) and size not in known:
                    known[size] = sizes.get(size, int)
                    if not 1 <= known[size] <= MOST:
                        raise BundleError(
                            f"{sizes.where}: {size!r} is {known[size]}; it must be from 1 to {MOST}"
                        )
            wanted = tuple(known[size] if isinstance(size, str) else size for size in shape)
            arrays[name] = read_array(folder, f"{name}.npy", dtype, wanted)
        try:
            premodel = cls.from_arrays(
                features,
                candidates,
                arrays,
                fields.get("schema_version", int, default=None),
                **settings,
            )
        except BundleError:
            raise
        except InputError as exc:
            raise BundleError(f"{fields.where}: {exc}") from exc
        premodel.training_ = fields.get("training", dict, default={})
        return premodel

    def _check_fitted(self) -> None:
        if not hasattr(self, "arrays_"):
            raise InputError("this premodel is not fitted; call fit, or load a fitted one")

    def _accept(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Check the arrays' types, shapes and values, keep them, and get ready to predict."""
        known: dict[Any, int] = {
            "features": len(self.features),
            "candidates": len(self.candidates),
        }
        kept = {}
        for name, (dtype, shape) in self.ARRAYS.items():
            values = np.asarray(arrays[name])
            if values.ndim == len(shape):
                for size, length in zip(shape, values.shape):
                    if isinstance(size, str):
                        known.setdefault(size, length)
            wanted = tuple(known.get(size, size) for size in shape)
            if values.shape != wanted or 0 in wanted:
                raise InputError(
                    f"array {name!r} has shape {values.shape}; {wanted} is needed, none of them 0"
                )
            if not np.isfinite(values).all():
                raise InputError(f"array {name!r} holds NaN or an infinity")
            own = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("="))
            if not np.array_equal(own, values):
                raise InputError(f"array {name!r} does not fit into {dtype}")
            kept[name] = own
        self._prepare(kept)
        self.arrays_ = kept

    #: numbers that `_chances` holds at a time for one image; `_prepare` may set it
    _width: int = 1

    @abstractmethod
    def _check_settings(self) -> None:
        """Raise InputError for settings that make no sense."""

    @abstractmethod
    def _train(
        self, X: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        """The arrays, what was chosen by cross-validation, and what asks scikit-learn."""

    @abstractmethod
    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise InputError for values that cannot be, else keep what predicting needs."""

    @abstractmethod
    def _chances(self, X: np.ndarray) -> np.ndarray:
        """Chances (n, candidates) of images that were checked; contiguous."""

    @abstractmethod
    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """What `explain` tells beside chances and choice, for X of shape (1, features)."""


def check_whole(name: str, value: object, least: int, optional: bool = False) -> None:
    """Raise InputError unless `value` is a whole number of at least `least`."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; a whole number of at least {least} is needed")


def check_above_0(name: str, value: object, optional: bool = False) -> None:
    """Raise InputError unless `value` is a finite number above 0."""
    if optional and value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(value) < float("inf"):  # type: ignore[arg-type]
        raise InputError(f"{name} is {value!r}; a finite number above 0 is needed")
