"""`adaptive build`: engines by key, resumed where it stopped, on a stand-in for TensorRT."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from engines import ProviderStandIn, pretend_board
from onnx_files import block, colour_network
from tensorrt_stand_in import ORIN

from adaptive import EngineError
from adaptive.bundle.bundle import Bundle
from adaptive.cli.build import command
from adaptive.engines.built import KEY_FILE, EngineKey, EngineStore, Platform, default_folder
from adaptive.engines.nvidia import no_device
from adaptive.errors import BundleError, InputError
from adaptive.files import sha256
from adaptive.jetson import build
from adaptive.jetson.build import BuildOptions, build_engines, networks_of

NAMES = ("cheap", "strong", "net@1", "net@2")

no_board = pytest.mark.skipif(no_device() is None, reason="there is an NVIDIA device here")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    return pretend_board(monkeypatch)


def run(folder: Path, engines: Path, **options: Any) -> build.Built:
    said: list[str] = []
    store = EngineStore(engines)
    return build_engines(Bundle.read(folder), store, BuildOptions(**options), said.append)


def test_every_network_gets_an_engine_with_its_key(
    board: Any, tiny_candidates: Path, tmp_path: Path
) -> None:
    done = run(tiny_candidates, tmp_path, precision="fp16", max_batch=4)
    assert (done.engine, done.built, done.kept, done.left_out) == ("tensorrt", NAMES, (), ())
    folders = [p for p in tmp_path.iterdir() if p.name != "timing"]
    assert len(folders) == 4
    for folder in folders:
        assert {p.name for p in folder.iterdir()} == {"engine.plan", "engine.json"}
        key = json.loads((folder / KEY_FILE).read_text())
        assert key["format"] == 1
        assert key["platform"] == {
            "device": "NVIDIA Tegra X2",
            "compute": "6.2",
            "versions": {"cuda": "10.2", "tensorrt": "8.2.1.8"},
        }
        assert folder.name.startswith(key["network"][:16])
    assert board.live() == 0


def test_a_second_call_builds_only_what_is_missing(
    board: Any, tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build.build_plan

    def stopped(path: Path, *rest: Any) -> bytes:
        if path.name == "exits-1.onnx":
            raise KeyboardInterrupt
        return plain(path, *rest)

    monkeypatch.setattr(build, "build_plan", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_candidates, tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]  # nothing half-written
    monkeypatch.setattr(build, "build_plan", plain)
    done = run(tiny_candidates, tmp_path)
    assert (done.built, done.kept) == (NAMES[2:], NAMES[:2])
    assert run(tiny_candidates, tmp_path).kept == NAMES


def test_what_a_killed_build_left_is_removed_and_a_running_one_is_not_joined(
    board: Any, tiny_candidates: Path, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    run(tiny_candidates, tmp_path)
    left = tmp_path / f".{key().folder_name()}.x7k2"
    left.mkdir()
    (left / "engine.plan").write_bytes(b"half of one")
    with store.building():
        assert not left.exists()
        with pytest.raises(EngineError, match="another adaptive build is at work in"):
            run(tiny_candidates, tmp_path)
    assert run(tiny_candidates, tmp_path).kept == NAMES


def test_a_damaged_engine_is_built_anew(board: Any, tiny_candidates: Path, tmp_path: Path) -> None:
    run(tiny_candidates, tmp_path)
    first, second = sorted(tmp_path.glob("*/engine.json"))[:2]
    first.write_bytes(b"")  # as after a loss of power
    name = json.loads(second.read_text())["name"]
    (second.parent / "engine.plan").write_bytes(b"")
    done = run(tiny_candidates, tmp_path)
    assert len(done.built) == 1
    assert name in done.kept  # which nothing tells before TensorRT reads it
    assert run(tiny_candidates, tmp_path, force=True).built == NAMES
    assert (second.parent / "engine.plan").read_bytes()


@pytest.mark.parametrize(
    "changed", [{"precision": "fp16"}, {"max_batch": 2}, {"engine": "tensorrt-provider"}]
)
def test_what_the_key_names_is_built_anew(
    changed: dict[str, Any], board: Any, tiny_candidates: Path, tmp_path: Path
) -> None:
    run(tiny_candidates, tmp_path)
    assert run(tiny_candidates, tmp_path, **changed).built == NAMES
    assert run(tiny_candidates, tmp_path).kept == NAMES


def test_another_device_or_version_is_built_anew(
    board: Any, tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_candidates, tmp_path)
    pretend_board(monkeypatch, "8.6.1")
    assert run(tiny_candidates, tmp_path).built == NAMES
    pretend_board(monkeypatch, "8.6.1", ORIN)
    assert run(tiny_candidates, tmp_path).built == NAMES


def test_an_altered_network_is_built_anew(
    board: Any, tiny_candidates: Path, tmp_path: Path
) -> None:
    first = next(networks_of(Bundle.read(tiny_candidates)))
    store, options = EngineStore(tmp_path), BuildOptions()
    run(tiny_candidates, tmp_path)
    platform = build.platform_here("tensorrt")
    assert store.holds(build.key_of(first, "tensorrt", options, platform))
    other = replace(first, candidate=replace(first.candidate, sha256="f" * 64))
    assert not store.holds(build.key_of(other, "tensorrt", options, platform))


def test_a_network_that_fails_is_left_out_and_the_others_go_on(
    board: Any, tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build.build_plan

    def failing(path: Path, *rest: Any) -> bytes:
        if path.name == "strong.onnx":
            raise EngineError("TensorRT 8.2.1.8 cannot build strong.onnx: out of memory")
        return plain(path, *rest)

    monkeypatch.setattr(build, "build_plan", failing)
    engines = tmp_path / "engines"
    result = CliRunner().invoke(command, [str(tiny_candidates), "--engines", str(engines)])
    assert result.exit_code == 1
    assert "strong: not built (TensorRT 8.2.1.8 cannot build strong.onnx: out of" in result.output
    assert "3 built, 0 there already, 1 left out" in result.output


def test_an_engine_that_answers_nonsense_is_not_kept(
    board: Any, tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive.engines.direct.tensorrt import TensorrtEngine

    plain = TensorrtEngine.run
    monkeypatch.setattr(
        TensorrtEngine, "run", lambda self, *i: [np.full_like(o, np.inf) for o in plain(self, *i)]
    )
    done = run(tiny_candidates, tmp_path)
    assert len(done.left_out) == 4
    assert "infinities or NaN" in done.left_out[0]
    assert [p.name for p in tmp_path.iterdir()] == ["timing"]  # nothing half-written
    assert board.live() == 0


# ONNX Runtime's provider


def test_the_provider_builds_in_a_folder_of_each_network(
    board: Any, tiny_candidates: Path, tmp_path: Path
) -> None:
    done = run(tiny_candidates, tmp_path, engine="tensorrt-provider", precision="fp16")
    assert done.built == NAMES
    files = {p.name for p in tmp_path.glob("*/*.engine")}
    assert files == {"cheap.engine", "strong.engine", "exits-1.engine", "exits-2.engine"}
    assert len({p.parent for p in tmp_path.glob("*/*.engine")}) == 4
    settings = ProviderStandIn.opened[0]
    assert settings.precision == "fp16"
    assert settings.shapes == {"images": [[1, 8, 8, 3], [1, 8, 8, 3], [8, 8, 8, 3]]}
    assert settings.workspace_mb is None


def test_memory_for_trying_kernels_reaches_the_provider_too(
    board: Any, tiny_candidates: Path, tmp_path: Path
) -> None:
    run(tiny_candidates, tmp_path, engine="tensorrt-provider", workspace_mb=64)
    assert {settings.workspace_mb for settings in ProviderStandIn.opened} == {64}


def test_a_network_of_which_tensorrt_takes_no_part_is_left_out(
    board: Any, tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime lists the provider for such a session all the same."""
    monkeypatch.setattr(ProviderStandIn, "takes_part", False)
    done = run(tiny_candidates, tmp_path, engine="tensorrt-provider")
    assert len(done.left_out) == 4
    assert "gave no part of the network to TensorRT" in done.left_out[0]
    assert not list(tmp_path.glob("*/engine.json"))


