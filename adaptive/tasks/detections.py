"""What a detector says of one image: boxes, how sure it is of each, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError
from adaptive.prediction import Reused
from adaptive.tasks.boxes import areas


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes found in one image.

    `supervision.Detections(xyxy=d.boxes, confidence=d.scores, class_id=d.classes)` shows them.

    Parameters
    ----------
    boxes : ndarray of shape (k, 4), float32, x1 y1 x2 y2 in pixels of the upright image; x1 <= x2
        and y1 <= y2
    scores : ndarray of shape (k,), float32, 0..1
    classes : ndarray of shape (k,), int64, indices among the labels
    labels : the name of each box's class; empty where nobody told them
    size : (width, height) of the upright image, where a router answered
    candidate : name of the candidate whose boxes they are, or None where none answered
    path : names of the candidates that ran, in order
    ms : milliseconds by step: decode, features, premodel, each candidate, total
    sure : how good the boxes are to be expected as a whole, 0..1, where a router answered
    reason : one sentence, why this path was taken
    features, votes, reused, unreached : as of a Prediction

    `Detections.of` makes them from other types of numbers, or from lists.

    Raises
    ------
    InputError
        when types or shapes do not fit, a number is not finite, or a score or a class is out of
        range.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    labels: Tuple[str, ...] = ()
    size: Tuple[int, int] | None = None
    candidate: str | None = None
    path: Tuple[str, ...] = ()
    ms: Dict[str, float] = field(default_factory=dict)
    sure: float | None = None
    reason: str = field(default="", repr=False)
    features: Dict[str, float] | None = field(default=None, repr=False)
    votes: Dict[str, float] | None = field(default=None, repr=False)
    reused: Reused | None = field(default=None, repr=False)
    unreached: Tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        count = len(self.boxes)
        for name, kind, shape in (
            ("boxes", np.float32, (count, 4)),
            ("scores", np.float32, (count,)),
            ("classes", np.int64, (count,)),
        ):
            array = getattr(self, name)
            if array.dtype != kind or array.shape != shape:
                raise InputError(
                    f"{name} are {array.dtype} of the shape {array.shape}; {np.dtype(kind)} of "
                    f"the shape {shape} is needed"
                )
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise InputError("boxes or scores hold a number that is not finite")
        wrong = np.flatnonzero((self.boxes[:, :2] > self.boxes[:, 2:]).any(axis=1))
        if wrong.size:
            raise InputError(
                f"box {wrong[0]} is {self.boxes[wrong[0]].tolist()}; "
                "x1 <= x2 and y1 <= y2 are needed"
            )
        low, high = self.scores.min(initial=0), self.scores.max(initial=0)
        if low < 0 or high > 1:
            raise InputError(f"scores reach from {low} to {high}; 0..1 is allowed")
        if self.classes.min(initial=0) < 0:
            raise InputError(
                f"class {self.classes.min()} is below 0; classes are indices among the labels"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.classes, other.classes)
        )

    @classmethod
    def of(cls, boxes: Any, scores: Any, classes: Any) -> Detections:
        """Detections from lists, or from arrays of any type of numbers; nothing is shared.

        Raises
        ------
        InputError
            as for Detections, and for classes that are no whole numbers.
        """
        corners = _numbers(boxes, "boxes", np.float32)
        return cls(
            corners.reshape(0, 4) if corners.size == 0 else corners,
            _numbers(scores, "scores", np.float32),
            _numbers(classes, "classes", np.int64),
        )

    @classmethod
    def none(cls) -> Detections:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    @property
    def abstained(self) -> bool:
        """Whether no candidate answered; a router then gives no boxes."""
        return self.candidate is None

    def to_json(self, explain: int = 0) -> Dict[str, Any]:
        """As plain JSON values.

        explain : 1 also has features, votes and the reason
        """
        answer: Dict[str, Any] = {
            "boxes": [[round(side, 2) for side in box] for box in self.boxes.tolist()],
            "scores": [round(score, 5) for score in self.scores.tolist()],
            "classes": self.classes.tolist(),
            "labels": list(self.labels),
            "size": None if self.size is None else list(self.size),
            "candidate": self.candidate,
            "path": list(self.path),
            "ms": {step: round(value, 4) for step, value in self.ms.items()},
            "sure": None if self.sure is None else round(self.sure, 5),
            "abstained": self.abstained,
        }
        if self.reused is not None:
            answer["reused"] = self.reused.to_json()
        if self.unreached:
            answer["unreached"] = list(self.unreached)
        if explain:
            answer.update(features=self.features, votes=self.votes, reason=self.reason)
        return answer

    def rescaled(self, seen: Tuple[int, int], image: Tuple[int, int]) -> Detections:
        """Boxes in pixels of an image of the size `seen`, (height, width), in pixels of `image`."""
        if seen == image:
            return self
        ratio = np.array([image[1] / seen[1], image[0] / seen[0]] * 2)
        return Detections((self.boxes * ratio).astype(np.float32), self.scores, self.classes)

    @property
    def areas(self) -> NDArray[Any]:
        """Of each box, square pixels."""
        return areas(self.boxes)

    def only(self, rows: Any) -> Detections:
        """Those that an index array, a mask or a slice picks, in its order."""
        labels = self.labels
        if labels:
            labels = tuple(labels[row] for row in np.arange(len(self))[rows].tolist())
        boxes, scores, classes = self.boxes[rows], self.scores[rows], self.classes[rows]
        return replace(self, boxes=boxes, scores=scores, classes=classes, labels=labels)

    def above(self, threshold: float) -> Detections:
        """Those whose score is at least `threshold`."""
        return self.only(self.scores >= threshold)


def pack(found: Sequence[Detections]) -> Tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The boxes of many images as one array, to be stored.

    Returns
    -------
    array of shape (all boxes, 6), float32: x1 y1 x2 y2 score class; and, shape (images + 1,),
    the row at which each image begins, with the end
    """
    offsets = np.zeros(len(found) + 1, np.int64)
    np.cumsum([len(one) for one in found], out=offsets[1:])
    packed = np.empty((int(offsets[-1]), 6), np.float32)
    for one, start, end in zip(found, offsets, offsets[1:]):
        packed[start:end, :4], packed[start:end, 4] = one.boxes, one.scores
        packed[start:end, 5] = one.classes
    return packed, offsets


