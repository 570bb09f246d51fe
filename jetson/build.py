"""Building engines on the board that will run them, once for each network."""

from __future__ import annotations

import mmap
import shutil
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.engines.built import OWN_RANGES, PLAN, EngineKey, EngineStore, Platform
from adaptive.engines.choose import CALIBRATION, maker_of, named_by
from adaptive.engines.direct.tensorrt import import_tensorrt
from adaptive.engines.nvidia import no_device, platform_here
from adaptive.engines.onnxfile import OnnxTensor, Signature, read_signature
from adaptive.engines.providers import PRECISIONS, missing_provider
from adaptive.engines.wanted import Wanted
from adaptive.errors import AdaptiveError, EngineError, InputError
from adaptive.files import sha256
from adaptive.jetson.plan import build_plan

#: What `auto` tries, the fastest first.
PROVIDER = "tensorrt-provider"
ENGINES = ("tensorrt", PROVIDER)

#: Compute capabilities without instructions for eight bits: Nano and TX1, GP100, TX2
#: (https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-821/support-matrix/index.html).
WITHOUT_INT8 = ("5.3", "6.0", "6.2")


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    Parameters
    ----------
    engine : "tensorrt", "tensorrt-provider", or "auto": the first of them that is here
    precision : "fp32", "fp16" or "int8"; TensorRT may use more bits where that is faster, and
        does for a network without ranges at "int8"
    max_batch : largest batch; the engines are tuned for one image
    calibration : folder of tables NAME.calibration, as `adaptive quantize --tables` writes them,
        for the provider at int8; without one the networks must hold their ranges themselves
    workspace_mb : memory that TensorRT may try kernels in; None leaves it to TensorRT
    force : build anew what is there already
    """

    engine: str = "auto"
    precision: str = "fp32"
    max_batch: int = 8
    calibration: Path | None = None
    workspace_mb: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ("auto", *ENGINES):
            raise InputError(f"engines are built for {list(ENGINES)}, not for {self.engine!r}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r} is not one of {list(PRECISIONS)}")
        if self.max_batch < 1:
            raise InputError(f"a largest batch of {self.max_batch} is below 1")


@dataclass(frozen=True)
class Built:
    """What a call of `build_engines` did: names of networks, and why some were left out."""

    engine: str
    built: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: tuple[str, ...]


def build_engines(
    bundle: Bundle,
    store: EngineStore,
    options: BuildOptions,
    say: Callable[[str], None] = print,
    threads: int = 1,
) -> Built:
    """Build what is missing of a bundle's engines.

    Each is written aside, run once, and only then put in place; so a stopped call loses the
    engine that it was at, and the next one goes on with that.

    Raises
    ------
    EngineError
        when there is no device, what `options` asks for is not installed, or another process is
        building in the same folder.
    InputError
        when tables of ranges are given to what takes none.
    """
    engine = _engine_here(options.engine)
    if options.calibration is not None and (engine, options.precision) != (PROVIDER, "int8"):
        raise InputError(
            f"tables of ranges are for --engine {PROVIDER} --precision int8, not for {engine} at "
            f"{options.precision}; TensorRT itself takes a network that holds its ranges (adaptive "
            "quantize --int8 tensorrt)"
        )
    platform = platform_here(engine)
    say(f"building with {engine} at {options.precision} for {platform}")
    built, kept, left_out = [], [], []
    with store.building():
        for entry in networks_of(bundle):
            began = perf_counter()
            try:
                key = _build(entry, engine, platform, store, options, threads)
            except AdaptiveError as error:
                left_out.append(f"{entry.key}: {error}")
                say(f"{entry.key}: not built ({error})")
                continue
            if key is None:
                kept.append(entry.key)
                say(f"{entry.key}: there already")
                continue
            built.append(entry.key)
            line = f"{entry.key}: built in {perf_counter() - began:.0f} s"
            if options.precision == "int8" and not key.calibration:
                line += "; it has no ranges (adaptive quantize), so nothing of it is in eight bits"
            say(line)
    return Built(engine, tuple(built), tuple(kept), tuple(left_out))


def _build(
    entry: Wanted,
    engine: str,
    platform: Platform,
    store: EngineStore,
    options: BuildOptions,
    threads: int,
) -> EngineKey | None:
    """Build one network's engine; its key, or None where it is there already."""
    table = _table(entry, options)
    key = key_of(entry, engine, options, platform, table)
    if store.holds(key) and not options.force:
        return None
    if key.calibration and platform.compute in WITHOUT_INT8:
        raise EngineError(
            f"{platform.device} (compute capability {platform.compute}) computes nothing in eight "
            "bits; build the network that was not quantised, at fp16"
        )
    with store.adding(key) as aside:
        if table is not None:
            shutil.copyfile(table, aside / CALIBRATION)
        if engine == "tensorrt":
            plan = build_plan(entry.path, key, store.timing(platform), options.workspace_mb)
            (aside / PLAN).write_bytes(plan)
        _run_once(entry, key, aside, store.timing(platform), options.workspace_mb, threads)
    return key


