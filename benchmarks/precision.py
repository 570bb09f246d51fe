"""Eight bits, and 16 bits by layer, on real ImageNet networks: what they lose and gain.

    python benchmarks/precision.py --data DATA --work WORK [--network resnet50 ...] [--json X.json]

DATA is as for benchmarks/imagenet.py. Of its images the first 200 give the eight-bit ranges, the
next ones guide the search for 16-bit convolutions, and those after them report. The baseline of
the search is onnxconverter_common's automatic mixed precision, which keeps whole stretches of
nodes in 32 bits until one batch of images passes; it is left out where that is not installed.
WORK keeps each network's copies, so that a stopped run goes on with the next network; times and
baselines are of each call.

Accuracy with a star is simulated: a processor has no 16-bit convolutions, and one without VNNI
rounds eight-bit sums. Times are of this processor alone, medians over networks taking turns.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, Callable

import numpy as np
import onnx
import onnxruntime
from imagenet import NETWORKS, make_candidates

from adaptive.bundle.bundle import Bundle
from adaptive.engines.answers import probabilities
from adaptive.files import read_json, write_json
from adaptive.intervals import front
from adaptive.jetson.board import board_profile
from adaptive.networks.copies import Copy, CopyRecipe, Parts, make_copies, median_ms
from adaptive.networks.int8 import TARGETS, quantize
from adaptive.networks.precision import Answers, unpacked
from adaptive.outcomes.labelled import list_images

Clock = Callable[[], float]

#: Images in the one batch that the baseline is validated on: it holds every tensor of it.
BASELINE_IMAGES = 50


def automatic(model: onnx.ModelProto, images: np.ndarray, max_loss: float) -> onnx.ModelProto:
    """onnxconverter_common's mixture whose answers change for at most `max_loss` of a batch."""
    from onnxconverter_common import auto_mixed_precision

    def validate(own: list[np.ndarray], other: list[np.ndarray]) -> bool:
        one, two = (answer[0].reshape(len(images), -1) for answer in (own, other))
        if not np.isfinite(two).all():
            return False
        return float((one.argmax(1) != two.argmax(1)).mean()) <= max_loss

    onnxruntime.set_default_logger_severity(3)
    for position, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
    unshare(model)
    # It cannot convert what follows a cast to 32 bits, so pixels are cast outside meanwhile.
    cut = cast_outside(model)
    name = model.graph.input[0].name
    with contextlib.redirect_stdout(io.StringIO()):
        mixed = auto_mixed_precision.auto_convert_mixed_precision(
            model, {name: images.astype(np.float32)}, validate, keep_io_types=True
        )
    if cut is not None:
        mixed.graph.input[0].CopyFrom(cut)
        kept = [info for info in mixed.graph.value_info if info.name != name]
        del mixed.graph.value_info[:]
        mixed.graph.value_info.extend(kept)
        mixed.graph.node.insert(
            0,
            onnx.helper.make_node("Cast", [cut.name], [name], "pixels", to=onnx.TensorProto.FLOAT),
        )
    return mixed


def cast_outside(model: onnx.ModelProto) -> onnx.ValueInfoProto | None:
    """Let a network that begins by casting its pixels read what it casts them to.

    Returns the input as it was, or None where there is no such cast.
    """
    entry = model.graph.input[0]
    casts = [n for n in model.graph.node if n.op_type == "Cast" and n.input[0] == entry.name]
    if not casts:
        return None
    was = onnx.ValueInfoProto()
    was.CopyFrom(entry)
    (cast,) = casts
    entry.name = cast.output[0]
    entry.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.graph.node.remove(cast)
    return was


def unshare(model: onnx.ModelProto) -> None:
    """Give every node constants of its own.

    The baseline converts a constant for all of its readers, also for one that stays in 32 bits,
    and then cannot open the mixture.
    """
    held = {i.name: i for i in model.graph.initializer}
    seen: set[str] = set()
    for position, node in enumerate(model.graph.node):
        for at, name in enumerate(node.input):
            if name in held and name in seen:
                copy = model.graph.initializer.add()
                copy.CopyFrom(held[name])
                copy.name = node.input[at] = f"{name}_{position}_{at}"
            seen.add(name)


def in_16_bits(model: onnx.ModelProto) -> tuple[int, int]:
    """How many of the network's convolutions have 16-bit weights, of how many."""
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    weights = [kinds.get(n.input[1]) for n in model.graph.node if n.op_type == "Conv"]
    return sum(k == onnx.TensorProto.FLOAT16 for k in weights), len(weights)


def whole(folder: Path, recipe: CopyRecipe) -> bool:
    """Whether these very copies are there from an earlier call."""
    report = folder / "copies.json"
    own = json.loads(json.dumps(asdict(recipe)))
    return report.exists() and read_json(report, "the report")["recipe"] == own


def timed(
    copies: list[dict[str, Any]], folder: Path, images: list[np.ndarray], threads: int, clock: Clock
) -> list[dict[str, Any]]:
    """The lines of a report with times of this call, also where its copies are from an earlier."""
    here = [copy for copy in copies if copy["ms"] is not None]
    paths = [folder / f"{copy['name']}.onnx" for copy in here]
    times = median_ms(paths, images, threads, clock=clock)
    now = dict(zip((copy["name"] for copy in here), times))
    return [{**copy, "ms": now.get(copy["name"])} for copy in copies]


