"""Accuracy of exits trained in several ways: `python benchmarks/multiexit.py --work WORK`.

Parts, in this order; each can be asked for alone with --parts:

* train: single networks that end at each exit, the joint network, with aggregation, with
  distillation, with focal loss, some with three seeds; all by one recipe. With --teacher also
  networks, single ones and one with exits, that learn seven tenths from a larger network's
  answers. Every run keeps a checkpoint and its results in WORK, so that the command can be
  stopped and called again. Called twice at the same time, the two processes share the runs.
* time: seconds of a training step and of an answer with all exits, the joint network beside the
  five single ones, interleaved.
* report: the tables.

Data is a folder-per-class data set of 32 x 32 images with `train` and `test`; 10,000 of the
training images are held out, as for the embedded default.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor, nn

from adaptive.files import sha256
from adaptive.networks.costs import exit_costs, multiply_adds
from adaptive.networks.images import ImageArrays, hold_out, read_folder
from adaptive.networks.losses import ExitLoss
from adaptive.networks.small_exits import small_exits
from adaptive.networks.teacher import teacher_logits
from adaptive.networks.training import TrainingRecipe, train
from adaptive.premodel.scoring import area

EXITS = 5
HELD_OUT = 10_000
THRESHOLDS = (0.5, 0.7)
LOSS = ExitLoss()
DISTIL = ExitLoss(distil=0.3)
FOCAL = ExitLoss(gamma=2.0)
#: As the embedded default's exits learn, and single networks beside them.
TAUGHT = ExitLoss(teach=0.7, weights=(1.0, 2.0, 2.0, 2.0, 2.0))
TAUGHT_ALONE = ExitLoss(teach=0.7)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """One training: which network, which loss, which seed."""

    kind: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"

    @property
    def loss(self) -> ExitLoss:
        if self.taught:
            return TAUGHT_ALONE if self.kind[-1].isdigit() else TAUGHT
        return {"distil": DISTIL, "focal": FOCAL}.get(self.kind, LOSS)

    @property
    def taught(self) -> bool:
        return self.kind.startswith("taught")

    def network(self, classes: int) -> nn.Module:
        torch.manual_seed(self.seed)
        if self.kind[-1].isdigit():
            return small_exits(classes, joins=False).single(int(self.kind[-1]) - 1)
        return small_exits(classes, joins=self.kind != "joint")


SINGLES = [Run(f"single{k}", 0) for k in range(EXITS, 0, -1)]
#: In the order in which they are trained.
RUNS = [
    Run("join", 0),
    Run("joint", 0),
    *SINGLES,
    Run("distil", 0),
    Run("focal", 0),
    *(Run(kind, seed) for seed in SEEDS[1:] for kind in ("joint", "join", "distil")),
    *(Run(run.kind, seed) for seed in SEEDS[1:] for run in SINGLES),
]
#: Those that learn from a larger network, too.
TAUGHT_RUNS = [
    Run(kind, seed)
    for seed in SEEDS
    for kind in ("taught", *(f"taught{k}" for k in range(5, 0, -1)))
]


@dataclass(frozen=True)
class Data:
    """Images to train on, and those that only measure."""

    train: ImageArrays
    held_out: ImageArrays
    test: ImageArrays


def read_data(folder: Path, work: Path) -> Data:
    """Read the images, from arrays in `work` where they were decoded before."""
    parts = {}
    for part in ("train", "test"):
        cache = work / f"{part}.npz"
        if not cache.exists():
            read = read_folder(folder / part)
            aside = work / f"{part}.{os.getpid()}.npz"
            np.savez(aside, images=read.images, labels=read.labels, classes=read.classes)
            os.replace(aside, cache)
        kept = np.load(cache)
        names = [""] * len(kept["labels"])
        parts[part] = ImageArrays(names, kept["images"], kept["labels"], list(kept["classes"]))
    rows, held = hold_out(parts["train"].labels, HELD_OUT, seed=0)
    return Data(parts["train"].subset(rows), parts["train"].subset(held), parts["test"])


def train_all(
    data: Data,
    work: Path,
    recipe: TrainingRecipe,
    wanted: list[Run],
    device: str = "cpu",
    teacher: np.ndarray | None = None,
) -> None:
    """Train what is not trained yet and not being trained by another process.

    teacher : a larger network's logits for the training images, for the runs that learn from it
    """
    for run in wanted:
        done = work / f"{run.name}.json"
        with open(work / f"{run.name}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if done.exists():
                continue
            print(f"== {run.name}", flush=True)
            own = TrainingRecipe(**{**asdict(recipe), "seed": run.seed})
            began, busy = time.monotonic(), time.process_time()
            network = train(
                run.network(len(data.train.classes)),
                data.train,
                own,
                work / f"{run.name}.checkpoint",
                data.test,
                run.loss,
                device,
                teacher if run.taught else None,
            ).cpu()
            spent = {
                "wall_s_per_epoch": (time.monotonic() - began) / own.epochs,
                "cpu_s_per_epoch": (time.process_time() - busy) / own.epochs,
            }
            torch.save(network.state_dict(), work / f"{run.name}.pt")
            found: dict[str, Any] = {"run": asdict(run), "loss": asdict(run.loss), **spent}
            found["recipe"] = asdict(own)
            found["multiply_adds"] = costs_of(network, data.test.images[:1])
            for part, images in (("test", data.test), ("held_out", data.held_out)):
                logits = all_logits(network, images.images)
                np.save(work / f"{run.name}.{part}.npy", logits.astype(np.float16))
                found[part] = measures(logits, images.labels)
            write(done, found)
            print(run.name, [round(100 * a, 2) for a in found["test"]["accuracy"]], flush=True)


def answers_of(teacher: Path, images: ImageArrays, work: Path) -> np.ndarray:
    """The teacher's logits, from an array in `work` where they were computed before."""
    kept = work / f"teacher-{sha256(teacher)[:8]}.npy"
    if not kept.exists():
        aside = work / f"teacher.{os.getpid()}.npy"
        np.save(aside, teacher_logits(teacher, images))
        os.replace(aside, kept)
    logits: np.ndarray = np.load(kept)
    return logits


