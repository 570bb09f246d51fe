"""One nearest-neighbour search over outcomes: the neighbours' mean outcome is the chance."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling

WEIGHTS = ("uniform", "distance")

#: weights are whole numbers up to this, so that their sums are exact
UNIT = 2.0**32


class OutcomeKNN(KNNChain):
    """The share of the k nearest training images that each candidate gets right, for a large k.

    The chain's table, scaling and search with another reading: five votes are a yes or a no, the
    mean of fifty is a chance that can be weighed against a cost (`ByPremodel`'s rule "utility").
    Its standard error is at most 0.07 for k = 50.

    With weights "distance" a neighbour at squared distance d counts 1 - d / D, where D belongs to
    the (k+1)-th neighbour (Epanechnikov's kernel; the bandwidth of Loftsgaarden and Quesenberry
    1965). Chances then change without a jump, and do not depend on which of several images at
    the k-th distance are taken. Weights are rounded to 1 / 2**32 so that their sums are exact.
    Where all k+1 are equally far, all count the same.

    Parameters
    ----------
    features, candidates, k, scaling, schema_version : as in `KNNChain`
    weights : "uniform" or "distance"
    """

    kind = "outcome_knn"

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        k: int = 50,
        scaling: str = "standard",
        schema_version: int | None = None,
        weights: str = "uniform",
    ) -> None:
        super().__init__(features, candidates, k, scaling, schema_version)
        self.weights = weights

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, weights={self.weights!r})"

    def unfitted(self) -> OutcomeKNN:
        """Another one with the same settings."""
        return OutcomeKNN(
            self.features,
            self.candidates,
            self.k,
            self.scaling,
            self.schema_version,
            self.weights,
        )

    def _learn(
        self, scaling: Scaling | None, table: np.ndarray, outcomes: np.ndarray
    ) -> OutcomeKNN:
        if self.weights not in WEIGHTS:
            raise InputError(f"weights {self.weights!r} is not one of {list(WEIGHTS)}")
        if self.weights == "distance" and len(table) <= self.k:
            raise InputError(
                f"{len(table)} rows are too few to weigh k = {self.k} neighbours by distance; "
                f"at least {self.k + 1} are needed"
            )
        super()._learn(scaling, table, outcomes)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The neighbours' mean outcome; see `Premodel.predict`."""
        if self.weights == "uniform":
            return super().predict(X)
        grid = self._grid(X)
        rows = self._search.nearest(grid, self.k + 1)
        weight = self._weight(grid, rows)
        total = np.add.reduce(weight, axis=1)
        votes = self.outcomes_.take(rows[:, : self.k], axis=0) * weight[:, :, None]
        chances: np.ndarray = np.add.reduce(votes, axis=1) / total[:, None]
        return chances

    def _weight(self, grid: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Weights of the first k of k + 1 neighbours, shape (n, k), whole numbers."""
        squares = self._squares(grid, rows)
        reach = squares[:, -1:]
        weight: np.ndarray = np.floor((1 - squares[:, :-1] / np.maximum(reach, 1)) * UNIT)
        weight[weight.max(axis=1) == 0] = 1
        weight[(reach == 0)[:, 0]] = 1
        return weight

    def _squares(self, grid: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Squared distances of some rows of the table: exact, shape of `rows`."""
        squares: np.ndarray = ((self.table_.take(rows, axis=0) - grid[:, None, :]) ** 2).sum(axis=2)
        return squares

    def explain(self, x: np.ndarray) -> dict[str, Any]:
        """As the chain's, with each neighbour's "weight" where they differ."""
        told = super().explain(x)
        if self.weights == "distance":
            grid = self._grid(np.asarray(x, np.float64)[None])
            weight = self._weight(grid, self._search.nearest(grid, self.k + 1))[0]
            for neighbour, share in zip(told["neighbours"], (weight / weight.sum()).tolist()):
                neighbour["weight"] = share
        return told

    def _settings(self) -> dict[str, Any]:
        return {"weights": self.weights}

    @classmethod
    def _read_settings(cls, fields: Fields) -> dict[str, Any]:
        return {"weights": fields.get("weights", str)}
