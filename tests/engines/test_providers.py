"""Options of ONNX Runtime's providers by version, and that a silent fall-back is no success."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx_files import colour_network

from adaptive import EngineError
from adaptive.engines import providers
from adaptive.engines.engine import in_parts
from adaptive.engines.providers import (
    ProviderEngine,
    ProviderSettings,
    missing_provider,
    provider_options,
)
from adaptive.errors import MissingExtra
from adaptive.installed import pip_line

SHAPES = {"images": [[1, 8, 8, 3], [1, 8, 8, 3], [4, 8, 8, 3]]}

#: All that a session on a TX2 may be given: names inside the wheel of onnxruntime-gpu 1.11.0.
KNOWN_TO_1_11 = {
    "device_id",
    "trt_max_partition_iterations",
    "trt_min_subgraph_size",
    "trt_max_workspace_size",
    "trt_fp16_enable",
    "trt_int8_enable",
    "trt_int8_calibration_table_name",
    "trt_int8_use_native_calibration_table",
    "trt_dla_enable",
    "trt_dla_core",
    "trt_dump_subgraphs",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_decryption_enable",
    "trt_engine_decryption_lib_path",
    "trt_force_sequential_engine_build",
}


def settings(
    precision: str = "fp32", calibration: str | None = None, **given: Any
) -> ProviderSettings:
    return ProviderSettings(
        "tensorrt-provider", precision, Path("/e"), Path("/t"), SHAPES, calibration, **given
    )


def options(version: tuple[int, int], **given: Any) -> dict[str, str]:
    return dict(provider_options(settings(**given), version))["TensorrtExecutionProvider"]


@pytest.mark.parametrize("precision", providers.PRECISIONS)
def test_a_tx2_is_given_what_its_version_knows(precision: str) -> None:
    given = settings(precision, "table", own_ranges=True, workspace_mb=64)
    for name, values in provider_options(given, (1, 11)):
        assert set(values) <= KNOWN_TO_1_11, name


def test_precision_and_caches() -> None:
    assert options((1, 11)) == {
        "device_id": "0",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/e",
    }
    assert options((1, 11), precision="fp16")["trt_fp16_enable"] == "True"
    eight = options((1, 11), precision="int8", calibration="table")
    assert eight["trt_int8_enable"] == eight["trt_fp16_enable"] == "True"
    assert eight["trt_int8_calibration_table_name"] == "table"
    assert eight["trt_int8_use_native_calibration_table"] == "False"
    assert options((1, 11), precision="int8") == options((1, 11), precision="fp16")  # no ranges
    own = options((1, 11), own_ranges=True)
    assert own["trt_int8_enable"] == "True"
    assert not {"trt_int8_calibration_table_name", "trt_fp16_enable"} & set(own)
    assert options((1, 11), workspace_mb=64)["trt_max_workspace_size"] == str(64 << 20)


def test_later_versions_take_shapes_and_timings() -> None:
    assert "trt_profile_max_shapes" not in options((1, 14))
    found = options((1, 15))
    assert found["trt_profile_min_shapes"] == found["trt_profile_opt_shapes"] == "images:1x8x8x3"
    assert found["trt_profile_max_shapes"] == "images:4x8x8x3"
    assert found["trt_timing_cache_enable"] == "True"
    assert "trt_timing_cache_path" not in found
    assert options((1, 17))["trt_timing_cache_path"] == "/t"


def test_the_order_of_providers_and_full_precision() -> None:
    names = [name for name, _ in provider_options(settings(), (1, 18))]
    assert names == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    (cuda, own), (cpu, _) = provider_options(ProviderSettings("cuda"), (1, 18))
    assert (cuda, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert own == {"device_id": "0", "use_tf32": "0"}
    assert provider_options(ProviderSettings("cuda"), (1, 17))[0][1] == {"device_id": "0"}


# A session of a build for NVIDIA devices, where there is none: it lists the provider and goes
# without it. onnxruntime-gpu 1.11.0 and 1.31.1 were seen to do so.


def build_with(listed: list[str], running: list[str]) -> Any:
    class Session:
        def __init__(self, path: str, options: Any, providers: Any, enable_fallback: int) -> None:
            print("EP Error using ...")

        def get_providers(self) -> list[str]:
            return running

        def get_inputs(self) -> list[Any]:
            return []

        get_outputs = get_inputs

        def get_modelmeta(self) -> Any:
            return SimpleNamespace(custom_metadata_map={})

    return SimpleNamespace(
        __version__="1.11.0",
        get_available_providers=lambda: listed,
        SessionOptions=SimpleNamespace,
        InferenceSession=Session,
    )


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return colour_network(tmp_path / "net.onnx", np.ones((3, 5), np.float32), 8)


ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("engine", "running"),
    [("cuda", ALL[2:]), ("tensorrt-provider", ALL[2:]), ("tensorrt-provider", ALL[1:])],
)
def test_a_silent_fall_back_is_an_error(
    engine: str,
    running: list[str],
    network: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", build_with(ALL, running))
    with pytest.raises(EngineError, match=r"but ONNX Runtime runs it with .*CPU.* alone") as caught:
        ProviderEngine(network, ProviderSettings(engine))
    assert providers.PROVIDERS[engine] in str(caught.value)
    assert capsys.readouterr().out == ""


def test_the_provider_that_runs_is_an_engine(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", build_with(ALL, ALL[1:]))
    assert ProviderEngine(network, ProviderSettings("cuda")).providers == ALL[1:]


def test_a_build_without_the_provider_is_told_beforehand(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", build_with(ALL[2:], ALL[2:]))
    reason = missing_provider("cuda")
    assert reason is not None
    assert "1.11.0 is built without CUDAExecutionProvider (it has CPUExecutionProvider)" in reason
    with pytest.raises(EngineError, match="is built without TensorrtExecutionProvider"):
        ProviderEngine(network, ProviderSettings("tensorrt-provider"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=re.escape(pip_line("gpu"))):
        missing_provider("cuda")


def test_a_long_batch_is_cut_and_joined() -> None:
    seen = []

    def run(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        seen.append(len(a))
        return [a + b, a[:, None]]

    a, b = np.arange(9), np.arange(9) * 10
    both, tall = in_parts(run, [a, b], 4)
    np.testing.assert_array_equal(both, a + b)
    assert tall.shape == (9, 1)
    assert seen == [4, 4, 1]
    assert in_parts(run, [a, b], None)[0].shape == (9,)
    assert seen[3:] == [9]


def test_outputs_that_are_no_rows_are_those_of_the_first_part() -> None:
    def run(a: np.ndarray) -> list[Any]:
        return [a * 2, a.mean(), np.full((10, 4), a[0]), [a, a]]

    double, scalar, anchors, sequence = in_parts(run, [np.arange(5)], 2)
    np.testing.assert_array_equal(double, np.arange(5) * 2)
    assert scalar == 0.5
    np.testing.assert_array_equal(anchors, np.zeros((10, 4)))
    assert len(sequence) == 2


def test_an_attempt_keeps_to_the_largest_batch_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer one would have the provider build its engine anew."""
    monkeypatch.setitem(providers.PROVIDERS, "cuda", providers.CPU)
    monkeypatch.setattr(providers, "provider_options", lambda *_: [providers.CPU])
    path = colour_network(tmp_path / "net.onnx", np.eye(3), 8)
    engine = ProviderEngine(path, ProviderSettings("cuda", most=1))
    session, sizes = engine._session, []

    class Told:
        def run(self, names: Any, feeds: dict[str, np.ndarray], options: Any = None) -> Any:
            sizes.append(len(next(iter(feeds.values()))))
            return session.run(names, feeds, options)

    engine._session = Told()
    batch = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    for run in (engine.run, engine.attempt):
        np.testing.assert_allclose(run(batch)[0], batch.mean(axis=(1, 2)), rtol=1e-5)
    assert sizes == [1] * 4
