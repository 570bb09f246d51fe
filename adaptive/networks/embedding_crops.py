"""What a frozen embedding network makes of crops, computed once and kept on disk.

For every crop a few views are run: the crop as a detector cut it, others a little beside it and
mirrored, as the next frame's detector would, and blends with other crops, of which there are many
more: what the network says of a blend is as good to learn from. Kept are the maps of features at
the places where exits are to sit, pooled and in 16 bits, and the network's own embedding.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Callable, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.files import read_json, write_json

Box = Tuple[int, int, int, int]

#: Longest side of a pooled map of features.
LONGEST = 16

#: How far a view lies beside its crop, and how much larger or smaller it is, as shares of it.
SHIFT, SCALE = 0.06, 0.1

#: Crops that a view may be blended with: the last so many.
RECENT = 64


class CropSource(NamedTuple):
    """An image, or a frame of a clip.

    image : ndarray (height, width, 3), uint8, RGB
    clip : whether it is of a clip, whose other frames show nearly the same
    """

    image: np.ndarray
    clip: bool = False


#: Where an image shows somebody.
Find = Callable[[np.ndarray], Sequence[Box]]

Prepare = Callable[[np.ndarray], np.ndarray]
Run = Callable[[np.ndarray], Sequence[np.ndarray]]


class CropFeatures(NamedTuple):
    """What was kept of all views.

    maps : for each exit, array (n, channels, height, width), float16, mapped from its file
    embeddings : ndarray (n, width), float32, of length 1
    held : ndarray (n,), bool: views of every tenth image, which no head learns from
    """

    maps: Sequence[np.ndarray]
    embeddings: np.ndarray
    held: np.ndarray


def pooling(height: int, width: int) -> int:
    """By how much a map of features is pooled, so that no side is above 16."""
    least = math.ceil(max(height, width) / LONGEST)
    both = (side for side in range(least, min(height, width) + 1) if not (height % side))
    return next((side for side in both if not width % side), 1)


def views(
    image: np.ndarray, box: Box, count: int, generator: np.random.Generator
) -> List[np.ndarray]:
    """A crop, and `count` - 1 views a little beside it, half of them mirrored."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    found = [image[y1:y2, x1:x2]]
    while len(found) < count:
        shift = generator.uniform(-SHIFT, SHIFT, 2) * (x2 - x1, y2 - y1)
        grown = (1 + generator.uniform(-SCALE, SCALE)) * np.array([x2 - x1, y2 - y1]) / 2
        middle = np.array([x1 + x2, y1 + y2]) / 2 + shift
        left, top = np.rint(np.maximum(middle - grown, 0)).astype(int).tolist()
        right, bottom = np.rint(np.minimum(middle + grown, (width, height))).astype(int).tolist()
        view = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        found.append(view[:, ::-1] if len(found) % 4 > 1 else view)
    return [np.ascontiguousarray(view) for view in found]


def blended(
    crops: Sequence[np.ndarray], others: Sequence[np.ndarray], generator: np.random.Generator
) -> List[np.ndarray]:
    """What a network reads of views, every second of them blended with another crop."""
    found = []
    for place, crop in enumerate(crops):
        if place % 2:
            other = others[int(generator.integers(len(others)))]
            share = generator.uniform(0.3, 0.7)
            mixed = share * crop.astype(np.float32) + (1 - share) * other.astype(np.float32)
            crop = (np.rint(mixed) if crop.dtype == np.uint8 else mixed).astype(crop.dtype)
        found.append(crop)
    return found


