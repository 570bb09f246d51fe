"""Profile, train and evaluate on real ImageNet photographs and networks.

    python benchmarks/imagenet.py --data DATA --work WORK

DATA holds `imagenet/images`, `imagenet/labels.csv`, `imagenet/classes.csv` and
`imagenet/models/*.onnx`; it defaults to the environment's ADAPTIVE_DATA. WORK keeps the outcome
table, so that a second call goes on from there. Every step is the command that a user would call.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import numpy as np
from machine import envelope, result, save
from recipes import RECIPES, make
from tqdm import tqdm

from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.csvfile import read_csv
from adaptive.evaluation.evaluation import oracle_row
from adaptive.evaluation.replay import replay
from adaptive.features.schema import SCHEMA, resolve_names
from adaptive.files import sha256
from adaptive.intervals import Estimate, mean, random_mix, share
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.premodel.cost import predict_ms
from adaptive.premodel.fit import TRAINERS
from adaptive.premodel.mixture import FEATURES
from adaptive.tuning.gate import gate
from adaptive.tuning.objectives import MAKES, Tuner

REFERENCE = "resnet50"

#: times faster than the reference; a lead is told in the mean over these, since one budget's is
#: mostly luck
SPEEDUPS = (2.9, 2.6, 2.3, 2.0, 1.7, 1.4, 1.2, 1.0)

FOLDS = 5

#: what is tuned, and what it is held against
WITHOUT, WITH, ALONE = "tune, no premodel", "tune with a premodel", "the premodel alone"
MIX, BEFORE, USED = "random mix", "--against", "used"

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


def seen(data: Path, folder: Path, camera: str) -> tuple[Path, Path]:
    """The photographs as a camera of `recipes` sees them, made now unless they are there.

    Returns
    -------
    The folder of images, and the labels that go with it.
    """
    labels = data / "imagenet" / "labels.csv"
    if camera == "clean":
        return data / "imagenet" / "images", labels
    images = folder / "images"
    if not (folder / "labels.csv").exists():
        names = list(read_csv(labels).text("image"))
        conditions = make(camera, data / "imagenet" / "images", names, images)
        (folder / "conditions.txt").write_text("\n".join(conditions) + "\n")
        (folder / "labels.csv").write_text(labels.read_text().replace(".jpeg,", ".jpeg.png,"))
    return images, folder / "labels.csv"


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
    table: OutcomeTable, classifier: str, features: str, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tune on four fifths and answer the rest, five times, so that each image is answered once.

    Everything that is chosen is chosen on the four fifths: features' conditions, path, gains,
    exponents, price, and whether the premodel is used.

    Returns
    -------
    By what was tuned: right (budgets, n), and milliseconds of the same shape.
    """
    n = len(table)
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def note(name: str, row: int, rows: np.ndarray, right: np.ndarray, ms: np.ndarray) -> None:
        own = found.setdefault(name, (np.zeros((len(SPEEDUPS), n)), np.zeros((len(SPEEDUPS), n))))
        own[0][row, rows], own[1][row, rows] = right, ms

    names = resolve_names(features)
    for part in range(FOLDS):
        tuning, rest = table.select(fold != part), table.select(fold == part)
        rows = np.flatnonzero(fold == part)
        order = tuple(sorted(table.candidates, key=lambda c: float(tuning.ms(c).mean())))
        outcomes = np.column_stack([tuning.quality(c) for c in order])
        premodel = TRAINERS[classifier](
            tuning.feature_columns(names), outcomes, names, order, schema_version=SCHEMA.version
        ).premodel
        charged = predict_ms(premodel)
        whole = Split(1.0, 0.0, 0.0)
        plain = Tuner(tuning, whole, reference=REFERENCE)
        told = Tuner(tuning, whole, premodel=premodel, reference=REFERENCE, premodel_ms=charged)
        alone = Tuner(
            tuning, whole, premodel=premodel, reference=REFERENCE, premodel_ms=charged,
            kind="premodel",
        )  # fmt: skip
        makes = MAKES if premodel.conditions else ("", "conditions")
        right = [rest.quality(c).astype(float) for c in rest.candidates]
        for row, speedup in enumerate(SPEEDUPS):
            budget = plain.cost[REFERENCE] / speedup
            policies = {
                WITHOUT: plain.within(budget).policy,
                WITH: told.within(budget).policy,
                ALONE: alone.within(budget).policy,
                **{f"forced: {m or 'learned cascade'}": told.learned(budget, m).policy
                   for m in makes},
            }  # fmt: skip
            for name, policy in policies.items():
                done = replay(policy, rest, premodel_ms=charged)
                note(name, row, rows, done.quality, done.ms)
                if name == ALONE:
                    costs = [plain.cost[c] for c in rest.candidates]
                    accuracies = [float(tuning.quality(c).mean()) for c in rest.candidates]
                    mix = random_mix(costs, accuracies, float(done.ms.mean()))
                    note(MIX, row, rows, mix.apply(right), np.full(len(rows), mix.cost))
            used = np.full(len(rows), policies[WITH].premodel is not None)
            note(USED, row, rows, used, used)
    return found


