"""What to decompose or prune, and which images do what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.errors import InputError
from adaptive.networks.compression.tucker import check_share
from adaptive.networks.images import ImageArrays, hold_out, read_folder
from adaptive.networks.served_inputs import served_input
from adaptive.networks.training import TrainingRecipe
from adaptive.outcomes.labelled import LabelledImages, list_images


@dataclass(frozen=True)
class TuckerRecipe:
    """How layers are decomposed.

    Parameters
    ----------
    keep : shares of the weights' variance, one copy each
    max_loss : a further copy at the smallest share that loses at most this much top-1 (a share)
        on the images of the search; None for none
    tune : how copies are fine-tuned where there are training images; None leaves them repaired
    threads : inside a network
    seed : of the positions that the repair looks at, and of fine-tuning
    """

    keep: tuple[float, ...] = ()
    max_loss: float | None = None
    tune: TrainingRecipe | None = None
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for share in self.keep:
            check_share(share)
        if len({round(100 * share) for share in self.keep}) < len(self.keep):
            raise InputError(f"shares must differ by 0.01 at least, got {list(self.keep)}")
        if self.max_loss is not None and not self.max_loss >= 0:
            raise InputError(f"a loss of {self.max_loss} cannot be kept to; give 0 or more")
        if not self.keep and self.max_loss is None:
            raise InputError("nothing to make: give shares to keep, or a largest loss")
        if self.threads < 1:
            raise InputError(f"threads start at 1, got {self.threads}")


@dataclass(frozen=True)
class Material:
    """The images that a compression uses, each for one thing.

    Attributes
    ----------
    repair : whose labels nobody reads
    search : that the limit on the loss is kept on
    check : that only report
    training : reads the training images at a side in pixels; None where there are none
    """

    repair: LabelledImages
    search: LabelledImages
    check: LabelledImages
    training: Callable[[int], ImageArrays] | None = field(default=None, compare=False)

    def names(self) -> dict[str, list[str]]:
        """Names of the images by what they did; the training images' are those of DATA."""
        return {part: list(getattr(self, part).names) for part in ("repair", "search", "check")}


def labelled_material(
    images: LabelledImages,
    repair: int,
    search: int,
    check: int,
    seed: int,
    unlabelled: LabelledImages | None = None,
) -> Material:
    """Deal labelled images out, in an order that is drawn by the seed.

    unlabelled : repair on these instead, as many as `repair`

    Raises
    ------
    InputError
        when there are too few.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    first = 0 if unlabelled is not None else repair
    if len(images) <= first + search:
        raise InputError(
            f"{len(images)} images are too few: {first} repair, {search} guide the search, and at "
            "least one more must check; give more images, or lower --repair or --search"
        )
    mended = images.select(order[:first])
    if unlabelled is not None:
        chosen = np.random.default_rng(seed).permutation(len(unlabelled))[:repair]
        mended = unlabelled.select(chosen)
    return Material(
        mended,
        images.select(order[first : first + search]),
        images.select(order[first + search : first + search + check]),
    )


def training_material(
    data: Path, labels: tuple[str, ...], repair: int, held_out: int | None, check: int, seed: int
) -> Material:
    """The images of a folder with `train/CLASS/IMAGE` and, optionally, `test/CLASS/IMAGE`.

    held_out : how many of `train` nobody trains on, in equal shares of the classes: they guide
        the search; a tenth unless given. Without `test` every second of them only reports.

    Raises
    ------
    InputError
        when the classes are not the candidates', or there are too few images.
    """
    found = list_images(data / "train", labels)
    classes = np.asarray(found.labels)
    count = len(found) // 10 if held_out is None else held_out
    kept, held = hold_out(classes, count, seed)
    if not len(held):
        raise InputError("no image of train would be held out, and the search needs some")
    generator = np.random.default_rng(seed)
    if (data / "test").is_dir():
        tests = list_images(data / "test", labels)
        checking = tests.select(generator.permutation(len(tests))[:check])
    else:
        checking, held = found.select(held[1::2][:check]), held[::2]
    mended = found.select(generator.permutation(kept)[:repair])

    def training(side: int) -> ImageArrays:
        everything = read_folder(data / "train", side)
        where = [labels.index(name) for name in everything.classes]
        names = {name: row for row, name in enumerate(everything.names)}
        rows = np.array([names[found.names[row]] for row in kept])
        chosen = everything.subset(rows)
        right = np.asarray(where, np.int64)[chosen.labels]
        return ImageArrays(chosen.names, chosen.images, right, list(labels))

    return Material(mended, found.select(held), checking, training)


def photographs(images: LabelledImages, side: int, classes: list[str], short: int) -> ImageArrays:
    """Squares in memory, as `train` holds them, of images as they are served.

    short : the longest short side that a network of the bundle wants
    """
    spec = InputSpec(side, "uint8", "NHWC", "cover")
    pixels = [served_input(images, row, spec, short) for row in range(len(images))]
    labels = np.asarray(images.labels, np.int64)
    return ImageArrays(list(images.names), np.concatenate(pixels), labels, classes)
