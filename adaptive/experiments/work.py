"""What a worker does: run one shard, and put its result into the store."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import stat
import tempfile
import uuid
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import Candidate
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.engines.wanted import Wanted
from adaptive.errors import AdaptiveError, EngineError, ImageError, InputError
from adaptive.experiments.assembled import download
from adaptive.experiments.imagery import ImagesAway, fetched
from adaptive.experiments.shard import OUTCOMES, Result, Shard
from adaptive.experiments.store import Store, StoreError
from adaptive.jetson.board import board_profile
from adaptive.jetson.state import BoardState
from adaptive.measuring.profiling import Profiler, one_of_each_kind
from adaptive.outcomes.labelled import UNLABELLED

log = logging.getLogger("adaptive.experiments")

#: Workers that may begin on a shard and vanish, before it is taken for what kills them.
ATTEMPTS = 3

#: Columns of a candidate that a clock measured.
CLOCKED = ("ms", "scale", "normalise", "through")


class Stopped(AdaptiveError):
    """A worker was told to stop, and leaves its shard to another."""


def board_model() -> str:
    """This machine's model, by which times name where they come from."""
    told = board_profile()
    return str(told.get("model") or told.get("processor") or platform.machine())


def package_version() -> str:
    """The version of this package; "unknown" where it runs from a folder and is not installed."""
    try:
        return metadata.version("adaptive-serving")
    except metadata.PackageNotFoundError:
        return "unknown"