def fastest_as_good(networks: dict[str, Any]) -> list[str]:
    """Names of what nothing faster here answers as well as, the fastest first."""
    timed_here = [c for found in networks.values() for c in found["copies"] if c["ms"] is not None]
    kept = front([copy["ms"] for copy in timed_here], [copy["top1"] for copy in timed_here])
    return [timed_here[position]["name"] for position in kept]


def one(
    bundle: Bundle,
    name: str,
    images: Any,
    recipe: CopyRecipe,
    work: Path,
    averaged: bool,
    clock: Clock,
) -> dict[str, Any]:
    """Every copy of one network, and the baselines."""
    parts = Parts(images, recipe)
    folder = work / name
    if not whole(folder, recipe):
        began = perf_counter()
        make_copies(bundle, images, folder, recipe, [name], force=True)
        print(f"  copies made in {perf_counter() - began:.0f} s", flush=True)
    made = read_json(folder / "copies.json", "the report")
    candidate = bundle.candidate(name)
    pixels = parts.pixels(candidate)
    source = bundle.folder / candidate.file
    model = unpacked(onnx.load(str(source)))
    answers = Answers(
        model, pixels.check, parts.check_labels, lambda raw: probabilities(raw, candidate.output)
    )
    copies = timed(made["copies"], folder, pixels.check, recipe.threads, clock)
    found: dict[str, Any] = {"copies": copies, "averaged": {}}
    for runs_on in TARGETS if averaged else ():
        path = work / "averaged.onnx"
        quantize(source, path, pixels.calibrate, runs_on, averaged=True)
        other = answers.of(path, as_written=runs_on != "cpu")
        found["averaged"][runs_on] = answers.top1(other)
        print(f"  {runs_on}, ranges averaged over images: {100 * answers.top1(other):.2f} %")
    try:
        batch = np.concatenate(pixels.search[:BASELINE_IMAGES])
        began = perf_counter()
        mixed = automatic(unpacked(onnx.load(str(source))), batch, recipe.max_loss or 0.0)
    except ImportError:
        print("  onnxconverter_common is not installed: its baseline is left out")
    except Exception as exc:
        print(f"  onnxconverter_common failed: {str(exc).splitlines()[0][:200]}")
        found["automatic"] = {"failed": str(exc)[:300]}
    else:
        other = answers.of(mixed)
        half, of = in_16_bits(mixed)
        found["automatic"] = {
            "top1": answers.top1(other),
            "agreement": answers.agreement(other),
            "divergence": answers.loss(other).divergence,
            "convolutions": [half, of],
            "s": perf_counter() - began,
        }
        print(
            f"  automatic mixed precision: {half} of {of} convolutions, "
            f"{100 * answers.top1(other):.2f} %* ({perf_counter() - began:.0f} s)",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--network", action="append", choices=[n[0] for n in NETWORKS])
    parser.add_argument("--max-loss", type=float, default=0.005)
    parser.add_argument("--search", type=int, default=300)
    parser.add_argument("--check", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--averaged", action="store_true", help="also with ranges averaged")
    parser.add_argument(
        "--processor-time", action="store_true",
        help="time the thread, not the wall, where the machine has other work; for one thread",
    )  # fmt: skip
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data or set ADAPTIVE_DATA")
    if arguments.processor_time and arguments.threads != 1:
        parser.error("--processor-time tells the time of one thread")
    clock: Clock = thread_time if arguments.processor_time else perf_counter
    data, work = Path(arguments.data), arguments.work.resolve()
    if not (work / "candidates" / "manifest.json").exists():
        make_candidates(data, work / "candidates")
    bundle = Bundle.read(work / "candidates")
    recipe = CopyRecipe(
        int8=TARGETS, max_loss=arguments.max_loss, search=arguments.search,
        threads=arguments.threads,
    )  # fmt: skip
    images = list_images(
        data / "imagenet" / "images", bundle.labels, data / "imagenet" / "labels.csv",
        recipe.calibrate + recipe.search + arguments.check,
    )  # fmt: skip
    board = board_profile(arguments.threads)
    print(f"{board['processor']}, ONNX Runtime {board.get('onnxruntime')}, "
          f"{arguments.threads} thread(s), {arguments.check} images report")  # fmt: skip
    report: dict[str, Any] = {
        "board": board,
        "clock": "thread" if arguments.processor_time else "wall",
        "networks": {},
    }
    for name in arguments.network or [n[0] for n in NETWORKS]:
        print(name, flush=True)
        report["networks"][name] = one(
            bundle, name, images, recipe, work, arguments.averaged, clock
        )
        for copy in report["networks"][name]["copies"]:
            print("  " + Copy(**copy).text(), flush=True)
        report["front"] = fastest_as_good(report["networks"])
        if arguments.json:
            write_json(arguments.json, report)
    print("front, times of this processor: " + ", ".join(report["front"]))


if __name__ == "__main__":
    main()
