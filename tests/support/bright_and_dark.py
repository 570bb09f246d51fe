"""A premodel that tells bright images from dark ones, and such images."""

from __future__ import annotations

import numpy as np

from adaptive.features.schema import SCHEMA
from adaptive.premodel.mixture import Mixture
from adaptive.premodel.shares import ConditionShares

NAMES = ("cheap", "strong")
FEATURES = ("avg_brightness", "noise")


def mixture(counts=(90, 10), of="calibration", told=True) -> Mixture:
    """Bright and dark images, told apart by the first feature; the second says nothing."""
    premodel = Mixture.from_arrays(
        FEATURES,
        NAMES,
        {
            "floor": np.array([1.0, 1.0]),
            "scale": np.ones(2),
            "offset": np.zeros(2),
            "weight": np.array([0.5, 0.5]),
            "mean": np.array([[5.0, 1.0], [2.0, 1.0]]),
            "factor": np.stack([np.eye(2), np.eye(2)]),
            "rate": np.array([[0.9, 0.9], [0.3, 0.8]]),
        },
        SCHEMA.version,
        k=None,
        seed=0,
    )
    if told:
        shares = ConditionShares(premodel.descriptions(), counts, of)
        premodel.training_ = {"conditions": shares.to_json()}
    return premodel


def photo(dark: bool, seed: int) -> np.ndarray:
    """An image (64, 64, 3), uint8."""
    values = np.random.default_rng(seed).integers(100, 250, (64, 64, 3))
    return (values * (0.04 if dark else 1)).astype(np.uint8)
