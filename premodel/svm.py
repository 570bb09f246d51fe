"""Support vector machines with a radial kernel, and Platt's fit of their scores to chances."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError, MissingExtra
from adaptive.premodel.calibration import (
    constant,
    cross_fitted,
    fit_sigmoid,
    prior_log_odds,
    sigmoid,
)
from adaptive.premodel.estimator import Arrays, Settings, check_above_0, check_whole
from adaptive.premodel.scaled import SCALING, ScaledEstimator
from adaptive.premodel.scaling import LIMIT, STEPS

#: at most so many images are learned from: training takes their square, predicting all of them
LARGEST_TABLE = 4000


class SVM(ScaledEstimator):
    """One support vector machine a candidate, on standardised features.

    Cortes and Vapnik 1995 (doi 10.1007/BF00994018), kernel exp(-gamma |a - b|^2) with gamma = 1 /
    number of features, which is scikit-learn's "scale" on such features. The scores are no
    chances; those are a logistic function of them, with slope and shift fitted to 5-fold
    cross-validated scores (Platt 1999, see `calibration.fit_sigmoid`; `SVC(probability=True)` is
    slow and deprecated). All machines share one table of support vectors. Squared distances are
    exact, so only the exponential and one sum round. A candidate that is always or never right
    has its prior chance on every image.

    Parameters
    ----------
    features, candidates, schema_version : as in `Premodel`
    C : what a violated margin costs
    seed : of the folds, and of the images that are learned from where there are too many
    """

    kind = "svm"
    SETTINGS: ClassVar[Settings] = {"C": (float,), "seed": (int,)}
    ARRAYS: ClassVar[Arrays] = {
        **SCALING,
        "vector": ("<i4", ("vectors", "features")),
        "coefficient": ("<f8", ("candidates", "vectors")),
        "intercept": ("<f8", ("candidates",)),
        "slope": ("<f8", ("candidates",)),
        "shift": ("<f8", ("candidates",)),
    }

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        C: float = 1.0,
        seed: int = 0,
        schema_version: int | None = None,
    ) -> None:
        super().__init__(features, candidates, schema_version)
        self.C = C
        self.seed = seed

    def _check_settings(self) -> None:
        check_above_0("C", self.C)
        check_whole("seed", self.seed, 0)

    def _train_scaled(
        self, Z: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        chosen: dict[str, Any] = {}
        if len(Z) > LARGEST_TABLE:
            chosen = {"rows": LARGEST_TABLE}
            order = np.random.default_rng(self.seed).permutation(len(Z))
            rows = np.sort(order[:LARGEST_TABLE])
            Z, outcomes = Z[rows], outcomes[rows]
        held = cross_fitted(
            lambda seen, known: _scores_of(_fit(seen, known, self.C)), Z, outcomes, self.seed
        )
        models = _fit(Z, outcomes, self.C)
        count = outcomes.shape[1]
        coefficient = np.zeros((count, len(Z)))
        intercept, slope, shift = np.zeros(count), np.zeros(count), prior_log_odds(outcomes)
        for level, model in enumerate(models):
            if model is not None:
                coefficient[level, model.support_] = model.dual_coef_[0]
                intercept[level] = model.intercept_[0]
                slope[level], shift[level] = fit_sigmoid(held[:, level], outcomes[:, level])
        used = (coefficient != 0).any(axis=0)
        used[0] |= not used.any()
        arrays = {
            "vector": np.rint(Z[used] * STEPS),
            "coefficient": coefficient[:, used],
            "intercept": intercept,
            "slope": slope,
            "shift": shift,
        }
        theirs = _scores_of(models)
        return arrays, chosen, lambda Z: sigmoid(slope * theirs(Z) + shift)

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        super()._prepare(arrays)
        vector = arrays["vector"].astype(np.float64)
        if np.abs(vector).max() > LIMIT:
            raise InputError(
                f"array 'vector' must hold whole numbers from {-LIMIT:.0f} to {LIMIT:.0f}"
            )
        half = np.einsum("ij,ij->i", vector, vector) / 2
        self._columns = np.ascontiguousarray(np.vstack([vector.T, half]))
        self._gamma = 1 / vector.shape[1]
        self._coefficient, self._intercept = arrays["coefficient"], arrays["intercept"]
        self._slope, self._shift = arrays["slope"], arrays["shift"]
        self._width = self._coefficient.size

    def _similar(self, X: np.ndarray) -> np.ndarray:
        """The kernel of each image and each support vector, shape (n, vectors)."""
        grid = self._scaling.grid(X)
        signed = np.empty((len(X), X.shape[1] + 1))
        np.negative(grid, out=signed[:, :-1])
        signed[:, -1] = 1.0
        # half the squared distances, in whole and half steps: exact, whatever BLAS adds them up
        half = signed @ self._columns
        half += np.einsum("ij,ij->i", grid, grid)[:, None] / 2
        half *= -2 * self._gamma / STEPS**2
        return np.asarray(np.exp(half, out=half))

    def _scores(self, X: np.ndarray) -> np.ndarray:
        products = self._similar(X)[:, None, :] * self._coefficient
        scores: np.ndarray = np.add.reduce(products, axis=-1) + self._intercept
        return scores

    def _chances(self, X: np.ndarray) -> np.ndarray:
        return sigmoid(self._slope * self._scores(X) + self._shift)

    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """ "scores" by candidate, and the five support vectors that are most alike."""
        similar = self._similar(X)[0]
        nearest = np.argsort(-similar, kind="stable")[:5]
        return {
            "scores": dict(zip(self.candidates, self._scores(X)[0].tolist())),
            "support_vectors": [
                {
                    "row": int(row),
                    "similarity": float(similar[row]),
                    "weights": dict(zip(self.candidates, self._coefficient[:, row].tolist())),
                }
                for row in nearest
            ],
        }


def _fit(Z: np.ndarray, outcomes: np.ndarray, C: float) -> list[Any]:
    """scikit-learn's machine for each candidate, None for one that is always the same."""
    try:
        from sklearn.svm import SVC
    except ImportError as exc:
        raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
    return [
        None if same else SVC(C=C, gamma=1 / Z.shape[1]).fit(Z, outcome)
        for same, outcome in zip(constant(outcomes), outcomes.T)
    ]


def _scores_of(models: Sequence[Any]) -> Callable[[np.ndarray], np.ndarray]:
    def scores(Z: np.ndarray) -> np.ndarray:
        columns = [
            np.zeros(len(Z)) if model is None else model.decision_function(Z) for model in models
        ]
        return np.stack(columns, axis=1)

    return scores
