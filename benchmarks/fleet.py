"""What carrying work to workers costs, and what several of them gain.

    python benchmarks/fleet.py --part batches --part profile --data DATA
    python benchmarks/fleet.py --part two_workers --part overhead --part recovery --data DATA
    python benchmarks/fleet.py --part million --part simulation

DATA holds `imagenet` and defaults to the environment's ADAPTIVE_DATA. `two_workers`, `overhead`,
`recovery` and `simulation` start a redis-server; all others need nothing but this machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from fleet import redis_server, until, workers
from imagenet import make_candidates

from adaptive.bundle.adding import remove_candidate
from adaptive.bundle.bundle import Bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.engines.choose import Engines
from adaptive.engines.wanted import Wanted
from adaptive.experiments.assembled import Assembled, upload
from adaptive.experiments.coordinator import carry_out
from adaptive.experiments.declared import declared
from adaptive.experiments.imagery import find_images
from adaptive.experiments.merge import merge
from adaptive.experiments.plan import SHARD, ExperimentPlan, make_plan, plan_table
from adaptive.experiments.queue import QueueEngine
from adaptive.experiments.shard import Result
from adaptive.experiments.store import FolderStore
from adaptive.experiments.work import board_model
from adaptive.features.schema import resolve_names
from adaptive.files import sha256
from adaptive.outcomes.table import OutcomeTable

PARTS: dict[str, Callable[[argparse.Namespace], None]] = {}


def part(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    PARTS[run.__name__] = run
    return run


def candidates_of(arguments: argparse.Namespace) -> Path:
    folder = arguments.work / "candidates"
    if not (folder / "manifest.json").exists():
        make_candidates(arguments.data, folder)
    if not arguments.small:
        return folder
    small = arguments.work / "candidates-small"
    if not small.exists():
        shutil.copytree(folder, small)
        for name in ("googlenet", "resnet50"):
            remove_candidate(small, name)
    return small


def photographs(arguments: argparse.Namespace, count: int) -> tuple[Path, Path]:
    """A folder with so many photographs and their labels; some twice where there are too few."""
    data = arguments.data / "imagenet"
    lines = (data / "labels.csv").read_text().splitlines()
    if count <= len(lines) - 1:
        return data / "images", data / "labels.csv"
    folder = arguments.work / "photographs"
    folder.mkdir(exist_ok=True)
    table = [lines[0]]
    for number in range(count):
        name, label = lines[1 + number % (len(lines) - 1)].rsplit(",", 1)
        own = f"{number:05}.jpeg"
        if not (folder / own).exists():
            shutil.copyfile(data / "images" / name, folder / own)
        table.append(f"{own},{label}")
    (arguments.work / "labels.csv").write_text("\n".join(table) + "\n")
    return folder, arguments.work / "labels.csv"


@part
def batches(arguments: argparse.Namespace) -> None:
    """One by one against eight at once, on one thread: milliseconds an image, and the bits."""
    bundle = Bundle.read(candidates_of(arguments))
    for candidate in bundle.candidates:
        wanted = [Wanted(candidate.name, bundle.folder, candidate)]
        engine = Engines().open(wanted, 1)[candidate.name]
        spec = candidate.input
        shape = (*spec.sides, 3) if spec.layout == "NHWC" else (3, *spec.sides)
        images = np.random.default_rng(0).uniform(0, 200, (8, *shape)).astype(spec.dtype)
        singly = np.concatenate([engine.run(images[i : i + 1])[0] for i in range(8)])
        together = engine.run(images)[0]
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(5):
            began = time.perf_counter()
            for i in range(8):
                engine.run(images[i : i + 1])
            between = time.perf_counter()
            engine.run(images)
            spent[0].append(between - began)
            spent[1].append(time.perf_counter() - between)
        engine.close()
        same = int((singly == together).all(axis=1).sum())
        print(
            f"  {candidate.name:24} {1e3 * min(spent[0]) / 8:8.2f} ms one by one, "
            f"{1e3 * min(spent[1]) / 8:8.2f} ms in batches of 8; same bits on {same} of 8"
        )


@part
def profile(arguments: argparse.Namespace) -> None:
    """`adaptive profile` with one job and with two, one after the other, and their outcomes."""
    folder = candidates_of(arguments)
    images, labels = photographs(arguments, arguments.limit)
    tables, spent = [], []
    for jobs in (1, 2):
        output = arguments.work / f"profile-{jobs}.csv"
        line = [sys.executable, "-m", "adaptive.cli", "profile", "--candidates", folder]
        line += ["--images", images, "--labels", labels, "-o", output, "--force"]
        line += ["--jobs", jobs]
        line += ["--limit", arguments.limit]
        began = time.perf_counter()
        subprocess.run([str(w) for w in line], check=True, stdout=subprocess.DEVNULL)
        spent.append(time.perf_counter() - began)
        tables.append(OutcomeTable.read(output))
    one, two = tables
    same = all(
        (getattr(one.of(n), p) == getattr(two.of(n), p)).all()
        for n in one.candidates
        for p in ("quality", "top5", "confidence")
    ) and all(
        one.probabilities_of(n).tobytes() == two.probabilities_of(n).tobytes()
        for n in one.candidates
    )
    print(
        f"  {len(one)} images: {spent[0]:.1f} s with one job, {spent[1]:.1f} s with two, "
        f"{spent[0] / spent[1]:.2f} times; outcomes the same: {same}"
    )
    for name in one.candidates:
        first, second = np.median(one.of(name).ms), np.median(two.of(name).ms)
        print(f"    {name:24} median {first:8.3f} ms and {second:8.3f} ms")


def _text(arguments: argparse.Namespace, limit: int, shard: int) -> str:
    data = arguments.data / "imagenet"
    return (
        f'name = "bench"\n[data]\nimages = "{data / "images"}"\nlabels = "{data / "labels.csv"}"\n'
        f'limit = {limit}\n[candidates]\nfolder = "{candidates_of(arguments)}"\n'
        f'[measure]\nfeatures = "paper7"\ntimes = 0\nshard = {shard}\n'
    )


def _served(
    arguments: argparse.Namespace, limit: int, shard: int, count: int
) -> tuple[float, FolderStore, ExperimentPlan]:
    """Seconds from the first message to the last result, with so many workers that are ready."""
    with tempfile.TemporaryDirectory() as made, workers() as start:
        root = Path(made)
        with redis_server(root) as redis:
            store = FolderStore(arguments.work / f"store-{count}-{shard}-{time.time_ns()}")
            plan = make_plan(declared(_text(arguments, limit, shard), root), root, board_model())
            upload(plan.tables[0].assembled, store)
            begun = [start("--queue", redis.url, "--store", store.url) for _ in range(count)]
            for worker in begun:
                worker.ready()
            engine = QueueEngine(redis.url)
            began = time.perf_counter()
            failed = carry_out(plan.shards(), store, engine, poll_s=0.05)
            spent = time.perf_counter() - began
            assert not failed, failed
            engine.close()
            for worker in begun:
                worker.stop()
    return spent, store, plan


@part
def two_workers(arguments: argparse.Namespace) -> None:
    """Images a second of one worker and of two, on the shared ImageNet images."""
    limit = arguments.limit
    spent = {count: _served(arguments, limit, 25, count)[0] for count in (1, 2)}
    print(
        f"  {limit} images: {limit / spent[1]:.1f} images/s with one worker, "
        f"{limit / spent[2]:.1f} with two, {spent[1] / spent[2]:.2f} times"
    )


@part
def overhead(arguments: argparse.Namespace) -> None:
    """What a shard costs beyond its images: the same images in few shards and in many."""
    limit = 120
    few = _served(arguments, limit, limit, 1)[0]
    many = _served(arguments, limit, 2, 1)[0]
    shards = limit // 2
    print(
        f"  {limit} images: {few:.2f} s in one shard, {many:.2f} s in {shards}; "
        f"{1e3 * (many - few) / (shards - 1):.1f} ms a shard"
    )


@part
def recovery(arguments: argparse.Namespace) -> None:
    """Seconds from a worker's death by -9 in mid-shard until another has begun on its shard."""
    heartbeat = 10.0
    with tempfile.TemporaryDirectory() as made, workers() as start:
        root = Path(made)
        with redis_server(root) as redis:
            store = FolderStore(root / "store")
            plan = make_plan(declared(_text(arguments, 40, 40), root), root, board_model())
            words = ["--queue", redis.url, "--store", store.url, "--heartbeat", heartbeat]
            doomed = start(*words).ready()
            engine = QueueEngine(redis.url, heartbeat)
            upload(plan.tables[0].assembled, store)
            thread = threading.Thread(target=carry_out, args=(plan.shards(), store, engine))
            thread.start()
            (key,) = plan.tables[0].keys
            until(lambda: store.names(f"attempts/{key}"), "a shard")
            doomed.kill()
            start(*words)  # which is there before the heartbeat has passed
            spent = until(lambda: len(store.names(f"attempts/{key}")) > 1, "the other worker")
            thread.join()
            engine.close()
    print(f"  begun again {spent:.1f} s after the kill; heartbeat {heartbeat:g} s")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@part
