"""Which engine runs, and that it says so."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from engines import ProviderStandIn, pretend_board
from tensorrt_stand_in import ORIN

from adaptive import EngineError, Router
from adaptive.bundle.bundle import Bundle
from adaptive.cli.classify import command as classify
from adaptive.engines.built import EngineStore
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.engines.direct.tensorrt import TensorrtEngine
from adaptive.engines.engine import OnnxEngine
from adaptive.engines.nvidia import no_device
from adaptive.engines.wanted import Wanted
from adaptive.errors import InputError
from adaptive.jetson.build import BuildOptions, build_engines, networks_of

no_board = pytest.mark.skipif(no_device() is None, reason="there is an NVIDIA device here")


@pytest.fixture
def wanted(tiny_candidates: Path) -> list[Wanted]:
    return list(networks_of(Bundle.read(tiny_candidates)))


def build(folder: Path, engines: Path, precision: str = "fp32", engine: str = "auto") -> None:
    options = BuildOptions(engine, precision, max_batch=4)
    done = build_engines(Bundle.read(folder), EngineStore(engines), options, lambda line: None)
    assert done.left_out == ()


@no_board
def test_without_a_device_it_is_the_processor_at_once(wanted: list[Wanted]) -> None:
    engines = Engines()
    opened = engines.open(wanted)
    assert set(map(type, opened.values())) == {OnnxEngine}
    assert str(engines.choice) == "onnx: no NVIDIA device is on this machine"


@no_board
def test_opening_without_a_device_loads_no_cuda_and_no_tensorrt() -> None:
    code = (
        "import sys; from adaptive import Router; r = Router.load(); r.close();"
        "print([m for m in sys.modules if m == 'tensorrt' or m.startswith(('nvidia', 'adaptive."
        "engines.nvidia', 'adaptive.engines.direct.tensorrt', 'adaptive.engines.built'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@no_board
@pytest.mark.parametrize("engine", ["cuda", "tensorrt-provider", "tensorrt"])
def test_what_does_not_run_is_refused_unless_allowed(
    engine: str, wanted: list[Wanted], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EngineError, match=f"engine '{engine}' does not run here: .*allow-fallback"):
        Engines(EngineOptions(engine)).open(wanted)
    allowed = Engines(EngineOptions(engine, allow_fallback=True))
    with caplog.at_level(logging.WARNING, "adaptive.serving"):
        opened = allowed.open(wanted)
    assert set(map(type, opened.values())) == {OnnxEngine}
    assert allowed.choice is not None
    assert allowed.choice.engine == "onnx"
    assert f"{engine} was asked for and does not run" in allowed.choice.why
    assert "run on the processor" in caplog.text


def test_the_processor_on_request(wanted: list[Wanted], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_board(monkeypatch)
    engines = Engines(EngineOptions("onnx"))
    engines.open(wanted)
    assert str(engines.choice) == "onnx: it was asked for"


def test_auto_takes_tensorrt_where_its_engines_are_built(
    wanted: list[Wanted], tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = pretend_board(monkeypatch)
    build(tiny_candidates, tmp_path, "fp16")
    assert cuda.live() == 0  # what building opened is given back
    engines = Engines(EngineOptions(folder=tmp_path))
    opened = engines.open(wanted)
    assert set(map(type, opened.values())) == {TensorrtEngine}
    assert str(engines.choice) == "tensorrt at fp16: it is the best that runs here"
    for engine in opened.values():
        engine.close()
    assert cuda.live() == 0


def test_auto_takes_the_provider_where_the_module_is_missing(
    wanted: list[Wanted], tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a TX2 with Python 3.8."""
    pretend_board(monkeypatch, tensorrt=None)
    build(tiny_candidates, tmp_path, "fp16")
    engines = Engines(EngineOptions(folder=tmp_path))
    opened = engines.open(wanted)
    assert set(map(type, opened.values())) == {ProviderStandIn}
    choice = engines.choice
    assert choice is not None
    assert (choice.engine, choice.precision) == ("tensorrt-provider", "fp16")
    assert "tensorrt does not run (the Python module tensorrt cannot be imp" in choice.why
    settings = ProviderStandIn.opened[-1]
    assert settings.precision == "fp16"
    assert settings.most == 4
    assert settings.cache is not None
    assert settings.cache.parent == tmp_path
    assert settings.timing == tmp_path / "timing" / "8.2.1-6.2"


