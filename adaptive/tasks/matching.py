"""Which boxes are right, by COCO's rules, kept so that quality is a sum over them.

The rules are those of COCO's evaluation (Lin et al. 2014, arXiv 1405.0312), as pycocotools has
them: within an image and a class, boxes are taken surest first, and each takes the free true box
that it overlaps most, from a least overlap on; the last of equals. A crowd may be taken by many
boxes, and its overlap is measured by the box alone. What takes a crowd, or a true box of another
size than is asked for, is ignored, and so is a box of another size that takes none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes

#: Least overlaps at which boxes are matched, 0.50 to 0.95.
IOUS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)

#: Sizes of objects, and their areas in square pixels, both ends included.
SIZES: Tuple[str, ...] = ("all", "small", "medium", "large")
_AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])

#: Most boxes of one class in one image that count.
MOST = 100


@dataclass(frozen=True, eq=False)
class Truth:
    """The true boxes of a set of images, as far as counting needs them.

    Attributes
    ----------
    images : how many
    image, classes : of each true box, shape (g,)
    counts : whether it counts as an object of each of SIZES, shape (len(SIZES), g)
    """

    images: int
    image: NDArray[np.int64]
    classes: NDArray[np.int64]
    counts: NDArray[np.bool_]

    @classmethod
    def of(cls, boxes: Sequence[TrueBoxes]) -> Truth:
        """From what each image holds."""
        lengths = [len(one) for one in boxes]
        return cls(
            len(boxes),
            np.repeat(np.arange(len(boxes)), lengths),
            np.concatenate([np.empty(0, np.int64), *(one.classes for one in boxes)]),
            np.concatenate([np.empty((len(SIZES), 0), bool), *map(_counts, boxes)], axis=1),
        )


@dataclass(frozen=True, eq=False)
class Matches:
    """One candidate's boxes on a set of images, held against the true ones.

    Attributes
    ----------
    images : how many images
    image : of each box, rising, shape (n,), int64
    classes : of each box, shape (n,), int64
    scores : of each box, shape (n,), falling within an image and a class
    rank : how many boxes of its image and class are surer, shape (n,), below MOST
    hits : one bit for each of IOUS: whether the box took a true one, (len(SIZES), n), uint16
    ignored : likewise, whether the box is neither right nor wrong
    """

    images: int
    image: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[Any]
    rank: NDArray[np.int64]
    hits: NDArray[np.uint16]
    ignored: NDArray[np.uint16]

    def __post_init__(self) -> None:
        count = len(self.image)
        for name in ("classes", "scores", "rank"):
            if getattr(self, name).shape != (count,):
                raise InputError(
                    f"matches of {count} boxes have {getattr(self, name).shape} {name}"
                )
        for name in ("hits", "ignored"):
            flags = getattr(self, name)
            if flags.shape != (len(SIZES), count) or flags.dtype != np.uint16:
                raise InputError(
                    f"matches of {count} boxes need {name} of the shape {(len(SIZES), count)}, "
                    f"uint16; they are {flags.dtype} of the shape {flags.shape}"
                )
        if count and not (self.image[0] >= 0 and self.image[-1] < self.images):
            raise InputError(f"matches name an image that is not among the {self.images}")
        if (np.diff(self.image) < 0).any():
            raise InputError("matches need their boxes image by image")

    def __len__(self) -> int:
        return len(self.image)

    def with_scores(self, scores: NDArray[Any]) -> Matches:
        """The same boxes with other scores, which must not change their order.

        Raises
        ------
        InputError
            when a surer box of an image and class would become a less sure one.
        """
        follows = (np.diff(self.image) == 0) & (np.diff(self.classes) == 0)
        if scores.shape == self.scores.shape and (np.diff(scores)[follows] > 0).any():
            raise InputError("other scores may not change the order of boxes; match them anew")
        return replace(self, scores=scores)

    def of_images(self, images: NDArray[np.int64]) -> Matches:
        """Those of some images, given by rising numbers, which are numbered anew."""
        numbers = np.full(self.images, -1)
        numbers[images] = np.arange(len(images))
        rows = np.flatnonzero(numbers[self.image] >= 0)
        return Matches(
            len(images),
            numbers[self.image[rows]],
            self.classes[rows],
            self.scores[rows],
            self.rank[rows],
            self.hits[:, rows],
            self.ignored[:, rows],
        )


def match(truth: Sequence[TrueBoxes], found: Sequence[Detections]) -> Matches:
    """Hold one candidate's boxes against the true ones, image by image.

    Raises
    ------
    InputError
        when there are not as many images of the one as of the other.
    """
    if len(truth) != len(found):
        raise InputError(f"boxes of {len(found)} images cannot be held against {len(truth)}")
    parts = [_match_image(true, one) for true, one in zip(truth, found)]
    lengths = [len(order) for order, _, _, _ in parts]
    flags = np.empty((len(SIZES), 0), np.uint16)
    return Matches(
        len(truth),
        np.repeat(np.arange(len(parts)), lengths),
        np.concatenate([np.empty(0, np.int64), *(f.classes[p[0]] for f, p in zip(found, parts))]),
        np.concatenate([np.empty(0, np.float32), *(f.scores[p[0]] for f, p in zip(found, parts))]),
        np.concatenate([np.empty(0, np.int64), *(rank for _, rank, _, _ in parts)]),
        np.concatenate([flags, *(hits for _, _, hits, _ in parts)], axis=1),
        np.concatenate([flags, *(ignored for _, _, _, ignored in parts)], axis=1),
    )


_Part = Tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16]]


def _match_image(true: TrueBoxes, found: Detections) -> _Part:
    """Which boxes count, in order of class and score; their ranks, hits and ignored flags."""
    order = np.lexsort((-found.scores, found.classes))  # stable: of equals, the earlier one
    kinds, begin = np.unique(found.classes[order], return_index=True)
    rank = np.arange(len(order)) - np.repeat(begin, np.diff([*begin, len(order)]))
    order, rank = order[rank < MOST], rank[rank < MOST]
    boxes = found.boxes[order].astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    other = (areas < _AREAS[:, :1]) | (areas > _AREAS[:, 1:])
    hits = np.zeros((len(SIZES), len(IOUS), len(order)), bool)
    ignored = np.repeat(other[:, np.newaxis], len(IOUS), axis=1)
    for kind in kinds:
        rivals = np.flatnonzero(true.classes == kind)
        if rivals.size:
            rows = np.flatnonzero(found.classes[order] == kind)
            overlaps = _overlaps(boxes[rows], true.boxes[rivals], true.crowd[rivals])
            skipped = ~_counts(true)[:, rivals]
            _take(rows, overlaps, true.crowd[rivals], skipped, hits, ignored)
    return order, rank, _bits(hits), _bits(ignored)


def _take(
    rows: NDArray[np.int64],
    overlaps: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    skipped: NDArray[np.bool_],
    hits: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> None:
    """Let the boxes of one class take the true ones, surest first; write down what they took.

    overlaps : shape (boxes, true boxes)
    skipped : whether a true box is ignored, shape (len(SIZES), true boxes)
    """
    last = overlaps.shape[1] - 1
    taken = np.zeros((len(SIZES), len(IOUS), last + 1), bool)
    size, least = np.arange(len(SIZES))[:, np.newaxis], np.arange(len(IOUS))
    for row in np.flatnonzero(overlaps.max(axis=1) >= IOUS[0]):
        overlap = overlaps[row]
        free = (overlap >= IOUS[:, np.newaxis]) & (~taken | crowd)
        value = np.where(free, overlap, -1.0)
        # one that counts goes before one that is ignored; of equals, the last
        counting = np.where(skipped[:, np.newaxis], -1.0, value)
        best = last - counting[..., ::-1].argmax(axis=-1)
        any_counts = counting.max(axis=-1) >= 0
        second = last - value[..., ::-1].argmax(axis=-1)
        chosen = np.where(any_counts, best, second)
        took = any_counts | (value.max(axis=-1) >= 0)
        hits[:, :, rows[row]] = took
        ignored[:, :, rows[row]] = np.where(took, skipped[size, chosen], ignored[:, :, rows[row]])
        taken[size, least, chosen] |= took


def _overlaps(
    boxes: NDArray[np.float64], true: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Intersection over union, or over the box alone where the true one is a crowd."""
    across = np.minimum(boxes[:, 2:3], true[:, 2]) - np.maximum(boxes[:, 0:1], true[:, 0])
    down = np.minimum(boxes[:, 3:4], true[:, 3]) - np.maximum(boxes[:, 1:2], true[:, 1])
    shared = np.where((across > 0) & (down > 0), across * down, 0.0)
    sides, true_sides = boxes[:, 2:] - boxes[:, :2], true[:, 2:] - true[:, :2]
    own = (sides[:, 0] * sides[:, 1])[:, np.newaxis]
    union = np.where(crowd, own, own + true_sides[:, 0] * true_sides[:, 1] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _counts(true: TrueBoxes) -> NDArray[np.bool_]:
    """Whether each true box counts as an object of each size, shape (len(SIZES), g)."""
    inside = (true.area >= _AREAS[:, :1]) & (true.area <= _AREAS[:, 1:])
    counts: NDArray[np.bool_] = inside & ~true.crowd
    return counts


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """One number for the flags at all overlaps, shape (len(SIZES), n); bit i is that of IOUS[i]."""
    powers = (1 << np.arange(len(IOUS))).astype(np.uint16)
    bits: NDArray[np.uint16] = (flags * powers[:, np.newaxis]).sum(axis=1, dtype=np.uint16)
    return bits


def flags(bits: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """The flags at all overlaps that `bits` holds, shape (len(IOUS), n)."""
    table: NDArray[np.bool_] = (bits >> np.arange(len(IOUS), dtype=np.uint16)[:, None]) & 1 > 0
    return table
