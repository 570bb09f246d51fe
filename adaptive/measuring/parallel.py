"""Outcomes over several processes: what each candidate says of an image, and no times.

What a network says of an image depends on that image alone, so processes share the images and
the rows are those that one process makes, bit for bit. Each image runs by itself: on a processor
batches are no quicker (`benchmarks/fleet.py --part batches`). Times cannot be shared so: two
processes take memory and caches from each other. They are measured alone, on some images.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from adaptive.errors import EngineError, ImageError, InputError

#: Images on which times are measured where several processes find the outcomes.
TIMED = 200

#: Images that a process is handed at once.
HANDED = 4

#: A row and the probabilities by candidate; or, of an image that cannot be read, why.
Told = Any

_outcome: Callable[[Path, int], Told] | None = None


def sample(count: int, most: int = TIMED) -> list[int]:
    """Which of `count` images times are measured on: at most so many, evenly from all."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})


def outcomes(
    make: Callable[[], Callable[[Path, int], Told]],
    paths: Sequence[Path],
    labels: Sequence[int],
    jobs: int,
) -> Iterator[Told]:
    """What several processes find of images, in the images' order.

    Parameters
    ----------
    make : makes in each process what finds the outcome of one image; it must be picklable
    jobs : processes

    Raises
    ------
    InputError
        when `make` cannot be handed to another process.
    EngineError
        when a process dies.
    """
    try:
        pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        raise InputError(
            f"what finds the outcomes cannot be handed to other processes ({exc}); use one job"
        ) from exc
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (make,)) as pool:
        try:
            yield from pool.map(_find, paths, labels, chunksize=HANDED)
        except BrokenProcessPool as exc:
            raise EngineError(
                "a process that found outcomes died, perhaps for want of memory; what was found "
                "is kept: give the same command again, with fewer jobs"
            ) from exc
        finally:
            # Whatever is not begun is dropped, so that Ctrl-C does not wait for all images.
            # A Python before 3.9 has no argument for it.
            for future in list(getattr(pool, "_pending_work_items", {}).values()):
                future.future.cancel()


def fill_times(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Rows that all have times, and on how many images those were measured.

    Those without are given the times of one that was measured, each as often as the others, in
    an order that is drawn: means and quantiles are those of the measurement.
    """
    timed = [row for row in rows if "decode:ms" in row]
    if not timed:
        raise InputError("no image has times; measure them on some")
    untimed = len(rows) - len(timed)
    drawn = iter((np.random.default_rng(0).permutation(untimed) % len(timed)).tolist())
    filled = []
    for row in rows:
        if "decode:ms" not in row:
            row = _with_times(row, timed[next(drawn)])
        filled.append(dict(row))
    return filled, len(timed)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _with_times(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = {**row, "decode:ms": other["decode:ms"], "features:ms": other["features:ms"]}
    for name, own in row.items():
        if isinstance(own, dict):
            times = {p: other[name][p] for p in PARTS if p in other[name]}
            found[name] = {**own, **times}
    return found


#: Of a candidate's row, what was measured by the clock.
PARTS = ("ms", "scale", "normalise", "through")


def _begin(make: Callable[[], Callable[[Path, int], Told]]) -> None:
    global _outcome
    _outcome = make()


def _find(path: Path, label: int) -> Told:
    assert _outcome is not None
    try:
        return _outcome(path, label)
    except ImageError as error:
        return str(error)