def costs_of(network: nn.Module, image: np.ndarray) -> dict[str, Any]:
    """Multiply-adds of each segment and head, or of a plain network."""
    example = torch.from_numpy(image)
    if isinstance(network, nn.Sequential):
        return {"whole": multiply_adds(network, example)}
    costs = exit_costs(network, example)  # type: ignore[arg-type]
    return {**asdict(costs), "ways": costs.ways, "whole": costs.whole}


def all_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Logits of shape (exits, n, classes), float32."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), 500):
            outputs = network.eval()(torch.from_numpy(images[start : start + 500]))
            exits = [outputs] if isinstance(outputs, Tensor) else outputs
            found.append(np.stack([e.numpy() for e in exits]))
    return np.concatenate(found, axis=1)


def measures(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy of each exit, and what its confidence is worth."""
    right = logits.argmax(2) == labels
    shifted = np.exp(logits - logits.max(2, keepdims=True))
    confidence = 1 / shifted.sum(2)
    stops = {str(t): confidence >= t for t in THRESHOLDS}
    return {
        "accuracy": right.mean(1).tolist(),
        "auc": [area(c, r) for c, r in zip(confidence, right)],
        "accuracy_of_surest_half": [
            float(r[np.argsort(-c, kind="stable")[: len(labels) // 2]].mean())
            for c, r in zip(confidence, right)
        ],
        "share": {t: s.mean(1).tolist() for t, s in stops.items()},
        "accuracy_of_stopped": {
            t: [float(r[one].mean()) if one.any() else None for one, r in zip(s, right)]
            for t, s in stops.items()
        },
    }


def write(path: Path, found: Any) -> None:
    """Write JSON aside, then rename it."""
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(found, indent=1))
    os.replace(aside, path)


def time_steps(work: Path, images: ImageArrays, recipe: TrainingRecipe, repeats: int = 30) -> None:
    """Time a training step and an answer: five single networks, and one with all exits.

    Each is timed in turn on the same images, `repeats` times; the medians count.
    """
    classes = len(images.classes)
    singles = [run.network(classes) for run in SINGLES]
    found: dict[str, Any] = {"repeats": repeats, "threads": torch.get_num_threads()}
    cost = [multiply_adds(network, torch.from_numpy(images.images[:1])) for network in singles]
    for kind in ("joint", "join"):
        joint = Run(kind, 0).network(classes)
        whole = multiply_adds(joint, torch.from_numpy(images.images[:1]))
        found[kind] = {"arithmetic": sum(cost) / whole}
        for what, batch in (("train", recipe.batch), ("answer", 32), ("answer", 256)):
            x = torch.from_numpy(images.images[:batch])
            y = torch.from_numpy(images.labels[:batch])
            act = [_step(n, x, y) if what == "train" else _answer(n, x) for n in [joint, *singles]]
            spent = np.empty((repeats + 2, len(act)))
            for row in spent:
                for place, one in enumerate(act):
                    began = time.perf_counter()
                    one()
                    row[place] = time.perf_counter() - began
            own, *others = np.median(spent[2:], axis=0)  # the first two warm up
            found[kind][f"{what} at batch {batch}"] = {
                "one_ms": 1000 * own,
                "five_ms": 1000 * sum(others),
                "ratio": sum(others) / own,
            }
    write(work / "time.json", found)


def _step(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A whole training step, with the optimiser that `train` uses."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def step() -> None:
        value = LOSS(network(x), y)
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def _answer(network: nn.Module, x: Tensor) -> Callable[[], None]:
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def answer() -> None:
        with torch.inference_mode():
            network(x)

    return answer


def report(work: Path) -> str:
    """All tables as Markdown, from the runs that are done."""
    found = {
        run.name: json.loads((work / f"{run.name}.json").read_text())
        for run in (*RUNS, *TAUGHT_RUNS)
        if (work / f"{run.name}.json").exists()
    }
    missing = [run.name for run in RUNS if run.name not in found]
    lines = [f"Not trained yet: {', '.join(missing)}", ""] if missing else []
    for part in ("test", "held_out"):
        lines += [*_accuracy_table(found, part), ""]
    lines += [*_cost_table(found), "", *_focal_table(found, "held_out"), ""]
    if (work / "time.json").exists():
        lines += _time_table(json.loads((work / "time.json").read_text()))
    return "\n".join(lines)


HEAD = "| | " + " | ".join(f"exit {k + 1}" for k in range(EXITS)) + " |"
RULE = "|---|" + "---|" * EXITS
TITLES = {
    "joint": "joint",
    "join": "joint, aggregation",
    "distil": "joint, aggregation, distillation",
    "focal": "joint, aggregation, focal loss",
    "taught": "joint, aggregation, taught",
}


def _accuracy_table(found: dict[str, Any], part: str) -> list[str]:
    """Mean over seeds, the smallest and largest in brackets, and how far from the singles."""
    lines = [f"Top-1 %, {part} images:", "", HEAD, RULE]
    for single, title, kinds in (
        ("single", "five single networks", [kind for kind in TITLES if kind != "taught"]),
        ("taught", "five single networks, taught", ["taught"]),
    ):
        alone = [_shares(found, part, f"{single}{k + 1}").reshape(-1) for k in range(EXITS)]
        means = np.array([one.mean() if len(one) else np.nan for one in alone])
        if any(map(len, alone)):
            least, most = min(map(len, alone)), max(map(len, alone))
            seeds = _seeds(most) if least == most else f"{least} to {_seeds(most)}"
            lines.append(_row(f"{title}, {seeds}", [_spread(one) for one in alone]))
        for kind in kinds:
            values = _shares(found, part, kind)
            if len(values):
                cells = [_spread(values[:, k]) for k in range(EXITS)]
                lines.append(_row(f"{TITLES[kind]}, {_seeds(len(values))}", cells))
                apart = values.mean(0) - means
                lines.append(_row("beside the single ones", [f"{value:+.2f}" for value in apart]))
    return lines


def _shares(found: dict[str, Any], part: str, kind: str) -> np.ndarray:
    """Top-1 in %, shape (seeds, exits)."""
    own = [run[part]["accuracy"] for run in found.values() if run["run"]["kind"] == kind]
    return 100 * np.array(own)


def _spread(values: np.ndarray) -> str:
    if len(values) < 2:
        return "not trained" if not len(values) else f"{values[0]:.2f}"
    return f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


def _cost_table(found: dict[str, Any]) -> list[str]:
    lines = ["Million multiply-adds up to an exit, with its head alone:", "", HEAD, RULE]
    for kind, title in (("joint", "without aggregation"), ("join", "with aggregation")):
        run = found.get(f"{kind}-0")
        if run:
            cost = run["multiply_adds"]
            whole = f"{title}; all exits {cost['whole'] / 1e6:.2f}"
            lines.append(_row(whole, [f"{way / 1e6:.2f}" for way in cost["ways"]]))
    return lines


def _focal_table(found: dict[str, Any], part: str) -> list[str]:
    lines = [f"Stopping where confidence reaches a threshold, {part} images:", "", HEAD, RULE]
    for threshold in map(str, THRESHOLDS):
        for name, title in (("join-0", "cross entropy"), ("focal-0", "focal")):
            if name in found:
                own = found[name][part]
                right = own["accuracy_of_stopped"][threshold]
                cells = ["none" if r is None else f"{100 * r:.2f}" for r in right]
                lines.append(_row(f"{title}, right of those that stop at {threshold}, %", cells))
                cells = [f"{100 * s:.2f}" for s in own["share"][threshold]]
                lines.append(_row(f"{title}, share that stops at {threshold}, %", cells))
    for name, title in (("join-0", "cross entropy"), ("focal-0", "focal")):
        if name in found:
            cells = [f"{a:.3f}" for a in found[name][part]["auc"]]
            lines.append(_row(f"{title}, AUC of the confidence", cells))
            cells = [f"{100 * a:.2f}" for a in found[name][part]["accuracy_of_surest_half"]]
            lines.append(_row(f"{title}, right of the surest half, %", cells))
    return lines


def _time_table(times: dict[str, Any]) -> list[str]:
    lines = [
        f"Median of {times['repeats']} in turn, {times['threads']} thread(s):",
        "",
        "| | five single, ms | one, ms | ratio | arithmetic | measured / arithmetic |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("joint", "join"):
        own = dict(times[kind])
        arithmetic = own.pop("arithmetic")
        for what, one in own.items():
            cells = [f"{one['five_ms']:.1f}", f"{one['one_ms']:.1f}", f"{one['ratio']:.2f}"]
            cells += [f"{arithmetic:.2f}", f"{one['ratio'] / arithmetic:.2f}"]
            lines.append(_row(f"{TITLES[kind]}, {what}", cells))
    return lines


def _row(title: str, cells: list[str]) -> str:
    return f"| {title} | " + " | ".join(cells) + " |"


def main() -> None:
    """Read the command line and run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path.home() / "adaptive-data" / "cifar10")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and results")
    parser.add_argument("--parts", default="train,time,report")
    parser.add_argument("--runs", help="names such as join-0; all unless given")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="that trains: cpu or cuda")
    parser.add_argument("--mixed", action="store_true", help="train in bfloat16")
    parser.add_argument("--teacher", type=Path, help="an ONNX file whose answers some runs learn")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    recipe = TrainingRecipe(
        epochs=arguments.epochs, batch=128, learning_rate=0.2, bfloat16=arguments.mixed
    )
    every = [*RUNS, *TAUGHT_RUNS] if arguments.teacher else RUNS
    names = arguments.runs.split(",") if arguments.runs else [run.name for run in every]
    unknown = sorted(set(names) - {run.name for run in every})
    if unknown:
        parser.error(f"there is no run {unknown}; there are {[run.name for run in every]}")
    wanted = [run for run in every if run.name in names]
    parts = arguments.parts.split(",")
    if "train" in parts or "time" in parts:
        data = read_data(arguments.data, arguments.work)
        if "train" in parts:
            taught = None
            if any(run.taught for run in wanted):
                taught = answers_of(arguments.teacher, data.train, arguments.work)
            train_all(data, arguments.work, recipe, wanted, arguments.device, taught)
        if "time" in parts:
            time_steps(arguments.work, data.test, recipe)
    if "report" in parts:
        print(report(arguments.work))


if __name__ == "__main__":
    main()
