"""ONNX Runtime's providers for NVIDIA devices: which options a version takes, and what really runs.

The names of the options are those of the documentation
(https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html and
.../CUDA-ExecutionProvider.html); from which version on each exists was read from the names inside
the wheels of onnxruntime-gpu 1.11 to 1.18 on PyPI. A provider refuses a session for a key that it
does not know, and the session then runs on the CPU, so only what the version knows is passed.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.engines.engine import OnnxEngine, in_parts
from adaptive.errors import EngineError, MissingExtra

TENSORRT, CUDA, CPU = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)

#: What the engines are called here -> the provider that must run.
PROVIDERS = {"cuda": CUDA, "tensorrt-provider": TENSORRT}

PRECISIONS = ("fp32", "fp16", "int8")

#: Options that ONNX Runtime 1.11, the oldest that boards have, does not know -> since when.
SINCE = {
    "trt_profile_min_shapes": (1, 15),
    "trt_profile_opt_shapes": (1, 15),
    "trt_profile_max_shapes": (1, 15),
    "trt_timing_cache_enable": (1, 15),
    "trt_timing_cache_path": (1, 17),
    "use_tf32": (1, 18),
}

#: Until then the provider calls an engine's file after the network's whole path
#: (https://github.com/microsoft/onnxruntime/pull/13015); then after its file name, which it
#: takes no weights into (https://github.com/microsoft/onnxruntime/issues/6455).
NAMED_BY_FILE = (1, 14)


@dataclass(frozen=True)
class ProviderSettings:
    """How a network runs under a provider.

    Parameters
    ----------
    engine : "cuda" or "tensorrt-provider"
    precision : of the TensorRT provider, which may use more bits where that is faster; under
        CUDA a network runs as it is written
    cache : folder for TensorRT's engine files of this network alone: the provider does not tell
        two networks of the same layers apart
    timing : folder for what TensorRT measured of its kernels, for all networks
    shapes : for each input its smallest, best and largest shape
    calibration : name of a table of ranges inside `cache`, for eight bits
    own_ranges : whether the network says its ranges itself, by QuantizeLinear and
        DequantizeLinear; TensorRT builds no such network without eight bits, and none in eight
        bits without ranges
    most : largest batch; a longer one runs in parts
    workspace_mb : memory that TensorRT may try kernels in; None leaves it to ONNX Runtime
    """

    engine: str
    precision: str = "fp32"
    cache: Path | None = None
    timing: Path | None = None
    shapes: Mapping[str, Sequence[Sequence[int]]] | None = None
    calibration: str | None = None
    own_ranges: bool = False
    most: int | None = None
    workspace_mb: int | None = None


def provider_options(
    settings: ProviderSettings, version: tuple[int, int]
) -> list[tuple[str, dict[str, str]]]:
    """Providers in order of preference with their options, for one version of ONNX Runtime.

    All values are text: versions before 1.12 take `True` as text alone.
    """
    cuda = {"device_id": "0"}
    if settings.precision == "fp32":
        # Else an Ampere device computes convolutions on ten bits of mantissa.
        cuda["use_tf32"] = "0"
    chosen = [(CUDA, _known(cuda, version)), (CPU, {})]
    if settings.engine == "cuda":
        return chosen
    options = {"device_id": "0"}
    if settings.precision != "fp32":
        options["trt_fp16_enable"] = "True"
    if settings.calibration is not None or settings.own_ranges:
        options["trt_int8_enable"] = "True"
    if settings.calibration is not None:
        options["trt_int8_calibration_table_name"] = settings.calibration
        options["trt_int8_use_native_calibration_table"] = "False"
    if settings.workspace_mb is not None:
        options["trt_max_workspace_size"] = str(settings.workspace_mb << 20)
    if settings.cache is not None:
        options["trt_engine_cache_enable"] = "True"
        options["trt_engine_cache_path"] = str(settings.cache)
        options["trt_timing_cache_enable"] = "True"
        options["trt_timing_cache_path"] = str(settings.timing or settings.cache)
    if settings.shapes:
        for position, name in enumerate(("min", "opt", "max")):
            options[f"trt_profile_{name}_shapes"] = ",".join(
                f"{tensor}:{'x'.join(map(str, shapes[position]))}"
                for tensor, shapes in settings.shapes.items()
            )
    return [(TENSORRT, _known(options, version)), *chosen]


def _known(options: Mapping[str, str], version: tuple[int, int]) -> dict[str, str]:
    return {k: v for k, v in options.items() if version >= SINCE.get(k, (0, 0))}


def runtime_version() -> tuple[int, int]:
    """ONNX Runtime's version, such as (1, 11)."""
    found = re.match(r"(\d+)\.(\d+)", _onnxruntime().__version__)
    if found is None:
        raise EngineError(f"ONNX Runtime calls itself {_onnxruntime().__version__!r}")
    return int(found[1]), int(found[2])


def listed_providers() -> tuple[str, list[str]]:
    """The installed ONNX Runtime's version in full, and the providers that it is built with.

    Raises
    ------
    MissingExtra
        when there is no ONNX Runtime.
    """
    runtime = _onnxruntime()
    return runtime.__version__, list(runtime.get_available_providers())


def missing_provider(engine: str) -> str | None:
    """Why the installed ONNX Runtime cannot have the provider at all; None where it may."""
    runtime = _onnxruntime()
    listed = runtime.get_available_providers()
    if PROVIDERS[engine] in listed:
        return None
    return (
        f"ONNX Runtime {runtime.__version__} is built without {PROVIDERS[engine]} "
        f"(it has {', '.join(listed)}); onnxruntime-gpu, or NVIDIA's wheel for the board, has it"
    )


class ProviderEngine(OnnxEngine):
    """A network under one of the providers, which really runs.

    Raises
    ------
    EngineError
        when ONNX Runtime lists the provider but the session goes without it, as it does, with
        no more than a line in a log, where a library, the driver or the device is missing.
    """

    def __init__(self, path: Path, settings: ProviderSettings, threads: int = 1) -> None:
        reason = missing_provider(settings.engine)
        if reason is not None:
            raise EngineError(reason)
        wanted = PROVIDERS[settings.engine]
        chosen = provider_options(settings, runtime_version())
        with contextlib.redirect_stdout(io.StringIO()):  # both print what they cannot do
            preload = getattr(_onnxruntime(), "preload_dlls", None)
            if preload is not None:  # from 1.21 on: CUDA as pip's own packages bring it
                preload()
            super().__init__(path.resolve(), threads, chosen)
        if wanted not in self.providers:
            self.close()
            raise EngineError(
                f"{wanted} was asked for {path.name}, but ONNX Runtime runs it with "
                f"{', '.join(self.providers)} alone: a library that the provider needs, the "
                "driver or the device is missing (its log names which)"
            )
        self._most = settings.most

    def _run(self, options: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        whole = super()._run
        return in_parts(lambda *part: whole(options, part), inputs, self._most)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtra("running a network", "onnxruntime-gpu", "gpu") from exc
    return onnxruntime
