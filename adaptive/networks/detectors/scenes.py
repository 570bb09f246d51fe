"""Scenes composed of small photographs of objects on larger photographs, with exact boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.files import write_json
from adaptive.imagefiles import files_below
from adaptive.images.decode import decode
from adaptive.networks.images import ImageArrays
from adaptive.opencv import cv2

#: Shortest and longest side of an object, pixels.
SIDES = (16, 64)

#: Most objects in a scene; there is at least one.
MOST_OBJECTS = 5

#: Most of an object that a later one may cover.
COVERED = 0.3


@dataclass(frozen=True, eq=False)
class Scene:
    """A made image and what it holds.

    Attributes
    ----------
    image : ndarray of shape (size, size, 3), uint8, RGB
    labels : ndarray of shape (k,), int64
    boxes : ndarray of shape (k, 4), x1 y1 x2 y2 in pixels, float32
    """

    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, eq=False)
class Composer:
    """Makes scenes; the same number gives the same scene.

    Parameters
    ----------
    objects : photographs of one object each, with their classes
    backgrounds : ndarray of shape (n, side, side, 3), uint8; a square of `size` is cut from one
    size : side of a scene, pixels
    """

    objects: ImageArrays
    backgrounds: np.ndarray
    size: int = 96

    def scene(self, number: int, seed: int = 0) -> Scene:
        """One scene: a piece of a background, and one to five objects of 16 to 64 pixels."""
        generator = np.random.default_rng((seed, number))
        image = self._background(generator)
        labels: list[int] = []
        boxes: list[np.ndarray] = []
        for _ in range(int(generator.integers(1, MOST_OBJECTS + 1))):
            row = int(generator.integers(len(self.objects.labels)))
            side = float(np.exp(generator.uniform(*np.log(SIDES))))
            shape = np.exp(generator.uniform(-0.2, 0.2))
            width, height = (
                int(np.clip(round(s), SIDES[0], SIDES[1])) for s in (side * shape, side / shape)
            )
            for _ in range(20):  # tries to find a place
                x = int(generator.integers(0, self.size - width + 1))
                y = int(generator.integers(0, self.size - height + 1))
                box = np.array([x, y, x + width, y + height], np.float32)
                if all(_covered(other, box) <= COVERED for other in boxes):
                    break
            else:
                continue
            patch = self.objects.images[row]
            if generator.random() < 0.5:
                patch = patch[:, ::-1]
            patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
            image[y : y + height, x : x + width] = patch
            labels.append(int(self.objects.labels[row]))
            boxes.append(box)
        return Scene(image, np.array(labels, np.int64), np.array(boxes, np.float32).reshape(-1, 4))

    def _background(self, generator: np.random.Generator) -> np.ndarray:
        whole = self.backgrounds[int(generator.integers(len(self.backgrounds)))]
        room = whole.shape[0] - self.size
        y, x = (int(generator.integers(0, room + 1)) for _ in range(2))
        piece: np.ndarray = whole[y : y + self.size, x : x + self.size]
        return (piece[:, ::-1] if generator.random() < 0.5 else piece).copy()


def write_scenes(folder: Path, scenes: Sequence[Scene], classes: Sequence[str]) -> None:
    """Scenes as PNG files, `folder/images/00000.png` and on, and COCO's `folder/labels.json`."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, object]] = []
    marks: list[dict[str, object]] = []
    for number, scene in enumerate(scenes):
        name = f"{number:05}.png"
        height, width = scene.image.shape[:2]
        if not cv2.imwrite(str(folder / "images" / name), scene.image[..., ::-1]):
            raise InputError(f"{folder / 'images' / name} could not be written")
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, (x1, y1, x2, y2) in zip(scene.labels.tolist(), scene.boxes.tolist()):
            sides = [x1, y1, x2 - x1, y2 - y1]
            mark = {"image_id": number, "category_id": label, "bbox": sides, "iscrowd": 0}
            marks.append({"id": len(marks) + 1, "area": sides[2] * sides[3], **mark})
    kinds = [{"id": label, "name": name} for label, name in enumerate(classes)]
    write_json(
        folder / "labels.json", {"images": images, "annotations": marks, "categories": kinds}
    )


def _covered(box: np.ndarray, over: np.ndarray) -> float:
    """Share of `box` that lies under `over`."""
    sides = np.minimum(box[2:], over[2:]) - np.maximum(box[:2], over[:2])
    inner = float(np.prod(np.maximum(sides, 0)))
    return inner / float(np.prod(box[2:] - box[:2]))


def read_backgrounds(folder: Path, size: int, side: int = 128) -> np.ndarray:
    """Every image below `folder`, its middle square scaled to `side` pixels.

    Raises
    ------
    InputError
        when there is none, or `side` is below `size`.
    """
    if side < size:
        raise InputError(f"backgrounds of {side} pixels are smaller than scenes of {size}")
    paths = [folder / name for name in files_below(folder).images] if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder} holds no image to compose scenes on")
    images = np.empty((len(paths), side, side, 3), np.uint8)
    for row, path in enumerate(tqdm(paths, desc="backgrounds", unit="image", leave=False)):
        pixels = decode(path.read_bytes())
        height, width = pixels.shape[:2]
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        middle = np.ascontiguousarray(pixels[top : top + short, left : left + short])
        images[row] = cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA)
    return images
