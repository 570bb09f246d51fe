"""Fail when the router has become slower against what its machine allows.

    python benchmarks/regression.py                 # against benchmarks/baseline.json
    python benchmarks/regression.py --record        # write that file anew
    python benchmarks/regression.py --slow-us 300   # see it fail

The limit is what cannot be left out: decode the image, make each network's tensor, run each
network that the policy ran, under ONNX Runtime alone. For each image `Router.classify` and the
limit take turns, in the same process and on the same core, and the ratio of the two is far more
portable than either time. It is taken by the wall clock and by the thread's processor time, which
sees no waiting but is steady where other programs run. It is taken for four policies of the
embedded default: its cheapest network for every image ("fixed"), the dearest that its policy asks
("dearest"), its own policy ("own"), and the hybrid of that and its premodel ("hybrid"), whose
features and premodel are then part of what is held against the limit.

Each of --processes processes gives one ratio, so that what differs between processes is in the
noise too. Exit code 1: a ratio is worse than the recorded one by more than --tolerance beyond its
95% interval (`compare.py`).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, Callable, Mapping

import numpy as np
from compare import Ratio, differences, ratio, read, verdict
from machine import envelope, result, save, show

BASELINE = Path(__file__).with_name("baseline.json")
WARM_UP = 3
POLICIES = ("fixed", "dearest", "own", "hybrid")
CLOCKS = {"wall": perf_counter, "processor": thread_time}


def check(
    before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float
) -> dict[str, tuple[Ratio | None, bool]]:
    """By name: the ratio of the ratios, and whether it fails; too few samples fail as well."""
    found: dict[str, tuple[Ratio | None, bool]] = {}
    for name, old in before["results"].items():
        one = ratio(old["samples"], after["results"][name]["samples"], old["better"])
        found[name] = one, one is None or one.worse(tolerance)
    return found


def name_of(policy: str, clock: str) -> str:
    """What a ratio is called in the JSON."""
    return f"{policy}: Router.classify / limit, {clock}"


def measured(policy: str, images: int, rounds: int, slow_us: float) -> dict[str, float]:
    """The ratio of the times of `Router.classify` and of the limit, in this process, by clock."""
    from router import hybrid_of

    from adaptive import Bundle, Router
    from adaptive.bundle.bundle import default_bundle
    from adaptive.features.schema import SCHEMA
    from adaptive.policy.fixed import Fixed

    bundle = Bundle.read(default_bundle())
    cheapest = min(
        (c for c in bundle.candidates if c.after is None), key=lambda c: c.ms or float("inf")
    )
    chosen = {
        "fixed": Fixed((cheapest.name,)),
        "dearest": Fixed(bundle.policy.candidates[-1:]),
        "hybrid": hybrid_of(bundle),
    }.get(policy)
    photos = [jpeg(seed) for seed in range(images)]
    with Router.load(policy=chosen, engine="onnx") as router:
        paths = [router.classify(photo).path for photo in photos]
        asked = sorted({name for path in paths for name in path})
        limit = limit_of(bundle, asked, SCHEMA.short_side)
        classify = slowed(router.classify, slow_us)
        times = np.empty((len(CLOCKS), 2, rounds, images))
        for number in range(-WARM_UP, rounds):
            for position, photo in enumerate(photos):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    began = [clock() for clock in CLOCKS.values()]
                    if side == 0:
                        classify(photo)
                    else:
                        limit(photo, paths[position])
                    if number >= 0:
                        ended = [clock() for clock in CLOCKS.values()]
                        times[:, side, number, position] = np.subtract(ended, began)
    ours, least = np.median(times, axis=2).sum(axis=2).T
    return dict(zip(CLOCKS, (ours / least).tolist()))


def limit_of(bundle: Any, names: list[str], short: int) -> Callable[[bytes, tuple[str, ...]], None]:
    """Decode, tensors and networks of a path alone."""
    import onnxruntime

    from adaptive.images.decode import decode
    from adaptive.images.preprocess import preprocess

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    networks = {}
    for name in names:
        candidate = bundle.candidate(name)
        if candidate.after is not None:
            sys.exit(f"{name} continues another network, which the limit does not run")
        session = onnxruntime.InferenceSession(
            str(bundle.folder / candidate.file), options, providers=["CPUExecutionProvider"]
        )
        networks[name] = session, session.get_inputs()[0].name, candidate.input

    def run(photo: bytes, path: tuple[str, ...]) -> None:
        pixels = decode(photo, short)
        tensors: dict[Any, np.ndarray] = {}
        for name in path:
            session, entry, spec = networks[name]
            if spec not in tensors:
                tensors[spec] = preprocess(pixels, spec)
            session.run(None, {entry: tensors[spec]})

    return run


def slowed(run: Callable[[bytes], Any], slow_us: float) -> Callable[[bytes], Any]:
    """The same, that much slower: to see the check fail."""
    if not slow_us:
        return run

    def slower(photo: bytes) -> Any:
        until = perf_counter() + slow_us * 1e-6
        while perf_counter() < until:
            pass
        return run(photo)

    return slower


def jpeg(seed: int) -> bytes:
    """A photograph-sized JPEG with shapes, shades and noise; the same on every machine."""
    from PIL import Image

    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (6, 8, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((320, 240), Image.BICUBIC), np.float64)
    noisy = smooth + random.normal(0, 8, smooth.shape)
    file = io.BytesIO()
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    """Measure, compare with the record, and end with code 1 when it is worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="default baseline.json")
    parser.add_argument("--record", action="store_true", help="write the baseline anew")
    parser.add_argument("--processes", type=int, default=9, help="default 9, at least 5")
    parser.add_argument("--images", type=int, default=20, help="default 20")
    parser.add_argument("--rounds", type=int, default=15, help="runs an image (default 15)")
    parser.add_argument("--tolerance", type=float, default=0.03, help="share; default 0.03")
    parser.add_argument("--slow-us", type=float, default=0.0, help="slow the router down so much")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--one", choices=POLICIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = measured(options.one, options.images, options.rounds, options.slow_us)
        print(json.dumps(found))
        return
    if options.processes < 5 or options.images < 1 or options.rounds < 1:
        parser.error("--processes must be at least 5, --images and --rounds at least 1")
    before = None if options.record else read(options.baseline)
    core = sorted(os.sched_getaffinity(0))[-1]
    command = [sys.executable, __file__, "--images", str(options.images)]
    command += ["--rounds", str(options.rounds), "--slow-us", str(options.slow_us)]
    samples: dict[str, list[float]] = {}
    for _ in range(options.processes):
        for policy in POLICIES:
            done = subprocess.run(
                [*command, "--one", policy], stdout=subprocess.PIPE, check=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )  # fmt: skip
            for clock, value in json.loads(done.stdout).items():
                samples.setdefault(name_of(policy, clock), []).append(value)
    results = {name: result(values, "ratio") for name, values in samples.items()}
    settings = {name: getattr(options, name) for name in ("processes", "images", "rounds")}
    content = envelope("regression", results, settings)
    show(content)
    save(content, options.json)
    if options.record:
        save(content, options.baseline)
        print(f"wrote {options.baseline}")
    if before is None:
        return
    for sentence in differences(before, content):
        print(f"note: {sentence}")
    failed = False
    for name, (one, worse) in check(before, content, options.tolerance).items():
        said = verdict(one, "ratio", options.tolerance)
        if one is not None:
            said = f"{one.value:.3f} times the record ({one.low:.3f} to {one.high:.3f}): {said}"
        print(f"{'FAILED' if worse else 'passed'} {name}: {said}")
        failed = failed or worse
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
