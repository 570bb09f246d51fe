"""Temperature scaling: one number that makes a network's probabilities mean what they say."""

from __future__ import annotations

import numpy as np

from adaptive.errors import InputError
from adaptive.policy.exponents import logarithms
from adaptive.policy.likelihood import MOST, fit_exponents

#: Temperatures outside these bounds are not looked for.
COOLEST, HOTTEST = 1 / MOST, MOST


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which p ** (1 / T), normalised, gives the labels most likelihood.

    Guo et al. 2017 ("On calibration of modern neural networks"), section 4.2: one over the
    exponent of a set of one.

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
    fitted = fit_exponents(logarithms(probabilities)[np.newaxis], labels, penalty=0.0)
    return float(min(max(1 / fitted.weights[0], COOLEST), HOTTEST))