class Work:
    """Runs shards; candidates stay open between shards that have the same.

    Parameters
    ----------
    store : where shards, candidates and results lie
    cache : folder for candidates that were fetched; a temporary one when left out
    board : what this machine is called; its own model when left out
    stopping : asked before each image; raises `Stopped` by saying yes
    """

    def __init__(
        self,
        store: Store,
        cache: Path | None = None,
        board: str | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store = store
        self.board = board or board_model()
        self._stopping = stopping
        self._cache = cache or own_folder() / "candidates"
        self._open: tuple[str, Profiler, Mapping[str, str]] | None = None

    def perform(self, key: str) -> str:
        """Run a shard: "done", "there" where its result exists, or "failed", with a note why.

        Raises
        ------
        Stopped
            when the worker is told to stop meanwhile.
        StoreError, OSError
            when store or images do not answer; another try may succeed.
        """
        if self.store.exists(f"results/{key}"):
            return "there"
        shard = self._shard(key)
        if shard is None:
            return "failed"
        attempt = f"attempts/{key}/{uuid.uuid4().hex[:12]}"
        begun = self.store.names(f"attempts/{key}")
        if len(begun) >= ATTEMPTS:
            self.fail(key, shard, self._why(key, begun))
            return "failed"
        self.store.put(attempt, b"")
        try:
            result = self._run(shard)
        except ImagesAway as error:
            self.store.put(attempt, str(error).encode())  # it counts, so that tries have an end
            raise
        except (StoreError, Stopped, OSError):
            self._forget(attempt)
            raise
        except MemoryError:
            self._forget(attempt)
            raise
        except AdaptiveError as error:
            self._forget(attempt)
            self.fail(key, shard, str(error))
            return "failed"
        try:
            self.store.put(f"results/{key}", result.to_bytes())
        finally:
            self._forget(attempt)
        return "done"

    def fail(self, key: str, shard: Shard | None, why: str) -> None:
        """Note that a shard cannot be run."""
        told: dict[str, Any] = {
            "why": why,
            "images": [] if shard is None else list(shard.images[:3]),
        }
        if shard is not None:
            told["count"] = len(shard)
        self.store.put(f"failed/{key}", json.dumps(told).encode())
        log.error("shard %s cannot be run: %s", key, why)

    def close(self) -> None:
        """Close the networks."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _shard(self, key: str) -> Shard | None:
        try:
            shard = Shard.from_bytes(self.store.get(f"shards/{key}"))
            if shard.key != key:
                raise InputError("its content is another shard's")
        except KeyError:
            self.fail(key, None, "it is not in the store")
        except InputError as error:
            self.fail(key, None, str(error))
        else:
            return shard
        return None

    def _why(self, key: str, begun: set[str]) -> str:
        """Why a shard is given up on which so many began."""
        for attempt in sorted(begun):
            with contextlib.suppress(KeyError):
                told = self.store.get(f"attempts/{key}/{attempt}").decode()
                if told:
                    return f"{len(begun)} tries failed: {told}"
        return f"{len(begun)} workers began on it and vanished"

    def _forget(self, attempt: str) -> None:
        with contextlib.suppress(StoreError, OSError):
            self.store.remove(attempt)

    def _run(self, shard: Shard) -> Result:
        if shard.board is not None and shard.board != self.board:
            raise InputError(
                f"its times are to be measured on {shard.board!r}, and this is {self.board!r}"
            )
        profiler, unusable = self._profiler(shard)
        if UNLABELLED in shard.labels and profiler.bundle.reference is None:
            raise InputError("images without labels need a reference, and none runs")
        timed = shard.kind != OUTCOMES
        with fetched(shard.root, shard.images) as root, alone(timed):
            if timed:
                profiler.warm_up(root / name for name in one_of_each_kind(shard.images))
            before = BoardState.read()
            rows, left_out = [], {}
            for name, label in zip(shard.images, shard.labels):
                if self._stopping():
                    raise Stopped("told to stop")
                try:
                    rows.append((name, *profiler.outcome(root / name, label, timed)))
                except ImageError as error:
                    left_out[name] = str(error).replace(f"{root}/", "")
            origin: dict[str, Any] = {
                "board": board_profile(profiler.threads, before if timed else None),
                "engine": profiler.choice.to_json(),
                "adaptive": package_version(),
            }
            if timed:
                origin["feature_ms"] = profiler.feature_times(root / name for name, _, _ in rows)
        arrays = _arrays(rows, profiler, shard, timed)
        return Result(arrays, tuple(r[0] for r in rows), left_out, unusable, origin)

    def _profiler(self, shard: Shard) -> tuple[Profiler, Mapping[str, str]]:
        """What runs the shard's candidates, and which of them do not run."""
        measure = shard.measure
        settings = json.dumps([shard.candidates, dict(measure)], sort_keys=True)
        if self._open is not None and self._open[0] == settings:
            return self._open[1], self._open[2]
        self.close()
        bundle = download(shard.candidates, self.store, self._cache)
        options = EngineOptions(measure.get("engine", "auto"))
        threads = int(measure.get("threads", 1))
        features = str(measure.get("features", "all+extra"))
        unusable: dict[str, str] = {}
        try:
            made = Profiler(bundle, threads, features, engines=Engines(options))
        except EngineError:
            bundle, unusable = usable(bundle, options, threads)
            made = Profiler(bundle, threads, features, engines=Engines(options))
        self._open = (settings, made, unusable)
        return made, unusable


def usable(bundle: Bundle, options: EngineOptions, threads: int) -> tuple[Bundle, dict[str, str]]:
    """The candidates that open, and by name why others do not.

    Raises
    ------
    EngineError
        when none does.
    """
    why: dict[str, str] = {}
    kept: list[Candidate] = []
    for candidate in sorted(bundle.candidates, key=lambda c: c.after is not None):
        if candidate.after in why:
            why[candidate.name] = f"it goes on from {candidate.after}, which does not run"
            continue
        wanted = [Wanted(candidate.name, bundle.folder, candidate)]
        try:
            for engine in Engines(options).open(wanted, threads).values():
                engine.close()
        except EngineError as error:
            why[candidate.name] = str(error)
        else:
            kept.append(candidate)
    if not kept:
        raise EngineError(f"no candidate runs: {next(iter(why.values()))}")
    ordered = tuple(c for c in bundle.candidates if c in kept)
    reference = bundle.reference if bundle.reference not in why else None
    return replace(bundle, candidates=ordered, reference=reference), why


def own_folder() -> Path:
    """A folder of this user's workers on this machine, which nobody else may write to.

    Raises
    ------
    InputError
        when it is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"adaptive-worker-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = folder.lstat()
    if told.st_uid != os.getuid() or stat.S_IMODE(told.st_mode) & 0o022 or folder.is_symlink():
        raise InputError(f"{folder} is not this user's alone; remove it, or set TMPDIR")
    return folder


@contextlib.contextmanager
def alone(timed: bool) -> Iterator[None]:
    """Times are measured while no other worker of this machine runs a shard."""
    with open(own_folder() / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if timed else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _arrays(
    rows: list[Any], profiler: Profiler, shard: Shard, timed: bool
) -> dict[str, np.ndarray]:
    told = [row for _, row, _ in rows]
    arrays: dict[str, np.ndarray] = {}
    if timed:
        arrays["decode_ms"] = np.array([r["decode:ms"] for r in told], np.float64)
        arrays["features_ms"] = np.array([r["features:ms"] for r in told], np.float64)
    else:
        arrays["label"] = np.array([r["label"] for r in told], np.int64)
        shape = (len(told), len(profiler.features))
        arrays["features"] = np.array([r["features"] for r in told], np.float64).reshape(shape)
    for name in profiler.bundle.names:
        own = [r[name] for r in told]
        if timed:
            for part in CLOCKED:
                if own and part in own[0]:
                    arrays[f"{name}/{part}"] = np.array([o[part] for o in own], np.float64)
            continue
        for part, kind in (("top1", bool), ("top5", bool), ("confidence", np.float64)):
            arrays[f"{name}/{part}"] = np.array([o[part] for o in own], kind)
        if shard.measure.get("probabilities", True):
            answers = [answers[name].astype(np.float16) for _, _, answers in rows]
            empty = np.zeros((0, len(profiler.bundle.labels)), np.float16)
            arrays[f"{name}/probabilities"] = np.concatenate([empty, *answers])
    return arrays