def used_on_halves(
    table: OutcomeTable, camera: str, classifier: str, features: str, halves: int
) -> None:
    """Print on how many random halves of the images `tune` uses the premodel, and why."""
    names = resolve_names(features)
    used = 0
    numbers = []
    for seed in tqdm(range(halves), desc="halves", disable=None):
        rows = np.random.default_rng(1000 + seed).permutation(len(table))[: len(table) // 2]
        half = table.select(np.sort(rows))
        order = tuple(sorted(half.candidates, key=lambda c: float(half.ms(c).mean())))
        outcomes = np.column_stack([half.quality(c) for c in order])
        premodel = TRAINERS[classifier](
            half.feature_columns(names), outcomes, names, order, schema_version=SCHEMA.version
        ).premodel
        tuner = Tuner(
            half, Split(1.0, 0.0, 0.0), premodel=premodel, premodel_ms=predict_ms(premodel)
        )
        assert tuner.judged is not None
        decided = gate(tuner.members, tuner.judged)
        used += decided.taken
        places = 0.0 if decided.beyond is None else decided.beyond.errors
        numbers.append((decided.foretold.errors, places))
    foretold, beyond = np.mean(numbers, axis=0)
    print(
        f"{camera}, {classifier}: used on {used} of {halves} random halves of {len(half)} images; "
        f"in the mean gains are foretold {foretold:+.1f} standard errors better than by "
        f"confidence, and {beyond:+.1f} better than by how hard the image is"
    )


def scatter(table: OutcomeTable) -> tuple[float, float, float]:
    """How differences between answers of one or two networks scatter, as foreseen and by labels.

    Returns
    -------
    The foreseen variance over the labels', both in the mean over all pairs of answers; how far the
    two means are apart, and how far they would be by chance, in the root of the mean square.
    """
    members = Tuner(table, Split(1.0, 0.0, 0.0), reference=REFERENCE).members
    paths = [p for k in (1, 2) for p in itertools.combinations(members.names, k)]
    found = []
    for one, other in itertools.combinations(paths, 2):
        seen = members.right(one, True).astype(float) - members.right(other, True)
        foreseen = members.foreseen(one, True) - members.foreseen(other, True)
        apart = seen - foreseen
        found.append((foreseen.var(), seen.var(), apart.mean() ** 2, apart.var() / len(apart)))
    told, labels, bias, chance = np.mean(found, axis=0)
    return float(told / labels), float(np.sqrt(bias)), float(np.sqrt(chance))


def over_budgets(
    tuned: Sequence[dict[str, tuple[np.ndarray, np.ndarray]]], one: str, other: str
) -> Estimate:
    """Top-1 of one less the other's, in the mean over budgets and partitions, paired by image."""
    each = [run[one][0].mean(axis=0) - run[other][0].mean(axis=0) for run in tuned]
    return mean(np.mean(each, axis=0))


def report(
    table: OutcomeTable,
    name: str,
    classifiers: Sequence[str],
    features: str,
    partitions: int,
    against: Path | None = None,
    answers: Path | None = None,
) -> dict[str, object]:
    """Print and return what single networks and tuned policies do on one table."""
    print(f"\n{name}: {len(table)} images, {table.meta['board']['processor']}, one thread")
    found: dict[str, object] = {"board": table.meta["board"]}
    slowest = float(table.ms(REFERENCE).mean())
    for candidate in table.candidates:
        accuracy, ms = share(table.quality(candidate)), float(table.ms(candidate).mean())
        print(f"  always {candidate:24}{100 * accuracy.value:7.2f} %{ms:9.3f} ms"
              f"{slowest / ms:7.1f}x")  # fmt: skip
        found[candidate] = {"top1": accuracy.to_json(), "ms": ms}
    oracle = oracle_row(table)
    print(f"  {'oracle':31}{100 * oracle.quality.value:7.2f} %{oracle.ms.value:9.3f} ms")
    found["oracle"] = oracle.to_json()
    ratio, bias, chance = scatter(table)
    found["foreseen"] = {"variance": ratio, "bias": bias, "bias_by_chance": chance}
    print(f"  differences between answers, foreseen: {ratio:.2f} of the labels' variance; means "
          f"are {100 * bias:.2f} points apart, by chance {100 * chance:.2f}")  # fmt: skip
    for classifier in classifiers:
        tuned = [
            cross_tuned(table, classifier, features, seed)
            for seed in tqdm(range(partitions), desc="partitions", disable=None)
        ]
        pairs = [(one, WITHOUT) for one in tuned[0] if one not in (WITHOUT, ALONE, MIX, USED)] + [
            (ALONE, MIX)
        ]
        if against is not None:
            before = np.load(against)
            for run, right, ms in zip(tuned, before["right"], before["ms"]):
                run[BEFORE] = (right.astype(float), ms)
            pairs += [(WITHOUT, BEFORE), (WITH, BEFORE)]
        used = np.mean([run[USED][0] for run in tuned])
        print(f"  with {classifier}, {partitions} partitions; premodel used in {100 * used:.0f}%")
        for one, other in pairs:
            lead = over_budgets(tuned, one, other)
            singles = np.mean([run[one][0] - run[other][0] for run in tuned], axis=(0, 2))
            spent = np.mean([run[one][1] for run in tuned], axis=(0, 2))
            print(
                f"  {one:36}over {other:24}{100 * lead.value:+6.2f} ({100 * lead.low:+.2f} to "
                f"{100 * lead.high:+.2f}); by budget "
                + " ".join(f"{slowest / ms:.2f}x {100 * d:+.2f}" for ms, d in zip(spent, singles)),
                flush=True,
            )
            found[f"{classifier}: {one} over {other}"] = {
                "mean_of_budgets": lead.to_json(),
                "by_budget": singles.tolist(),
                "speedup": (slowest / spent).tolist(),
            }
        found[f"{classifier}: premodel used"] = float(used)
        if answers is not None:
            right, ms = (np.array([run[WITHOUT][k] for run in tuned]) for k in (0, 1))
            np.savez_compressed(answers, right=right.astype(bool), ms=ms)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--camera", choices=["clean", *RECIPES], default="clean")
    parser.add_argument("--classifier", action="append", choices=sorted(TRAINERS))
    parser.add_argument("--features", default=",".join(FEATURES), help="what the premodel reads")
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument(
        "--halves", type=int, help="only count on how many random halves the premodel is used"
    )
    parser.add_argument("--answers", type=Path, help="write what tune without a premodel answers")
    parser.add_argument("--against", type=Path, help="such a file, of another version")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data or set ADAPTIVE_DATA")
    data, work = Path(arguments.data), arguments.work.resolve()
    if not (work / "candidates" / "manifest.json").exists():
        make_candidates(data, work / "candidates")
    folder = work / arguments.camera
    folder.mkdir(exist_ok=True)
    images, labels = seen(data, folder, arguments.camera)
    table = profiled(folder, images, labels, arguments.limit)
    if arguments.halves is not None:
        for classifier in arguments.classifier or ["mixture"]:
            used_on_halves(
                table, arguments.camera, classifier, arguments.features, arguments.halves
            )
        return
    found = report(
        table,
        arguments.camera,
        arguments.classifier or ["mixture"],
        arguments.features,
        arguments.partitions,
        arguments.against,
        arguments.answers,
    )
    if arguments.camera == "clean" and arguments.limit is None:
        for candidate, _, _, expected in NETWORKS:
            measured = 100 * float(table.quality(candidate).mean())
            print(f"  {candidate}: {measured:.2f} %, expected {expected:.2f} %")
    times = {f"always {c}": result(table.ms(c).tolist(), "ms") for c in table.candidates}
    settings = {"camera": arguments.camera, "images": len(table), "features": arguments.features}
    save(envelope("imagenet", times, settings, paired=True, found=found), arguments.json)


if __name__ == "__main__":
    main()