def test_auto_takes_cuda_before_building_anything(
    wanted: list[Wanted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch)
    engines = Engines(EngineOptions(folder=tmp_path))
    engines.open(wanted)
    choice = engines.choice
    assert choice is not None
    assert choice.engine == "cuda"
    assert choice.why.count("run adaptive build") == 2
    assert ProviderStandIn.opened[-1].engine == "cuda"


def test_a_device_without_a_build_for_it_is_a_warning(
    wanted: list[Wanted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pretend_board(monkeypatch, tensorrt=None, providers=False)
    engines = Engines(EngineOptions(folder=tmp_path))
    with caplog.at_level(logging.WARNING, "adaptive.serving"):
        opened = engines.open(wanted)
    assert set(map(type, opened.values())) == {OnnxEngine}
    assert "there is an NVIDIA device, but tensorrt does not run" in str(engines.choice)
    assert "run on the processor" in caplog.text


def test_another_boards_engines_are_refused_in_a_sentence(
    wanted: list[Wanted], tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch)
    build(tiny_candidates, tmp_path)
    pretend_board(monkeypatch, "10.3.0", ORIN)
    with pytest.raises(EngineError) as caught:
        Engines(EngineOptions("tensorrt", folder=tmp_path)).open(wanted)
    assert (
        "was built for NVIDIA Tegra X2 (compute capability 6.2) with cuda 10.2, tensorrt 8.2.1.8; "
        "here is Orin (compute capability 8.7) with cuda 10.2, tensorrt 10.3.0. An engine runs "
        "only where it was built: run adaptive build here"
    ) in str(caught.value)


def test_precision_is_the_one_asked_for_or_the_last_built(
    wanted: list[Wanted], tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch)
    build(tiny_candidates, tmp_path, "fp32")
    build(tiny_candidates, tmp_path, "fp16")
    for asked, runs in ((None, "fp16"), ("fp32", "fp32"), ("fp16", "fp16")):
        engines = Engines(EngineOptions("tensorrt", asked, tmp_path))
        engines.open(wanted)
        assert engines.choice is not None
        assert engines.choice.precision == runs
    with pytest.raises(EngineError, match="no engine of 'cheap' is built for tensorrt at int8"):
        Engines(EngineOptions("tensorrt", "int8", tmp_path)).open(wanted)


def test_a_network_that_answers_nonsense_is_not_served(
    wanted: list[Wanted], tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = pretend_board(monkeypatch)
    build(tiny_candidates, tmp_path)

    def nonsense(self: Any, *inputs: Any) -> Any:
        return [np.full_like(values, np.nan) for values in run(self, *inputs)]

    run = TensorrtEngine.run
    monkeypatch.setattr(TensorrtEngine, "run", nonsense)
    with pytest.raises(EngineError, match="answers a made-up image with infinities or NaN"):
        Engines(EngineOptions("tensorrt", folder=tmp_path)).open(wanted)
    assert cuda.live() == 0


def test_later_networks_run_as_the_first_ones(
    wanted: list[Wanted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch)
    engines = Engines(EngineOptions(folder=tmp_path))
    engines.open(wanted[:1])
    assert {type(e) for e in engines.open(wanted[1:2]).values()} == {ProviderStandIn}


def test_later_networks_run_at_the_precision_of_the_first_ones(
    wanted: list[Wanted], tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch, tensorrt=None)
    build(tiny_candidates, tmp_path, "fp16")
    engines = Engines(EngineOptions(folder=tmp_path))
    engines.open(wanted[:1])
    build(tiny_candidates, tmp_path, "fp32")  # while it serves
    engines.open(wanted[1:2])
    assert ProviderStandIn.opened[-1].precision == "fp16"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"engine": "gpu"}, "engine 'gpu' is not one of"),
        ({"precision": "bf16"}, "precision 'bf16'"),
        ({"engine": "cuda", "precision": "fp16"}, "'cuda' runs a network as it is written"),
        ({"engine": "onnx", "precision": "fp32"}, "'fp32' is for TensorRT's engines"),
    ],
)
def test_options_are_checked(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        EngineOptions(**wrong)


# Who uses it


def test_a_router_says_what_runs_it(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(iter(sorted(tiny_images.glob("*.png"))))
    with Router.load(tiny_candidates, engine="onnx") as router:
        own = router.classify(image)
        assert router.describe()["engine"] == {
            "engine": "onnx",
            "why": "it was asked for",
            "precision": None,
        }
    cuda = pretend_board(monkeypatch)
    build(tiny_candidates, tmp_path)
    with Router.load(tiny_candidates, engine=EngineOptions("auto", folder=tmp_path)) as router:
        router.warm_up()
        assert router.classify(image).label == own.label
        assert router.describe()["engine"]["engine"] == "tensorrt"
    assert cuda.live() == 0


@no_board
def test_classify_explains_the_engine(tiny_images: Path, tmp_path: Path) -> None:
    image = str(next(iter(sorted(tiny_images.glob("*.png")))))
    result = CliRunner().invoke(classify, [image, "--explain"])
    assert "engine onnx: no NVIDIA device is on this machine" in result.output
    result = CliRunner().invoke(classify, [image, "--engine", "cuda"])
    assert isinstance(result.exception, EngineError)
    result = CliRunner().invoke(classify, [image, "--engine", "cuda", "--allow-fallback"])
    assert result.exit_code == 0


@no_board
def test_a_table_says_which_engine_measured_it(tiny_table: Any) -> None:
    assert tiny_table.meta["engine"]["engine"] == "onnx"
