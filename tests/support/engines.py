"""Every kind of engine, opened on an ONNX file; one that is not here skips with the reason."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Callable, ClassVar

import pytest
from tensorrt_stand_in import TX2, StandInCuda, TensorrtStandIn

from adaptive.engines.built import EngineKey, Platform
from adaptive.engines.choose import maker_of
from adaptive.engines.direct.cudart import Device
from adaptive.engines.direct.tensorrt import TensorrtEngine, import_tensorrt
from adaptive.engines.engine import OnnxEngine
from adaptive.engines.nvidia import no_device
from adaptive.engines.onnxfile import read_signature
from adaptive.engines.providers import ProviderEngine, ProviderSettings, missing_provider
from adaptive.errors import EngineError
from adaptive.jetson.build import shapes_of
from adaptive.jetson.plan import build_plan

MOST = 4

#: Versions of the stand-in: bindings by number, names with contexts that share no profile, and
#: names alone.
STAND_INS = ("8.2.1.8", "8.6.1", "10.3.0")


def key_for(path: Path, engine: str = "tensorrt", precision: str = "fp32") -> EngineKey:
    """A key as `adaptive build` makes it, for a network that no manifest speaks of."""
    signature = read_signature(path)
    return EngineKey(
        network="0" * 64,
        name=path.stem,
        file="",
        engine=engine,
        precision=precision,
        calibration="",
        platform=Platform("a device of the tests", "0.0", {}),
        shapes=shapes_of(signature, path.name, MOST),
        inputs=tuple(tensor.name for tensor in signature.inputs),
        outputs=tuple(tensor.name for tensor in signature.outputs),
    )


def stand_in(version: str, **settings: Any) -> Callable[[Path], TensorrtEngine]:
    """What opens a network under the stand-in for one version of TensorRT."""

    def opens(path: Path) -> TensorrtEngine:
        cuda = StandInCuda()
        trt = TensorrtStandIn(cuda, version)
        key = key_for(path)
        with tempfile.TemporaryDirectory() as timing:
            plan = build_plan(path, key, Path(timing), trt=trt)
        return TensorrtEngine(
            plan, path.stem, key.inputs, key.outputs, trt=trt, cuda=cuda, **settings
        )

    return opens


def _device() -> None:
    reason = no_device()
    if reason is not None:
        pytest.skip(reason)


def provider(engine: str, precision: str = "fp32") -> Callable[[Path], ProviderEngine]:
    """What opens a network under one of ONNX Runtime's providers."""

    def opens(path: Path) -> ProviderEngine:
        _device()
        reason = missing_provider(engine)
        if reason is not None:
            pytest.skip(reason)
        if engine == "cuda":
            return ProviderEngine(path, ProviderSettings("cuda"))
        folder = Path(tempfile.mkdtemp())
        opened = maker_of(folder, key_for(path, engine, precision), folder)(path, 1)
        assert isinstance(opened, ProviderEngine)
        return opened

    return opens


def tensorrt(precision: str = "fp32") -> Callable[[Path], TensorrtEngine]:
    """What opens a network under TensorRT itself."""

    def opens(path: Path) -> TensorrtEngine:
        _device()
        try:
            import_tensorrt()
        except EngineError as error:
            pytest.skip(str(error))
        key = key_for(path, precision=precision)
        plan = build_plan(path, key, Path(tempfile.mkdtemp()))
        return TensorrtEngine(plan, path.stem, key.inputs, key.outputs)

    return opens


class ProviderStandIn(OnnxEngine):
    """ONNX Runtime's TensorRT provider, as far as its folder of engines goes.

    It runs on the processor, and leaves a file where the provider would leave its engine.
    """

    opened: ClassVar[list[ProviderSettings]] = []

    #: whether TensorRT takes any part of a network
    takes_part = True

    def __init__(self, path: Path, settings: ProviderSettings, threads: int = 1) -> None:
        super().__init__(path, threads)
        self.opened.append(settings)
        if settings.cache is not None and self.takes_part:
            (settings.cache / f"{path.stem}.engine").touch()


def pretend_board(
    monkeypatch: pytest.MonkeyPatch,
    tensorrt: str | None = "8.2.1.8",
    device: Device = TX2,
    providers: bool = True,
) -> StandInCuda:
    """Let this machine seem a board: a device, CUDA, TensorRT's module and library, a provider.

    Parameters
    ----------
    tensorrt : version of the stand-in for the module; None where it is not installed
    providers : whether ONNX Runtime seems to be built with NVIDIA's providers
    """
    cuda = StandInCuda(device)

    def module() -> Any:
        if tensorrt is None:
            raise EngineError("the Python module tensorrt cannot be imported (No module named it)")
        return TensorrtStandIn(cuda, tensorrt)

    def missing(engine: str) -> str | None:
        return None if providers else "ONNX Runtime 1.11.0 is built without it"

    here = "/dev/nvhost-gpu"
    for name in ("direct.cudart", "choose", "nvidia"):
        monkeypatch.setattr(f"adaptive.engines.{name}.device_file", lambda: here)
    monkeypatch.setattr("adaptive.engines.direct.cudart.Cuda.load", lambda: cuda)
    for name in ("engines.direct.tensorrt", "engines.nvidia", "jetson.build", "jetson.plan"):
        monkeypatch.setattr(f"adaptive.{name}.import_tensorrt", module)
    for name in ("engines.choose", "jetson.build"):
        monkeypatch.setattr(f"adaptive.{name}.missing_provider", missing)
    monkeypatch.setattr("adaptive.engines.nvidia.tensorrt_release", lambda: "8.2.1")
    monkeypatch.setattr("adaptive.engines.choose.ProviderEngine", ProviderStandIn)
    ProviderStandIn.opened.clear()
    return cuda


#: name -> what opens a network in 32 bits
ENGINES: dict[str, Callable[[Path], Any]] = {
    "onnxruntime": OnnxEngine,
    "cuda": provider("cuda"),
    "tensorrt-provider": provider("tensorrt-provider"),
    "tensorrt": tensorrt(),
    **{f"tensorrt-{version}-stand-in": stand_in(version) for version in STAND_INS},
}

#: name -> what opens a network at 16 bits
HALF: dict[str, Callable[[Path], Any]] = {
    "tensorrt-provider": provider("tensorrt-provider", "fp16"),
    "tensorrt": tensorrt("fp16"),
}
