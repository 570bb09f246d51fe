"""The papers' premodel: an ordered chain of k-nearest-neighbour classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from adaptive.columns import ONE
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
    single_row,
)
from adaptive.premodel.neighbours import condensed_rows, search_for
from adaptive.premodel.scaling import LIMIT, STEPS, Scaling, check_scaling


class KNNChain(Premodel):
    """One k-nearest-neighbour classifier a candidate, asked in order; the first yes wins.

    Level j has learned on which training images candidate j is the answer, and says yes when
    more than half of the k nearest training images are such. Its chance is their share. All
    levels are trained on all images, so they share one table and one search. With an even k a
    split vote is no majority: a no, as in scikit-learn. Of several images at the k-th distance
    those with the lower row numbers vote.

    Taylor et al. 2018, "Adaptive deep learning model selection on embedded systems"
    (doi 10.1145/3211332.3211336); Marco et al. 2020 (doi 10.1145/3371154).

    Parameters
    ----------
    features : names of the columns of X
    candidates : names of the levels, first to last
    k : number of neighbours that vote
    scaling : "standard" or "minmax"
    schema_version : version of the feature schema, or None for a user's own columns

    Attributes
    ----------
    scaling_ : Scaling
    table_ : ndarray of shape (rows, features), int32: the training images on the grid
    outcomes_ : ndarray of shape (rows, candidates), uint8, 0 or 1
    """

    kind = "knn_chain"

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        k: int = 5,
        scaling: str = "standard",
        schema_version: int | None = None,
    ) -> None:
        self.features = tuple(features)
        self.candidates = tuple(candidates)
        self.k = k
        self.scaling = scaling
        self.schema_version = schema_version

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.features)} features, candidates={self.candidates}, "
            f"k={self.k}, scaling={self.scaling!r}, schema_version={self.schema_version})"
        )

    def unfitted(self) -> KNNChain:
        """Another chain with the same settings."""
        return KNNChain(self.features, self.candidates, self.k, self.scaling, self.schema_version)

    def fit(self, X: np.ndarray, outcomes: np.ndarray) -> KNNChain:
        """Scale and store the images; see `Premodel.fit`.

        Of more images than are fast to compare with, some are stored: see `condense`.

        Raises
        ------
        InputError
            for settings that make no sense, NaN, outcomes other than 0 and 1, or fewer rows
            than k.
        MissingExtra
            without scikit-learn, whose scalers are used.
        """
        X = check_X(X, self.features)
        scaling = Scaling.fit(self.scaling, X) if len(X) else None
        kept = condensed_rows(*X.shape)
        if kept is not None:
            outcomes = check_outcomes(outcomes, len(X), self.candidates)[kept]
            X = X[kept]
        table = scaling.grid(X) if scaling else X
        return self._learn(scaling, table, outcomes)

    @classmethod
    def from_arrays(
        cls,
        features: Sequence[str],
        candidates: Sequence[str],
        scaling: Scaling,
        table: np.ndarray,
        outcomes: np.ndarray,
        k: int = 5,
        schema_version: int | None = None,
        **settings: Any,
    ) -> KNNChain:
        """A fitted chain from what `fit` would have learned; needs no scikit-learn.

        Raises
        ------
        InputError
            as `fit` does, and for a table that is not on the grid.
        """
        chain = cls(features, candidates, k, scaling.kind, schema_version, **settings)
        return chain._learn(scaling, table, outcomes)

    def _learn(self, scaling: Scaling | None, table: np.ndarray, outcomes: np.ndarray) -> KNNChain:
        check_names(self.features, self.candidates)
        check_scaling(self.scaling)
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise InputError(f"k is {self.k!r}; a whole number of at least 1 is needed")
        if len(table) < self.k or scaling is None:
            raise InputError(f"{len(table)} rows are fewer than k = {self.k} neighbours")
        width = len(self.features)
        if scaling.scale.shape != (width,) or scaling.offset.shape != (width,):
            raise InputError(
                f"the scaling has {scaling.scale.shape} and {scaling.offset.shape} numbers; one "
                f"for each of {width} features is needed"
            )
        if not (np.isfinite(scaling.scale) & np.isfinite(scaling.offset)).all():
            raise InputError("the scaling holds NaN or an infinity")
        if not (scaling.scale > 0).all():
            raise InputError("the scaling holds a scale that is not above 0")
        whole = (table >= -LIMIT) & (table <= LIMIT) & (table == np.rint(table))
        if table.ndim != 2 or table.shape[1] != width or not whole.all():
            raise InputError(
                f"the table must have {width} columns of whole numbers from {-LIMIT:.0f} to "
                f"{LIMIT:.0f}"
            )
        self.outcomes_ = check_outcomes(outcomes, len(table), self.candidates)
        self.table_ = np.ascontiguousarray(table, np.int32)
        self.scaling_ = scaling
        self.training_ = {}
        self._search = search_for(self.table_)
        return self

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Row numbers of the k nearest training images, nearest first.

        Returns
        -------
        ndarray of shape (n, k), int64
        """
        return self._search.nearest(self._grid(X), self.k)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The share of yes among the k neighbours; see `Premodel.predict`."""
        return self.votes(self._grid(X)) / self.k

    def votes(self, grid: np.ndarray) -> np.ndarray:
        """How many of the k neighbours say yes, for images that are on the grid already.

        Parameters
        ----------
        grid : ndarray of shape (n, features), float64, as `Scaling.grid` gives it

        Returns
        -------
        ndarray of shape (n, candidates), float64, whole numbers 0..k
        """
        votes = self.outcomes_.take(self._search.nearest(grid, self.k), axis=0)
        counts: np.ndarray = np.add.reduce(votes, axis=1, dtype=np.float64)
        return counts

    def ties(self, grid: np.ndarray) -> np.ndarray:
        """Whether the next image after the k-th is as near as the k-th: shape (n,), bool."""
        if self.k == len(self.table_):
            return np.zeros(len(grid), bool)
        rows = self._search.nearest(grid.astype(np.float64), self.k + 1)[:, -2:]
        squares = ((self.table_[rows] - grid[:, None, :].astype(np.float64)) ** 2).sum(axis=2)
        tied: np.ndarray = squares[:, 0] == squares[:, 1]
        return tied

    def _grid(self, X: np.ndarray) -> np.ndarray:
        if not hasattr(self, "_search"):
            raise InputError("this premodel is not fitted; call fit, or load a fitted one")
        numbers = single_row(X, len(self.features))
        if numbers is not None:
            return np.array([self.scaling_.columns(numbers, ONE)])
        return self.scaling_.grid(check_X(X, self.features))

    def explain(self, x: np.ndarray) -> dict[str, Any]:
        """The neighbours and their votes.

        Beside "chances" and "choice" there are "k" and "neighbours", nearest first:
        {"row": row of the training table, counted from 0, "distance": in scaled units,
        "votes": {candidate: 0 or 1}}.
        """
        X = np.asarray(x, np.float64)[None]
        rows = self.nearest(X)[0]
        squares = ((self.table_[rows] - self.scaling_.grid(X)) ** 2).sum(axis=1)
        votes = self.outcomes_[rows]
        chances = self.predict(X)[0]
        choice = int(first_yes(chances))
        return {
            "choice": None if choice == NONE else self.candidates[choice],
            "chances": dict(zip(self.candidates, chances.tolist())),
            "k": self.k,
            "neighbours": [
                {"row": row, "distance": distance, "votes": dict(zip(self.candidates, vote))}
                for row, distance, vote in zip(
                    rows.tolist(), (np.sqrt(squares) / STEPS).tolist(), votes.tolist()
                )
            ],
        }

    def write(self, folder: Path) -> None:
        """Write `premodel.json`, `table.npy` and `outcomes.npy`."""
        write_array(folder, "table.npy", self.table_, "<i4")
        write_array(folder, "outcomes.npy", self.outcomes_, "|u1")
        header = {
            "format": FORMAT,
            "kind": self.kind,
            "features": list(self.features),
            "schema_version": self.schema_version,
            "candidates": list(self.candidates),
            "k": self.k,
            **self._settings(),
            "rows": len(self.table_),
            "balance": dict(zip(self.candidates, self.outcomes_.mean(axis=0).tolist())),
            "scaling": {
                "kind": self.scaling,
                "scale": self.scaling_.scale.tolist(),
                "offset": self.scaling_.offset.tolist(),
            },
            "training": self.training_,
        }
        write_json(folder / HEADER, header)

    def _settings(self) -> dict[str, Any]:
        """Settings of a kind of its own, for the header."""
        return {}

    @classmethod
    def _read_settings(cls, fields: Fields) -> dict[str, Any]:
        """What `_settings` wrote."""
        return {}

    @classmethod
    def read(cls, folder: Path, fields: Fields) -> KNNChain:
        """Read what `write` wrote; `fields` is the header.

        Raises
        ------
        BundleError
            when anything in the folder is not as it must be.
        """
        features = fields.texts("features")
        candidates = fields.texts("candidates")
        rows = fields.get("rows", int)
        if rows < 1 or not features or not candidates:
            raise BundleError(
                f"{fields.where} has {rows} rows, {len(features)} features and "
                f"{len(candidates)} candidates; at least one of each is needed"
            )
        scaling = Fields(fields.get("scaling", dict), f"{fields.where}: 'scaling'")
        learned = Scaling(
            scaling.get("kind", str),
            np.array(scaling.numbers("scale"), np.float64),
            np.array(scaling.numbers("offset"), np.float64),
        )
        try:
            chain = cls.from_arrays(
                features,
                candidates,
                learned,
                read_array(folder, "table.npy", "<i4", (rows, len(features))),
                read_array(folder, "outcomes.npy", "|u1", (rows, len(candidates))),
                fields.get("k", int),
                fields.get("schema_version", int, default=None),
                **cls._read_settings(fields),
            )
        except BundleError:
            raise
        except InputError as exc:
            raise BundleError(f"{fields.where}: {exc}") from exc
        chain.training_ = fields.get("training", dict, default={})
        return chain
