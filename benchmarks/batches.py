"""Images a second: one by one, in threads and in batches.

    python benchmarks/batches.py [--bundle B] [--policy fixed:NAME] [--images DIR] [--json out.json]

The same encoded images are answered in these ways, which take turns; each round is a sample:

* `classify`: one after the other, networks with one thread;
* `classify, networks with N threads`: the same, where a network may use all cores;
* `classify in N threads`: N threads that call one router, networks with one thread;
* `classify_batch of K`: batches, networks with one thread;
* `classify_batch of K, N threads`: batches, with all cores;
* `classify_batch of K in N threads`: N threads that call one router with a part each, networks
  with one thread.

N is --threads, by default every core that the process may use. Beside images a second stands the
processor time of an image, which other programs on the machine disturb less. Without --images
they are drawn JPEG files of 320 x 240.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Callable

from machine import envelope, result, save, show
from regression import jpeg

from adaptive import Bundle, Router
from adaptive.bundle.bundle import default_bundle
from adaptive.cli.evaluate import policy_named
from adaptive.outcomes.labelled import SUFFIXES

BATCHES = (8, 32)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="instead of the embedded default")
    parser.add_argument("--policy", help="as of `adaptive evaluate`: a file, or fixed:NAME")
    parser.add_argument("--images", type=Path, help="folder of images")
    parser.add_argument("--limit", type=int, default=128, help="images at most (default 128)")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    folder = options.bundle or default_bundle()
    policy = policy_named(options.policy, Bundle.read(folder))
    photos = [jpeg(seed) for seed in range(options.limit)]
    if options.images:
        files = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in SUFFIXES)
        # spread over the folder, whose order is often that of the classes
        step = max(1, len(files) // options.limit)
        photos = [path.read_bytes() for path in files[::step][: options.limit]]
    if not photos:
        parser.error(f"no image in {options.images}")
    with Router.load(folder, policy=policy, threads=1) as one, \
            Router.load(folder, policy=policy, threads=options.threads) as many:  # fmt: skip
        for router in (one, many):
            router.warm_up()
        found = measured(ways(one, many, photos, options.threads), len(photos), options.rounds)
    results: dict[str, Any] = {}
    for name, (rates, spent) in found.items():
        results[f"{name}: images"] = result(rates, "images/s", "higher")
        results[f"{name}: processor"] = result(spent, "ms")
    settings = {
        "bundle": options.bundle.name if options.bundle else "the embedded default",
        "policy": options.policy or "the bundle's",
        "images": len(photos),
        "rounds": options.rounds,
        "threads": options.threads,
    }
    content = envelope("batches", results, settings, paired=True, threads=options.threads)
    show(content)
    base = results["classify: images"]["median"]
    for name in found:
        print(f"{name}: {results[f'{name}: images']['median'] / base:.2f} times classify")
    save(content, options.json)


def ways(
    one: Router, many: Router, photos: list[bytes], threads: int
) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""

    def singly(router: Router) -> object:
        return [router.classify(photo) for photo in photos]

    def in_threads() -> object:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one.classify, photos))

    def parts(size: int) -> object:
        own = [photos[part::threads] for part in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda some: one.classify_batch(some, batch=size), own))

    found: dict[str, Callable[[], object]] = {
        "classify": lambda: singly(one),
        f"classify, networks with {threads} threads": lambda: singly(many),
        f"classify in {threads} threads": in_threads,
    }
    for size in BATCHES:
        found[f"classify_batch of {size}"] = lambda size=size: one.classify_batch(
            photos, batch=size
        )
        found[f"classify_batch of {size}, {threads} threads"] = lambda size=size: (
            many.classify_batch(photos, batch=size)
        )
        found[f"classify_batch of {size} in {threads} threads"] = lambda size=size: parts(size)
    return found


def measured(
    runs: dict[str, Callable[[], object]], images: int, rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Images a second, and milliseconds of processor time an image, one sample a round."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
    names = list(runs)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began, spent = perf_counter(), process_time()
            runs[name]()
            took, spent = perf_counter() - began, process_time() - spent
            if number:  # the first round warms up
                found[name][0].append(images / took)
                found[name][1].append(1e3 * spent / images)
    return found


if __name__ == "__main__":
    main()
