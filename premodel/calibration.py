"""From scores to chances: the logistic function, Platt's fit of it, and the rule of succession."""

from __future__ import annotations

from typing import Callable

import numpy as np

#: parts that images are split into wherever a premodel judges ones that it has not learned from
FOLDS = 5

#: scores whose standard deviation is no more than this differ by what a solver leaves open
LEAST_SPREAD = 1e-3

#: after (X, outcomes), what scores other images: (n, features) -> (n, candidates)
Learner = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-score)), without overflow at either end."""
    small = np.exp(-np.abs(scores))
    return np.asarray(np.where(scores >= 0, 1.0, small) / (1.0 + small))


def prior_log_odds(outcomes: np.ndarray) -> np.ndarray:
    """Log odds of (yes + 1) / (n + 2), Laplace's rule of succession, shape (candidates,).

    This is what a candidate gets that was always right, or always wrong, on the images at hand:
    n of n is no proof of certainty, and a chance of exactly 0 or 1 could never be weighed.

    outcomes : ndarray of shape (n, candidates), 0 or 1
    """
    yes = outcomes.sum(axis=0, dtype=np.float64)
    return np.asarray(np.log((yes + 1) / (len(outcomes) - yes + 1)))


def constant(outcomes: np.ndarray) -> np.ndarray:
    """Whether each candidate's outcomes are all the same: shape (candidates,), bool."""
    return np.asarray(outcomes.min(axis=0) == outcomes.max(axis=0))


def parts_of(rows: int, folds: int, seed: int) -> np.ndarray:
    """The part that each image falls into, at random: shape (rows,), 0 to folds - 1."""
    return np.asarray(np.random.default_rng(seed).permutation(rows) % min(folds, rows))


def cross_fitted(learn: Learner, X: np.ndarray, outcomes: np.ndarray, seed: int) -> np.ndarray:
    """Scores of every image by a twin that has not seen it, shape (n, candidates)."""
    part = parts_of(len(X), FOLDS, seed)
    scores = np.empty(outcomes.shape)
    for held in range(int(part.max()) + 1):
        seen = part != held
        scores[~seen] = learn(X[seen], outcomes[seen])(X[~seen])
    return scores


def fit_sigmoid(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and shift with which sigmoid(slope * score + shift) is the chance of `right`.

    Platt 1999, "Probabilistic outputs for support vector machines", with his targets
    (yes + 1) / (yes + 2) and 1 / (no + 2), by Newton's method with backtracking as in Lin, Lin
    and Weng 2007 (doi 10.1007/s10994-007-5018-6). Scores that rank worse than chance on images
    that were not learned from would get a slope below 0; they tell nothing then, nor do scores
    that hardly differ, and the slope is 0 and the chance the same for all images.

    Parameters
    ----------
    scores : ndarray of shape (n,), of images that the scorer has not learned from
    right : ndarray of shape (n,), 0 or 1
    """
    yes = float(right.sum())
    no = len(right) - yes
    flat = float(np.log((yes + 1) / (no + 1)))
    spread = float(scores.std())
    if spread <= LEAST_SPREAD:
        return 0.0, flat
    centre = float(scores.mean())
    z = (scores - centre) / spread
    target = np.where(right > 0, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(slope: float, shift: float) -> float:
        line = slope * z + shift
        return float((np.logaddexp(0.0, line) - target * line).sum())

    slope, shift = 0.0, flat
    best = loss(slope, shift)
    for _ in range(100):
        chance = sigmoid(slope * z + shift)
        residual, weight = chance - target, chance * (1 - chance)
        gradient = np.array([(residual * z).sum(), residual.sum()])
        if np.abs(gradient).max() < 1e-9 * len(z):
            break
        cross = (weight * z).sum()
        hessian = np.array([[(weight * z * z).sum(), cross], [cross, weight.sum()]])
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        size = 1.0
        while size > 1e-10:
            tried = loss(slope - size * step[0], shift - size * step[1])
            if tried < best:
                break
            size /= 2
        else:
            break
        slope, shift, best = slope - size * step[0], shift - size * step[1], tried
    if slope <= 0:
        return 0.0, flat
    return float(slope / spread), float(shift - slope * centre / spread)