def networks_of(bundle: Bundle) -> Iterator[Wanted]:
    """Every network of a bundle, exits' segments without heads among them."""
    for candidate in bundle.candidates:
        if candidate.remote is not None:
            continue  # nothing of it is here
        yield Wanted(candidate.name, bundle.folder, candidate)
        if candidate.through is not None:
            yield Wanted(f"{candidate.name}:through", bundle.folder, candidate, True)


def key_of(
    entry: Wanted, engine: str, options: BuildOptions, platform: Platform, table: Path | None = None
) -> EngineKey:
    """The key of a network's engine.

    Raises
    ------
    EngineError
        when the network has a free axis besides the batch.
    """
    signature = read_signature(entry.path)
    return EngineKey(
        network=entry.network,
        name=entry.key,
        file=named_by(engine, entry.path),
        engine=engine,
        precision=options.precision,
        calibration=_ranges(entry.path, table),
        platform=platform,
        shapes=shapes_of(signature, entry.path.name, options.max_batch),
        inputs=tuple(tensor.name for tensor in signature.inputs),
        outputs=tuple(tensor.name for tensor in signature.outputs),
    )


def shapes_of(signature: Signature, name: str, most: int) -> dict[str, list[list[int]]]:
    """The smallest, best and largest shape of each input: one image, one image, `most` of them."""
    shapes = {}
    for tensor in signature.inputs:
        batch, *sides = tensor.shape or (0,)
        if batch is not None or not sides or not all(sides):
            raise EngineError(
                f"{name} reads {tensor.name!r} of shape {tensor.shape}; an engine needs a free "
                "batch axis first, and all others fixed"
            )
        shapes[tensor.name] = [[n, *map(int, sides)] for n in (1, 1, most)]  # type: ignore[arg-type]
    return shapes


def _engine_here(asked: str) -> str:
    """The engine to build for, or an EngineError that says why none can be."""
    reason = no_device()
    if reason is not None:
        raise EngineError(
            f"{reason}, so there is nothing to build: ONNX Runtime runs networks on the processor "
            "as they are"
        )
    reasons = []
    for engine in ENGINES if asked == "auto" else (asked,):
        try:
            if engine == "tensorrt":
                if not hasattr(import_tensorrt(), "Builder"):
                    raise EngineError("this module tensorrt has no builder, only a runtime")
            else:
                missing = missing_provider(engine)
                if missing is not None:
                    raise EngineError(missing)
        except AdaptiveError as error:
            reasons.append(f"{engine}: {error}")
        else:
            return engine
    raise EngineError("no engine can be built here; " + "; ".join(reasons))


def _table(entry: Wanted, options: BuildOptions) -> Path | None:
    """The network's table of ranges, where one is asked for."""
    if options.calibration is None:
        return None
    path = options.calibration / f"{entry.key}.calibration"
    if not path.is_file():
        raise InputError(f"{options.calibration} has no {path.name}; adaptive quantize --tables")
    return path


def _ranges(network: Path, table: Path | None) -> str:
    """Where a network's ranges come from, as keys say it."""
    if table is not None:
        return sha256(table)
    with open(network, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return OWN_RANGES if data.find(b"QuantizeLinear") >= 0 else ""


def _run_once(
    entry: Wanted,
    key: EngineKey,
    aside: Path,
    timing: Path,
    workspace_mb: int | None,
    threads: int,
) -> None:
    """Open the engine and run it on one blank image and on the largest batch.

    ONNX Runtime's provider builds its engine no earlier than that, and versions that take no
    shapes beforehand learn the range from these two.
    """
    signature = read_signature(entry.path)
    engine = entry.open(threads, maker_of(aside, key, timing, workspace_mb))
    try:
        for count in dict.fromkeys((1, key.most)):
            inputs = [_blank(tensor, count) for tensor in signature.inputs]
            outputs = engine.run(*inputs)
            if not all(np.isfinite(o).all() for o in outputs if o.dtype.kind == "f"):
                raise EngineError("it answers a blank image with infinities or NaN")
    finally:
        engine.close()
    if key.engine == PROVIDER and not list(aside.glob("*.engine")):
        raise EngineError(
            "ONNX Runtime gave no part of the network to TensorRT, so no engine was written "
            "(its log says which operators it does not take)"
        )


def _blank(tensor: OnnxTensor, count: int) -> np.ndarray:
    sides: Sequence[Any] = tensor.shape[1:]
    return np.zeros((count, *sides), tensor.dtype)
