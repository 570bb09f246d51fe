"""Naive Bayes: features as independent normal variables, with odds that are then calibrated."""

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
from adaptive.premodel.estimator import Arrays, Settings, check_whole
from adaptive.premodel.scaled import SCALING, ScaledEstimator

#: share of the largest variance that is added to each, so that a feature which hardly varies
#: among the right (or wrong) ones cannot outweigh all others; scikit-learn's 1e-9 lets it
SMOOTHING = 0.01


class NaiveBayes(ScaledEstimator):
    """Gaussian naive Bayes, one a candidate, on standardised features.

    The log odds of being right are those of the prior plus, for each feature, the difference of
    two normal log densities, whose variances are smoothed by SMOOTHING. Features that depend on
    each other are counted twice in that, so the odds are far too sure of themselves (Zadrozny
    and Elkan 2001): the chance is a logistic function of the log odds with slope and shift
    fitted to 5-fold cross-validated ones, see `calibration.fit_sigmoid`. A candidate that is
    always or never right has its prior chance on every image.

    Parameters
    ----------
    features, candidates, schema_version : as in `Premodel`
    seed : of the folds
    """

    kind = "naive_bayes"
    SETTINGS: ClassVar[Settings] = {"seed": (int,)}
    ARRAYS: ClassVar[Arrays] = {
        **SCALING,
        "mean": ("<f8", ("candidates", 2, "features")),
        "variance": ("<f8", ("candidates", 2, "features")),
        "prior": ("<f8", ("candidates",)),
        "slope": ("<f8", ("candidates",)),
        "shift": ("<f8", ("candidates",)),
    }

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        seed: int = 0,
        schema_version: int | None = None,
    ) -> None:
        super().__init__(features, candidates, schema_version)
        self.seed = seed

    def _check_settings(self) -> None:
        check_whole("seed", self.seed, 0)

    def _train_scaled(
        self, Z: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        held = cross_fitted(
            lambda seen, known: _log_odds_of(_fit(seen, known), known), Z, outcomes, self.seed
        )
        models = _fit(Z, outcomes)
        arrays = {
            "mean": np.zeros((outcomes.shape[1], 2, Z.shape[1])),
            "variance": np.ones((outcomes.shape[1], 2, Z.shape[1])),
            "prior": prior_log_odds(outcomes),
            "slope": np.zeros(outcomes.shape[1]),
            "shift": prior_log_odds(outcomes),
        }
        for level, model in enumerate(models):
            if model is not None:
                arrays["mean"][level], arrays["variance"][level] = model.theta_, model.var_
                arrays["prior"][level] = np.log(model.class_prior_[1] / model.class_prior_[0])
                arrays["slope"][level], arrays["shift"][level] = fit_sigmoid(
                    held[:, level], outcomes[:, level]
                )
        theirs = _log_odds_of(models, outcomes)
        slope, shift = arrays["slope"], arrays["shift"]
        return arrays, {}, lambda Z: sigmoid(slope * theirs(Z) + shift)

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        super()._prepare(arrays)
        variance = arrays["variance"]
        if not (variance > 0).all():
            raise InputError("array 'variance' holds a number that is not above 0")
        self._mean = arrays["mean"]
        # first "wrong", then "right": the sum of both is right's log density less wrong's
        with np.errstate(over="ignore"):
            self._weight = np.array([[0.5], [-0.5]]) / variance
        self._flat = arrays["prior"] + 0.5 * (
            np.log(variance[:, 0]).sum(axis=-1) - np.log(variance[:, 1]).sum(axis=-1)
        )
        self._slope, self._shift = arrays["slope"], arrays["shift"]
        if not (np.isfinite(self._weight).all() and np.isfinite(self._flat).all()):
            raise InputError("array 'variance' holds numbers too small to divide by")
        self._width = variance.size

    def _terms(self, X: np.ndarray) -> np.ndarray:
        """What each feature adds to the log odds: shape (n, candidates, features)."""
        terms = self._scaled(X)[:, None, None, :] - self._mean
        terms *= terms
        terms *= self._weight
        both: np.ndarray = terms[:, :, 0] + terms[:, :, 1]
        return both

    def _chances(self, X: np.ndarray) -> np.ndarray:
        log_odds = np.add.reduce(self._terms(X), axis=-1) + self._flat
        return sigmoid(self._slope * log_odds + self._shift)

    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """ "log_odds" before calibration: the prior's, and what each feature adds, by candidate."""
        return {
            "log_odds": {
                name: {"prior": flat, **dict(zip(self.features, terms))}
                for name, flat, terms in zip(
                    self.candidates, self._flat.tolist(), self._terms(X)[0].tolist()
                )
            }
        }


def _fit(Z: np.ndarray, outcomes: np.ndarray) -> list[Any]:
    """scikit-learn's classifier for each candidate, None where there is nothing to learn."""
    try:
        from sklearn.naive_bayes import GaussianNB
    except ImportError as exc:
        raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
    varies = (Z.min(axis=0) < Z.max(axis=0)).any()
    return [
        None if same or not varies else GaussianNB(var_smoothing=SMOOTHING).fit(Z, outcome)
        for same, outcome in zip(constant(outcomes), outcomes.T)
    ]


def _log_odds_of(models: Sequence[Any], outcomes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    prior = prior_log_odds(outcomes)

    def log_odds(Z: np.ndarray) -> np.ndarray:
        columns = []
        for level, model in enumerate(models):
            if model is None:
                columns.append(np.full(len(Z), prior[level]))
            else:
                joint = model.predict_joint_log_proba(Z)
                columns.append(joint[:, 1] - joint[:, 0])
        return np.stack(columns, axis=1)

    return log_odds
