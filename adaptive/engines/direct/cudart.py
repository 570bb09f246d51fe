"""The CUDA runtime library, as much of it as running a TensorRT engine takes.

It is called through ctypes: the library is on every machine that TensorRT runs on, and no Python
package of it exists for them all (https://docs.nvidia.com/cuda/cuda-runtime-api/). Addresses and
handles are plain numbers, as TensorRT's Python module takes them.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive.errors import EngineError

#: What an NVIDIA graphics processor shows in /dev: a card, a Jetson's, one under Windows' Linux.
DEVICE_FILES = ("/dev/nvidia[0-9]*", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg")

#: Names of the library, with the versions that boards have (CUDA 10.2 on a TX2).
_LIBRARIES = (
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
)

#: cudaDevAttrComputeCapabilityMajor and ...Minor
_MAJOR, _MINOR = 75, 76

#: Longer than any version's cudaDeviceProp, of which only the name at its beginning is read.
_PROPERTIES_BYTES = 8192

_NON_BLOCKING_STREAM = 1
_CAPTURE_THREAD_LOCAL = 1
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2


def device_file() -> str | None:
    """A device file of an NVIDIA graphics processor, or None; it takes microseconds."""
    for pattern in DEVICE_FILES:
        found = glob.glob(pattern)
        if found:
            return sorted(found)[0]
    return None


@dataclass(frozen=True)
class Device:
    """A graphics processor: its name, and its compute capability such as "6.2" (TX2)."""

    name: str
    compute: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute})"


class Cuda:
    """The library, loaded; every call that fails is an EngineError with CUDA's own words.

    Parameters
    ----------
    library : a loaded library, or what stands for one
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        library.cudaGetErrorString.restype = ctypes.c_char_p

    @classmethod
    def load(cls) -> Cuda:
        """Find and load the library.

        Raises
        ------
        EngineError
            when there is none.
        """
        tried = []
        for name in (*_LIBRARIES, *_beside_python()):
            try:
                return cls(ctypes.CDLL(name))
            except OSError as exc:
                tried.append(str(exc))
        raise EngineError(f"the CUDA runtime library is not found: {tried[0]}")

    @property
    def version(self) -> str:
        """The library's version, such as "10.2"."""
        number = ctypes.c_int()
        self._call("cudaRuntimeGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def device(self, index: int = 0) -> Device:
        """One graphics processor.

        Raises
        ------
        EngineError
            when there is none, or its driver is missing or too old.
        """
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if index >= count.value:
            raise EngineError(f"there is no CUDA device {index}; there are {count.value}")
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        # CUDA 12 gave the longer structure's call another name, and 13 took it back.
        newer = hasattr(self._library, "cudaGetDeviceProperties_v2")
        call = "cudaGetDeviceProperties_v2" if newer else "cudaGetDeviceProperties"
        self._call(call, properties, index)
        capability = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, index)
            capability.append(str(value.value))
        return Device(properties.value.decode(errors="replace"), ".".join(capability))

    def malloc(self, size: int) -> int:
        """Device memory; its address."""
        return self._pointer("cudaMalloc", ctypes.c_size_t(max(size, 1)))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def pinned(self, size: int) -> int:
        """Host memory that the device copies from and to by itself; its address."""
        return self._pointer("cudaHostAlloc", ctypes.c_size_t(max(size, 1)), ctypes.c_uint(0))

    def free_pinned(self, address: int) -> None:
        """Give such host memory back."""
        self._call("cudaFreeHost", ctypes.c_void_p(address))

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Queue a copy of `size` bytes; the host's side must be pinned to go on meanwhile."""
        self._copy(device, host, size, _HOST_TO_DEVICE, stream)

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Queue a copy of `size` bytes back."""
        self._copy(host, device, size, _DEVICE_TO_HOST, stream)

    def stream(self) -> int:
        """A queue of its own, which does not wait for the default one."""
        return self._pointer("cudaStreamCreateWithFlags", ctypes.c_uint(_NON_BLOCKING_STREAM))

    def synchronize(self, stream: int) -> None:
        """Wait until all that is queued is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def destroy_stream(self, stream: int) -> None:
        """Give a queue back."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def begin_capture(self, stream: int) -> None:
        """Record what is queued from now on instead of running it; other threads go on."""
        mode = ctypes.c_int(_CAPTURE_THREAD_LOCAL)
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(stream), mode)

    def end_capture(self, stream: int) -> int:
        """Stop recording; the recording, ready to be launched."""
        graph = self._pointer("cudaStreamEndCapture", ctypes.c_void_p(stream), last=True)
        try:
            return self._instantiate(graph)
        finally:
            self._call("cudaGraphDestroy", ctypes.c_void_p(graph))

    def abandon_capture(self, stream: int) -> None:
        """Stop recording after something in it failed, whatever state that left."""
        graph = ctypes.c_void_p()
        self._library.cudaStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
        if graph.value:
            self._library.cudaGraphDestroy(graph)
        self._library.cudaGetLastError()  # else the next call would report it again

    def launch(self, graph: int, stream: int) -> None:
        """Queue a recording."""
        self._call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        """Give a recording back."""
        self._call("cudaGraphExecDestroy", ctypes.c_void_p(graph))

    def _instantiate(self, graph: int) -> int:
        if hasattr(self._library, "cudaGraphInstantiateWithFlags"):  # CUDA 11.4 and later
            none = ctypes.c_ulonglong(0)
            call = "cudaGraphInstantiateWithFlags"
            return self._pointer(call, ctypes.c_void_p(graph), none)
        null = ctypes.c_void_p()
        return self._pointer(
            "cudaGraphInstantiate", ctypes.c_void_p(graph), null, null, ctypes.c_size_t(0)
        )

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _pointer(self, name: str, *arguments: Any, last: bool = False) -> int:
        """Call what hands an address out, through its first argument or its last one."""
        found = ctypes.c_void_p()
        out = ctypes.byref(found)
        self._call(name, *((*arguments, out) if last else (out, *arguments)))
        if not found.value:
            raise EngineError(f"{name} gave nothing")
        return found.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            self._library.cudaGetLastError()
            words = self._library.cudaGetErrorString(ctypes.c_int(code))
            text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
            raise EngineError(f"{name} failed: {text} (CUDA error {code})")


def _beside_python() -> list[str]:
    """The library as pip's own packages of CUDA bring it."""
    found: list[str] = []
    specification = importlib.util.find_spec("nvidia")
    for folder in (specification.submodule_search_locations or ()) if specification else ():
        found += map(str, sorted(Path(folder).glob("*/lib/libcudart.so.*")))
    return found
