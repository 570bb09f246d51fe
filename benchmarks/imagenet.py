"""Profile, train and evaluate on real ImageNet photographs and networks.

    python benchmarks/imagenet.py --data DATA --work WORK

DATA holds `imagenet/images`, `imagenet/labels.csv`, `imagenet/classes.csv` and
`imagenet/models/*.onnx`; it defaults to the environment's ADAPTIVE_DATA. WORK keeps the outcome
table, so that a second call goes on from there. Every step is the command that a user would call.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Sequence

import numpy as np
from machine import envelope, result, save
from tqdm import tqdm

from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.csvfile import read_csv
from adaptive.evaluation.evaluation import oracle_row
from adaptive.evaluation.replay import replay
from adaptive.features.schema import resolve_names
from adaptive.files import sha256
from adaptive.intervals import mean, random_mix, share
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.premodel.cost import predict_ms
from adaptive.premodel.fit import TRAINERS
from adaptive.tuning.objectives import Tuner

REFERENCE = "resnet50"

#: times faster than the reference, and the points of top-1 above it that are aimed at there
GOALS = ((2.9, 0.0), (2.3, 0.9), (1.7, 1.8), (1.0, 2.3))

_PIXELS = {"dtype": "uint8", "layout": "NHWC"}
_NORMALISED = {
    "dtype": "float32",
    "layout": "NCHW",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "scale": 255.0,
}

#: name, input, kind of output, and top-1 in % that the first 2,000 validation images give
NETWORKS = (
    ("mobilenet_v1_025_128", InputSpec(128, resize="stretch", **_PIXELS), "probabilities", 35.55),
    ("mobilenet_v1_050_160", InputSpec(160, resize="stretch", **_PIXELS), "probabilities", 53.70),
    ("mobilenet_v1_075_192", InputSpec(192, resize="stretch", **_PIXELS), "probabilities", 62.55),
    ("mobilenet_v2_100_224", InputSpec(224, resize="crop", **_PIXELS), "probabilities", 69.50),
    ("googlenet", InputSpec(224, resize="crop", **_NORMALISED), "logits", 68.15),
    ("resnet50", InputSpec(224, resize="crop", **_NORMALISED), "logits", 72.20),
)


def make_candidates(data: Path, folder: Path) -> None:
    """Write a folder of candidates for the networks in `data`/imagenet/models."""
    folder.mkdir(parents=True, exist_ok=True)
    candidates = []
    for name, spec, kind, _ in NETWORKS:
        file = f"{name}.onnx"
        shutil.copyfile(data / "imagenet" / "models" / file, folder / file)
        candidates.append(
            Candidate(name, file, sha256(folder / file), spec, OutputSpec(1000, kind))
        )
    columns = read_csv(data / "imagenet" / "classes.csv")
    # Several classes share a first name, so the WordNet number goes in front.
    labels = [f"{w} {n}" for w, n in zip(columns.text("wnid"), columns.text("name"))]
    write_candidates(folder, candidates, labels, reference="resnet50")


def moody(data: Path, folder: Path) -> None:
    """The same photographs as a moody camera sees them, as PNG files.

    40 % are left as they are; 15 % each are dark with a little noise (x 0.18, sigma 4), blurred
    (Gaussian, sigma 2.5), noisy (sigma 30), or washed out (x 0.35 + 160).
    """
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name in tqdm(read_csv(data / "imagenet" / "labels.csv").text("image"), desc="moody camera"):
        image = cv2.imread(str(data / "imagenet" / "images" / name)).astype(np.float32)
        noise = generator.standard_normal(image.shape, np.float32)
        mood = generator.choice(5, p=[0.4, 0.15, 0.15, 0.15, 0.15])
        if mood == 1:
            image = image * 0.18 + 4 * noise
        elif mood == 2:
            image = cv2.GaussianBlur(image, (0, 0), 2.5)
        elif mood == 3:
            image = image + 30 * noise
        elif mood == 4:
            image = image * 0.35 + 160
        cv2.imwrite(str(folder / f"{name}.png"), np.clip(image, 0, 255).round().astype(np.uint8))


def profiled(work: Path, images: Path, labels: Path, limit: int | None) -> OutcomeTable:
    """The outcome table of `images`, made now unless it is there."""
    output = work / "outcomes.csv"
    if not output.exists():
        command = ["profile", "--candidates", work.parent / "candidates", "--images", images]
        command += ["--labels", labels, "-o", output]
        if limit is not None:
            command += ["--limit", limit]
        print("$ adaptive " + " ".join(map(str, command)), flush=True)
        subprocess.run([sys.executable, "-m", "adaptive.cli", *map(str, command)], check=True)
    return OutcomeTable.read(output)


def cross_tuned(
    table: OutcomeTable,
    speedup: float,
    classifier: str | None,
    features: str = "all+extra",
    kind: str | None = None,
) -> dict[str, object]:
    """Tune on four fifths, answer the rest, five times: every image is answered exactly once.

    The interval is over images, each answered by a policy that was tuned without it.
    """
    n = len(table)
    fold = np.random.default_rng(0).permutation(n) % 5
    right, ms = np.zeros(n, bool), np.zeros(n)
    mixed = np.zeros(n)
    kinds: Counter[str] = Counter()
    for part in range(5):
        tuning, rest = table.select(fold != part), table.select(fold == part)
        premodel = None
        if classifier is not None:
            names = resolve_names(features)
            order = tuple(sorted(table.candidates, key=lambda c: float(table.ms(c).mean())))
            outcomes = np.column_stack([tuning.top1(c) for c in order])
            premodel = (
                TRAINERS[classifier](tuning.feature_columns(names), outcomes, names, order)
            ).premodel
        tuner = Tuner(
            tuning, Split(1.0, 0.0, 0.0), premodel=premodel, reference=REFERENCE, kind=kind,
            premodel_ms=0.0 if premodel is None else predict_ms(premodel),
        )  # fmt: skip
        policy = tuner.within(tuner.cost[REFERENCE] / speedup).policy
        done = replay(policy, rest, premodel_ms=tuner.premodel_ms)
        rows = np.flatnonzero(fold == part)
        right[rows], ms[rows] = done.top1, done.ms
        kinds[policy.kind] += 1
        names_ = rest.candidates
        costs = [tuner.cost[c] for c in names_]
        accuracies = [float(tuning.top1(c).mean()) for c in names_]
        mix = random_mix(costs, accuracies, float(done.ms.mean()))
        mixed[rows] = mix.apply([rest.top1(c).astype(float) for c in names_])
    reference = table.top1(REFERENCE)
    return {
        "right": right,
        "speedup_wanted": speedup,
        "speedup": float(table.ms(REFERENCE).mean() / ms.mean()),
        "ms": float(ms.mean()),
        "top1": share(right).to_json(),
        "over_reference": mean(right - reference.astype(float)).to_json(),
        "over_random_mix": mean(right - mixed).to_json(),
        "kinds": dict(kinds),
    }


def report(
    table: OutcomeTable, name: str, classifiers: Sequence[str | None], features: str
) -> dict[str, object]:
    """Print and return what single networks and tuned policies do on one table."""
    print(f"\n{name}: {len(table)} images, {table.meta['board']['processor']}, one thread")
    found: dict[str, object] = {"board": table.meta["board"]}
    slowest = float(table.ms(REFERENCE).mean())
    for candidate in table.candidates:
        accuracy, ms = share(table.top1(candidate)), float(table.ms(candidate).mean())
        print(f"  always {candidate:24}{100 * accuracy.value:7.2f} %{ms:9.3f} ms"
              f"{slowest / ms:7.1f}x")  # fmt: skip
        found[candidate] = {"top1": accuracy.to_json(), "ms": ms}
    oracle = oracle_row(table)
    print(f"  {'oracle':31}{100 * oracle.top1.value:7.2f} %{oracle.ms.value:9.3f} ms")
    found["oracle"] = oracle.to_json()
    cascade: dict[float, np.ndarray] = {}
    for classifier in classifiers:
        for kind in (None,) if classifier is None else (None, "premodel", "hybrid"):
            for speedup, goal in GOALS:
                row = cross_tuned(table, speedup, classifier, features, kind)
                over = row["over_reference"]
                mix = row["over_random_mix"]
                right = row.pop("right")
                if classifier is None:
                    cascade[speedup] = right
                paired = mean(right - cascade[speedup].astype(float))
                row["over_cascade"] = paired.to_json()
                title = "cascades" if classifier is None else f"{kind or 'any'} with {classifier}"
                print(
                    f"  {title:26}at {row['speedup']:4.2f}x: {100 * over['value']:+5.2f} points "
                    f"({100 * over['low']:+.2f} to {100 * over['high']:+.2f}; goal {goal:+.1f}), "
                    f"over the random mix {100 * mix['value']:+.2f} "
                    f"({100 * mix['low']:+.2f} to {100 * mix['high']:+.2f}), over the cascade "
                    f"{100 * paired.value:+.2f} ({100 * paired.low:+.2f} to "
                    f"{100 * paired.high:+.2f}) {row['kinds']}",
                    flush=True,
                )
                found[f"{title} at {speedup}x"] = row
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--camera", choices=["clean", "moody"], default="clean")
    parser.add_argument("--classifier", action="append", choices=sorted(TRAINERS))
    parser.add_argument("--features", default="all+extra", help="what the premodel reads")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data or set ADAPTIVE_DATA")
    data, work = Path(arguments.data), arguments.work.resolve()
    if not (work / "candidates" / "manifest.json").exists():
        make_candidates(data, work / "candidates")
    folder = work / arguments.camera
    images, labels = data / "imagenet" / "images", data / "imagenet" / "labels.csv"
    if arguments.camera == "moody":
        images = folder / "images"
        if not (folder / "labels.csv").exists():
            moody(data, images)
            text = labels.read_text().replace(".jpeg,", ".jpeg.png,")
            (folder / "labels.csv").write_text(text)
        labels = folder / "labels.csv"
    folder.mkdir(exist_ok=True)
    table = profiled(folder, images, labels, arguments.limit)
    found = report(
        table, arguments.camera, [None, *(arguments.classifier or [])], arguments.features
    )
    if arguments.camera == "clean" and arguments.limit is None:
        for candidate, _, _, expected in NETWORKS:
            measured = 100 * float(table.top1(candidate).mean())
            print(f"  {candidate}: {measured:.2f} %, expected {expected:.2f} %")
    times = {f"always {c}": result(table.ms(c).tolist(), "ms") for c in table.candidates}
    settings = {"camera": arguments.camera, "images": len(table), "features": arguments.features}
    save(envelope("imagenet", times, settings, paired=True, found=found), arguments.json)


if __name__ == "__main__":
    main()
