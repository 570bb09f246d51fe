"""Deferral signals: how sure an answer is, as one number in 0..1, higher is surer.

Everything here takes the classes along the last axis, of many images or of one.
"""

from __future__ import annotations

import math
from typing import Callable

import numpy as np


def top(probabilities: np.ndarray) -> np.ndarray:
    """The highest probability of each row, (n, classes) or (classes,)."""
    return np.asarray(np.maximum.reduce(probabilities, axis=-1))


def margin(probabilities: np.ndarray) -> np.ndarray:
    """The highest probability minus the second highest."""
    if probabilities.ndim == 1:  # of one image by their places, which is twice as quick
        left = probabilities.copy()
        first = left.argmax()
        highest = left[first]
        left[first] = -1
        return np.asarray(highest - left[left.argmax()])
    sorted_ = probabilities.copy()
    sorted_.partition(-2)
    return np.asarray(sorted_[..., -1] - sorted_[..., -2])


def certainty(probabilities: np.ndarray) -> np.ndarray:
    """One minus the entropy divided by its largest value, the logarithm of the class count."""
    values = probabilities.astype(np.float32, copy=False)
    terms = values * np.log(np.maximum(values, np.float32(1e-12)))
    entropy = -np.add.reduce(terms, axis=-1, dtype=np.float32).astype(np.float64)
    # Probabilities from 16 bits may sum to a little more than one.
    return np.asarray(np.maximum(1 - entropy / math.log(values.shape[-1]), 0))


#: From one answer's probabilities.
SIGNALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "top": top,
    "margin": margin,
    "entropy": certainty,
}


def agreement(before: np.ndarray, last: np.ndarray) -> np.ndarray:
    """How sure two answers in a row are of what the last one says.

    The geometric mean of the two probabilities, each (n, classes) or (classes,), of the last
    one's answer; of an answer with itself its top probability. One minus the total variation
    distance, the plain measure of agreement, is a bad signal: two answers that know nothing agree
    best of all.
    """
    said = np.expand_dims(last.argmax(axis=-1), -1)
    both = [np.take_along_axis(p, said, axis=-1)[..., 0] for p in (before, last)]
    return np.asarray(np.sqrt(both[0].astype(np.float32) * both[1].astype(np.float32)))


#: From the last two answers' probabilities; for the first answer, from that one twice.
PAIRED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"agreement": agreement}


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at another temperature: p ** (1 / T), normalised (Guo et al. 2017)."""
    if temperature == 1:
        return probabilities
    logs = np.log(np.maximum(probabilities.astype(np.float32, copy=False), 1e-12)) / temperature
    logs -= np.maximum.reduce(logs, axis=-1, keepdims=True)
    np.exp(logs, out=logs)
    return np.asarray(logs / np.add.reduce(logs, axis=-1, keepdims=True))