def crop_features(
    sources: Iterable[CropSource],
    find: Find,
    prepare: Prepare,
    run: Run,
    folder: Path,
    about: object,
    count: int,
    seed: int,
    total: int | None = None,
) -> CropFeatures:
    """Run the network on all views of all sources, or go on with that where it was stopped.

    Parameters
    ----------
    find : the boxes of an image that show somebody
    prepare : a crop to what the network reads
    run : that to the map of features of each exit, (1, channels, height, width), and then the
        embedding
    folder : where it is kept; `about` says what it is of, and another one is refused
    count : views of each crop
    total : sources, for the bar

    Raises
    ------
    InputError
        when the folder has something else, or nobody is seen on any source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "crops.json"
    done: dict[str, Any] = {"about": about, "sources": 0, "whole": False}
    done.update({"rows": [], "clip": [], "shapes": []})
    if state.exists():
        found = read_json(state, "what was kept of crops")
        if found.get("about") != about:
            raise InputError(
                f"{folder} is of other crops, networks or exits; delete it, or name another one"
            )
        done = found
    if not done["whole"]:
        _go_on(sources, find, prepare, run, folder, state, done, count, seed, total)
    rows = sum(done["rows"])
    if not rows:
        raise InputError("nobody is seen on any image; is the detector the right one?")
    *maps, embeddings = (
        np.memmap(folder / f"{place}.bin", _type(place, done["shapes"]), "r", shape=(rows, *shape))
        for place, shape in enumerate(done["shapes"])
    )
    held = np.repeat(_held(done["clip"]), done["rows"])
    return CropFeatures(maps, np.array(embeddings), held)


def _held(clip: Sequence[bool]) -> np.ndarray:
    """Of all sources that show somebody, every tenth image; no frame of a clip."""
    still = ~np.array(clip, bool)
    return np.asarray(still & (np.cumsum(still) % 10 == 0))


def _go_on(
    sources: Iterable[CropSource],
    find: Find,
    prepare: Prepare,
    run: Run,
    folder: Path,
    state: Path,
    done: dict[str, Any],
    count: int,
    seed: int,
    total: int | None,
) -> None:
    files: List[Any] = []
    recent: List[np.ndarray] = []
    try:
        for place, source in enumerate(
            tqdm(sources, desc="crops", unit="image", total=total, disable=None, leave=False)
        ):
            if place < done["sources"]:
                continue
            generator = np.random.default_rng((seed, place))
            seen = 0
            beside = not source.clip and _held(done["clip"] + [False])[-1]
            for box in find(source.image):
                crops = [prepare(view) for view in views(source.image, box, count, generator)]
                if not beside:
                    if recent:
                        crops = blended(crops, recent, generator)
                    recent = [*recent, crops[0]][-RECENT:]
                for view in crops:
                    *maps, embedding = run(view)
                    kept = [_pooled(one) for one in maps]
                    length = max(float(np.linalg.norm(embedding)), 1e-12)
                    kept.append(np.asarray(embedding / length, np.float32))
                    done["shapes"] = done["shapes"] or [list(one.shape) for one in kept]
                    files = files or _opened(folder, done)
                    for file, one in zip(files, kept):
                        file.write(one.tobytes())
                    seen += 1
            done["sources"] = place + 1
            if seen:
                done["rows"].append(seen)
                done["clip"].append(source.clip)
            if place % 50 == 49:
                _write(state, files, done)
        done["whole"] = True
        _write(state, files, done)
    finally:
        for file in files:
            file.close()


def _write(state: Path, files: Sequence[Any], done: dict[str, Any]) -> None:
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    write_json(state, done)


def _opened(folder: Path, done: dict[str, Any]) -> List[Any]:
    """The files, cut to the rows that count; what a kill left behind them goes."""
    rows, files = sum(done["rows"]), []
    for place, shape in enumerate(done["shapes"]):
        path = folder / f"{place}.bin"
        path.touch(mode=0o600)
        file = path.open("r+b")
        each = math.prod(shape) * np.dtype(_type(place, done["shapes"])).itemsize
        file.truncate(rows * each)
        file.seek(0, os.SEEK_END)
        files.append(file)
    return files


def _type(place: int, shapes: Sequence[Any]) -> str:
    return "float32" if place == len(shapes) - 1 else "float16"


def _pooled(one: np.ndarray) -> np.ndarray:
    """A map of features, (1, channels, height, width), pooled, without its first axis."""
    _, channels, height, width = one.shape
    side = pooling(height, width)
    cells = one.reshape(channels, height // side, side, width // side, side)
    return np.asarray(np.clip(cells.mean(axis=(2, 4)), -65_000, 65_000), np.float16)
