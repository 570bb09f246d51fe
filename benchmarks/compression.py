"""Decomposed networks, time against accuracy: `python benchmarks/compression.py --work WORK`.

Parts, each a call of the commands that a user would make, with their folders kept in WORK:

* cifar: the embedded default's residual network on the 32 x 32 test images of DATA/cifar10, at
  several shares of variance and repaired on images without labels, with an eight-bit copy of each
* imagenet: the networks of benchmarks/imagenet.py that `--network` names, repaired on the first
  1,000 photographs without their labels and measured on the others; one after the other, into one
  folder of candidates
* tune: profiles those others once with all candidates, and tunes a policy with the smaller copies
  and one without them, on the same table and at the same drops

Times are of one thread, medians in turns, by that thread's processor time; the whole command can
be run under `chrt -f 20 taskset -c 1` where the machine has other work.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from imagenet import make_candidates
from machine import machine, machine_line

from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.files import read_json
from adaptive.outcomes.table import OutcomeTable, probabilities_folder

CIFAR_SHARES = (0.9, 0.8, 0.75, 0.7, 0.6)
IMAGENET_SHARES = (0.95, 0.9, 0.8, 0.7)


def adaptive(*options: object) -> None:
    """One command of the command line."""
    subprocess.run([sys.executable, "-m", "adaptive", *map(str, options)], check=True)


def table(folder: Path) -> str:
    """What a folder of smaller copies says of them, as Markdown."""
    found = read_json(folder / "compressed.json", "the folder's note")["copies"]
    own = {line["name"]: line for line in found}
    lines = [
        "| network | top-1, % | agrees, % | M multiply-adds | fewer | parameters "
        "| MB | ms | faster |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in found:
        whole = own[line["of"]]
        fewer = whole["multiply_adds"] / line["multiply_adds"]
        faster = whole["ms"] / line["ms"]
        told = f"{faster:.2f}x" if faster >= 1 else f"{1 / faster:.2f}x slower"
        lines.append(
            f"| {line['name']} | {100 * line['top1']:.2f} | {100 * line['agreement']:.2f} | "
            f"{line['multiply_adds'] / 1e6:.1f} | {fewer:.2f}x | "
            f"{line['parameters'] / 1e6:.2f}M | {line['megabytes']:.1f} | {line['ms']:.3f} | "
            f"{told} |"
        )
    return "\n".join(lines)


def cifar(data: Path, work: Path, repair: int, check: int) -> None:
    folder = work / "cifar"
    keep = [word for share in CIFAR_SHARES for word in ("--keep", share)]
    adaptive(
        "compress", default_bundle(), "-o", folder, "--tucker", *keep, "--only", "resnet",
        "--images", data / "cifar10" / "test", "--repair", repair, "--check", check, "--force",
    )  # fmt: skip
    print(table(folder))
    names = ["resnet", *(f"resnet-tucker{round(100 * share)}" for share in CIFAR_SHARES)]
    adaptive(
        "quantize", folder, "-o", work / "cifar-int8", "--int8", "cpu", "--images",
        data / "cifar10" / "train", "--check", check, "--force",
        *(word for name in names for word in ("--only", name)),
    )  # fmt: skip


def imagenet(data: Path, work: Path, networks: list[str], repair: int, check: int) -> None:
    """One network after the other, each folder holding the copies of those before it."""
    unlabelled, others = dealt(data, work)
    keep = [word for share in IMAGENET_SHARES for word in ("--keep", share)]
    folder = work / "candidates"
    for number, name in enumerate(networks, 1):
        smaller = work / f"small-{number}"
        adaptive(
            "compress", folder, "-o", smaller, "--tucker", *keep,
            "--only", name, "--images", data / "imagenet" / "images", "--labels", others,
            "--unlabelled", unlabelled, "--repair", repair, "--check", check,
            "--work", work / "made", "--force",
        )  # fmt: skip
        print(table(smaller))
        folder = smaller


def dealt(data: Path, work: Path) -> tuple[Path, Path]:
    """A folder of the first 1,000 photographs, and the labels of the others."""
    unlabelled, others = work / "unlabelled", work / "others.csv"
    if not others.exists():
        with open(data / "imagenet" / "labels.csv", newline="") as file:
            head, *rows = csv.reader(file)
        unlabelled.mkdir(parents=True, exist_ok=True)
        for name, _ in rows[:1000]:
            shutil.copyfile(data / "imagenet" / "images" / name, unlabelled / Path(name).name)
        with open(others, "w", newline="") as file:
            csv.writer(file).writerows([head, *rows[1000:]])
        make_candidates(data, work / "candidates")
    return unlabelled, others


def tune(data: Path, work: Path, networks: list[str], drop: str, images: int) -> None:
    """Whether the front moves: one policy with the smaller copies, and one without them.

    Everything is profiled once. The policy without copies is tuned on the same table less their
    columns, so that both see the same answers and the same times.
    """
    _, others = dealt(data, work)
    folder = work / f"small-{len(networks)}"
    outcomes, without = work / "with-copies.csv", work / "without-copies.csv"
    if not outcomes.exists():
        adaptive(
            "profile", "--candidates", folder, "--images", data / "imagenet" / "images",
            "--labels", others, "--limit", images, "-o", outcomes,
        )  # fmt: skip
    restrict(outcomes, Bundle.read(work / "candidates").names, without)
    for path in (outcomes, without):
        adaptive(
            "tune", path, "--max-accuracy-drop", drop, "--reference", "resnet50",
            "-o", work / f"{path.stem}-policy.json", "--force",
        )  # fmt: skip


def restrict(outcomes: Path, names: Sequence[str], without: Path) -> None:
    """The table of some of its candidates, as a table of its own."""
    table = OutcomeTable.read(outcomes)
    kept = [entry for entry in table.meta["candidates"] if entry["name"] in names]
    replace(
        table,
        outcomes={name: table.outcomes[name] for name in names},
        meta={**table.meta, "candidates": kept},
    ).write(without)
    folder = probabilities_folder(without)
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copyfile(probabilities_folder(outcomes) / f"{name}.npy", folder / f"{name}.npy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("ADAPTIVE_DATA", str(Path.home() / "adaptive-data"))
    parser.add_argument("--data", type=Path, default=Path(home))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parts", default="cifar,imagenet,tune")
    parser.add_argument("--network", action="append", choices=["resnet50", "googlenet"])
    parser.add_argument("--repair", type=int, default=300)
    parser.add_argument("--check", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000, help="that are profiled")
    parser.add_argument("--drop", default="0.01,0.02,0.05")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    networks = arguments.network or ["googlenet", "resnet50"]
    print(machine_line(machine(1)))
    parts = arguments.parts.split(",")
    if "cifar" in parts:
        cifar(arguments.data, arguments.work, arguments.repair, arguments.check)
    if "imagenet" in parts:
        imagenet(arguments.data, arguments.work, networks, arguments.repair, arguments.check)
    if "tune" in parts:
        tune(arguments.data, arguments.work, networks, arguments.drop, arguments.images)


if __name__ == "__main__":
    main()
