"""Results of shards, put together as one outcome table.

The outcomes equal, bit for bit, those of one process. Times come from one machine: they are
measured on some of the images, and every image is given those of one that was measured.
"""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import Candidate
from adaptive.errors import InputError
from adaptive.experiments.shard import Result
from adaptive.experiments.store import Store
from adaptive.experiments.work import CLOCKED
from adaptive.features.schema import SCHEMA, resolve_names
from adaptive.measuring.profiling import WARM_UP, entry_of
from adaptive.outcomes.labelled import UNLABELLED
from adaptive.outcomes.quality import AGREEMENT
from adaptive.outcomes.table import Outcomes, OutcomeTable, probabilities_folder


@dataclass(frozen=True)
class Merged:
    """A table, and what is not in it, in sentences."""

    path: Path
    omitted: tuple[str, ...]
    notes: tuple[str, ...]


def merge(
    store: Store,
    keys: Sequence[str],
    times_key: str | None,
    bundle: Bundle,
    measure: Mapping[str, Any],
    labels: Sequence[int],
    output: Path,
) -> Merged:
    """Write the outcome table of shards that are done.

    Parameters
    ----------
    keys : of the shards with outcomes, in the images' order; those that failed are left out
    times_key : of the shard with times; None where none were measured, and every time is then 1
    labels : of all images, of which `UNLABELLED` says what the quality is
    output : X.csv

    Raises
    ------
    InputError
        when no image is left, or a result is damaged.
    """
    # The first pass is small: which candidates run everywhere, and how many images there are.
    count = 0
    left_out: dict[str, str] = {}
    unusable: dict[str, str] = {}
    present: list[tuple[str, Result | None]] = []
    runtimes, versions = set(), set()
    for key in keys:
        try:
            result = Result.from_bytes(store.get(f"results/{key}"))
        except KeyError:
            continue
        present.append((key, result if len(keys) <= 64 else None))
        count += len(result.images)
        left_out.update(result.left_out)
        unusable.update(result.unusable)
        board = result.origin.get("board", {})
        runtimes.add((board.get("processor"), board.get("onnxruntime"), board.get("machine")))
        versions.add(str(result.origin.get("adaptive", "unknown")))
    if not count:
        raise InputError("no shard with an image that can be read is done")
    kept = [c for c in bundle.candidates if c.name not in unusable]
    features = resolve_names(str(measure.get("features", "all+extra")))
    columns = _Columns(count, kept, len(features))
    probabilities = _Probabilities(output, kept, count, len(bundle.labels), measure)
    begin = 0
    for key, known in present:
        result = known or Result.from_bytes(store.get(f"results/{key}"))
        rows = slice(begin, begin + len(result.images))
        columns.take(rows, result)
        probabilities.take(rows, result)
        begin = rows.stop
    meta: dict[str, Any] = {
        "candidates": [entry_of(c) for c in kept],
        **({"quality": AGREEMENT} if UNLABELLED in labels else {}),
        "reference": bundle.reference if bundle.reference not in unusable else None,
        "classes": len(bundle.labels),
        "features": list(features),
        "schema": SCHEMA.to_json(),
        "threads": int(measure.get("threads", 1)),
        "date": datetime.date.today().isoformat(),
        "warm_up": WARM_UP,
    }
    notes = []
    if len(runtimes) > 1:
        notes.append(
            f"the answers come from {len(runtimes)} kinds of processor or runtime, which may "
            "differ in their last bits"
        )
    if len(versions) > 1:
        notes.append(
            f"the answers come from versions {', '.join(sorted(versions))} of adaptive-serving, "
            "which may prepare images differently; run it with an empty store to have one"
        )
    table = columns.table(_times(store, times_key, kept, count, meta, notes), features, meta)
    probabilities.finish()
    table.write(output)
    omitted = [f"{name}: {why}" for name, why in left_out.items()]
    omitted += [f"candidate {name}: {why}" for name, why in unusable.items()]
    return Merged(output, tuple(omitted), tuple(notes))


