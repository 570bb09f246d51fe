"""The CUDA runtime library through ctypes: the real one as far as it goes without a device."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

from adaptive import EngineError
from adaptive.engines.direct import cudart
from adaptive.engines.direct.cudart import Cuda, device_file


@pytest.fixture
def real() -> Cuda:
    try:
        return Cuda.load()
    except EngineError as error:
        pytest.skip(str(error))


def test_every_function_that_is_called_is_in_the_library(real: Cuda) -> None:
    source = Path(cudart.__file__).read_text()
    names = set(re.findall(r'"(cuda[A-Z]\w+)"', source)) | set(
        re.findall(r"_library\.(cuda[A-Z]\w+)", source)
    )
    assert len(names) > 20
    optional = {"cudaGetDeviceProperties_v2", "cudaGraphInstantiateWithFlags"}
    missing = {name for name in names if not hasattr(real._library, name)}
    assert missing <= optional


def test_the_version_is_read_without_a_device(real: Cuda) -> None:
    assert re.fullmatch(r"1\d\.\d+", real.version)


@pytest.mark.skipif(device_file() is not None, reason="there is an NVIDIA device here")
def test_without_a_driver_cudas_own_words_are_told(real: Cuda) -> None:
    with pytest.raises(EngineError, match=r"cudaGetDeviceCount failed: .* \(CUDA error \d+\)"):
        real.device()
    with pytest.raises(EngineError, match="cudaMalloc failed"):
        real.malloc(16)


class Library:
    """Answers as CUDA would on a TX2, for what is otherwise not reached without a device."""

    def __init__(self, *without: str) -> None:
        self.without = without
        self.calls: list[str] = []
        self.cudaGetErrorString = self._words

    def _words(self, code: Any) -> bytes:
        return b"out of memory"

    def __getattr__(self, name: str) -> Any:
        if name in self.without or not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            first = arguments[0]._obj if arguments and hasattr(arguments[0], "_obj") else None
            if name == "cudaGetDeviceCount":
                first.value = 1
            elif name == "cudaRuntimeGetVersion":
                first.value = 10020
            elif name == "cudaDeviceGetAttribute":
                first.value = {75: 6, 76: 2}[arguments[1]]
            elif name.startswith("cudaGetDeviceProperties"):
                arguments[0].value = b"NVIDIA Tegra X2"
            elif name == "cudaStreamEndCapture":
                arguments[1]._obj.value = 7
            elif name == "cudaMalloc":
                return 2
            elif isinstance(first, ctypes.c_void_p):
                first.value = 9
            return 0

        return call


def words(self: Library, code: Any) -> bytes:
    return b"out of memory"


def cuda(*without: str) -> tuple[Cuda, Library]:
    library = Library(*without)
    # ctypes functions take a restype; bound methods do not
    library.cudaGetErrorString = type("Call", (), {"__call__": words})()
    return Cuda(library), library


def test_a_device_is_described() -> None:
    found, library = cuda("cudaGetDeviceProperties_v2")
    assert found.version == "10.2"
    device = found.device()
    assert (device.name, device.compute) == ("NVIDIA Tegra X2", "6.2")
    assert str(device) == "NVIDIA Tegra X2 (compute capability 6.2)"
    assert "cudaGetDeviceProperties" in library.calls
    with pytest.raises(EngineError, match="no CUDA device 1; there are 1"):
        found.device(1)
    newer, library = cuda()
    newer.device()
    assert "cudaGetDeviceProperties_v2" in library.calls


def test_a_failed_call_is_told_and_forgotten() -> None:
    found, library = cuda()
    with pytest.raises(EngineError, match=r"cudaMalloc failed: out of memory \(CUDA error 2\)"):
        found.malloc(1 << 40)
    assert library.calls[-1] == "cudaGetLastError"


def test_recordings_are_made_as_each_version_makes_them() -> None:
    for without, call in (
        ((), "cudaGraphInstantiateWithFlags"),
        (("cudaGraphInstantiateWithFlags",), "cudaGraphInstantiate"),
    ):
        found, library = cuda(*without)
        found.begin_capture(1)
        assert found.end_capture(1) == 9
        assert library.calls == [
            "cudaStreamBeginCapture",
            "cudaStreamEndCapture",
            call,
            "cudaGraphDestroy",
        ]


def test_an_abandoned_recording_leaves_no_error_behind() -> None:
    found, library = cuda()
    found.abandon_capture(1)
    assert library.calls == ["cudaStreamEndCapture", "cudaGraphDestroy", "cudaGetLastError"]


def test_without_the_library_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudart, "_LIBRARIES", ("libcudart-none.so",))
    monkeypatch.setattr(cudart, "_beside_python", list)
    with pytest.raises(EngineError, match="CUDA runtime library is not found: libcudart-none"):
        Cuda.load()


def test_device_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cudart, "DEVICE_FILES", (str(tmp_path / "nvidia[0-9]*"),))
    assert device_file() is None
    (tmp_path / "nvidia-modeset").touch()
    assert device_file() is None
    (tmp_path / "nvidia0").touch()
    assert device_file() == str(tmp_path / "nvidia0")
