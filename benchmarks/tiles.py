"""What computing only the tiles that changed saves on clips, and what it costs in agreement.

    python benchmarks/tiles.py BUNDLE CANDIDATE CLIP... [--control CLIP...] [--loss 0.03]
        [--frames 100] [--tune-frames 20] [--every T [--input T]] [--levels N] [--json FILE]

For each clip thresholds are tuned on the other clips, or are --every. Every frame is run densely
and with tiles, in turn. Beside it stands every n-th frame at equal cost. `--control` clips are
run with thresholds tuned on all the others. Times are the processor's, as other work on the machine
does not count there; a network has one thread. The first rows are the overheads: frames of which
nothing changed, and of which everything did. --exact runs a threshold of 0 alone and says how far
its outputs are from the dense ones at most.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from machine import envelope, machine, machine_line, result
from PIL import Image, ImageDraw

from adaptive.bundle.bundle import Bundle
from adaptive.engines.tiles.engine import TileEngine
from adaptive.engines.tiles.state import Thresholds, TileState
from adaptive.images.decode import MAX_PIXELS
from adaptive.images.decoded import DecodedImage, decode_image
from adaptive.images.preprocess import needed_short, placed
from adaptive.images.video import VideoReader
from adaptive.tasks.detections import Detections
from adaptive.tasks.reading import Reading
from adaptive.video.tile_tuning import disagreement, total_variation, tuned_tiles

#: Score from which a box counts.
LEAST = 0.3


def read(clip: Path, spec: Any, first: int, count: int) -> list[DecodedImage]:
    found = []
    with VideoReader(clip) as reader:
        for number, frame in enumerate(reader):
            if number >= first + count:
                break
            if number >= first:
                short = needed_short(spec)
                image = decode_image(frame.image, short, MAX_PIXELS, native=False, sized=True)
                image.tensor(spec)
                found.append(image)
    return found


class Boxes:
    """Reads a detector's outputs; frames are told apart by their number."""

    def __init__(self, engine: TileEngine, candidate: Any) -> None:
        self.names = engine.dense.outputs
        self.spec = candidate.input
        self.reading = Reading.of(candidate.output)

    def of(self, outputs: Sequence[np.ndarray], image: DecodedImage) -> Detections:
        height, width, _ = image.source(self.spec).shape
        place = placed(height, width, self.spec)
        raw = dict(zip(self.names, outputs))
        return self.reading.boxes(raw, self.spec.sides, place, image.size)


def matched(one: Detections, other: Detections) -> tuple[int, int]:
    """Pairs of boxes of one class at an IoU of 0.5 or more, and boxes of both."""
    first, second = (d.scores >= LEAST for d in (one, other))
    a, b = one.boxes[first], other.boxes[second]
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    sizes = [(d[:, 2] - d[:, 0]) * (d[:, 3] - d[:, 1]) for d in (a, b)]
    iou = shared / np.maximum(sizes[0][:, None] + sizes[1][None] - shared, 1e-9)
    iou *= one.classes[first][:, None] == other.classes[second][None]
    pairs = 0
    while iou.size and iou.max() >= 0.5:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        iou[row], iou[:, column] = 0, 0
        pairs += 1
    return pairs, len(a) + len(b)


