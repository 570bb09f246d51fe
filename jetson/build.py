"""Building engines on the board that will run them, once for each network."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from adaptive.bundle import Bundle
from adaptive.errors import AdaptiveError, EngineError, InputError
from adaptive.files import sha256
from adaptive.serving.built import PLAN, EngineKey, EngineStore, Platform
from adaptive.serving.choose import CALIBRATION, Wanted, maker_of, named_by
from adaptive.serving.nvidia import no_device, platform_here
from adaptive.serving.onnxfile import OnnxTensor, Signature, read_signature
from adaptive.serving.providers import PRECISIONS, missing_provider
from adaptive.serving.tensorrt import import_tensorrt, make_logger

#: What `auto` tries, the fastest first.
ENGINES = ("tensorrt", "tensorrt-provider")


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    Parameters
    ----------
    engine : "tensorrt", "tensorrt-provider", or "auto": the first of them that is here
    precision : "fp32", "fp16" or "int8"; TensorRT may use more bits where that is faster
    max_batch : largest batch; the engines are tuned for one image
    calibration : folder of tables NAME.calibration, as `adaptive quantize --tables` writes them,
        for the provider at int8; without one the networks must hold their ranges themselves
    workspace_mb : memory that TensorRT may try kernels in; None leaves it to TensorRT
    """

    engine: str = "auto"
    precision: str = "fp32"
    max_batch: int = 8
    calibration: Path | None = None
    workspace_mb: int | None = None

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
        when there is no device, or what `options` asks for is not installed.
    """
    engine = _engine_here(options.engine)
    platform = platform_here(engine)
    say(f"building with {engine} at {options.precision} for {platform}")
    built, kept, left_out = [], [], []
    for entry in networks_of(bundle):
        try:
            table = _table(entry, engine, options)
            key = key_of(entry, engine, options, platform, table)
            if store.holds(key):
                kept.append(entry.key)
                say(f"{entry.key}: there already")
                continue
            began = perf_counter()
            with store.adding(key) as aside:
                if table is not None:
                    shutil.copyfile(table, aside / CALIBRATION)
                if engine == "tensorrt":
                    workspace = options.workspace_mb
                    plan = build_plan(entry.path, key, store.timing, workspace)
                    (aside / PLAN).write_bytes(plan)
                _run_once(entry, key, aside, store, threads)
        except AdaptiveError as error:
            left_out.append(f"{entry.key}: {error}")
            say(f"{entry.key}: not built ({error})")
            continue
        built.append(entry.key)
        say(f"{entry.key}: built in {perf_counter() - began:.0f} s")
    return Built(engine, tuple(built), tuple(kept), tuple(left_out))


def networks_of(bundle: Bundle) -> Iterator[Wanted]:
    """Every network of a bundle, exits' segments without heads among them."""
    for candidate in bundle.candidates:
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
        calibration="" if table is None else sha256(table),
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


def build_plan(
    path: Path,
    key: EngineKey,
    timing: Path,
    workspace_mb: int | None = None,
    trt: Any = None,
) -> bytes:
    """A network as TensorRT's serialised engine, built by its Python module.

    Precision is a permission up to TensorRT 10 (kernels of fewer bits may be used), and from 11
    on that of the network's own types, which `adaptive quantize --fp16-layers` sets.
    (https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-python-api-reference.html)

    Parameters
    ----------
    timing : folder of what TensorRT measured of its kernels; read and added to
    trt : the module, or what stands for it

    Raises
    ------
    EngineError
        when TensorRT cannot parse or build it; its own words are in the sentence.
    """
    trt = import_tensorrt() if trt is None else trt
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise EngineError(
            f"TensorRT {trt.__version__} cannot read {path.name}: {'; '.join(errors)}"
        )
    config = builder.create_builder_config()
    if workspace_mb is not None:
        size = workspace_mb << 20
        if hasattr(config, "set_memory_pool_limit"):  # from 8.4 on
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
        else:
            config.max_workspace_size = size
    _set_precision(trt, config, key.precision)
    profile = builder.create_optimization_profile()
    for name, (least, best, most) in key.shapes.items():
        profile.set_shape(name, tuple(least), tuple(best), tuple(most))
    config.add_optimization_profile(profile)
    kept = timing / f"tensorrt-{trt.__version__}-{key.platform.compute}.timing"
    cache = config.create_timing_cache(kept.read_bytes() if kept.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):  # of another device
        config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"TensorRT {trt.__version__} cannot build {path.name}: "
            f"{logger.error or 'it does not say why'}"
        )
    _keep_timing(kept, config.get_timing_cache())
    return bytes(plan)


def _network_flags(trt: Any) -> int:
    """Explicit batch, which is all that there is from TensorRT 10 on."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _set_precision(trt: Any, config: Any, precision: str) -> None:
    if precision == "fp32":
        # Else Ampere devices compute convolutions on ten bits of mantissa.
        if hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)
        return
    for name in ("FP16",) if precision == "fp16" else ("FP16", "INT8"):
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is None:
            raise EngineError(
                f"TensorRT {trt.__version__} takes precision from the network alone: make a copy "
                "with adaptive quantize (--fp16-layers, --int8 tensorrt), and build that as it is "
                "written, at fp32"
            )
        config.set_flag(flag)


def _keep_timing(path: Path, cache: Any) -> None:
    if cache is not None:
        aside = path.with_name(path.name + ".partial")
        aside.write_bytes(bytes(cache.serialize()))
        aside.replace(path)


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


def _table(entry: Wanted, engine: str, options: BuildOptions) -> Path | None:
    """The network's table of ranges, where one is asked for."""
    if options.calibration is None:
        return None
    if engine != "tensorrt-provider" or options.precision != "int8":
        raise InputError(
            "tables of ranges are for --engine tensorrt-provider --precision int8; TensorRT "
            "itself takes a network that holds its ranges (adaptive quantize --int8 tensorrt)"
        )
    path = options.calibration / f"{entry.key}.calibration"
    if not path.is_file():
        raise InputError(f"{options.calibration} has no {path.name}; adaptive quantize --tables")
    return path


def _run_once(entry: Wanted, key: EngineKey, aside: Path, store: EngineStore, threads: int) -> None:
    """Open the engine and run it on one blank image and on the largest batch.

    ONNX Runtime's provider builds its engine no earlier than that, and versions that take no
    shapes beforehand learn the range from these two.
    """
    signature = read_signature(entry.path)
    engine = entry.open(threads, maker_of(aside, key, store.timing))
    try:
        for count in dict.fromkeys((1, key.most)):
            inputs = [_blank(tensor, count) for tensor in signature.inputs]
            outputs = engine.run(*inputs)
            if not all(np.isfinite(o).all() for o in outputs if o.dtype.kind == "f"):
                raise EngineError("it answers a blank image with infinities or NaN")
    finally:
        engine.close()


def _blank(tensor: OnnxTensor, count: int) -> np.ndarray:
    sides: Sequence[Any] = tensor.shape[1:]
    return np.zeros((count, *sides), tensor.dtype)
