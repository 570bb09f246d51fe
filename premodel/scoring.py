"""How good chances are: whether they rank the images, and whether they mean what they say."""

from __future__ import annotations

import numpy as np


def brier(chances: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean squared difference of chance and outcome (Brier 1950); 0 is best.

    Unlike the log loss it stays finite for a chance of 0 or 1, which neighbours and leaves give.

    chances, outcomes : ndarrays of the same shape
    """
    return float(((chances - outcomes) ** 2).mean())


def areas(chances: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each candidate; NaN where it is always right, or never.

    The chance that of two images, one that the candidate gets right and one that it does not,
    the first has the higher score; ties count half (Hanley and McNeil 1982).

    Parameters
    ----------
    chances : ndarray of shape (n, candidates)
    outcomes : ndarray of shape (n, candidates), 0 or 1

    Returns
    -------
    ndarray of shape (candidates,)
    """
    found = np.full(outcomes.shape[1], np.nan)
    for column, right in enumerate(outcomes.T.astype(bool)):
        yes = int(right.sum())
        no = len(right) - yes
        if yes and no:
            _, place, count = np.unique(chances[:, column], return_inverse=True, return_counts=True)
            ranks = (np.cumsum(count) - (count - 1) / 2)[place.ravel()]
            found[column] = (ranks[right].sum() - yes * (yes + 1) / 2) / (yes * no)
    return found


def mean_area(chances: np.ndarray, outcomes: np.ndarray) -> float:
    """Mean area over the candidates that have one; one half where none has."""
    found = areas(chances, outcomes)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else 0.5
