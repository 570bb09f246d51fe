"""Do scaled decoding and quick scaling change answers? `python benchmarks/agreement.py --data D`.

The library's way to a network's input is held against the plain one, image by image: the share of
images on which the network's top-1 class is the same. The plain way is that of most evaluation
scripts: Pillow decodes the JPEG at full size, scales its short side to 256 (bilinear, with
antialiasing), the middle 224 x 224 is cut out, and (pixel / scale - mean) / std is computed in
float64. Then one step at a time is taken from the library instead, so that a loss has a place:

    decoded   the JPEG decoder's smallest scale that leaves the short side at 256, the rest plain
    scaled    full decoding, then the library's scaling to a short side of 256
    library   all as it is served

D holds `imagenet/images` and `imagenet/models`; it defaults to the environment's ADAPTIVE_DATA. Its
photographs are 227 x 227 crops. The library takes the middle 224 of those as it is, where the plain
way enlarges to 256 first and so sees a smaller part of them: --short makes larger photographs of
the same ones (bicubic, JPEG of quality 92, 4:3), of each short side given. 0 takes them as they
are, and then the plain way leaves out the enlarging as well.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
from imagenet import NETWORKS
from machine import envelope, machine_line, save
from PIL import Image
from tqdm import tqdm

from adaptive.candidate import InputSpec
from adaptive.csvfile import read_csv
from adaptive.engines.engine import OnnxEngine
from adaptive.features.schema import SCHEMA
from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.images.decoded import decode_image
from adaptive.intervals import share

SHORT, SIZE = 256, 224
WAYS = ("decoded", "scaled", "library")


def plain_pixels(image: Image.Image) -> np.ndarray:
    """Short side to 256, unless it lies between the crop and that, and the middle 224."""
    short = min(image.size)
    if not SIZE <= short <= SHORT:
        wide, high = (round(side * SHORT / short) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def plain_tensor(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Pixels as the network reads them, computed in float64."""
    if spec.dtype == "uint8":
        values = pixels
    else:
        values = pixels / np.float64(spec.scale or 1)
        values = (values - np.array(spec.mean or (0, 0, 0))) / np.array(spec.std or (1, 1, 1))
    if spec.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[np.newaxis], dtype=spec.dtype)


def plain(data: bytes, spec: InputSpec) -> np.ndarray:
    """The tensor in the plain way."""
    return plain_tensor(plain_pixels(Image.open(io.BytesIO(data)).convert("RGB")), spec)


def decoded(data: bytes, spec: InputSpec) -> np.ndarray:
    """The same after scaled decoding."""
    return plain_tensor(plain_pixels(Image.fromarray(decode(data, SHORT))), spec)


def scaled(data: bytes, spec: InputSpec) -> np.ndarray:
    """The same after the library's scaling."""
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return plain_tensor(plain_pixels(Image.fromarray(SCHEMA.working(whole))), spec)


def library(data: bytes, spec: InputSpec) -> np.ndarray:
    """The tensor as it is served."""
    return decode_image(data, SHORT, MAX_PIXELS).tensor(spec)


def enlarged(data: bytes, short: int) -> bytes:
    """A photograph with a short side of `short`, as a JPEG; as it is with 0."""
    if not short:
        return data
    image = Image.open(io.BytesIO(data)).convert("RGB")
    stream = io.BytesIO()
    image.resize((short * 4 // 3, short), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def compared(
    engine: OnnxEngine, spec: InputSpec, images: list[bytes], labels: np.ndarray
) -> dict[str, Any]:
    """Agreement with the plain way, by step, and the share of right answers of each."""
    tensors: dict[str, Callable[[bytes, InputSpec], np.ndarray]] = {
        "plain": plain,
        "decoded": decoded,
        "scaled": scaled,
        "library": library,
    }
    said: dict[str, list[int]] = {way: [] for way in tensors}
    off: dict[str, list[float]] = {way: [] for way in WAYS}
    for data in tqdm(images, desc=engine.name, leave=False):
        known: list[tuple[np.ndarray, int]] = []
        for way, make in tensors.items():
            tensor = make(data, spec)
            # where a step changes nothing but rounding, the network need not run again
            answer = next((a for t, a in known if np.allclose(t, tensor, 0, 1e-5)), None)
            if answer is None:
                answer = int(engine.run(tensor)[0].argmax())
                known.append((tensor, answer))
            said[way].append(answer)
            if way != "plain":
                difference = tensor.astype(np.float64) - known[0][0].astype(np.float64)
                off[way].append(float(np.abs(difference).mean()))
    right = {way: float(np.equal(answers, labels).mean()) for way, answers in said.items()}
    found: dict[str, Any] = {"plain": {"top1": right["plain"]}}
    for way in WAYS:
        same = np.equal(said[way], said["plain"])
        middle = share(same)
        found[way] = {
            "agree": int(same.sum()),
            "share": middle.value,
            "interval": [middle.low, middle.high],
            "mean_difference": float(np.mean(off[way])),
            "top1": right[way],
        }
    return found


def main() -> None:
    """Compare, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--limit", type=int, default=1000, help="images (default 1000)")
    parser.add_argument("--short", type=int, nargs="+", default=[0, 375, 600])
    parser.add_argument("--network", nargs="+", default=["mobilenet_v2_100_224", "resnet50"])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data with --data, or in ADAPTIVE_DATA")
    folder = Path(options.data, "imagenet")
    paths = sorted((folder / "images").glob("*"))[: options.limit]
    if not paths:
        sys.exit(f"there is no image in {folder / 'images'}")
    table = read_csv(folder / "labels.csv")
    classes = dict(zip(table.text("image"), table.numbers("label")))
    labels = np.array([classes[path.name] for path in paths])
    settings = {"images": len(paths), "short": options.short}
    report = envelope("agreement", {}, settings, agreement={})
    print(machine_line(report["machine"]))
    specs = {name: spec for name, spec, *_ in NETWORKS}
    print(f"{'':32}{'top-1 %':>8}" + "".join(f"{f'{way}: same %, top-1 %':>30}" for way in WAYS))
    for name in options.network:
        engine = OnnxEngine(folder / "models" / f"{name}.onnx")
        for short in options.short:
            images = [enlarged(path.read_bytes(), short) for path in paths]
            found = report["agreement"][f"{name}, {short or 'as it is'}"] = compared(
                engine, specs[name], images, labels
            )
            cells = "".join(cell(found[way]) for way in WAYS)
            plain_share = 100 * found["plain"]["top1"]
            print(f"{name:22}{short or 'as it is':>10}{plain_share:8.1f}{cells}", flush=True)
        engine.close()
    save(report, options.json)


def cell(found: dict[str, Any]) -> str:
    """Agreement with its interval, and accuracy."""
    low, high = (100 * end for end in found["interval"])
    return f"{100 * found['share']:10.1f} ({low:5.1f}-{high:5.1f}) {100 * found['top1']:6.1f}"


if __name__ == "__main__":
    main()
