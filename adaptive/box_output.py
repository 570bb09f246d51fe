"""What a manifest says of a detector's outputs: which decoder reads them, which boxes are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Mapping, Tuple

from adaptive.errors import InputError


@dataclass(frozen=True)
class BoxOutput:
    """What a detector's outputs mean, and which of its boxes are an answer.

    Parameters
    ----------
    decoder : its name in `adaptive.tasks.decoding.DECODERS`
    classes : how many the network knows, without a background or "nothing"
    threshold : boxes below this score are left out, 0..1
    iou : of two boxes of one class that overlap by more, the surer one is kept; None is the
        decoder's own
    most : keep at most so many boxes of an image, the surest
    several : whether one box may be of several classes
    class_map : for each number that the network gives a class, the index among the labels, -1 for
        none; None where they are the same
    options : of the decoder, by name
    shown : boxes of this score or more are the answer; None where that is `threshold`
    score_map : scores, rising, and the chance that a box of each is right; None leaves scores as
        they are
    sureness : the numbers by which boxes tell how good they are as a whole, by the name of each
        signal; None where nothing was learnt
    """

    decoder: str
    classes: int
    threshold: float = 0.05
    iou: float | None = None
    most: int = 100
    several: bool = False
    class_map: Tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: float | None = None
    score_map: Tuple[Tuple[float, ...], Tuple[float, ...]] | None = None
    sureness: Mapping[str, float] | None = None

    kind: ClassVar[str] = "boxes"

    def __post_init__(self) -> None:
        if self.shown is not None and not 0 <= self.shown <= 1.1:
            raise InputError(f"output shown {self.shown!r} is not a score in 0..1")

    @property
    def least(self) -> float:
        """Score from which a box is part of the answer."""
        return self.threshold if self.shown is None else max(self.shown, self.threshold)

    def to_json(self) -> dict[str, Any]:
        """A manifest entry's `output`; what is left to its default is left out."""
        usual = BoxOutput(self.decoder, self.classes)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        own = {n: v for n, v in values.items() if v != getattr(usual, n) or n in _NAMED}
        if self.score_map is not None:
            own["score_map"] = dict(zip(("scores", "chances"), map(list, self.score_map)))
        return {"kind": self.kind, **own}


#: Always told.
_NAMED = ("decoder", "classes", "threshold")


@dataclass(frozen=True)
class BoxMerge:
    """How the boxes of several detectors that ran for an image become one answer.

    Parameters
    ----------
    least : chance from which a merged box is part of the answer, 0..1
    iou : boxes of a class that overlap by more than this are one, 0..1
    """

    least: float
    iou: float = 0.55

    def __post_init__(self) -> None:
        for name, value in (("least", self.least), ("iou", self.iou)):
            if not 0 <= value <= 1:
                raise InputError(f"merge {name} {value!r} is not in 0..1")