class _Columns:
    """The columns of a table, filled shard by shard."""

    def __init__(self, count: int, candidates: Sequence[Candidate], features: int) -> None:
        self._candidates = candidates
        self._images: list[str] = []
        self._label = np.zeros(count, np.int64)
        self._features = np.zeros((count, features))
        self._said = {
            (c.name, part): np.zeros(count, kind)
            for c in candidates
            for part, kind in (("top1", bool), ("top5", bool), ("confidence", np.float64))
        }

    def take(self, rows: slice, result: Result) -> None:
        """Fill rows from a result."""
        self._images += result.images
        self._label[rows] = result.arrays["label"]
        self._features[rows] = result.arrays["features"]
        for (name, part), values in self._said.items():
            values[rows] = result.arrays[f"{name}/{part}"]

    def table(
        self,
        times: Mapping[str, np.ndarray],
        features: Sequence[str],
        meta: Mapping[str, Any],
    ) -> OutcomeTable:
        """The table; times by the names of a result's arrays, drawn for every image."""
        outcomes = {
            c.name: Outcomes(
                self._said[c.name, "top1"],
                self._said[c.name, "top5"],
                self._said[c.name, "confidence"],
                after=c.after,
                **{part: times.get(f"{c.name}/{part}") for part in CLOCKED},  # type: ignore[arg-type]
            )
            for c in self._candidates
        }
        return OutcomeTable(
            tuple(self._images),
            self._label,
            tuple(features),
            self._features,
            outcomes,
            times["decode_ms"],
            times["features_ms"],
            meta=meta,
        )


class _Probabilities:
    """The probability files, filled shard by shard and put in place when they are whole."""

    def __init__(
        self,
        output: Path,
        candidates: Sequence[Candidate],
        count: int,
        classes: int,
        measure: Mapping[str, Any],
    ) -> None:
        self._target = probabilities_folder(output)
        self._aside = output.with_name(f".{output.name}.probabilities")
        shutil.rmtree(self._aside, ignore_errors=True)
        self._files: dict[str, np.ndarray] = {}
        output.parent.mkdir(parents=True, exist_ok=True)
        if measure.get("probabilities", True):
            self._aside.mkdir()
            for candidate in candidates:
                self._files[candidate.name] = np.lib.format.open_memmap(
                    self._aside / f"{candidate.name}.npy", "w+", np.float16, (count, classes)
                )

    def take(self, rows: slice, result: Result) -> None:
        """Fill rows from a result."""
        for name, values in self._files.items():
            values[rows] = result.arrays[f"{name}/probabilities"]

    def finish(self) -> None:
        """Put the files in place of earlier ones."""
        for values in self._files.values():
            values.flush()  # type: ignore[attr-defined]
        had = bool(self._files)
        self._files = {}
        shutil.rmtree(self._target, ignore_errors=True)
        if had:
            os.replace(self._aside, self._target)


def _times(
    store: Store,
    key: str | None,
    candidates: Sequence[Candidate],
    count: int,
    meta: dict[str, Any],
    notes: list[str],
) -> dict[str, np.ndarray]:
    """Times of every image, by the names of a result's arrays; `meta` is told where from."""
    result = None
    if key is not None:
        try:
            result = Result.from_bytes(store.get(f"results/{key}"))
        except KeyError:
            notes.append("times could not be measured; every one in the table is 1 ms")
    if result is None or not result.images:
        one = np.ones(count)
        meta["times"] = {"of": "nothing", "images": 0, "same_images": False}
        names = ["decode_ms", "features_ms", *(f"{c.name}/ms" for c in candidates)]
        return dict.fromkeys(names, one)
    drawn = np.random.default_rng(0).permutation(count) % len(result.images)
    meta["times"] = {"of": "some images", "images": len(result.images), "same_images": False}
    meta["board"] = result.origin["board"]
    meta["engine"] = result.origin["engine"]
    meta["feature_ms"] = result.origin["feature_ms"]
    if result.origin["board"].get("throttled"):
        notes.append("the board was slowed while times were measured: a cool board's are shorter")
    return {name: values[drawn] for name, values in result.arrays.items()}
