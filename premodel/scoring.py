"""How good chances are: whether they rank the images, and whether they mean what they say."""

from __future__ import annotations

import numpy as np


def brier(chances: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean squared difference of chance and outcome (Brier 1950); 0 is best.

    Unlike the log loss it stays finite for a chance of 0 or 1, which neighbours and leaves give.

    chances, outcomes : ndarrays of the same shape
    """
    return float(((chances - outcomes) ** 2).mean())


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place.reshape(-1)])


def area(score: np.ndarray, right: np.ndarray) -> float:
    """Area under the ROC curve of one score; NaN where all are right, or none is.

    The chance that of two images, one that a candidate gets right and one that it does not, the
    first has the higher score; ties count half (Hanley and McNeil 1982).

    score, right : ndarrays of shape (n,), the second bool
    """
    yes = int(right.sum())
    no = len(right) - yes
    if not yes or not no:
        return float("nan")
    return float((midranks(score)[right].sum() - yes * (yes + 1) / 2) / (yes * no))


def areas(chances: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """The area of each candidate's chance.

    Parameters
    ----------
    chances : ndarray of shape (n, candidates)
    outcomes : ndarray of shape (n, candidates), 0 or 1

    Returns
    -------
    ndarray of shape (candidates,)
    """
    return np.array([area(*column) for column in zip(chances.T, outcomes.T.astype(bool))])


def mean_area(chances: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean area over the candidates that have one; one half where none has."""
    found = areas(chances, outcomes)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else 0.5
