"""Which of many trials to take, and what the choice is worth on images that it did not see."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from adaptive.tuning.members import FOLDS
from adaptive.tuning.trial import Trial


class Taken(NamedTuple):
    """The trial of a family that is taken, and what the family is worth on images not asked.

    Attributes
    ----------
    trial : by all images
    quality : ndarray (n,), float64, of the trials that the other folds take
    foreseen : ndarray (n,), float64, what was to be expected of it, see `Members.foreseen`
    """

    trial: Trial
    quality: np.ndarray
    foreseen: np.ndarray


def cross_judged(own: Sequence[Trial], fold: np.ndarray) -> Taken:
    """Which of a family's trials to take, cross-validated."""
    value = np.stack([t.foreseen for t in own]).astype(np.float32, copy=False)
    paths = np.unique([",".join(t.path) for t in own], return_inverse=True)[1]
    inside = _by_fold(value, fold)
    outside = inside.sum(axis=1, keepdims=True) - inside
    quality, vector = np.empty(len(fold)), np.empty(len(fold))
    for part in range(FOLDS):
        here = fold == part
        picked = _pick(value, paths, outside[:, part], ~here)
        vector[here], quality[here] = value[picked, here], own[picked].right[here]
    whole = _pick(value, paths, inside.sum(axis=1), np.ones(len(fold), bool))
    return Taken(own[whole], quality, vector)


def _by_fold(value: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The sum of each row of `value` in each fold, shape (rows, FOLDS)."""
    member = (fold[:, np.newaxis] == np.arange(FOLDS)).astype(np.float32)
    return np.asarray((value @ member).astype(np.float64))


def _pick(value: np.ndarray, paths: np.ndarray, total: np.ndarray, images: np.ndarray) -> int:
    """Which row of `value`, shape (trials, n), to take; not simply the one with the most.

    First the path, by the mean of its four best trials, then on that path the first trial in
    the order of preference that is within one standard error of the best: many trials are
    alike, and the highest of them is above the others mostly by luck (the one-standard-error
    rule of Breiman et al. 1984).

    Only the `images`, bool (n,), are looked at, over which each row comes to `total`.
    """
    count = int(images.sum())
    score = total / count
    best_four = [float(np.sort(score[paths == p])[-4:].mean()) for p in range(paths.max() + 1)]
    on_path = np.flatnonzero(paths == int(np.argmax(best_four)))
    best = on_path[int(np.argmax(score[on_path]))]
    apart = (value[on_path] - value[best])[:, images]
    squared = np.einsum("tn,tn->t", apart, apart) / count
    behind = score[best] - score[on_path]
    error = np.sqrt(np.maximum(squared - behind**2, 0) / count)
    return int(on_path[int(np.argmax(behind <= error))])
