"""A candidate: something that can answer an image at a cost, a network or one exit of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from adaptive.box_output import BoxOutput
from adaptive.errors import InputError
from adaptive.remote import Remote

NAME = re.compile(r"[A-Za-z0-9._-]+(@[0-9]+)?")

DTYPES = ("uint8", "float32", "float16")
LAYOUTS = ("NHWC", "NCHW")
RESIZES = ("crop", "cover", "stretch", "fit")
PLACES = ("centre", "top-left")
CHANNELS = ("RGB", "BGR")
OUTPUT_KINDS = ("probabilities", "logits")

#: Largest side of a network's input, pixels.
MAX_SIZE = 8192

#: Largest number that mean, std and scale may make of a pixel.
LARGEST = 1e30

#: Names that mean something else where a candidate's name may stand: columns of the outcome
#: table, steps of an answer's times, and "no candidate is right".
TAKEN = ("decode", "features", "premodel", "audit", "total", "none")


def check_name(name: str) -> str:
    """Return `name` if a candidate may be called so, else raise InputError."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or set(name) <= {"."}:
        raise InputError(
            f"{name!r} is no candidate name; letters, digits, '.', '_' and '-' are allowed, "
            "with '@' and a number at the end for an exit"
        )
    if name in TAKEN:
        raise InputError(f"no candidate may be called {name!r}; {list(TAKEN)} are taken")
    return name


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the tensor that a network reads.

    Parameters
    ----------
    dtype : "uint8", "float32" or "float16"
    layout : "NHWC" or "NCHW"
    size : side of the square input, or (height, width), pixels
    resize : what happens to the image first. "crop": its short side is scaled to size / 0.875,
        or left alone when it lies between that and `size`, then the middle is cut out (the usual
        evaluation crop). "cover": its short side is scaled to `size`, then the middle is cut
        out. "stretch": the whole image is scaled to the input. "fit": the whole image is scaled
        at its own proportions, as large as the input allows, and the rest is padding.
    scale : divide pixel values by this, or None
    mean, std : then subtract and divide by these, one number a channel in the order of
        `channels`, or None
    pad : value of padding pixels, 0..255 before `scale`; or one a channel, as `mean`
    place : where "fit" puts the image, "centre" or "top-left"
    channels : "RGB" or "BGR", the order that the network reads
    """

    size: int | tuple[int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    resize: str = "crop"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    scale: float | None = None
    pad: int | tuple[int, int, int] = 0
    place: str = "centre"
    channels: str = "RGB"

    def __post_init__(self) -> None:
        for field, value, allowed in (
            ("dtype", self.dtype, DTYPES),
            ("layout", self.layout, LAYOUTS),
            ("resize", self.resize, RESIZES),
            ("place", self.place, PLACES),
            ("channels", self.channels, CHANNELS),
        ):
            if value not in allowed:
                raise InputError(f"input {field} {value!r} is not one of {list(allowed)}")
        self._check_size()
        pads = (self.pad,) if isinstance(self.pad, int) else self.pad
        if len(pads) not in (1, 3) or not all(_whole(p) and 0 <= p <= 255 for p in pads):
            raise InputError(f"input pad {self.pad!r} is not one whole number in 0..255, or three")
        if self.resize != "fit" and (self.pad != 0 or self.place != "centre"):
            raise InputError(
                f"input resize {self.resize!r} pads nothing; pad and place go to 'fit'"
            )
        for field, values in (("mean", self.mean), ("std", self.std)):
            if values is None:
                continue
            if not hasattr(values, "__len__") or len(values) != 3 or not all(map(_finite, values)):
                raise InputError(f"input {field} {values!r} is not three finite numbers")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"input std {self.std!r} must be above 0")
        if self.scale is not None and not (_finite(self.scale) and self.scale > 0):
            raise InputError(f"input scale {self.scale!r} is not a finite number above 0")
        for mean, std in zip(self.mean or (0.0,) * 3, self.std or (1.0,) * 3):
            step = std * (self.scale or 1.0)
            if not 1 / LARGEST <= step <= LARGEST or abs(mean) / std > LARGEST:
                raise InputError(
                    f"input mean {self.mean!r}, std {self.std!r} and scale {self.scale!r} make "
                    f"numbers of pixels that float32 cannot hold; {LARGEST:g} is the limit"
                )
        if self.dtype == "uint8" and (self.mean or self.std or self.scale):
            raise InputError("a uint8 input takes pixels as they are: no mean, std or scale")

    def _check_size(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if len(sides) not in (1, 2) or not all(_whole(side) and side >= 1 for side in sides):
            wanted = "a whole number of pixels >= 1, or two: height and width"
            raise InputError(f"input size {self.size!r} is not {wanted}")
        if max(sides) > MAX_SIZE:
            raise InputError(f"input size {max(sides)} is above the {MAX_SIZE} pixels allowed")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def seen(self) -> tuple[object, ...]:
        """Networks with the same see the same pixels before they are normalised."""
        padding = (self.pad, self.place, self.channels) if self.resize == "fit" else ()
        return (self.sides, self.resize, *padding)


@dataclass(frozen=True)
class OutputSpec:
    """What a network's first output means.

    `kind` is "probabilities" or "logits"; `classes` counts the labels; with `background` the
    output has one entry more, at index 0, that is no label and is left out.
    """

    classes: int
    kind: str = "logits"
    background: bool = False

    def __post_init__(self) -> None:
        if self.kind not in OUTPUT_KINDS:
            raise InputError(f"output kind {self.kind!r} is not one of {list(OUTPUT_KINDS)}")
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or self.classes < 2:
            raise InputError(f"output classes {self.classes!r} is not a whole number >= 2")

    @property
    def width(self) -> int:
        """Number of entries of the network's raw output."""
        return self.classes + self.background


