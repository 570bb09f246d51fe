"""Batches whose images stop at different exits.

    python benchmarks/exits_batch.py CANDIDATES NET --images DIR [--json out.json]

CANDIDATES is a folder of candidates or a bundle with the exits NET@1 … NET@K. The same decoded
images are answered by a cascade over the exits in five ways that take turns:

* single: one image after the other (`classify`);
* to the end: batches that all run to the last exit, through the others without their heads;
* chunks: batches that are driven to their end one by one, with ever fewer images;
* regrouped: images that go on wait for others that need the same exit (`classify_batch`);
* no exits known (only with --whole FILE): the plain network in FILE, an ONNX file that reads
  what NET@1 reads, in batches, with nothing around it.

Without --policy the thresholds are such that at each exit the share --stop of the images that
reach it stops there: how fast batches are depends on who stops where, hardly on who is right.
Each number is the median over the rounds. Beside the wall clock stands the processor's own time,
which other programs on the machine disturb less. Times include what the router does around the
networks; decoding is done before, but for scaling an array to the size of the networks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Callable, Sequence

import numpy as np

from adaptive import Bundle, Router
from adaptive.candidate import exit_of
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import InputError
from adaptive.images.decode import decode
from adaptive.images.preprocess import preprocess
from adaptive.jetson.board import board_profile
from adaptive.outcomes.labelled import SUFFIXES
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.files import read_policy
from adaptive.policy.fixed import Fixed
from adaptive.prediction import Prediction
from adaptive.routing.running import Networks, ways_of

BATCHES = (8, 32)


def exits_of(bundle: Bundle, network: str) -> tuple[str, ...]:
    found = [name for name in bundle.names if exit_of(name)[0] == network and exit_of(name)[1]]
    if len(found) < 2:
        raise InputError(f"{network!r} has no exits in the bundle; it has {list(bundle.names)}")
    return tuple(sorted(found, key=exit_of))


def read_images(folder: Path, count: int) -> list[np.ndarray]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder} holds no images")
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)
    return [decode(paths[i]) for i in chosen]


def by_share(
    folder: Path, exits: tuple[str, ...], images: Sequence[np.ndarray], stop: float
) -> Cascade:
    """The cascade in which `stop` of those that reach an exit stop there."""
    plain = Cascade(exits, thresholds=(0.0,) * (len(exits) - 1))
    with Router.load(folder, policy=plain) as router:
        found = router.all_exits(images, exits[-1])
    left = np.arange(len(images))
    thresholds = []
    for name in exits[:-1]:
        confidence = found[name].max(axis=1)
        threshold = float(np.quantile(confidence[left], 1 - stop)) if len(left) else 0.0
        thresholds.append(min(threshold, 1.0))
        left = left[confidence[left] < threshold]
    return Cascade(exits, thresholds=tuple(thresholds))


class Counted:
    """An engine that notes its batches."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.sizes: list[int] = []

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        self.sizes.append(len(inputs[0]))
        found: list[np.ndarray] = self.engine.run(*inputs)
        return found

    def close(self) -> None:
        self.engine.close()


def fill(folder: Path, policy: Policy, run: Callable[[Router], object]) -> dict[str, Any]:
    """Runs of each segment and images in a run, counted apart from what is timed."""
    bundle = Bundle.read(folder)
    networks = Networks.open(bundle, policy.candidates, 1, ways_of(policy), whole=False)
    engines = {name: Counted(engine) for name, engine in networks.engines.items()}
    with Router(bundle, engines, policy) as router:
        run(router)
        return {
            name: {"runs": len(e.sizes), "images_a_run": float(np.mean(e.sizes))}
            for name, e in engines.items()
            if e.sizes
        }


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Median wall and processor seconds of each way; the ways take turns."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            began, own = perf_counter(), process_time()
            run()
            if turn:  # the first one warms up
                wall[name].append(perf_counter() - began)
                cpu[name].append(process_time() - own)
    return {
        name: {
            "seconds": statistics.median(wall[name]),
            "processor_seconds": statistics.median(cpu[name]),
        }
        for name in ways
    }


def different(one: Sequence[Prediction], other: Sequence[Prediction]) -> int:
    return sum(a.path != b.path or a.label != b.label for a, b in zip(one, other))


