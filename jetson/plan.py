"""A network as TensorRT's serialised engine, built by TensorRT's Python module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptive.engines.built import EngineKey
from adaptive.engines.direct.tensorrt import import_tensorrt, make_logger
from adaptive.errors import EngineError


def build_plan(
    path: Path,
    key: EngineKey,
    timing: Path,
    workspace_mb: int | None = None,
    trt: Any = None,
) -> bytes:
    """Build a network; it takes minutes.

    Precision is a permission up to TensorRT 10 (kernels of fewer bits may be used), and from 11
    on that of the network's own types, which `adaptive quantize --fp16-layers` sets.
    (https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-python-api-reference.html)

    Parameters
    ----------
    timing : folder of what this version measured of its kernels on this kind of device; read and
        added to
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
    _set_precision(trt, config, key)
    profile = builder.create_optimization_profile()
    for name, (least, best, most) in key.shapes.items():
        profile.set_shape(name, tuple(least), tuple(best), tuple(most))
    config.add_optimization_profile(profile)
    kept = timing / "tensorrt.timing"
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


def _set_precision(trt: Any, config: Any, key: EngineKey) -> None:
    """Allow what the key names; a network that holds its ranges needs eight bits in any case."""
    if key.precision == "fp32" and hasattr(trt.BuilderFlag, "TF32"):
        # Else Ampere devices compute convolutions on ten bits of mantissa.
        config.clear_flag(trt.BuilderFlag.TF32)
    has_flags = hasattr(trt.BuilderFlag, "FP16")
    if key.precision != "fp32":
        if not has_flags:
            raise EngineError(
                f"TensorRT {trt.__version__} takes precision from the network alone: make a copy "
                "with adaptive quantize (--fp16-layers, --int8 tensorrt), and build that as it is "
                "written, at fp32"
            )
        config.set_flag(trt.BuilderFlag.FP16)
    if key.calibration and has_flags:
        config.set_flag(trt.BuilderFlag.INT8)


def _keep_timing(path: Path, cache: Any) -> None:
    if cache is not None:
        aside = path.with_name(path.name + ".partial")
        aside.write_bytes(bytes(cache.serialize()))
        aside.replace(path)
