"""Temperature scaling: one number that makes a network's probabilities mean what they say."""

from __future__ import annotations

import math

import numpy as np

from adaptive.errors import InputError

#: Temperatures outside these bounds are not looked for.
COOLEST, HOTTEST = 0.05, 20.0

#: Probabilities below it count as it, as in `signals.soften`.
_FLOOR = 1e-12
#: Rows held as float32 at a time.
_BLOCK = 2048


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which p ** (1 / T), normalised, gives the labels most likelihood.

    Guo et al. 2017 ("On calibration of modern neural networks"), section 4.2. The negative
    log-likelihood is convex in 1 / T, so the root of its slope is bracketed and found by
    Newton steps that fall back on halving the bracket.

    Parameters
    ----------
    probabilities : ndarray (n, classes)
    labels : ndarray (n,), class indices

    Returns
    -------
    float from COOLEST to HOTTEST; above 1 for a network that is too sure of itself

    Raises
    ------
    InputError
        without an image, or for a label that is no class.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or not len(labels):
        raise InputError(
            f"a temperature needs one row of probabilities a label and at least one, not "
            f"{probabilities.shape} for {len(labels)} labels"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise InputError(f"a label lies outside the {probabilities.shape[1]} classes")
    low, high = 1 / HOTTEST, 1 / COOLEST
    sharpness = 1.0
    for _ in range(60):
        slope, curvature = _slope(probabilities, labels, sharpness)
        if slope > 0:
            high = sharpness
        else:
            low = sharpness
        step = sharpness - slope / curvature if curvature > 0 else math.nan
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - sharpness) <= 1e-6 * sharpness:
            break
        sharpness = following
    return float(min(max(1 / sharpness, COOLEST), HOTTEST))


def _slope(probabilities: np.ndarray, labels: np.ndarray, sharpness: float) -> tuple[float, float]:
    """First and second derivative of the negative log-likelihood in 1 / T, summed."""
    slope = curvature = 0.0
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        logs = np.log(np.maximum(probabilities[rows].astype(np.float32, copy=False), _FLOOR))
        own = logs[np.arange(len(logs)), labels[rows]]
        logs -= logs.max(axis=1, keepdims=True)
        own = own - np.log(np.maximum(probabilities[rows].max(axis=1).astype(np.float32), _FLOOR))
        weights = np.exp(sharpness * logs)
        total = weights.sum(axis=1)
        first = (weights * logs).sum(axis=1) / total
        second = (weights * logs * logs).sum(axis=1) / total
        slope += float(np.sum(first - own, dtype=np.float64))
        curvature += float(np.sum(second - first * first, dtype=np.float64))
    return slope, curvature
