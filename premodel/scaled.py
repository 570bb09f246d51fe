"""Estimators that see standardised features, on the same grid as the neighbours' table."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Callable, Mapping

import numpy as np

from adaptive.errors import InputError
from adaptive.premodel.estimator import Estimator, Shape
from adaptive.premodel.scaling import STEPS, Scaling

#: what a scaled estimator stores first
SCALING: dict[str, Shape] = {"scale": ("<f8", ("features",)), "offset": ("<f8", ("features",))}


class ScaledEstimator(Estimator):
    """One whose features have mean 0 and standard deviation 1 on the training images.

    They are rounded and clipped as in `scaling`, which makes squared distances exact and keeps
    every value finite whatever an image holds.
    """

    def _train(
        self, X: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        scaling = Scaling.fit("standard", X)
        arrays, chosen, theirs = self._train_scaled(scaling.grid(X) / STEPS, outcomes)
        arrays.update(scale=scaling.scale, offset=scaling.offset)
        return arrays, chosen, lambda X: theirs(scaling.grid(X) / STEPS)

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        if not (arrays["scale"] > 0).all():
            raise InputError("the scaling holds a scale that is not above 0")
        self._scaling = Scaling("standard", arrays["scale"], arrays["offset"])

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        Z = self._scaling.grid(X)
        Z /= STEPS
        return Z

    @abstractmethod
    def _train_scaled(
        self, Z: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        """As `_train`, on scaled features."""
