"""A folder-per-class data set of small images, held in memory as one uint8 array."""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from adaptive.errors import ImageError, InputError
from adaptive.imagefiles import files_below, is_hidden, passed_over
from adaptive.images.decode import decode

log = logging.getLogger("adaptive.networks")


@dataclass(frozen=True)
class ImageArrays:
    """Decoded images of one size with their labels.

    Attributes
    ----------
    names : paths relative to the folder that was read, sorted
    images : ndarray of shape (n, size, size, 3), uint8, RGB
    labels : ndarray of shape (n,), int64, indices into `classes`
    classes : class names, sorted
    """

    names: list[str]
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]

    def digest(self) -> str:
        """Which images and labels these are, in a word, for whoever goes on with them."""
        digits = zlib.crc32(np.ascontiguousarray(self.images).data)
        digits = zlib.crc32(np.ascontiguousarray(self.labels).data, digits)
        return f"{len(self.labels)} of digest {digits:08x}"

    def subset(self, rows: np.ndarray) -> ImageArrays:
        return ImageArrays(
            [self.names[row] for row in rows], self.images[rows], self.labels[rows], self.classes
        )


def read_folder(root: Path, size: int = 32) -> ImageArrays:
    """Read `root/CLASS/IMAGE` with one sub-folder a class, which may have folders below it.

    An image of another size is scaled to `size` on its short side and cut in the middle.

    Raises
    ------
    InputError
        when there is no class folder, a class has no image, or an image cannot be read.
    """
    classes: list[str] = []
    if root.is_dir():
        classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))
    if len(classes) < 2:
        raise InputError(
            f"{root} holds {len(classes)} class folders; it needs at least two, one for each "
            "class, with the images inside"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for index, name in enumerate(classes):
        found = files_below(root / name)
        if not found.images:
            raise InputError(f"class folder {root / name} holds no image")
        for line in passed_over(found.others, f"class folder {root / name}"):
            log.warning("left out: %s", line)
        paths += [root / name / image for image in found.images]
        labels += [index] * len(found.images)
    images = np.empty((len(paths), size, size, 3), np.uint8)
    for row, path in enumerate(tqdm(paths, desc=f"reading {root.name}", unit="image")):
        images[row] = _read_square(path, size)
    names = [p.relative_to(root).as_posix() for p in paths]
    return ImageArrays(names, images, np.asarray(labels, np.int64), classes)


def _read_square(path: Path, size: int) -> np.ndarray:
    try:
        # at full size, and otherwise as it is read where the network serves
        image = Image.fromarray(decode(path, short=2**16))
    except ImageError as exc:
        raise InputError(str(exc)) from exc
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize(
            (size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
        )
    return np.asarray(image)


def hold_out(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into (kept, held out), with every class held out in equal share.

    Networks are trained on the first part; premodel, tuning and calibration use only the
    second, since a network's outcomes on its own training images say nothing about others.
    """
    classes = np.unique(labels)
    if not 0 <= count < len(labels):
        raise InputError(f"cannot hold out {count} of {len(labels)} images")
    generator = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for position, label in enumerate(classes):
        rows = generator.permutation(np.flatnonzero(labels == label))
        share = count // len(classes) + (position < count % len(classes))
        held.append(rows[:share])
    chosen = np.sort(np.concatenate(held))
    kept = np.setdiff1d(np.arange(len(labels)), chosen)
    return kept, chosen
