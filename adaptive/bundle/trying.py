"""Which preprocessing a network was trained with: tried on labelled images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

import numpy as np

from adaptive.candidate import RESIZES, Candidate, InputSpec, class_output
from adaptive.engines.answers import run_checked
from adaptive.engines.engine import OpenEngine
from adaptive.errors import ImageError, InputError
from adaptive.images.decode import MAX_PIXELS
from adaptive.images.decoded import DecodedImage, decode_image
from adaptive.images.preprocess import needed_short
from adaptive.images.scalings import SCALINGS, read_scaling
from adaptive.intervals import Estimate, mean, share
from adaptive.outcomes.labelled import LabelledImages
from adaptive.outcomes.parts import Split

#: Images that are tried at most, and of how many a first look is made.
IMAGES, FIRST = 100, 12

#: Where the part that tunes has fewer images, all parts are looked at.
ENOUGH = 24


@dataclass(frozen=True)
class Setting:
    """One way to make a network's input, and what its scaling is called."""

    scaling: str
    spec: InputSpec

    def words(self) -> str:
        """For a table."""
        scaling = self.scaling if self.spec.dtype != "uint8" else "pixels as they are"
        return f"{scaling}, {self.spec.channels}, {self.spec.resize}"


@dataclass(frozen=True)
class Tried:
    """A setting and how often the network was right with it.

    Attributes
    ----------
    images : how many it saw; fewer than others where it was left behind
    top1 : share that it was right on, with its 95% interval
    same : other settings that made the very same input of every image
    told : whether these images tell it from the best: it was left behind, or the 95% interval of
        the difference, image by image, is below 0
    """

    setting: Setting
    images: int
    top1: Estimate
    same: tuple[Setting, ...] = ()
    told: bool = False


@dataclass(frozen=True)
class Check:
    """Settings that were tried on the same images.

    Attributes
    ----------
    tried : the best first; settings that saw all images stand before those left behind
    guessing : share that always naming the commonest class is right on
    left_out : images that could not be read, in sentences
    """

    tried: tuple[Tried, ...]
    guessing: float
    left_out: tuple[str, ...] = ()

    @property
    def best(self) -> Tried:
        """The one to take."""
        return self.tried[0]

    @property
    def makes_sense(self) -> bool:
        """Whether the best is better than guessing, beyond chance."""
        return self.best.top1.low > self.guessing

    @property
    def alike(self) -> tuple[Tried, ...]:
        """Others that these images do not tell from the best."""
        return tuple(t for t in self.tried[1:] if not t.told)


def settings_of(
    spec: InputSpec,
    like: str | None = None,
    resize: str | None = None,
    channels: str | None = None,
) -> list[Setting]:
    """Every way that is not ruled out, the usual first.

    Parameters
    ----------
    spec : with the type, layout and size of the input
    like, resize, channels : what is known already
    """
    made = []
    fixed = spec.dtype == "uint8"
    for scaling in ["0..255"] if fixed else list(SCALINGS) if like is None else [like]:
        for order in ("RGB", "BGR") if channels is None else (channels,):
            values = read_scaling(scaling)
            if scaling in SCALINGS:  # else they are said in the network's order
                values = values.ordered(order)
            for how in RESIZES if resize is None else (resize,):
                pad, place = (spec.pad, spec.place) if how == "fit" else (0, "centre")
                made.append(
                    Setting(
                        scaling,
                        replace(
                            spec,
                            resize=how,
                            channels=order,
                            pad=pad,
                            place=place,
                            **values._asdict(),
                        ),
                    )
                )
    return made


def check_settings(
    engine: OpenEngine,
    candidate: Candidate,
    settings: Sequence[Setting],
    images: LabelledImages,
    most: int = IMAGES,
    progress: Callable[[int], object] = lambda runs: None,
) -> Check:
    """See how often a network is right with each setting.

    All settings see the same images, a few at first; one that is told from the best by then
    sees no more. Only images of the part that tunes are looked at, where there are enough,
    so that what is promised later rests on images that chose nothing.

    Parameters
    ----------
    most : images that are looked at
    progress : told of each image

    Raises
    ------
    InputError
        when no image can be read.
    """
    rows = looked_at(images, most)
    short = max(needed_short(s.spec) for s in settings)
    seen = [_Seen(setting) for setting in settings]
    labels: list[int] = []
    left_out: list[str] = []
    running, look = seen, FIRST
    for row in rows:
        progress(1)
        try:
            image = decode_image(images.root / images.names[row], short, MAX_PIXELS)
        except ImageError as error:
            left_out.append(str(error))
            continue
        labels.append(images.labels[row])
        _run(engine, candidate, image, labels[-1], running)
        if len(labels) == look:
            look *= 2
            best = max(running, key=_Seen.rank)
            running = [s for s in running if not s.worse(best)]
    if not labels:
        raise InputError(f"no image in {images.root} could be read: {left_out[0]}")
    seen.sort(key=_Seen.rank, reverse=True)  # stable: the usual stands first
    groups: dict[tuple[int, ...], list[_Seen]] = {}
    for each in seen:
        groups.setdefault(tuple(each.inputs), []).append(each)
    tried = tuple(_tried(group, seen[0]) for group in groups.values())
    guessing = max(np.bincount(labels)) / len(labels)
    return Check(tried, float(guessing), tuple(left_out))


class _Seen:
    """What a setting made of the images so far: its inputs, and whether each was right."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.inputs: list[int] = []
        self.right: list[bool] = []

    def rank(self) -> tuple[int, int]:
        """The larger, the better; what saw more images was left behind by nothing."""
        return len(self.right), sum(self.right)

    def worse(self, best: _Seen) -> bool:
        """Whether the images that both saw tell it from the best."""
        mine = np.array(self.right, float)
        return mean(mine - np.array(best.right[: len(mine)], float)).high < 0


def _tried(group: Sequence[_Seen], best: _Seen) -> Tried:
    first = group[0]
    same = tuple(each.setting for each in group[1:])
    right = np.array(first.right)
    told = len(right) < len(best.right) or first.worse(best)
    return Tried(first.setting, len(right), share(right), same, told)


def looked_at(images: LabelledImages, most: int) -> list[int]:
    """Which images are tried: from the part that tunes, spread over all of it."""
    tune = Split().rows(images.names, "tune")
    rows = tune if len(tune) >= ENOUGH else np.arange(len(images))
    chosen = np.random.default_rng(0).permutation(rows)[:most]
    return [int(row) for row in chosen]


def _run(
    engine: OpenEngine, candidate: Candidate, image: DecodedImage, label: int, seen: list[_Seen]
) -> None:
    """Note what the network says with each setting; the same input is run once."""
    output = class_output(candidate)
    known: dict[bytes, bool] = {}
    for each in seen:
        tensor = image.tensor(each.setting.spec)
        key = tensor.tobytes()
        if key not in known:
            answer = run_checked(engine, [tensor], output, False, candidate.name).probabilities
            assert answer is not None
            known[key] = int(answer[0].argmax()) == label
        each.inputs.append(hash(key))
        each.right.append(known[key])
