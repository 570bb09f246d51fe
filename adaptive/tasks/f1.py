"""F1 of one image: what a detector's answer is worth, as one number in 0..1."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Matches, Truth, match


def image_f1(truth: Truth, matches: Matches, threshold: float) -> NDArray[np.float64]:
    """F1 of each image at an overlap of 0.5: 2 right / (boxes + objects), shape (images,).

    Boxes below `threshold` are left out; what is ignored counts neither as box nor as object. An
    image with neither counts 1.
    """
    right, counted = _flags(matches)
    kept = matches.scores >= threshold
    return _f1(
        np.bincount(matches.image[kept & right], minlength=truth.images),
        np.bincount(matches.image[kept & counted], minlength=truth.images),
        _objects(truth),
    )


def best_threshold(truth: Truth, matches: Matches) -> float:
    """The threshold of the highest mean F1 an image; of equals the highest.

    It is one of the scores, or lies just above all of them where no box at all is best. Choose
    it on images that nothing is reported on.
    """
    if not len(matches):
        return 1.0
    right, counted = _flags(matches)
    order = np.lexsort((-matches.scores, matches.image))
    image = matches.image[order]
    first = np.searchsorted(image, image)  # the first row of each one's image
    objects = _objects(truth)
    after = _f1(_within(right[order], first), _within(counted[order], first), objects[image])
    before = np.concatenate([[0.0], after[:-1]])
    fresh = np.arange(len(order)) == first
    before[fresh] = (objects[image] == 0)[fresh]
    falling = np.argsort(-matches.scores[order], kind="stable")
    scores = matches.scores[order][falling]
    gain = np.cumsum((after - before)[falling]) / max(truth.images, 1)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    gain = np.round(gain[last], 12)  # sums of other orders differ by less
    best = int(gain.argmax())
    if gain[best] < 0:
        return float(np.nextafter(scores[0], scores.dtype.type(2)))
    return float(scores[last[best]])


def agreement(reference: Detections, found: Detections) -> float:
    """F1 of boxes where those of a reference, all of them, stand for the true ones."""
    true = TrueBoxes.of(reference.boxes, reference.classes)
    return float(image_f1(Truth.of([true]), match([true], [found]), 0.0)[0])


def _flags(matches: Matches) -> Tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each box is right at an overlap of 0.5, and whether it counts."""
    counted = (matches.ignored[0] & 1) == 0
    return ((matches.hits[0] & 1) == 1) & counted, counted


def _objects(truth: Truth) -> NDArray[np.int64]:
    return np.bincount(truth.image[truth.counts[0]], minlength=truth.images)


def _within(values: NDArray[np.bool_], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums from the first row of each one's group to itself."""
    sums = np.concatenate([[0], np.cumsum(values)])
    within: NDArray[np.int64] = sums[1:] - sums[first]
    return within


def _f1(right: NDArray[Any], boxes: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float64]:
    total = boxes + objects
    ratio: NDArray[np.float64] = np.divide(
        2 * right, total, out=np.ones(len(total)), where=total > 0
    )
    return ratio