def unpack(packed: NDArray[np.float32], offsets: NDArray[np.int64]) -> List[Detections]:
    """The boxes of each image, from what `pack` made.

    Raises
    ------
    InputError
        when the two do not fit each other.
    """
    if packed.ndim != 2 or packed.shape[1] != 6:
        raise InputError(f"packed boxes have the shape {packed.shape}; (k, 6) is needed")
    steps = np.diff(offsets)
    if offsets.size < 1 or offsets[0] != 0 or offsets[-1] != len(packed) or (steps < 0).any():
        raise InputError(
            f"the offsets of {len(packed)} packed boxes must rise from 0 to {len(packed)}"
        )
    return list(_unpacked(packed, offsets))


def _unpacked(packed: NDArray[np.float32], offsets: NDArray[np.int64]) -> Iterator[Detections]:
    for start, end in zip(offsets, offsets[1:]):
        part = packed[start:end]
        yield Detections.of(part[:, :4], part[:, 4], part[:, 5])


def _numbers(values: Any, name: str, kind: Any) -> NDArray[Any]:
    """A copy of `values` as an array of `kind`, no number of which is another one there."""
    try:
        array = np.array(values)
        if array.size and array.dtype.kind not in "fiu":
            raise ValueError(f"it holds {array.dtype}")
        with np.errstate(over="ignore", invalid="ignore"):
            converted = array.astype(kind)
    except (TypeError, ValueError) as exc:
        raise InputError(f"{name} must be an array of numbers: {exc}") from exc
    if kind is np.int64 and (converted != array).any():
        found = array[converted != array].flat[0]
        raise InputError(f"{name} hold {found}, which is no whole number of 64 bits")
    return converted
