"""Pruned networks beside what they must beat: `python benchmarks/pruning.py --work WORK`.

Trains a network of a paper on a folder-per-class data set of 32 x 32 images, prunes it by learned
masks (algorithm 2 of Huynh 2019), and compares at equal multiply-adds: the same filters' numbers
chosen at once by masks of another share, by L1 and by chance, fine-tuned for as many epochs as the
loop had in all, and a narrower network that is trained from scratch for as long as everything
together. Eight-bit copies of each, and times of all in turns.

Every step keeps its result in WORK: a stopped run goes on, and `original.onnx` there is taken
instead of being trained. `--short` trains all but the original, and the narrower network's first
epochs, on the first so many images of each epoch, for machines that have no time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from machine import machine, machine_line

from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import read_json, sha256, write_json
from adaptive.intervals import share
from adaptive.networks.compression.counting import count
from adaptive.networks.compression.finetuning import write_network
from adaptive.networks.compression.layer_times import clock_of
from adaptive.networks.compression.pruning import Pruner, PruneRecipe
from adaptive.networks.copies import median_ms
from adaptive.networks.costs import multiply_adds
from adaptive.networks.export import export_network
from adaptive.networks.images import ImageArrays, hold_out, read_folder
from adaptive.networks.int8 import quantize
from adaptive.networks.paper_designs import PAPER_DESIGNS
from adaptive.networks.precision import open_session
from adaptive.networks.training import TrainingRecipe, train

#: Of the training images, nobody trains on these: they judge each iteration.
HELD_OUT = 5000


class Comparison:
    """One network and all that is made of it, in a folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work: Path = arguments.work
        self.arguments = arguments
        images = read(arguments.data, "train", self.work)
        self.test = read(arguments.data, "test", self.work)
        rows, held = hold_out(images.labels, HELD_OUT, seed=0)
        self.search, self.whole = images.subset(held), images.subset(rows)
        chosen = np.random.default_rng(0).permutation(len(rows))[: arguments.short]
        self.short = self.whole.subset(np.sort(chosen))
        self.candidate = Candidate(
            arguments.design, "original.onnx", "", InputSpec(32, "uint8", "NHWC", "cover"),
            OutputSpec(len(images.classes)),
        )  # fmt: skip

    def recipe(self, epochs: int, rate: float) -> TrainingRecipe:
        return TrainingRecipe(epochs=epochs, batch=128, learning_rate=rate, bfloat16=True)

    def trained(self, name: str, width: float, then: int) -> Path:
        """A network of the design, trained from scratch, and `then` epochs longer.

        Where those are of the same images it is one cycle of all of them.
        """
        path = self.work / f"{name}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            network: Any = PAPER_DESIGNS[self.arguments.design](len(self.test.classes), width)
            steps = [(self.whole, self.arguments.epochs, 0.2)]
            if self.arguments.short is None:
                steps = [(self.whole, self.arguments.epochs + then, 0.2)]
            elif then:
                steps += [(self.short, then, self.arguments.rate)]
            for number, (images, epochs, rate) in enumerate(steps):
                checkpoint = self.work / f"{name}-{number}.checkpoint"
                recipe, device = self.recipe(epochs, rate), self.arguments.device
                network = train(network, images, recipe, checkpoint, device=device)
            export_network(network, path, 32, half_weights=False)
        return path

    def pruner(
        self, name: str, importance: str, share: float, iterations: int | None = None
    ) -> Pruner:
        a = self.arguments
        recipe = PruneRecipe(
            importance, share, a.vote, a.max_loss, iterations or a.iterations,
            (a.mask_epochs,) * 2, self.recipe(a.tune_epochs, a.rate),
        )  # fmt: skip
        original = self.work / "original.onnx"
        own = replace(self.candidate, sha256=sha256(original))
        return Pruner(
            onnx.load(str(original)), own, self.short, self.search, recipe,
            self.work / name, device=a.device,
        )  # fmt: skip

    def pruned(self) -> dict[str, Any]:
        """The loop's result, as `mask.onnx`, with its widths; `mask-N.onnx` after N iterations."""
        note = self.work / "mask.json"
        if not note.exists():
            a, like = self.arguments, onnx.load(str(self.work / "original.onnx"))
            rows: list[list[Any]] = []
            widths: dict[str, int] = {}
            path = self.work / "mask.onnx"
            for number in range(1, a.iterations + 1):
                made = self.pruner("mask", "mask", a.share, number).prune()
                after = made.iterations[-1]
                rows.append([after.voted, after.top1, after.kept, dict(after.widths)])
                if not after.kept:
                    break
                if after.top1 is None:  # nothing could go yet
                    continue
                widths = dict(after.widths)
                write_network(made.network, self.candidate, path, like)
                shutil.copy(path, self.work / f"mask-{number}.onnx")
                left = count(onnx.load(str(path))).multiply_adds
                if a.fewer and a.fewer * left <= count(like).multiply_adds:
                    break
            write_json(note, {"widths": widths, "iterations": rows})
        return read_json(note, "the pruned network's note")

    def at_widths(self, name: str, importance: str, widths: dict[str, int], epochs: int) -> None:
        """The loop's widths at once, of filters that are chosen otherwise, as `name`.onnx."""
        path = self.work / f"{name}.onnx"
        if not path.exists():
            recipe = self.recipe(epochs, self.arguments.rate)
            pruner = self.pruner(name, importance, self.arguments.once_share)
            made = pruner.to_widths(widths, recipe)
            write_network(
                made.network, self.candidate, path, onnx.load(str(self.work / "original.onnx"))
            )

    def narrower(self, products: int) -> float:
        """The width at which the design has about so many multiply-adds."""
        best, found = None, 1.0
        example = torch.from_numpy(self.test.images[:1])
        for width in np.arange(self.arguments.width, 0.02, -0.01):
            network = PAPER_DESIGNS[self.arguments.design](len(self.test.classes), float(width))
            apart = abs(multiply_adds(network, example) - products)
            if best is None or apart < best:
                best, found = apart, float(width)
        return found

    def report(self, names: list[str]) -> str:
        images = list(self.test.images[:: len(self.test.labels) // 200, None])
        calibrate = list(self.short.images[:: len(self.short.labels) // 200, None])
        paths = []
        for name in names:
            path, small = self.work / f"{name}.onnx", self.work / f"{name}-int8.onnx"
            if not small.exists():
                quantize(path, small, calibrate)
            paths += [path, small]
        times = median_ms(paths, images, clock=clock_of(1))
        lines = [
            "| network | top-1, % | M multiply-adds | parameters | MB | ms |",
            "|---|---|---|---|---|---|",
        ]
        for path, ms in zip(paths, times):
            right = share(rights(path, self.test))
            counted = count(onnx.load(str(path)))
            lines.append(
                f"| {path.stem} | {100 * right.value:.2f} ({100 * right.low:.1f} to "
                f"{100 * right.high:.1f}) | {counted.multiply_adds / 1e6:.2f} | "
                f"{counted.parameters / 1e3:.1f}K | {path.stat().st_size / 1e6:.2f} | {ms:.3f} |"
            )
        return "\n".join(lines)

    def iterations(self, found: dict[str, Any]) -> str:
        """The loop, iteration by iteration."""
        lines = [
            "| iteration | voted out | filters left | M multiply-adds | held out, % | test, % |",
            "|---|---|---|---|---|---|",
        ]
        for number, (voted, top1, kept, widths) in enumerate(found["iterations"], 1):
            path = self.work / f"mask-{number}.onnx"
            cells = ["", "", ""]
            if path.exists():
                products = count(onnx.load(str(path))).multiply_adds
                right = rights(path, self.test).mean()
                cells = [f"{products / 1e6:.2f}", f"{100 * top1:.2f}", f"{100 * right:.2f}"]
            elif top1 is not None:
                cells[1] = f"{100 * top1:.2f}{'' if kept else ', not kept'}"
            left = ", ".join(str(width) for width in widths.values())
            lines.append(f"| {number} | {voted} | {left} | {' | '.join(cells)} |")
        return "\n".join(lines)


def read(folder: Path, part: str, work: Path) -> ImageArrays:
    """Images in memory, from an array in `work` where they were decoded before."""
    cache = work / f"{part}.npz"
    if not cache.exists():
        images = read_folder(folder / part)
        aside = work / f"{part}.{os.getpid()}.npz"
        np.savez(aside, images=images.images, labels=images.labels, classes=images.classes)
        os.replace(aside, cache)
    kept = np.load(cache)
    names = [str(row) for row in range(len(kept["labels"]))]
    return ImageArrays(names, kept["images"], kept["labels"], list(kept["classes"]))


def rights(path: Path, images: ImageArrays) -> np.ndarray:
    """Which images a network gets right."""
    session = open_session(str(path), 1)
    source = session.get_inputs()[0].name
    found = []
    for at in range(0, len(images.labels), 250):
        answer = session.run(None, {source: images.images[at : at + 250]})[0]
        found.append(answer.reshape(len(answer), -1).argmax(1) == images.labels[at : at + 250])
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    folder = os.environ.get("ADAPTIVE_DATA", str(Path.home() / "adaptive-data"))
    parser.add_argument("--data", type=Path, default=Path(folder) / "cifar10")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--design", choices=list(PAPER_DESIGNS), default="all-cnn-c")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--short", type=int)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--once-share", type=float, default=0.2, help="masked for `once`")
    parser.add_argument("--vote", type=float, default=0.95)
    parser.add_argument("--max-loss", type=float, default=0.01)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--fewer", type=float, help="end at so many times fewer multiply-adds")
    parser.add_argument("--mask-epochs", type=int, default=1, help="alone, and again with all")
    parser.add_argument("--tune-epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.02, help="of masks and fine-tuning")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="that trains: cpu or cuda")
    parser.add_argument("--parts", default="original,mask,once,l1,narrower,random,report")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    parts = arguments.parts.split(",")
    one = Comparison(arguments)
    if "original" in parts:
        one.trained("original", arguments.width, 0)
    if parts == ["original"]:
        return
    found = one.pruned()
    if not found["widths"]:
        raise SystemExit("no iteration was kept; see mask.json, and give a larger --max-loss")
    spent = (2 * arguments.mask_epochs + arguments.tune_epochs) * len(found["iterations"])
    for importance in ("l1", "random"):
        if importance in parts:
            one.at_widths(importance, importance, found["widths"], spent)
    if "once" in parts:
        tuned = arguments.tune_epochs * len(found["iterations"])
        one.at_widths("once", "mask", found["widths"], tuned)
    if "narrower" in parts:
        products = count(onnx.load(str(arguments.work / "mask.onnx"))).multiply_adds
        one.trained("narrower", one.narrower(products), spent)
    if "report" in parts:
        names = ["original", "mask", "once", "l1", "random", "narrower"]
        print(machine_line(machine(1)), time.strftime("%Y-%m-%d"))
        print(one.report([n for n in names if (arguments.work / f"{n}.onnx").exists()]))
        print(one.iterations(found))


if __name__ == "__main__":
    main()
