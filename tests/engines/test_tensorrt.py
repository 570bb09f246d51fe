"""TensorRT's engine and builder on a stand-in that checks the order of calls.

Nothing here runs TensorRT itself: see tests/support/tensorrt_stand_in.py for what it checks.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import MOST, STAND_INS, key_for, stand_in
from onnx_files import colour_network, first_exit, model, node, value
from tensorrt_stand_in import NamedEngine, NumberedEngine, StandInCuda, TensorrtStandIn

from adaptive import EngineError
from adaptive.engines.built import OWN_RANGES
from adaptive.engines.direct.tensorrt import TensorrtEngine, import_tensorrt
from adaptive.jetson.plan import build_plan

WEIGHTS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return colour_network(tmp_path / "net.onnx", WEIGHTS, 8)


def images(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize("version", STAND_INS)
def test_the_interface_is_the_one_that_the_version_has(version: str, network: Path) -> None:
    engine = stand_in(version)(network)
    kind = NumberedEngine if version.startswith("8.2") else NamedEngine
    assert type(engine._engine) is kind
    assert (engine.inputs, engine.outputs) == (["images"], ["answer"])
    assert (engine.input_shapes, engine.output_shapes) == ([["n", 8, 8, 3]], [["n", 5]])
    assert (engine.input_types, engine.output_types) == (["tensor(uint8)"], ["tensor(float)"])
    assert engine.most == MOST
    engine.close()


@pytest.mark.parametrize("version", STAND_INS)
def test_a_run_copies_executes_copies_back_and_waits(version: str, network: Path) -> None:
    engine = stand_in(version, graphs=False)(network)
    engine.run(images(3))
    assert engine._cuda.calls == ["to_device", "execute", "to_host", "synchronize"]


@pytest.mark.parametrize("version", STAND_INS)
def test_an_output_is_not_overwritten_by_the_next_run(version: str, network: Path) -> None:
    engine = stand_in(version)(network)
    first = engine.run(images(2, 1))[0]
    kept = first.copy()
    engine.run(images(2, 2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("version", STAND_INS)
def test_a_longer_batch_runs_in_parts(version: str, network: Path) -> None:
    engine = stand_in(version, graphs=False)(network)
    batch = images(2 * MOST + 1)
    (found,) = engine.run(batch)
    np.testing.assert_allclose(found, batch.mean(axis=(1, 2)) @ WEIGHTS, rtol=1e-4, atol=1e-2)
    assert engine._cuda.calls.count("execute") == 3


@pytest.mark.parametrize("version", STAND_INS)
def test_outputs_come_in_the_networks_order(version: str, tmp_path: Path) -> None:
    path = first_exit(tmp_path / "exit.onnx", WEIGHTS[:, :3], 8)
    engine = stand_in(version)(path)
    assert engine.outputs == ["answer", "state"]
    answer, state = engine.run(images(2))
    np.testing.assert_allclose(state, images(2).mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(answer, state @ WEIGHTS[:, :3], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("version", STAND_INS)
def test_close_gives_everything_back(version: str, network: Path) -> None:
    engine = stand_in(version)(network)
    for _ in range(4):
        engine.run(images(1))
    assert engine._cuda.live() > 0
    engine.close()
    assert engine._cuda.live() == 0
    engine.close()


@pytest.mark.parametrize(("version", "contexts"), [("8.2.1.8", 1), ("8.6.1", 1), ("10.3.0", 2)])
def test_threads_share_no_context(version: str, contexts: int, network: Path) -> None:
    engine = stand_in(version)(network)
    batches = [images(1 + i % 3, i) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: engine.run(batch)[0], batches))
    for batch, answer in zip(batches, found):
        expected = batch.mean(axis=(1, 2)) @ WEIGHTS
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-2)
    assert 1 <= len(engine._engine.contexts) <= contexts
    engine.close()
    assert engine._cuda.live() == 0


def test_two_contexts_on_one_profile_are_what_older_versions_refuse(network: Path) -> None:
    engine = stand_in("8.6.1", contexts=2)(network)
    with engine._context(), pytest.raises(EngineError, match="cannot have shape"):
        engine.run(images(1))


def test_a_thread_that_waits_for_a_context_learns_of_the_closing(network: Path) -> None:
    engine = stand_in("8.2.1.8")(network)
    with ThreadPoolExecutor(1) as pool:
        with engine._context():
            waiting = pool.submit(engine.run, images(1))
            engine.close()
        with pytest.raises(EngineError, match="engine 'net' is closed"):
            waiting.result(10)
    assert engine._cuda.live() == 0


# CUDA graphs


def faster(monkeypatch: pytest.MonkeyPatch, helps: bool) -> None:
    """Let the trial find launching a recording twice as fast, or half as fast."""
    seconds = iter([1.0, 0.5 if helps else 2.0])

    def timed(self: Any, queue: Any) -> float:
        queue()
        self._cuda.synchronize(self._stream)
        return next(seconds)

    monkeypatch.setattr("adaptive.engines.direct.contexts.Context._timed", timed)


@pytest.mark.parametrize("version", STAND_INS)
def test_a_graph_that_helps_is_launched(
    version: str, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, True)
    engine = stand_in(version)(network)
    alone = [images(1, seed) for seed in range(6)]
    answers = [engine.run(image)[0] for image in alone]
    for image, answer in zip(alone, answers):
        expected = image.mean(axis=(1, 2)) @ WEIGHTS
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-2)
    calls = engine._cuda.calls
    assert engine.graph_helps is True
    # the first two runs are plain; then it is recorded, tried, and launched for the other four
    assert calls.count("launch") == 1 + 4
    assert calls[-2:] == ["launch", "synchronize"]
    # another shape runs plainly, and the recording is of no use after it
    engine.run(images(3))
    assert calls[-4:] == ["to_device", "execute", "to_host", "synchronize"]
    engine.run(images(1))
    engine.run(images(1))
    engine.run(images(1))
    assert calls.count("begin_capture") == 2
    assert calls[-2:] == ["launch", "synchronize"]
    engine.close()
    assert engine._cuda.live() == 0


def test_a_graph_that_does_not_help_is_dropped(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, False)
    engine = stand_in("10.3.0")(network)
    for seed in range(6):
        engine.run(images(1, seed))
    assert engine.graph_helps is False
    assert engine._cuda.graphs == {}
    assert engine._cuda.calls.count("begin_capture") == 1
    assert engine._cuda.calls[-4:] == ["to_device", "execute", "to_host", "synchronize"]


def test_a_network_that_cannot_be_recorded_runs_on(
    network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = stand_in("10.3.0")(network)
    engine._cuda.refuse_capture = True
    with caplog.at_level(logging.INFO, "adaptive.serving"):
        for seed in range(4):
            engine.run(images(1, seed))
    assert engine.graph_helps is False
    assert "runs without a CUDA graph: cudaStreamBeginCapture failed" in caplog.text


# What goes wrong


def test_a_failed_run_says_so_and_its_context_is_not_used_again(network: Path) -> None:
    engine = stand_in("10.3.0")(network)
    engine.run(images(1))
    engine._trt.runs_fail = True
    with pytest.raises(EngineError, match="TensorRT failed on network 'net'"):
        engine.run(images(1))
    engine._trt.runs_fail = False
    assert engine.run(images(2))[0].shape == (2, 5)
    assert len(engine._engine.contexts) == 2
    engine.close()
    assert engine._cuda.live() == 0


def test_no_memory_for_a_context(network: Path) -> None:
    engine = stand_in("10.3.0")(network)
    engine._trt.contexts_fail = True
    with pytest.raises(EngineError, match="network 'net': it gives no context"):
        engine.run(images(1))
    engine._trt.contexts_fail = False
    assert engine.run(images(1))[0].shape == (1, 5)


def test_an_engine_of_another_version_is_refused(network: Path, tmp_path: Path) -> None:
    cuda = StandInCuda()
    plan = build_plan(network, key_for(network), tmp_path, trt=TensorrtStandIn(cuda, "8.2.1.8"))
    says = "TensorRT 10.3.0 refuses the engine of 'net': the plan is of version 8.2.1.8; build"
    with pytest.raises(EngineError, match=says):
        TensorrtEngine(plan, "net", trt=TensorrtStandIn(cuda, "10.3.0"), cuda=cuda)


def test_an_engine_of_another_network_is_refused(network: Path, tmp_path: Path) -> None:
    cuda = StandInCuda()
    trt = TensorrtStandIn(cuda, "10.3.0")
    plan = build_plan(network, key_for(network), tmp_path, trt=trt)
    with pytest.raises(EngineError, match=r"has inputs \['images'\], the network \['pixels'\]"):
        TensorrtEngine(plan, "net", ["pixels"], ["answer"], trt=trt, cuda=cuda)


def test_without_the_module_the_sentence_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"module tensorrt cannot be imported .* JetPack"):
        import_tensorrt()


# Building


def config_of(
    network: Path, tmp_path: Path, version: str, precision: str, ranges: str = "", **given: Any
) -> Any:
    trt = TensorrtStandIn(StandInCuda(), version)
    key = replace(key_for(network, precision=precision), calibration=ranges)
    build_plan(network, key, tmp_path, trt=trt, **given)
    return trt.configs[0]


@pytest.mark.parametrize("version", STAND_INS)
def test_precision_is_set_by_flags(version: str, network: Path, tmp_path: Path) -> None:
    def names(flags: Any) -> set[str]:
        return {flag.name for flag in flags}

    exact = config_of(network, tmp_path, version, "fp32")
    assert (names(exact.flags), names(exact.cleared)) == (set(), {"TF32"})
    assert names(config_of(network, tmp_path, version, "fp16").flags) == {"FP16"}
    # without ranges nothing can be in eight bits, and a network that holds them runs in no others
    assert names(config_of(network, tmp_path, version, "int8").flags) == {"FP16"}
    both = config_of(network, tmp_path, version, "int8", OWN_RANGES)
    assert names(both.flags) == {"FP16", "INT8"}
    assert names(config_of(network, tmp_path, version, "fp32", OWN_RANGES).flags) == {"INT8"}


def test_tensorrt_11_takes_precision_from_the_network(network: Path, tmp_path: Path) -> None:
    for ranges in ("", OWN_RANGES):
        assert config_of(network, tmp_path, "11.4.0.106", "fp32", ranges).flags == set()
    with pytest.raises(EngineError, match=r"TensorRT 11\.4\.0\.106 takes precision from the net"):
        config_of(network, tmp_path, "11.4.0.106", "fp16")


@pytest.mark.parametrize("version", STAND_INS)
def test_shapes_workspace_and_timings_reach_the_builder(
    version: str, network: Path, tmp_path: Path
) -> None:
    first = config_of(network, tmp_path, version, "fp32", workspace_mb=64)
    assert first.workspace == 64 << 20
    assert dict(first.profiles[0]) == {"images": [(1, 8, 8, 3), (1, 8, 8, 3), (MOST, 8, 8, 3)]}
    assert first.timing.read == b""
    assert config_of(network, tmp_path, version, "fp32").timing.read == b"timings"
    assert [p.name for p in tmp_path.glob("*.timing*")] == ["tensorrt.timing"]


def test_what_tensorrt_says_is_passed_on(network: Path, tmp_path: Path) -> None:
    trt = TensorrtStandIn(StandInCuda(), "8.2.1.8")
    trt.build_fails = "out of workspace"
    with pytest.raises(EngineError, match=r"8\.2\.1\.8 cannot build net\.onnx: out of workspace"):
        build_plan(network, key_for(network), tmp_path, trt=trt)


def test_a_network_with_two_free_axes_gets_no_engine(tmp_path: Path) -> None:
    path = model(
        tmp_path / "free.onnx",
        [node("Identity", ["images"], ["answer"])],
        [value("images", "float32", ["n", 3, "h", "w"])],
        [value("answer", "float32", ["n", 3, "h", "w"])],
    )
    with pytest.raises(EngineError, match=r"free\.onnx reads 'images' of shape .* all others fix"):
        key_for(path)