@pytest.mark.parametrize(("version", "again"), [((1, 11), NAMES), ((1, 14), ())])
def test_a_moved_bundle_is_built_again_where_the_provider_goes_by_paths(
    version: tuple[int, int],
    again: tuple[str, ...],
    board: Any,
    tiny_candidates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adaptive.engines.choose.runtime_version", lambda: version)
    shutil.copytree(tiny_candidates, tmp_path / "one")
    engines = tmp_path / "engines"
    engines.mkdir()
    run(tmp_path / "one", engines, engine="tensorrt-provider")
    (tmp_path / "one").rename(tmp_path / "two")
    assert run(tmp_path / "two", engines, engine="tensorrt-provider").built == again


def test_tables_of_ranges_go_into_the_engines_folder_and_key(
    tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch, "10.3.0", ORIN)  # a TX2 has no eight bits
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in NAMES:
        (tables / f"{name}.calibration").write_bytes(name.encode())
    options: dict[str, Any] = {
        "engine": "tensorrt-provider",
        "precision": "int8",
        "calibration": tables,
    }
    engines = tmp_path / "engines"
    engines.mkdir()
    assert run(tiny_candidates, engines, **options).built == NAMES
    assert ProviderStandIn.opened[0].calibration == "calibration.flatbuffers"
    assert len(list(engines.glob("*/calibration.flatbuffers"))) == 4
    (tables / "cheap.calibration").write_bytes(b"other ranges")
    assert run(tiny_candidates, engines, **options).built == ("cheap",)
    (tables / "cheap.calibration").unlink()
    done = run(tiny_candidates, engines, **options)
    assert "has no cheap.calibration; adaptive quantize --tables" in done.left_out[0]
    for other in ({"engine": "tensorrt"}, {"precision": "fp16"}):
        with pytest.raises(InputError, match="TensorRT itself takes a network that holds its r"):
            run(tiny_candidates, engines, **{**options, **other})


def quantised(folder: Path, name: str) -> None:
    """Let a candidate's network seem one that holds its ranges."""
    path = folder / name
    path.write_bytes(path.read_bytes() + block(2, "QuantizeLinear"))  # who made the file
    manifest = json.loads((folder / "manifest.json").read_text())
    for candidate in manifest["candidates"]:
        if candidate["file"] == name:
            candidate["sha256"] = sha256(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_eight_bits_are_for_networks_with_ranges_and_devices_that_have_them(
    tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_candidates, tmp_path / "bundle")
    quantised(tmp_path / "bundle", "strong.onnx")
    engines = tmp_path / "engines"
    engines.mkdir()
    pretend_board(monkeypatch)  # a TX2
    result = CliRunner().invoke(
        command, [str(tmp_path / "bundle"), "--engines", str(engines), "--precision", "int8"]
    )
    assert "strong: not built (NVIDIA Tegra X2 (compute capability 6.2) computes noth" in (
        result.output
    )
    assert "it has no ranges (adaptive quantize), so nothing of it is in ei" in result.output
    assert "3 built, 0 there already, 1 left out" in result.output
    pretend_board(monkeypatch, "10.3.0", ORIN)
    assert run(tmp_path / "bundle", engines, precision="int8").built == NAMES
    keys = {json.loads(p.read_text())["name"]: p for p in engines.glob("*/engine.json")}
    assert json.loads(keys["strong"].read_text())["calibration"] == "network"
    assert json.loads(keys["cheap"].read_text())["calibration"] == ""


# What it says where there is nothing to build


@no_board
def test_the_benchmark_of_devices_skips_with_the_reason() -> None:
    program = Path(__file__).parent.parent.parent / "benchmarks" / "gpu.py"
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: there is no NVIDIA device on this machine")


@no_board
def test_without_a_device_there_is_nothing_to_build(tiny_candidates: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tiny_candidates), "--engines", str(tmp_path)])
    assert isinstance(result.exception, EngineError)
    assert "there is no NVIDIA device on this machine" in str(result.exception)
    assert "runs networks on the processor as they are" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_without_tensorrt_every_way_is_named(
    tiny_candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_board(monkeypatch, tensorrt=None, providers=False)
    with pytest.raises(EngineError, match=r"tensorrt: the Python module .*; tensorrt-provider: ON"):
        run(tiny_candidates, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"engine": "cuda"}, "not for 'cuda'"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"max_batch": 0}, "below 1"),
    ],
)
def test_options_are_checked(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        BuildOptions(**wrong)


# Keys


def key(**changed: Any) -> EngineKey:
    values: dict[str, Any] = {
        "network": "a" * 64,
        "name": "cheap",
        "file": "",
        "engine": "tensorrt",
        "precision": "fp16",
        "calibration": "",
        "platform": Platform("Orin", "8.7", {"tensorrt": "10.3.0"}),
        "shapes": {"images": [[1, 8, 8, 3], [1, 8, 8, 3], [8, 8, 8, 3]]},
        "inputs": ("images",),
        "outputs": ("answer",),
    }
    return EngineKey(**{**values, **changed})


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    with store.adding(key()) as folder:
        (folder / "engine.plan").write_bytes(b"plan")
    assert list(store.keys("a" * 64).values()) == [key()]
    assert store.holds(key())
    assert key().most == 8
    assert key(name="another").folder_name() == key().folder_name()
    assert key(precision="fp32").folder_name() != key().folder_name()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "has format 2"),
        ({"shapes": {}}, "has no shapes"),
        ({"shapes": {"images": [[1], [2]]}}, "the shapes of 'images'"),
        ({"platform": {"device": "Orin"}}, "has no 'compute'"),
        ({"network": 3}, "'network' is int 3"),
    ],
)
def test_a_damaged_key_is_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    with store.adding(key()):
        pass
    path = tmp_path / key().folder_name() / KEY_FILE
    path.write_text(json.dumps({**key().to_json(), **change}))
    with pytest.raises(BundleError, match=says):
        store.keys("a" * 64)


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "adaptive" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "adaptive" / "engines"
    assert EngineStore().folder == default_folder()


def test_one_networks_engine_is_not_anothers(tmp_path: Path) -> None:
    colour_network(tmp_path / "net.onnx", np.ones((3, 5), np.float32), 8)
    store = EngineStore(tmp_path)
    with store.adding(key()):
        pass
    twin = "a" * 16 + "b" * 48  # the folder's name begins alike
    assert store.keys(twin) == {}
