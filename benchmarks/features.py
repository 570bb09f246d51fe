"""What features cost: `python benchmarks/features.py [--images DIR] [--json out.json]`.

Times are those of `extract` on a ready crop, one thread. The crops take turns, as images do in
use: run again and again on one crop, the processor learns its edges by heart and is faster. A
crop's time is its median over the rounds, after a warm-up; the table gives the median and the
95th percentile over the crops. For the shares each crop is run twice and the second run counts,
so they add up to somewhat less. Without --images it takes those of $ADAPTIVE_DATA/imagenet/images,
and where that is unset, drawn ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from machine import envelope, result, save, show

from adaptive.features.extract import extract
from adaptive.features.measure import measure
from adaptive.features.schema import SCHEMA, resolve_names

SETS = ("all+extra", "all", "paper7")
WARM_UP = 3


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of images")
    parser.add_argument("--limit", type=int, default=100, help="at most so many (default 100)")
    parser.add_argument("--rounds", type=int, default=30, help="runs an image (default 30)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.limit < 1 or options.rounds < 1:
        parser.error("--limit and --rounds must be at least 1")
    cv2.setNumThreads(1)
    folder = options.images
    if folder is None and os.environ.get("ADAPTIVE_DATA"):
        folder = Path(os.environ["ADAPTIVE_DATA"], "imagenet", "images")
    if folder is None:
        crops, origin = [drawn(seed) for seed in range(20)], "20 drawn images"
    else:
        crops = photographs(folder, options.limit)
        origin = f"{len(crops)} images of {folder.name}"
    if not crops:
        parser.error(f"no image in {folder} can be read")

    settings = {
        "images": origin,
        "crop": f"{SCHEMA.crop_side}x{SCHEMA.crop_side} at most, schema {SCHEMA.version}",
        "rounds": f"{options.rounds} after {WARM_UP} to warm up",
    }
    report = envelope("features", timed(crops, options.rounds), settings, paired=True)
    show(report)

    report["share_ms"] = {name: shares(crops, name, options.rounds) for name in SETS}
    print(f"\n{'share of each feature, ms':28}" + "".join(f"{name:>12}" for name in SETS))
    for feature in resolve_names(SETS[0]):
        cells = (report["share_ms"][name].get(feature) for name in SETS)
        print(f"{feature:28}" + "".join(" " * 12 if c is None else f"{c:12.4f}" for c in cells))
    save(report, options.json)


def timed(crops: list[np.ndarray], rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds of one extraction by set, one sample a crop: its median over the rounds."""
    names = {spec: resolve_names(spec) for spec in SETS}
    times = {spec: np.empty((WARM_UP + rounds, len(crops))) for spec in SETS}
    # the sets take turns too, so that whatever else the machine does falls on all of them
    for number in range(WARM_UP + rounds):
        for spec in SETS:
            for position, crop in enumerate(crops):
                start = perf_counter()
                extract(crop, names[spec])
                times[spec][number, position] = perf_counter() - start
    return {s: result(np.median(times[s][WARM_UP:], axis=0) * 1e3) for s in SETS}


def shares(crops: list[np.ndarray], spec: str, rounds: int) -> dict[str, float]:
    """Median of each feature's milliseconds over the crops, taken in turn like above."""
    measured = [measure(crop, spec, 1) for _ in range(rounds) for crop in crops]
    return {name: statistics.median(one[name] for one in measured) for name in measured[0]}


def photographs(folder: Path, limit: int) -> list[np.ndarray]:
    """The crops of the first images of a folder; what cannot be read is listed and left out."""
    from adaptive.errors import ImageError
    from adaptive.images.decode import decode_working

    crops: list[np.ndarray] = []
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if len(crops) == limit:
            break
        try:
            crops.append(SCHEMA.crop(decode_working(path)))
        except ImageError as error:
            print(f"left out: {error}", file=sys.stderr)
    return crops


def drawn(seed: int) -> np.ndarray:
    """A crop with shapes, shades and noise, about as busy as a photograph."""
    random = np.random.RandomState(seed)
    image = np.empty((256, 256, 3), dtype=np.uint8)
    image[:] = np.linspace(0, 255, 256, dtype=np.uint8)[:, None]
    for _ in range(40):
        centre = tuple(int(value) for value in random.randint(0, 256, 2))
        axes = tuple(int(value) for value in random.randint(4, 40, 2))
        colour = tuple(int(value) for value in random.randint(0, 256, 3))
        cv2.ellipse(image, centre, axes, float(random.randint(180)), 0, 360, colour, -1)
    noisy = image + random.normal(0, 6, image.shape)
    return SCHEMA.crop(np.clip(noisy, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