def million(arguments: argparse.Namespace) -> None:
    """A plan and a merge of a million made-up images: seconds and the process's peak of memory."""
    count = arguments.images
    with tempfile.TemporaryDirectory(dir=arguments.work) as made:
        root = Path(made)
        bundle = _hollow_bundle(root / "candidates")
        images = root / "images"
        for folder in range(1000):
            (images / f"{folder:03}").mkdir(parents=True)
        names = [f"{i % 1000:03}/{i:07}.jpg" for i in range(count)]
        for name in names:
            os.close(os.open(images / name, os.O_CREAT | os.O_WRONLY))
        with open(root / "labels.csv", "w") as file:
            file.write("image,label\n")
            file.writelines(f"{name},{i % 10}\n" for i, name in enumerate(names))
        del names
        began = time.perf_counter()
        imagery = find_images(str(images), root, bundle.labels, root / "labels.csv", False, None)
        measure = {"features": "paper7"}
        table = plan_table("outcomes", Assembled("0" * 32, bundle), imagery, measure, SHARD, None)
        planned = time.perf_counter() - began
        print(
            f"  plan: {len(imagery)} images, {len(table.shards)} shards, {planned:.1f} s, "
            f"{_peak_mb():.0f} MB"
        )
        store = FolderStore(root / "store")
        draw = np.random.default_rng(0)
        features = len(resolve_names("paper7"))
        for key, shard in zip(table.keys, table.shards):
            rows = len(shard)
            arrays: dict[str, np.ndarray] = {
                "label": np.array(shard.labels),
                "features": draw.normal(size=(rows, features)),
            }
            for name in bundle.names:
                arrays[f"{name}/top1"] = draw.random(rows) < 0.7
                arrays[f"{name}/top5"] = draw.random(rows) < 0.9
                arrays[f"{name}/confidence"] = draw.random(rows)
                arrays[f"{name}/probabilities"] = draw.random((rows, 10)).astype(np.float16)
            store.put(f"results/{key}", Result(arrays, shard.images).to_bytes())
        keys, labels = table.keys, imagery.labels
        del table, imagery
        began = time.perf_counter()
        merge(store, keys, None, bundle, measure, labels, root / "outcomes.csv")
        merged = time.perf_counter() - began
        print(
            f"  merge: {merged:.1f} s, peak of both {_peak_mb():.0f} MB; "
            f"both {planned + merged:.1f} s"
        )


