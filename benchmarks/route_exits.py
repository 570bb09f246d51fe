"""Route to the exits of a trained multi-exit network: tuned, certified, against always each exit.

    python benchmarks/route_exits.py DATA/cifar10 CANDIDATES --held-out HELD.csv --work WORK

CANDIDATES and HELD.csv are what `adaptive train-exits` wrote; `--weights RUN.pt` exports a network
of `benchmarks/multiexit.py` first. Policies are tuned on the test images and certified on the
held-out ones, all of which no network has seen; each table is profiled by the command that a user
would call, and kept in WORK.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import InputSpec
from adaptive.csvlines import write_lines
from adaptive.evaluation.replay import replay
from adaptive.files import write_json
from adaptive.intervals import mean, random_mix, share
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.tuning.objectives import Tuner

#: Accuracy that may be lost, and how sure the promise is to be.
DROP, DELTA = 0.01, 0.05


def export(weights: Path, joins: bool, folder: Path, data: Path, held: Path) -> None:
    """Split a network of `benchmarks/multiexit.py` into candidates, and list its held-out images.

    Those are the same as in `adaptive train-exits` with 10,000 held out and seed 0.
    """
    import torch

    from adaptive.networks.images import hold_out
    from adaptive.networks.small_exits import small_exits
    from adaptive.networks.split import export_exits

    classes = sorted(p.name for p in (data / "train").iterdir())
    network = small_exits(len(classes), joins=joins)
    network.load_state_dict(torch.load(weights, weights_only=True))
    export_exits(network, folder, "small", classes, InputSpec(32, "uint8", "NHWC", "cover"))
    rows = labelled(data / "train", "")
    _, out = hold_out(np.array([label for _, label in rows]), 10_000, 0)
    write_labels(held, [rows[row] for row in out])


def labelled(folder: Path, prefix: str) -> list[tuple[str, int]]:
    """Every image of `folder`/CLASS with its class, names in front of which `prefix` stands."""
    found = []
    for label, name in enumerate(sorted(p.name for p in folder.iterdir())):
        found += [(f"{prefix}{name}/{p.name}", label) for p in sorted((folder / name).iterdir())]
    return found


def write_labels(path: Path, rows: list[tuple[str, int]]) -> None:
    """A CSV of images and labels, as `adaptive profile --labels` reads it."""
    with open(path, "w", newline="") as file:
        write_lines(file, [("image", "label"), *rows])


def profiled(candidates: Path, data: Path, rows: list[tuple[str, int]], path: Path) -> OutcomeTable:
    """The outcome table of some images, made now unless it is there."""
    if not path.exists():
        labels = path.with_suffix(".labels.csv")
        write_labels(labels, rows)
        command = ["profile", f"--candidates={candidates}", f"--images={data}"]
        command += [f"--labels={labels}", f"--output={path}"]
        print("$ adaptive " + " ".join(command), flush=True)
        subprocess.run([sys.executable, "-m", "adaptive.cli", *command], check=True)
    return OutcomeTable.read(path)


def report(held: OutcomeTable, test: OutcomeTable) -> dict[str, object]:
    """Print and return what always each exit does, and the certified policy."""
    last = [name for name in held.candidates if "@" in name][-1]
    whole = float(held.ms(last).mean())
    print(f"{len(test)} images tune, {len(held)} certify; {held.meta['board']['processor']}")
    singles = {}
    for name in held.candidates:
        ms, top1 = float(held.ms(name).mean()), share(held.quality(name))
        through = held.of(name).through
        headless = None if through is None else float(through.mean())
        singles[name] = {"ms": ms, "top1": top1.to_json(), "through_ms": headless}
        print(f"  always {name:10}{100 * top1.value:7.2f} %{ms:9.3f} ms{whole / ms:7.2f}x")
    tuner = Tuner(test, Split(1.0, 0.0, 0.0), calibration=held, reference=last)
    tuned = tuner.certified(DROP, DELTA)
    print(f"  {tuned.reason}")
    found: dict[str, object] = {"board": held.meta["board"], "singles": singles}
    found["reason"] = tuned.reason
    if tuned.policy is None or tuned.certificate is None:
        return found
    done = replay(tuned.policy, held)
    lead = mean(done.quality.astype(float) - held.quality(last))
    costs = [singles[n]["ms"] for n in held.candidates]
    accuracies = [float(held.quality(n).mean()) for n in held.candidates]
    mix = random_mix(costs, accuracies, float(done.ms.mean()))
    blind = mix.apply([held.quality(n).astype(float) for n in held.candidates])
    over = mean(done.quality - blind)
    speed = whole / float(done.ms.mean())
    shares = {n: float(np.mean(done.candidate == i)) for i, n in enumerate(tuned.policy.candidates)}
    print(f"  {tuned.certificate.words()}")
    print(
        f"  on the held-out images {speed:.2f}x faster than {last}, {100 * lead.value:+.2f} points "
        f"({100 * lead.low:+.2f} to {100 * lead.high:+.2f}) against it and {100 * over.value:+.2f} "
        f"({100 * over.low:+.2f} to {100 * over.high:+.2f}) against a random mix of equal cost; "
        f"answered by {shares}"
    )
    found.update(
        certificate=tuned.certificate.to_json(),
        speedup=speed,
        over_last=lead.to_json(),
        over_random_mix=over.to_json(),
        shares=shares,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="a folder with train/CLASS and test/CLASS")
    parser.add_argument("candidates", type=Path)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="export this network to CANDIDATES first")
    parser.add_argument("--no-joins", action="store_true", help="of --weights")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    candidates = arguments.candidates.resolve()
    if arguments.weights is not None and not (candidates / "manifest.json").exists():
        export(arguments.weights, not arguments.no_joins, candidates, data, arguments.held_out)
    Bundle.read(candidates)
    with open(arguments.held_out, newline="") as file:
        held = [(f"train/{row['image']}", int(row["label"])) for row in csv.DictReader(file)]
    found = report(
        profiled(candidates, data, held, work / "held.csv"),
        profiled(candidates, data, labelled(data / "test", "test/"), work / "test.csv"),
    )
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    main()