def every_nth(same: Callable[[int, int], float], count: int, cost: float) -> float:
    """Agreement of computing every n-th frame at a cost, mixed of the two nearest n."""
    wanted = 1 / min(max(cost, 1 / count), 1.0)
    low = math.floor(wanted)
    values = [np.mean([same(k, k // n * n) for k in range(count)]) for n in (low, low + 1)]
    return float(values[0] + (values[1] - values[0]) * (1 / low - 1 / wanted) * low * (low + 1))


def f1(pairs: Sequence[tuple[int, int]]) -> float:
    both = sum(p[1] for p in pairs)
    return 2 * sum(p[0] for p in pairs) / both if both else 1.0


def softmax(outputs: Sequence[np.ndarray], kind: str) -> np.ndarray:
    values = outputs[0].ravel().astype(np.float64)
    if kind != "logits":
        return values
    grown = np.exp(values - values.max())
    return np.asarray(grown / grown.sum())


def measured(
    engine: TileEngine,
    images: list[DecodedImage],
    spec: Any,
    thresholds: Thresholds,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Each frame densely and with tiles, in turn."""
    state = engine.state(thresholds)
    dense: list[list[np.ndarray]] = []
    tiles: list[list[np.ndarray]] = []
    dense_ms, tiles_ms, shares = [], [], []
    for image in images:
        frame = image.tensor(spec)
        began = time.process_time()
        dense.append(engine.run(frame))
        between = time.process_time()
        tiles.append(engine.run_streams([state], frame))
        ended = time.process_time()
        dense_ms.append((between - began) * 1e3)
        tiles_ms.append((ended - between) * 1e3)
        shares.append(list(state.shares))
    if picture is not None:
        draw(engine, state, images[-1].tensor(spec), spec, picture)
    return {
        "dense": dense, "tiles": tiles, "dense_ms": dense_ms, "tiles_ms": tiles_ms,
        "shares": np.mean(shares[1:], axis=0), "counts": dict(state.counts),
        "bytes": state.bytes, "speed_up": sum(dense_ms) / sum(tiles_ms),
    }  # fmt: skip


def draw(engine: TileEngine, state: TileState, frame: np.ndarray, spec: Any, path: Path) -> None:
    """The frame, the tiles of 8x8 pixels that changed, and the share of each layer that ran."""
    pixels = frame[0] if spec.layout == "NHWC" else frame[0].transpose(1, 2, 0)
    low, high = float(pixels.min()), float(pixels.max())
    shown = ((pixels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    changed = np.zeros(shown.shape[:2], bool)
    changed.flat[state.pixels] = True
    for y in range(0, changed.shape[0], 8):
        for x in range(0, changed.shape[1], 8):
            tile = shown[y : y + 8, x : x + 8]
            if changed[y : y + 8, x : x + 8].any():
                tile[..., 0] = tile[..., 0] // 2 + 127
    side, width = 448, 16
    page = Image.new("RGB", (side + 40 + width * len(state.shares), side), "white")
    page.paste(Image.fromarray(shown).resize((side, side)))
    pen = ImageDraw.Draw(page)
    for place, share in enumerate(state.shares):
        x = side + 20 + place * width
        pen.rectangle((x, 20, x + width - 4, side - 20), outline="#bbbbbb")
        pen.rectangle((x, side - 20 - (side - 40) * share, x + width - 4, side - 20), "#c0392b")
    page.save(path)


def overheads(engine: TileEngine, frames: int) -> dict[str, float]:
    """Time with tiles over time without: nothing changed, and everything did, after settling."""
    random = np.random.default_rng(0)
    dtype = engine.cut.types[engine.cut.source]
    many = [(random.random(engine.shape) * 255).astype(dtype) for _ in range(8)]
    found = {}
    for name, clip in (("nothing", many[:1]), ("everything", many)):
        state = engine.state(0.1)
        for number in range(130 if name == "everything" else 3):
            engine.run_streams([state], clip[number % len(clip)])
        dense = tiles = 0.0
        for number in range(frames):
            frame = clip[number % len(clip)]
            began = time.process_time()
            engine.run(frame)
            between = time.process_time()
            engine.run_streams([state], frame)
            dense += between - began
            tiles += time.process_time() - between
        found[name] = tiles / dense
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("candidate")
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--control", nargs="*", default=[], type=Path, metavar="CLIP")
    parser.add_argument("--loss", type=float, default=0.03)
    parser.add_argument("--first", type=int, default=30, help="frame of each clip to begin with")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--tune-frames", type=int, default=20)
    parser.add_argument("--every", type=float, help="one threshold for all maps; nothing is tuned")
    parser.add_argument("--input", type=float, help="the input's threshold, with --every")
    parser.add_argument("--levels", type=int)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="of each clip's last frame, to FILE.CLIP.png")
    options = parser.parse_args()
    bundle = Bundle.read(options.bundle)
    candidate = bundle.candidate(options.candidate)
    spec, boxes = candidate.input, bundle.task == "detect"
    engine = TileEngine.open(bundle.folder / candidate.file, levels=options.levels)
    about = machine()
    print(machine_line(about))
    print(
        f"{candidate.name}: {len(engine.cut.segments)} segments, {len(engine.maps)} maps kept; "
        f"dense {engine.dense_ms:.1f} ms, all maps filled {engine.filling_ms:.1f} ms; "
        f"densely from {engine.cut.why or 'nowhere'}"
    )
    if options.exact:
        for clip in [*options.clips, *options.control]:
            images = read(clip, spec, 0, options.frames)
            found = measured(engine, images, spec, Thresholds(0.0))
            far = [
                max(float(np.abs(a - b).max()) for a, b in zip(*pair))
                for pair in zip(found["dense"], found["tiles"])
            ]
            print(f"{clip.name}: {len(images)} frames, at most {max(far):.2g} apart")
        return
    over = overheads(engine, 64)
    print("  ".join(f"{name} changed: {value:.3f} of dense" for name, value in over.items()))
    reader = Boxes(engine, candidate) if boxes else None

    def tuned(clips: Sequence[Path]) -> Thresholds:
        if options.every is not None:
            given = options.every if options.input is None else options.input
            return Thresholds(options.every, {engine.cut.source: given})
        images = [read(c, spec, options.first + 100, options.tune_frames) for c in clips]
        shown = images[0][0]  # boxes of a frame are compared with each other, wherever they lie

        def lost(dense: Sequence[np.ndarray], tiles: Sequence[np.ndarray]) -> float:
            if reader is None:
                return disagreement(dense, tiles)
            pairs = matched(reader.of(dense, shown), reader.of(tiles, shown))
            return 1 - f1([pairs]) if pairs[1] else float("nan")

        frames = [[image.tensor(spec) for image in clip] for clip in images]
        found = tuned_tiles(engine, frames, options.loss, lost)
        print(
            f"  tuned on {', '.join(c.name for c in clips)}: loss {found.loss:.3f}, "
            f"{found.speed_up:.2f} times by its own costs, {found.tried} settings; thresholds "
            f"{list(dict.fromkeys(found.thresholds.of(m) for m in engine.maps))}"
            + ("" if found.pays else "; none pays, and the gate alone should answer")
        )
        return found.thresholds

    results: dict[str, dict[str, object]] = {}
    speeds, agreements = [], []
    for clip in [*options.clips, *options.control]:
        thresholds = tuned([c for c in options.clips if c != clip])
        images = read(clip, spec, options.first, options.frames)
        shown = options.picture and options.picture.with_suffix(f".{clip.stem}.png")
        found = measured(engine, images, spec, thresholds, shown)
        cost, count = 1 / found["speed_up"], len(images)
        if reader is not None:
            said = [reader.of(o, i) for o, i in zip(found["dense"], images)]
            here = [reader.of(o, i) for o, i in zip(found["tiles"], images)]
            pairs = [matched(a, b) for a, b in zip(said, here)]
            agreement = f1(pairs)
            wanted = 1 / min(max(cost, 1 / count), 1.0)
            low = math.floor(wanted)
            ends = [
                f1([matched(said[k], said[k // n * n]) for k in range(count)])
                for n in (low, low + 1)
            ]
            nth = ends[0] + (ends[1] - ends[0]) * (1 / low - 1 / wanted) * low * (low + 1)
            told = f"F1 {agreement:.3f}, every n-th frame at equal cost {nth:.3f}"
        else:
            kind = candidate.output.kind
            sure = [softmax(o, kind) for o in found["dense"]]
            here = [softmax(o, kind) for o in found["tiles"]]
            top = np.array([p.argmax() for p in sure])
            same = top == np.array([p.argmax() for p in here])
            agreement = float(same.mean())
            high = np.array([p.max() >= 0.5 for p in sure])
            nth = every_nth(lambda k, j, t=top: float(t[k] == t[j]), count, cost)
            apart_by = np.mean([total_variation([a], [b]) for a, b in zip(sure, here)])
            told = (
                f"agrees {agreement:.3f}, every n-th frame at equal cost {nth:.3f}; where dense is "
                f"0.5 sure {same[high].mean() if high.any() else float('nan'):.3f} "
                f"({high.sum()} frames); total variation {apart_by:.3f}"
            )
        quarters = np.array_split(found["shares"], 4)
        print(
            f"{clip.name}, {count} frames: {found['speed_up']:.2f} times as fast, {told}; tiles "
            f"that ran by quarter {[round(float(q.mean()), 2) for q in quarters]}; "
            f"{found['counts']}; {found['bytes'] / 1e6:.0f} MB a stream"
        )
        results[f"{clip.name}, dense"] = result(found["dense_ms"])
        results[f"{clip.name}, tiles"] = result(found["tiles_ms"])
        if clip in options.clips:
            speeds.append(found["speed_up"])
            agreements.append(agreement)
    print(
        f"mean over {len(speeds)} clips: {np.mean(speeds):.2f} times as fast at "
        f"{np.mean(agreements):.3f}"
    )
    if options.json:
        settings = {"loss": options.loss, "frames": options.frames, "every": options.every}
        options.json.write_text(json.dumps(envelope("tiles", results, settings, about), indent=1))


if __name__ == "__main__":
    main()
