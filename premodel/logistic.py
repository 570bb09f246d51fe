"""Logistic regression: each candidate's log odds are a weighted sum of the features."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping, Sequence

import numpy as np

from adaptive.errors import MissingExtra
from adaptive.premodel.calibration import (
    constant,
    cross_fitted,
    prior_log_odds,
    sigmoid,
)
from adaptive.premodel.estimator import Arrays, Settings, check_above_0, check_whole
from adaptive.premodel.scaled import SCALING, ScaledEstimator
from adaptive.premodel.scoring import brier

#: values of C that cross-validation chooses from, the strongest regularisation first
STRENGTHS = (0.001, 0.01, 0.1, 1.0)


class Logistic(ScaledEstimator):
    """One L2-regularised logistic regression a candidate, on standardised features.

    Cox 1958, "The regression analysis of binary sequences". A candidate that is always or never
    right has its prior chance on every image.

    Parameters
    ----------
    features, candidates, schema_version : as in `Premodel`
    C : inverse strength of the regularisation, as scikit-learn has it; None chooses from
        STRENGTHS, the same for all candidates, by the Brier score of 5-fold cross-validation
    seed : of the folds
    """

    kind = "logistic"
    SETTINGS: ClassVar[Settings] = {"C": (float,), "seed": (int,)}
    ARRAYS: ClassVar[Arrays] = {
        **SCALING,
        "coefficient": ("<f8", ("candidates", "features")),
        "intercept": ("<f8", ("candidates",)),
    }

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        C: float | None = None,
        seed: int = 0,
        schema_version: int | None = None,
    ) -> None:
        super().__init__(features, candidates, schema_version)
        self.C = C
        self.seed = seed

    def _check_settings(self) -> None:
        check_above_0("C", self.C, optional=True)
        check_whole("seed", self.seed, 0)

    def _train_scaled(
        self, Z: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        strength = self.C
        scores: dict[str, float] = {}
        if strength is None:
            for C in STRENGTHS:

                def learn(
                    seen: np.ndarray, known: np.ndarray, C: float = C
                ) -> Callable[[np.ndarray], np.ndarray]:
                    return _chances_of(_fit(seen, known, C), known)

                scores[str(C)] = brier(cross_fitted(learn, Z, outcomes, self.seed), outcomes)
            strength = min(STRENGTHS, key=lambda C: scores[str(C)])
        models = _fit(Z, outcomes, strength)
        coefficient = np.zeros((outcomes.shape[1], Z.shape[1]))
        intercept = prior_log_odds(outcomes)
        for level, model in enumerate(models):
            if model is not None:
                coefficient[level] = model.coef_[0]
                intercept[level] = model.intercept_[0]
        chosen = {"C": strength, "brier": scores} if scores else {}
        arrays = {"coefficient": coefficient, "intercept": intercept}
        return arrays, chosen, _chances_of(models, outcomes)

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        super()._prepare(arrays)
        self._coefficient, self._intercept = arrays["coefficient"], arrays["intercept"]
        self._width = self._coefficient.size

    def _terms(self, X: np.ndarray) -> np.ndarray:
        terms: np.ndarray = self._scaled(X)[:, None, :] * self._coefficient
        return terms

    def _chances(self, X: np.ndarray) -> np.ndarray:
        return sigmoid(np.add.reduce(self._terms(X), axis=-1) + self._intercept)

    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """ "log_odds": what the intercept and each feature add, by candidate."""
        return {
            "log_odds": {
                name: {"intercept": intercept, **dict(zip(self.features, terms))}
                for name, intercept, terms in zip(
                    self.candidates, self._intercept.tolist(), self._terms(X)[0].tolist()
                )
            }
        }


def _fit(Z: np.ndarray, outcomes: np.ndarray, C: float) -> list[Any]:
    """scikit-learn's regression for each candidate, None for one that is always the same."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as exc:
        raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
    return [
        None if same else LogisticRegression(C=C, max_iter=1000).fit(Z, outcome)
        for same, outcome in zip(constant(outcomes), outcomes.T)
    ]


def _chances_of(models: Sequence[Any], outcomes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    prior = sigmoid(prior_log_odds(outcomes))

    def chances(Z: np.ndarray) -> np.ndarray:
        columns = [
            np.full(len(Z), prior[level]) if model is None else model.predict_proba(Z)[:, 1]
            for level, model in enumerate(models)
        ]
        return np.stack(columns, axis=1)

    return chances