def _hollow_bundle(folder: Path) -> Bundle:
    """Two candidates of ten classes, which nobody runs here."""
    from onnx_files import colour_network

    folder.mkdir(parents=True)
    weights = np.ones((3, 10), np.float32)
    found = []
    for name in ("small", "large"):
        file = folder / f"{name}.onnx"
        colour_network(file, weights, 8)
        spec = InputSpec(8, "uint8", "NHWC", "stretch")
        found.append(Candidate(name, file.name, sha256(file), spec, OutputSpec(10, "logits")))
    write_candidates(folder, found, [str(i) for i in range(10)], reference="large")
    return Bundle.read(folder)


@part
def simulation(arguments: argparse.Namespace) -> None:
    """Throughput against workers: queue and store measured here, the work itself slept.

    Redis runs one command at a time, so what a message costs it bounds the whole. Up to 64
    workers sleep for real, as threads; beyond, the measured costs are put into a queue's model.
    """
    import dramatiq

    from adaptive.experiments.queue import ACTOR, QUEUE, open_broker

    work_s = 60.0
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        with redis_server(root) as redis:
            broker = open_broker(redis.url)
            message: Any = dramatiq.Message(
                queue_name=QUEUE, actor_name=ACTOR, args=("0" * 32,), kwargs={}, options={}
            )
            broker.declare_queue(QUEUE)
            count = 2000
            began = time.perf_counter()
            for _ in range(count):
                broker.enqueue(message)
            sent = (time.perf_counter() - began) / count
            began = time.perf_counter()
            fetched = []
            while len(fetched) < count:
                fetched += broker.do_fetch(QUEUE, 1)
            fetch = (time.perf_counter() - began) / count
            began = time.perf_counter()
            for content in fetched:
                own = json.loads(content)
                broker.do_ack(QUEUE, own["options"]["redis_message_id"])
            acked = (time.perf_counter() - began) / count
            # An idle or busy worker asks both of its delay queues once in 0.2 s.
            began = time.perf_counter()
            for _ in range(count):
                broker.do_fetch(f"{QUEUE}.DQ", 1)
            look = (time.perf_counter() - began) / count
            broker.close()
        store = FolderStore(root / "store")
        content = b"0" * (256 * 6 * 2000)
        began = time.perf_counter()
        for number in range(10):
            store.put(f"results/{number}", content)
        put = (time.perf_counter() - began) / 10
    print(
        f"  a message is sent in {1e3 * sent:.2f} ms, fetched in {1e3 * fetch:.2f}, acknowledged "
        f"in {1e3 * acked:.2f}; a look takes {1e3 * look:.2f}; a result of "
        f"{len(content) / 1e6:.1f} MB is put in {1e3 * put:.1f} ms"
    )
    print(f"  {'workers':>8} {'shards/s':>9} {'of the ideal':>13}  at {work_s:g} s a shard")
    lines = []
    for number in (1, 2, 4, 8, 16, 32, 64, 125, 250, 500, 1000):
        found = _modelled(number, work_s, fetch + acked, put, look)
        lines.append((number, found))
        print(f"  {number:8} {found:9.3f} {100 * found * work_s / number:12.1f}%")
    if arguments.plot is not None:
        arguments.plot.write_text(_plot(lines, work_s), encoding="utf-8")


