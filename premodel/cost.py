"""What one prediction of a premodel costs on this machine."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from adaptive.premodel.base import Premodel


def predict_ms(premodel: Premodel, repeats: int = 50) -> float:
    """Median milliseconds of one prediction for one image."""
    image = np.zeros((1, len(premodel.features)))
    premodel.predict(image)
    spent = []
    for _ in range(repeats):
        began = perf_counter()
        premodel.predict(image)
        spent.append(perf_counter() - began)
    return float(np.median(spent)) * 1e3
