"""Which of many trials to take, and what the choice is worth on images that it did not see."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from adaptive.tuning.members import FOLDS
from adaptive.tuning.trial import Trial


def cross_judged(own: Sequence[Trial], fold: np.ndarray) -> tuple[Trial, np.ndarray]:
    """The family's trial to take, and the family's cross-validated quality by image."""
    right = np.stack([t.right for t in own])
    paths = np.unique([",".join(t.path) for t in own], return_inverse=True)[1]
    inside = _by_fold(right, fold)
    outside = inside.sum(axis=1, keepdims=True) - inside
    vector = np.empty(len(fold), right.dtype)
    for part in range(FOLDS):
        here = fold == part
        vector[here] = right[_pick(right, paths, outside[:, part], ~here), here]
    whole = _pick(right, paths, inside.sum(axis=1), np.ones(len(fold), bool))
    return own[whole], vector.astype(np.float64)


def _by_fold(right: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """What each row of `right` comes to in each fold, shape (rows, FOLDS)."""
    order = np.argsort(fold, kind="stable")
    edges = np.searchsorted(fold[order], np.arange(FOLDS))
    # In blocks: the counts need wider numbers than the table, which may have thousands of rows.
    blocks = [right[first : first + 256, order] for first in range(0, len(right), 256)]
    kind = np.int32 if right.dtype == bool else np.float64
    return np.concatenate([np.add.reduceat(b, edges, axis=1, dtype=kind) for b in blocks])


def _pick(right: np.ndarray, paths: np.ndarray, count: np.ndarray, images: np.ndarray) -> int:
    """Which row of `right`, shape (trials, n), to take; not simply the one with most ones.

    First the path, by the mean of its four best trials, then on that path the first trial in
    the order of preference that is within one standard error of the best: many trials are
    alike, and the highest of them is above the others mostly by luck (the one-standard-error
    rule of Breiman et al. 1984).

    Only the `images`, bool (n,), are looked at, on which each row comes to `count`.
    """
    total = int(images.sum())
    score = count / total
    best_four = [float(np.sort(score[paths == p])[-4:].mean()) for p in range(paths.max() + 1)]
    on_path = np.flatnonzero(paths == int(np.argmax(best_four)))
    best = on_path[int(np.argmax(score[on_path]))]
    # A row further behind than this is so even if it differs from the best on every image.
    near = on_path[(score[best] - score[on_path]) <= 1 / math.sqrt(total)]
    if right.dtype == bool:
        differs = np.count_nonzero((right[near] != right[best]) & images, axis=1) / total
    else:
        differs = np.square((right[near] - right[best]) * images).sum(axis=1) / total
    behind = score[best] - score[near]
    error = np.sqrt(np.maximum(differs - behind**2, 0) / total)
    return int(near[int(np.argmax(behind <= error))])
