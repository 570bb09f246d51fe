"""What decoding a large image needs: `python benchmarks/image_memory.py [--side 7000] [--json X]`.

One process for each kind: it decodes a small image of that kind first, then a large one as the
router does (`decode_image`), and tells its peak beyond what it had, MB of 10^6 bytes, and the
seconds that took. Images are one colour, so that the files are small: what they need does not
depend on it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import envelope, result, save, show
from PIL import Image

CHILD = """
import json, sys, time
from adaptive.images.decoded import decode_image
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(l.split()[1]) * 1024 / 1e6 for l in lines if l.startswith("VmHWM"))
decode_image(sys.argv[1], 256, 10**9)
before = peak()
began = time.perf_counter()
image = decode_image(sys.argv[2], 256, 10**9)
print(json.dumps([peak() - before, time.perf_counter() - began, image.pixels.nbytes / 1e6]))
"""


def write(folder: Path, kind: str, width: int, height: int) -> Path:
    """An image file of one kind and size."""
    mode, _, form = kind.partition(" ")
    path = folder / f"{mode}-{width}x{height}.{form.lower()}".replace(";", "")
    colour = {"RGB": (90, 120, 40), "RGBA": (90, 120, 40, 128), "I;16": 3000, "L": 90}[mode]
    Image.new(mode, (width, height), colour).save(path, form)
    return path


def main() -> None:
    """Write the images, decode each in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=7000, help="of the large image, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    side = arguments.side
    shapes = {
        "RGB PNG": (side, side),
        "RGBA PNG": (side, side),
        "I;16 PNG": (side, side),
        "RGB WEBP": (side, side),
        "RGB JPEG": (side, side),
        "L PNG": (side // 10, 10 * side),
    }
    results = {}
    with tempfile.TemporaryDirectory() as made:
        for kind, (width, height) in shapes.items():
            few = write(Path(made), kind, 64, 64)
            many = write(Path(made), kind, width, height)
            told = []
            for _ in range(arguments.rounds):
                run = [sys.executable, "-c", CHILD, str(few), str(many)]
                told.append(json.loads(subprocess.run(run, check=True, stdout=-1).stdout))
            name = f"{kind}, {width} x {height}"
            peaks, seconds, kept = map(list, zip(*told))
            results[f"{name}: peak"] = result(peaks, "MB", "lower")
            results[f"{name}: time"] = result(seconds, "s", "lower")
            results[f"{name}: kept"] = result(kept, "MB", "lower")
    content = envelope("image_memory", results, {"side": side, "rounds": arguments.rounds})
    show(content)
    save(content, arguments.json)


if __name__ == "__main__":
    main()
