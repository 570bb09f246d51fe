"""From a detector's outputs to boxes in the image: decode, choose, suppress, place."""

from __future__ import annotations

import functools
import inspect
import math
import typing
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import EngineError, InputError
from adaptive.tasks.boxes import areas, clipped
from adaptive.tasks.decoders import detr, fastest, final, gfl, proposals, yolox
from adaptive.tasks.detections import Detections
from adaptive.tasks.placement import Placement
from adaptive.tasks.raw import Chances, Frame, Outputs, Raw
from adaptive.tasks.suppression import suppress


@dataclass(frozen=True)
class Decoder:
    """How one kind of network's outputs become boxes.

    Parameters
    ----------
    decode : `decode(outputs, frame, *, ...)`; its keyword arguments, each with a default, are the
        options that a manifest entry may set
    iou : of non-maximum suppression where the entry does not say; 1 leaves every box
    """

    decode: Callable[..., Raw]
    iou: float = 0.5


#: Decoders by the name that a manifest entry uses.
DECODERS: Dict[str, Decoder] = {
    "detr": Decoder(detr.decode, iou=1.0),
    "fastest": Decoder(fastest.decode),
    "final": Decoder(final.decode, iou=1.0),
    "gfl": Decoder(gfl.decode),
    "proposals": Decoder(proposals.decode),
    "yolox": Decoder(yolox.decode),
}

#: The 80 classes of COCO by its own numbers, which reach to 90 and leave some out.
_LEFT_OUT = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_NUMBERS: Tuple[int, ...] = tuple(
    -1 if number in _LEFT_OUT else number - sum(gap <= number for gap in _LEFT_OUT)
    for number in range(91)
)

#: So many of the surest boxes are looked at before all are.
_FIRST = 2000

#: How far scores may lie outside 0..1, for rounding.
_ROUNDING = 1e-2