def measure(
    folder: Path,
    exits: tuple[str, ...],
    policy: Policy,
    images: Sequence[np.ndarray],
    batch: int,
    rounds: int,
    threads: int,
    whole: Path | None,
) -> dict[str, Any]:
    bundle = Bundle.read(folder)
    last = Fixed((exits[-1],))
    routed = Router.load(folder, policy=policy, threads=threads)
    straight = Router.load(folder, policy=last, threads=threads)
    engine = None if whole is None else OnnxEngine(whole, threads)
    spec = bundle.candidate(exits[0]).input

    def plain() -> None:
        assert engine is not None
        for first in range(0, len(images), batch):
            chunk = [preprocess(image, spec) for image in images[first : first + batch]]
            engine.run(np.concatenate(chunk))

    ways: dict[str, Callable[[], object]] = {
        "single": lambda: [routed.classify(image) for image in images],
        "to the end": lambda: straight.classify_batch(images, batch=batch),
        "chunks": lambda: routed.classify_batch(images, batch=batch, regroup=False),
        "regrouped": lambda: routed.classify_batch(images, batch=batch),
    }
    if engine is not None:
        ways["no exits known"] = plain
    rows = timed(ways, rounds)
    alone = [routed.classify(image) for image in images]
    answers = routed.classify_batch(images, batch=batch)
    found: dict[str, Any] = {
        "batch": batch,
        "stopped": {n: sum(a.candidate == n for a in alone) / len(alone) for n in exits},
        "answers_unlike_single": different(answers, alone),
        "ways": {},
    }
    end = rows["to the end"]
    for name, row in rows.items():
        found["ways"][name] = {
            **row,
            "images_per_second": len(images) / row["seconds"],
            "times_to_the_end": end["seconds"] / row["seconds"],
            "times_to_the_end_processor": end["processor_seconds"] / row["processor_seconds"],
        }
    found["ways"]["chunks"]["fill"] = fill(
        folder, policy, lambda r: r.classify_batch(images, batch=batch, regroup=False)
    )
    found["ways"]["regrouped"]["fill"] = fill(
        folder, policy, lambda r: r.classify_batch(images, batch=batch)
    )
    for router in (routed, straight):
        router.close()
    return found


def show(found: dict[str, Any]) -> None:
    stopped = ", ".join(f"{n} {100 * s:.0f} %" for n, s in found["stopped"].items())
    print(f"\nbatch {found['batch']}; stopped at {stopped}")
    print(f"answers unlike those of single images: {found['answers_unlike_single']}")
    print(f"{'':18}{'images/s':>10}{'x to the end':>14}{'x by processor time':>21}")
    for name, row in found["ways"].items():
        print(
            f"{name:18}{row['images_per_second']:10.0f}{row['times_to_the_end']:14.2f}"
            f"{row['times_to_the_end_processor']:21.2f}"
        )
    for name in ("chunks", "regrouped"):
        runs = found["ways"][name]["fill"]
        each = ", ".join(f"{n} {r['images_a_run']:.1f}" for n, r in runs.items())
        print(f"images in a run, {name}: {each}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("candidates", type=Path)
    parser.add_argument("network")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--policy", type=Path, help="a cascade over the exits")
    parser.add_argument("--stop", type=float, default=0.4)
    parser.add_argument("--whole", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    try:
        exits = exits_of(Bundle.read(given.candidates), given.network)
        images = read_images(given.images, given.count)
        if given.policy is not None:
            policy: Policy = read_policy(given.policy)
        else:
            policy = by_share(given.candidates, exits, images, given.stop)
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    board = board_profile(given.threads)
    print(f"{board.get('processor') or board['machine']}, {given.threads} thread(s), ", end="")
    print(f"ONNX Runtime {board.get('onnxruntime')}; {len(images)} images, {given.rounds} rounds")
    print(f"{policy!r}")
    measured = []
    for batch in given.batch:
        measured.append(
            measure(
                given.candidates,
                exits,
                policy,
                images,
                batch,
                given.rounds,
                given.threads,
                given.whole,
            )
        )
        show(measured[-1])
    if given.json:
        report = {
            "board": board,
            "images": len(images),
            "rounds": given.rounds,
            "policy": repr(policy),
            "batches": measured,
        }
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