def _modelled(workers: int, work_s: float, queue_s: float, put_s: float, look_s: float) -> float:
    """Shards a second: one server for the queue, one for the store, workers that sleep.

    looks : each worker asks two delay queues and the two queues' own five times a second, which
        takes the queue's time from messages
    """
    busy = min(0.99, workers * 10 * look_s)
    queue_s = queue_s / (1 - busy)
    shards = workers * 20
    free = [0.0] * workers
    heapq.heapify(free)
    queue = store = end = 0.0
    for _ in range(shards):
        at = heapq.heappop(free)
        queue = max(queue, at) + queue_s
        done = queue + work_s
        store = max(store, done) + put_s if store <= done else store + put_s
        heapq.heappush(free, max(done, store))
        end = max(end, store)
    return shards / end


def _plot(lines: list[tuple[int, float]], work_s: float) -> str:
    from adaptive.report.svg import circle, figure, line, path, text

    def x(workers: float) -> float:
        return 60 + 500 * np.log10(workers) / 3

    def y(rate: float) -> float:
        return 300 - 260 * (np.log10(rate * work_s)) / 3

    parts = [line(60, 300, 560, 300, "axis"), line(60, 40, 60, 300, "axis")]
    for power in range(4):
        parts.append(text(x(10**power), 320, f"{10**power}", "", "middle"))
        parts.append(text(52, y(10**power / work_s) + 4, f"{10**power}", "", "end"))
    parts.append(text(310, 345, "workers", "", "middle"))
    parts.append(text(60, 25, "times the throughput of one worker without queue", ""))
    parts.append(path([(x(1), y(1 / work_s)), (x(1000), y(1000 / work_s))], "grid"))
    parts += [circle(x(n), y(r), 4, "dot") for n, r in lines]
    body = str(figure("fleet", "Throughput", "against workers", (600, 360), "".join(parts)))
    style = (
        "<style>.axis{stroke:#555}.grid{stroke:#999;stroke-dasharray:4;fill:none}"
        ".dot{fill:#0a6}text{font:12px sans-serif}</style>"
    )
    if "xmlns" not in body:
        body = body.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    place = body.index(">", body.index("<svg")) + 1
    return body[:place] + style + body[place:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", action="append", choices=sorted(PARTS))
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--work", type=Path, default=Path("work-fleet"))
    parser.add_argument("--limit", type=int, default=2000, help="images to profile")
    parser.add_argument("--small", action="store_true", help="the four MobileNets alone")
    parser.add_argument("--images", type=int, default=1_000_000, help="images that are made up")
    parser.add_argument("--plot", type=Path, help="where the simulation's plot is written")
    arguments = parser.parse_args()
    arguments.data = None if arguments.data is None else Path(arguments.data)
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.part or sorted(PARTS):
        print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        PARTS[name](arguments)


if __name__ == "__main__":
    main()