@dataclass(frozen=True)
class Through:
    """An exit's segment without its head, for images that run through the exit without asking it.

    Its one kind of output is the state that the exit itself hands on; `ms` is its mean cost, as
    a candidate's.
    """

    file: str
    sha256: str
    ms: float | None = None

    def __post_init__(self) -> None:
        if self.ms is not None and not (_finite(self.ms) and self.ms > 0):
            raise InputError(f"through: ms {self.ms!r} is not above 0")


@dataclass(frozen=True)
class Candidate:
    """One entry of a manifest.

    A network in an ONNX file, or a model on another server: that one has no file, and what
    stands in `sha256` is its identity.

    `ms` and `mj` are the mean cost of its own preprocessing plus its run on one image; for an
    exit `NET@2` they are the increment after the candidate named in `after`. `through` is what
    runs instead where only a later exit is asked; without it the exit's head runs for nothing.
    `made` says in a sentence how a copy of another network was made.
    """

    name: str
    file: str
    sha256: str
    input: InputSpec
    output: OutputSpec | BoxOutput
    after: str | None = None
    ms: float | None = None
    mj: float | None = None
    untrained: bool = False
    through: Through | None = None
    made: str | None = None
    remote: Remote | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.remote is not None and (self.after or self.through or self.file):
            raise InputError(
                f"candidate {self.name!r} is on another server; it has no file, and is no exit"
            )
        if self.after is not None:
            check_name(self.after)
        if isinstance(self.output, BoxOutput) and (self.after or self.through):
            raise InputError(f"candidate {self.name!r} finds boxes, and no exit of a network can")
        for field, value in (("ms", self.ms), ("mj", self.mj)):
            if value is not None and not (_finite(value) and value > 0):
                raise InputError(f"candidate {self.name!r}: {field} {value!r} is not above 0")

    @property
    def files(self) -> tuple[str, ...]:
        """The ONNX files that it needs; none where it is on another server."""
        through = () if self.through is None else (self.through.file,)
        return through if self.remote is not None else (self.file, *through)


def class_output(candidate: Candidate) -> OutputSpec:
    """What a classifier's output means.

    Raises
    ------
    InputError
        when the candidate is a detector.
    """
    if isinstance(candidate.output, BoxOutput):
        raise InputError(f"candidate {candidate.name!r} finds boxes; a classifier is needed here")
    return candidate.output


def exit_of(name: str) -> tuple[str, int]:
    """The network that a candidate belongs to and the number of its exit; 0 for a whole network."""
    network, _, number = name.partition("@")
    return network, int(number or 0)


def run_order(after: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """For each candidate, the candidates that must have run before it, first to last, and itself.

    `after` maps a candidate to the one whose state it continues, or None. A whole network's
    chain is itself alone; that of NET@3 is (NET@1, NET@2, NET@3).

    Raises
    ------
    InputError
        when `after` names a candidate that is not there, or runs in a circle.
    """
    chains: dict[str, tuple[str, ...]] = {}
    for name in after:
        chain = [name]
        while (earlier := after[chain[0]]) is not None:
            if earlier not in after:
                raise InputError(
                    f"candidate {chain[0]!r} comes after {earlier!r}, which is not there; "
                    f"there are {sorted(after)}"
                )
            if earlier in chain:
                raise InputError(
                    "'after' runs in a circle: " + " after ".join([*reversed(chain), earlier])
                )
            chain.insert(0, earlier)
        chains[name] = tuple(chain)
    return chains


def positions(names: Sequence[str], known: Iterable[str], where: str) -> list[int]:
    """The index of each of `names` in `known`, or an InputError that names the unknown one."""
    index = {name: position for position, name in enumerate(known)}
    for name in names:
        if name not in index:
            raise InputError(f"candidate {name!r} is not in {where}; it has {list(index)}")
    return [index[name] for name in names]


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