@dataclass(frozen=True)
class BoxSpec:
    """What a detector's outputs mean, and which boxes are kept.

    Parameters
    ----------
    decoder : its name in DECODERS
    classes : how many the network knows, without a background or "nothing"
    threshold : boxes below this score are left out, 0..1. A low one (0.01) suits measuring AP
    iou : of two boxes of one class that overlap by more, the surer one is kept; 1 keeps both, and
        None is the decoder's own
    most : keep at most so many boxes, the surest
    several : whether one box may be of several classes; otherwise of its best one
    class_map : for each number that the network gives a class, the index among the labels; below
        0 leaves its boxes out. None: they are the same
    options : of the decoder, by name
    """

    decoder: str
    classes: int
    threshold: float = 0.05
    iou: float | None = None
    most: int = 100
    several: bool = False
    class_map: Tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise InputError(f"decoder {self.decoder!r} is not one of {sorted(DECODERS)}")
        for name, value in (("classes", self.classes), ("most", self.most)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(
                    f"{name} of a detector is {value!r}; a whole number >= 1 is needed"
                )
        for name, limit in (("threshold", self.threshold), ("iou", self.iou)):
            if limit is not None and not (_number(limit) and 0 <= limit <= 1):
                raise InputError(f"{name} of a detector is {limit!r}; 0..1 is allowed")
        if self.class_map is not None and len(self.class_map) < self.classes:
            raise InputError(
                f"the class map has {len(self.class_map)} entries; the network has "
                f"{self.classes} classes"
            )
        bound_options(self.decoder, self.options)


def detections(
    outputs: Outputs, spec: BoxSpec, size: Tuple[int, int], placement: Placement
) -> Detections:
    """The boxes that a network found in one image, surest first.

    Parameters
    ----------
    outputs : the network's outputs for this image, by name
    size : (height, width) of its input, pixels
    placement : where the image lay in it

    Boxes are cut off at the image's edges, and those outside it or without area are left out.

    Raises
    ------
    EngineError
        when the outputs are not what `spec` says, or are not finite.
    """
    decoder = DECODERS[spec.decoder]
    frame = Frame(size, spec.classes)
    # What overflows, a side of a box say, is infinite; what is no number is refused below.
    with np.errstate(all="ignore"):
        raw = decoder.decode(outputs, frame, **bound_options(spec.decoder, spec.options))
    boxes, scores, numbers = _above(raw, spec)
    classes = _mapped(numbers, spec)
    if len(scores) > 2 * _FIRST:
        # Of very many boxes the surest are nearly always enough, and what they come to is the same.
        least = np.partition(scores, len(scores) - _FIRST)[len(scores) - _FIRST]
        first = np.flatnonzero(scores >= least)
        found = _placed(boxes[first], scores[first], classes[first], spec, placement)
        if len(found) == spec.most:
            return found
    return _placed(boxes, scores, classes, spec, placement)


def _placed(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    classes: NDArray[np.int64],
    spec: BoxSpec,
    placement: Placement,
) -> Detections:
    """Boxes in pixels of the input as those of the image, without what others suppress."""
    placed = placement.undo(boxes)
    height, width = placement.image
    inside = clipped(placed, width, height)
    # float32, as they are given: two sides that differ by less are one
    there = np.flatnonzero((classes >= 0) & (areas(inside.astype(np.float32)) > 0))
    iou = DECODERS[spec.decoder].iou if spec.iou is None else spec.iou
    kept = there[suppress(placed[there], scores[there], classes[there], iou, spec.most)]
    return Detections.of(inside[kept], np.clip(scores[kept], 0, 1), classes[kept])


def bound_options(decoder: str, options: Mapping[str, Any]) -> Dict[str, Any]:
    """A manifest entry's options as the keyword arguments of a decoder.

    Raises
    ------
    InputError
        for an option that the decoder has not, or of another kind than its default.
    """
    function = DECODERS[decoder].decode
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    choices = _choices(function)
    bound = {}
    for name, value in options.items():
        if name not in known:
            raise InputError(f"decoder {decoder!r} has no option {name!r}; it has {list(known)}")
        converted = _like(value, known[name])
        allowed = choices.get(name, ())
        if converted is None or (allowed and converted not in allowed):
            wanted = f"one of {list(allowed)}" if allowed else f"like {known[name]!r}"
            raise InputError(
                f"option {name!r} of decoder {decoder!r} is {value!r}; it must be {wanted}"
            )
        bound[name] = converted
    return bound


def class_map(value: object, labels: Sequence[str]) -> Tuple[int, ...]:
    """A manifest entry's class map as indices among the labels, -1 for what is left out.

    Parameters
    ----------
    value : "coco" for COCO's own numbers (1..90 with gaps), "from 1" for numbers that begin at 1,
        or a list with, for each number from 0 on, a label, its index, or null
    labels : the names of the classes

    Raises
    ------
    InputError
        when it is none of these, or names no label.
    """
    count = len(labels)
    if value == "coco":
        if count != 80:
            raise InputError(f"class map 'coco' is for COCO's 80 labels; here are {count}")
        return COCO_NUMBERS
    if value == "from 1":
        return (-1, *range(count))
    if not isinstance(value, (list, tuple)):
        raise InputError(f"class map {value!r} is not 'coco', 'from 1' or a list")
    index = {name: position for position, name in enumerate(labels)}
    mapped = []
    for number, entry in enumerate(value):
        found = -1 if entry is None else index.get(entry) if isinstance(entry, str) else entry
        if isinstance(found, bool) or not isinstance(found, int) or not -1 <= found < count:
            raise InputError(
                f"entry {number} of the class map is {entry!r}, which is no label, no index below "
                f"{count} and not null"
            )
        mapped.append(found)
    return tuple(mapped)


def _above(raw: Raw, spec: BoxSpec) -> Tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Boxes, scores and the network's class numbers of what reaches the threshold."""
    own = (raw.chances,) if isinstance(raw, Chances) else (raw.scores, raw.classes)
    if raw.boxes.shape != (len(own[0]), 4) or len({len(array) for array in own}) != 1:
        raise EngineError(
            f"decoder {spec.decoder!r} made boxes of the shape {raw.boxes.shape} and "
            f"{[array.shape for array in own]} beside them; (n, 4) and n rows are needed"
        )
    if isinstance(raw, Chances):
        best = raw.chances.max(axis=1, initial=0)
        _check_scores(best)
        row = np.flatnonzero(best >= spec.threshold)
        if spec.several:
            among, number = np.nonzero(raw.chances[row] >= spec.threshold)
            row = row[among]
            scores = raw.chances[row, number]
        else:
            number, scores = raw.chances[row].argmax(axis=1), best[row]
    else:
        meant = np.flatnonzero(raw.classes >= 0)
        _check_scores(raw.scores[meant])
        row = meant[raw.scores[meant] >= spec.threshold]
        number, scores = raw.classes[row], raw.scores[row]
    boxes = raw.boxes[row].astype(np.float64)
    if np.isnan(boxes).any():
        raise EngineError("a network answered with boxes that are no numbers")
    far = np.finfo(np.float32).max / 4  # so that an infinite side is cut off at the image's edge
    return np.clip(boxes, -far, far), scores, number.astype(np.int64)


def _check_scores(scores: NDArray[Any]) -> None:
    low, high = scores.min(initial=0), scores.max(initial=0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise EngineError("a network answered with scores that are not finite")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise EngineError(
            f"a network answered with scores from {low:g} to {high:g}, not within 0..1; "
            "its decoder may need to be told that they are logits"
        )


def _mapped(numbers: NDArray[np.int64], spec: BoxSpec) -> NDArray[np.int64]:
    known = spec.classes if spec.class_map is None else len(spec.class_map)
    highest = numbers.max(initial=-1)
    if highest >= known:
        raise EngineError(
            f"a network answered with class {highest}; "
            + ("it has" if spec.class_map is None else "its class map has")
            + f" {known}, from 0 to {known - 1}; a class map says what its numbers mean"
        )
    if spec.class_map is None:
        return numbers
    return np.array(spec.class_map, np.int64)[numbers]


@functools.lru_cache(maxsize=64)
def _choices(function: Callable[..., Any]) -> Dict[str, Tuple[Any, ...]]:
    """For each argument that is annotated as Literal, what it may be."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that this Python cannot read
        return {}
    return {
        name: typing.get_args(hint)
        for name, hint in hints.items()
        if typing.get_origin(hint) is typing.Literal
    }


def _like(value: Any, default: Any) -> Any:
    """A value from JSON as one of the default's kind, or None."""
    if isinstance(default, (bool, str)):
        return value if type(value) is type(default) else None
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or not value:
            return None
        parts = tuple(_like(part, default[0]) for part in value)
        return None if any(part is None for part in parts) else parts
    if not _number(value):
        return None
    if isinstance(default, int):
        return value if isinstance(value, int) and value > 0 else None
    return float(value)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
