"""Which NVIDIA device is here, and under which versions engines would be built and run."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from adaptive.engines.built import Platform
from adaptive.engines.direct.cudart import DEVICE_FILES, Cuda, device_file
from adaptive.engines.direct.tensorrt import import_tensorrt
from adaptive.errors import EngineError

#: TensorRT's library under the names that boards and pip's packages have.
_LIBRARIES = ("libnvinfer.so.8", "libnvinfer.so.10", "libnvinfer.so.11", "libnvinfer.so")

#: Modules that load it from where pip puts it.
_PACKAGES = ("tensorrt_libs", "tensorrt")


def no_device() -> str | None:
    """Why no NVIDIA device can be here at all, or None; it takes microseconds."""
    if device_file() is not None:
        return None
    return f"there is no NVIDIA device on this machine (no {', '.join(DEVICE_FILES)})"


def platform_here(engine: str) -> Platform:
    """What an engine built here depends on.

    Parameters
    ----------
    engine : "tensorrt" or "tensorrt-provider"

    Raises
    ------
    EngineError
        when the device, the driver or a library is missing; it is named.
    """
    reason = no_device()
    if reason is not None:
        raise EngineError(reason)
    cuda = Cuda.load()
    device = cuda.device()
    versions = {"cuda": cuda.version}
    if engine == "tensorrt":
        versions["tensorrt"] = str(import_tensorrt().__version__)
    else:
        import onnxruntime

        versions["tensorrt"] = tensorrt_release()
        versions["onnxruntime"] = str(onnxruntime.__version__)
    return Platform(device.name, device.compute, versions)


def tensorrt_release() -> str:
    """The version of TensorRT's library that a program finds, such as "8.2.1".

    Raises
    ------
    EngineError
        when there is none.
    """
    library = _library()
    library.getInferLibVersion.restype = ctypes.c_int
    number = int(library.getInferLibVersion())
    # 8201 is 8.2.1; from 10 on there are two digits more: 100300 is 10.3.0.
    major = 1000 if number < 10_000 else 10_000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def _library() -> Any:
    for package in (None, *_PACKAGES):
        if package is not None:
            try:
                importlib.import_module(package)
            except (ImportError, OSError):
                continue
        for name in _LIBRARIES:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise EngineError("TensorRT's library libnvinfer is not found")
