"""Precision by layer: the rewriting of networks, the search, and eight-bit copies."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, FrozenSet

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("onnx", reason="networks are rewritten with onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.candidate import OutputSpec
from adaptive.cli.quantize import command
from adaptive.engines.answers import probabilities
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import InputError
from adaptive.networks import int8, precision
from adaptive.networks.copies import whole_networks
from adaptive.networks.precision import Loss, convolutions, greedy, half, rounded, unpacked
from adaptive.remote import Remote


def residual(seed: int = 0, scale: float = 1.0) -> onnx.ModelProto:
    """Three convolutions, of which two make a residual block: conv, relu, conv, add, pool, conv."""
    generator = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = generator.normal(0, scale * 0.3, shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["sum"]),
        helper.make_node("Clip", ["sum", "low", "high"], ["clipped"]),
        helper.make_node("Conv", ["clipped", "w3"], ["c3"]),
        helper.make_node("ReduceMean", ["c3"], ["answer"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 5])],
        [
            weights("w1", 4, 3, 3, 3),
            weights("b1", 4),
            weights("w2", 4, 4, 3, 3),
            weights("w3", 5, 4, 1, 1),
            numpy_helper.from_array(np.float32(0), "low"),
            numpy_helper.from_array(np.float32(6), "high"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return model


def answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = precision.open_session(model.SerializeToString(), 1)
    result: np.ndarray = session.run(None, {"image": images})[0]
    return result


def images(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def to16(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def test_a_rounded_convolution_computes_on_sixteen_bits_and_gives_sixteen() -> None:
    model = residual()
    tensors = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    probe = rounded(model, ["c1"])
    probe.graph.output.append(helper.make_tensor_value_info("c1", TensorProto.FLOAT, None))
    session = precision.open_session(probe.SerializeToString(), 1)
    batch = images(2)
    found = session.run(["c1"], {"image": batch})[0]
    padded = np.pad(to16(batch), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    exact = np.einsum("ncijhw,ochw->noij", windows, to16(tensors["w1"]), dtype=np.float64)
    exact += to16(tensors["b1"])[:, None, None]
    np.testing.assert_array_equal(found, to16(found))
    np.testing.assert_allclose(found, exact, rtol=2**-10, atol=1e-6)
    assert np.abs(found - answers_of(model, "c1", batch)).max() > 0


def answers_of(model: onnx.ModelProto, name: str, batch: np.ndarray) -> np.ndarray:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = precision.open_session(copy.SerializeToString(), 1)
    result: np.ndarray = session.run([name], {"image": batch})[0]
    return result


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_casts_stand_only_where_a_region_begins_or_ends() -> None:
    model = residual()
    assert convolutions(model) == ("c1", "c2", "c3")
    own = kinds(model)
    whole = half(model, ["c1", "c2", "c3"])
    # into the first convolution, and out of the last
    assert kinds(whole) == ["Cast", *own[:-1], "Cast", own[-1]]
    first = half(model, ["c1"])
    # Relu joins; the second convolution and the addition read its result in 32 bits, cast once
    assert kinds(first) == ["Cast", "Conv", "Relu", "Cast", *own[2:]]
    middle = half(model, ["c2"])
    # the addition also reads a tensor of 32 bits, so it stays
    assert kinds(middle) == [*own[:2], "Cast", "Conv", "Cast", *own[3:]]
    assert half(model, []).graph.node == model.graph.node


@pytest.mark.parametrize(
    "chosen", [c for n in range(4) for c in itertools.combinations(("c1", "c2", "c3"), n)]
)
def test_every_mixture_runs_and_stays_near(chosen: tuple[str, ...]) -> None:
    model, batch = residual(), images(5)
    expected = answers(model, batch)
    scale = np.abs(expected).max()
    for variant in (half(model, chosen), rounded(model, chosen)):
        found = answers(variant, batch)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=5e-3 * scale)
        if not chosen:
            np.testing.assert_array_equal(found, expected)
    stored = {i.name: i.data_type for i in half(model, chosen).graph.initializer}
    for name in chosen:
        assert stored[f"w{name[1]}_half"] == TensorProto.FLOAT16


def test_a_result_of_the_network_keeps_its_type() -> None:
    model = residual()
    model.graph.output.append(
        helper.make_tensor_value_info("r1", TensorProto.FLOAT, ["n", 4, 8, 8])
    )
    batch = images(2)
    session = precision.open_session(half(model, ["c1", "c2"]).SerializeToString(), 1)
    assert [o.name for o in session.get_outputs()] == ["answer", "r1"]
    _, state = session.run(None, {"image": batch})
    assert state.dtype == np.float32
    np.testing.assert_allclose(state, answers_of(residual(), "r1", batch), atol=1e-2)


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(InputError, match=r"no convolutions \['c9'\]; it has 3"):
        half(residual(), ["c1", "c9"])
    with pytest.raises(InputError, match=r"'w2' reach .* more than 16 bits hold"):
        half(residual(scale=1e6), ["c2"])


def test_weights_too_large_for_16_bits_are_known_beforehand() -> None:
    assert precision.convertible(residual()) == ("c1", "c2", "c3")
    model = residual()
    (bias,) = (i for i in model.graph.initializer if i.name == "b1")
    bias.CopyFrom(numpy_helper.from_array(np.full(4, 1e5, np.float32), "b1"))
    assert convolutions(model) == ("c1", "c2", "c3")
    assert precision.convertible(model) == ("c2", "c3")


def test_an_operator_with_too_large_a_constant_does_not_join() -> None:
    """As where an activation without an upper end was written as a Clip up to the largest float."""
    model = residual()
    (high,) = (i for i in model.graph.initializer if i.name == "high")
    high.CopyFrom(numpy_helper.from_array(np.finfo(np.float32).max, "high"))
    own = kinds(model)
    assert kinds(half(model, ["c1", "c2", "c3"])) == [
        *("Cast", *own[:4], "Cast"),
        *("Clip", "Cast", "Conv", "Cast", own[-1]),
    ]
    expected = answers(model, images(3))
    found = answers(half(model, ["c1", "c2", "c3"]), images(3))
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())


def test_a_convolution_that_overflows_stays_and_the_others_are_taken() -> None:
    """Its weights fit 16 bits; what it makes of them does not."""
    model = residual()
    for tensor in model.graph.initializer:
        scale = {"w2": 3e4, "w3": 1e-5}.get(tensor.name)
        if scale is not None:
            values = numpy_helper.to_array(tensor) * np.float32(scale)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    clip = next(n for n in model.graph.node if n.op_type == "Clip")
    clip.CopyFrom(helper.make_node("Relu", ["sum"], ["clipped"]))  # hands what overflows on
    names = precision.convertible(model)
    assert names == ("c1", "c2", "c3")
    shots = [image[None] for image in images(40)]
    labels = answers(model, images(40)).argmax(axis=1)
    output = OutputSpec(5)
    searched = precision.Answers(model, shots, labels, lambda raw: probabilities(raw, output))
    assert searched.measure(frozenset(["c2"])).top1 == float("inf")
    found = precision.search(names, searched.measure, 0.3)
    assert found.chosen == ("c1",)
    assert found.left == ("c2", "c3")  # the last one reads what is too large
    assert np.isfinite(found.losses[0].divergence)


def test_the_embedded_networks_store_16_bits_and_count_all_the_same() -> None:
    folder = default_bundle()
    for candidate in Bundle.read(folder).candidates:
        if "@" in candidate.name:
            continue
        stored = onnx.load(str(folder / candidate.file))
        assert convolutions(stored) == ()
        model = unpacked(stored)
        names = convolutions(model)
        assert len(names) == sum(n.op_type == "Conv" for n in stored.graph.node)
        batch = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
        run = [
            precision.open_session(m.SerializeToString(), 1).run(None, {"images": batch})[0]
            for m in (stored, model, half(model, names))
        ]
        np.testing.assert_array_equal(run[0], run[1])
        assert np.abs(run[2] - run[0]).max() < 0.05


# The search


def test_everything_is_taken_at_once_where_it_fits() -> None:
    costs = {"a": 0.001, "b": 0.0}
    found = precision.search("ab", separate(costs), 0.001)
    assert (found.chosen, found.left, found.measured) == (("a", "b"), (), 1)
    assert [loss.top1 for loss in found.losses] == [0.001]
    less = precision.search("ab", separate(costs), 0.0005)
    plain = greedy("ab", separate(costs), 0.0005)
    assert (less.chosen, less.left) == (plain.chosen, plain.left) == (("b",), ("a",))
    assert less.measured == plain.measured + 1
    assert precision.search("", separate({}), 0.1).chosen == ()


def separate(costs: dict[str, float]) -> Any:
    """A loss that is the sum of each conversion's own."""

    def measure(chosen: FrozenSet[str]) -> Loss:
        return Loss(sum(costs[name] for name in chosen), float(len(chosen)))

    return measure


def test_the_search_takes_the_cheapest_first_and_stops_at_the_limit() -> None:
    costs = {"a": 0.004, "b": 0.0, "c": 0.001, "d": 0.02}
    found = greedy("abcd", separate(costs), 0.005)
    assert found.chosen == ("b", "c", "a")
    assert [loss.top1 for loss in found.losses] == pytest.approx([0, 0.001, 0.005])
    assert found.left == ("d",)
    assert greedy("abcd", separate(costs), 1.0).left == ()
    none = greedy("ad", separate(costs), 0.001)
    assert (none.chosen, none.left) == ((), ("a", "d"))


def test_the_divergence_tells_equal_losses_apart() -> None:
    divergence = {"a": 0.3, "b": 0.1, "c": 0.2}
    found = greedy("abc", lambda s: Loss(0.0, sum(divergence[n] for n in s)), 0.0)
    assert found.chosen == ("b", "c", "a")


@pytest.mark.parametrize("seed", range(20))
def test_the_lazy_search_chooses_as_the_plain_one(seed: int) -> None:
    """Where a conversion costs more the more has been converted, as the docstring says."""
    generator = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(7)]
    own = dict(zip(names, generator.uniform(0, 1, 7)))
    pairs = {frozenset(p): generator.uniform(0, 0.5) for p in itertools.combinations(names, 2)}

    def measure(chosen: FrozenSet[str]) -> Loss:
        total = sum(own[n] for n in chosen)
        total += sum(v for pair, v in pairs.items() if pair <= chosen)
        return Loss(total, 0.0)

    limit = float(generator.uniform(1, 4))
    plain: list[str] = []
    while len(plain) < len(names):
        rest = [n for n in names if n not in plain]
        best = min(rest, key=lambda n: measure(frozenset([*plain, n])).top1)
        if measure(frozenset([*plain, best])).top1 > limit:
            break
        plain.append(best)
    found = greedy(names, measure, limit)
    assert list(found.chosen) == plain
    assert found.measured <= 7 * 8 / 2 + 7


@pytest.mark.parametrize("limit", [-0.01, float("nan")])
def test_a_limit_below_nothing_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match="cannot be kept to"):
        greedy("a", separate({"a": 0.0}), limit)


# Eight bits


def saved(tmp_path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("runs_on", int8.TARGETS)
@pytest.mark.parametrize("averaged", [False, True])
def test_an_eight_bit_copy_answers_nearly_as_its_original(
    tmp_path: Path, runs_on: str, averaged: bool
) -> None:
    path = saved(tmp_path, residual())
    shots = [image[None] for image in images(30)]
    copy = tmp_path / "copy.onnx"
    int8.quantize(path, copy, shots, runs_on, averaged)
    model = onnx.load(str(copy))
    assert int8.opset_of(model) <= 16
    assert [entry.domain for entry in model.opset_import] == [""]  # 1.11 refuses newer others
    assert model.ir_version <= 8
    quantised = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert quantised
    zero = {numpy_helper.to_array(i).dtype for i in model.graph.initializer}
    assert np.dtype(np.int8) in zero
    assert (np.dtype(np.uint8) in zero) == (runs_on != "tensorrt")
    expected = answers(residual(), images(10, 2))
    session = precision.open_session(str(copy), 1, as_written=runs_on != "cpu")
    found = session.run(None, {"image": images(10, 2)})[0]
    assert found.dtype == np.float32
    # steps of 1/127 of the range, through two quantised layers
    np.testing.assert_allclose(found, expected, atol=0.1 * np.abs(expected).max())
    assert list(tmp_path.glob("*.partial")) == []


def test_the_last_layer_stays_in_32_bits(tmp_path: Path) -> None:
    path = saved(tmp_path, residual())
    int8.quantize(path, tmp_path / "copy.onnx", [i[None] for i in images(5)])
    model = onnx.load(str(tmp_path / "copy.onnx"))
    assert "w3" in {i.name for i in model.graph.initializer if i.data_type == TensorProto.FLOAT}
    assert len({*answers(model, images(50)).ravel().tolist()}) > 200  # not in 256 steps


def test_quantising_refuses_in_words(tmp_path: Path) -> None:
    path = saved(tmp_path, residual())
    with pytest.raises(InputError, match="no images to calibrate on"):
        int8.quantize(path, tmp_path / "x.onnx", [])
    with pytest.raises(InputError, match="not for 'dsp'"):
        int8.quantize(path, tmp_path / "x.onnx", [images(1)], "dsp")
    old = residual()
    old.opset_import[0].version = 12
    with pytest.raises(InputError, match="of opset 12"):
        int8.quantize(saved(tmp_path, old), tmp_path / "x.onnx", [images(1)])
    assert not (tmp_path / "x.onnx").exists()


def test_a_calibration_table_holds_the_largest_magnitudes(tmp_path: Path) -> None:
    from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

    path, shots = saved(tmp_path, residual()), images(20)
    int8.calibration_table(path, tmp_path / "t.calibration", [i[None] for i in shots])
    table = TrtTable.GetRootAsTrtTable((tmp_path / "t.calibration").read_bytes(), 0)
    entries = [table.Dict(i) for i in range(table.DictLength())]
    held = {e.Key().decode(): float(e.Value()) for e in entries}
    assert held["image"] == pytest.approx(np.abs(shots).max(), rel=1e-5)
    largest = np.abs(answers_of(residual(), "c2", shots)).max()
    assert held["c2"] == pytest.approx(largest, rel=1e-4)


# The command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The embedded bundle's MobileNet, copied in every way on noisy colours."""
    from PIL import Image

    work = tmp_path_factory.mktemp("copies")
    labels = Bundle.read(default_bundle()).labels
    generator = np.random.default_rng(0)
    for row in range(16):
        folder = work / "images" / labels[row % len(labels)]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
    result = run(
        *(default_bundle(), "-o", work / "out", "--images", work / "images", "--only"),
        *("mobilenet", "--int8", "cpu", "--int8", "tensorrt", "--fp16-layers", "--tables"),
        *("--calibrate", 6, "--search", 4, "--check", 6, "--max-loss", 0.5),
    )
    return work, result


def test_quantize_writes_candidates_that_serve(copied: tuple[Path, Any]) -> None:
    work, result = copied
    assert result.exit_code == 0, result.output
    bundle = Bundle.read(work / "out")
    assert bundle.names == (
        *Bundle.read(default_bundle()).names,
        *(f"mobilenet-{kind}" for kind in ("int8", "int8-tensorrt", "fp16")),
    )
    for candidate in bundle.candidates:
        assert (candidate.ms is None) == ("-" in candidate.name)
        if "@" in candidate.name:
            continue
        engine = OnnxEngine(bundle.folder / candidate.file)
        assert engine.run(np.zeros((2, 32, 32, 3), np.uint8))[0].shape == (2, 10)
    assert (work / "out" / "mobilenet.calibration").stat().st_size > 100


def test_quantize_says_what_was_used_and_what_came_out(copied: tuple[Path, Any]) -> None:
    work, result = copied
    report = json.loads((work / "out" / "copies.json").read_text())
    assert report["format"] == 1
    parts = report["images"]
    assert [len(parts[p]) for p in ("calibrate", "search", "check")] == [6, 4, 6]
    assert len({name for part in parts.values() for name in part}) == 16
    lines = {copy["name"]: copy for copy in report["copies"]}
    own = lines["mobilenet"]
    assert own["agreement"] == 1
    assert own["ms"] > 0
    assert not own["simulated"]
    assert lines["mobilenet-int8"]["ms"] > 0
    assert lines["mobilenet-int8-tensorrt"]["ms"] is None
    assert lines["mobilenet-int8-tensorrt"]["simulated"]
    mixed = lines["mobilenet-fp16"]
    assert mixed["simulated"]
    assert "convolutions in 16 bits" in mixed["note"]
    assert all(name in result.output for name in lines)


def test_images_of_class_folders_are_dealt_out_from_all_classes(copied: tuple[Path, Any]) -> None:
    work, _ = copied
    told = json.loads((work / "out" / "copies.json").read_text())["images"]
    everything = [name for part in ("calibrate", "search", "check") for name in told[part]]
    assert len(set(everything)) == len(everything) == 16
    assert everything != sorted(everything)
    for part, least in (("calibrate", 4), ("check", 4)):
        assert len({Path(name).parent for name in told[part]}) >= least


def test_quantize_refuses_in_words(copied: tuple[Path, Any]) -> None:
    work, _ = copied
    given = (default_bundle(), "-o", work / "other", "--images", work / "images")
    for arguments, says in (
        (("--int8", "cpu", "--calibrate", 16), "16 images are too few: 16 calibrate"),
        ((), "nothing to make"),
        (("--int8", "cpu", "--only", "vgg"), "candidate 'vgg' is not in the bundle"),
    ):
        result = run(*given, *arguments)
        assert isinstance(result.exception, InputError), result.output
        assert says in str(result.exception)
    result = run(*given[:2], work / "out", *given[3:], "--int8", "cpu")
    assert "--force" in str(result.exception)
    assert not (work / "other").exists()


def test_an_exit_is_left_out_and_named(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    result = run(
        *(tiny_candidates, "-o", tmp_path / "out", "--images", tiny_images),
        *("--labels", tiny_images / "labels.csv", "--int8", "cpu", "--calibrate", 5),
    )
    # these networks are one matrix product each, which is the last layer and stays
    assert isinstance(result.exception, InputError)
    said = str(result.exception)
    assert "cheap.onnx has nothing to quantise before its last layer" in said
    assert "net@1 is an exit" in said
    assert "net@2 is an exit" in said
    assert not (tmp_path / "out").exists()


def test_exits_and_candidates_on_other_servers_are_left_out_by_name() -> None:
    bundle = Bundle.read(default_bundle())
    away = replace(
        bundle.candidate("resnet"),
        file="",
        sha256="",
        name="away",
        remote=Remote("http://there:1", "big"),
    )
    mixed = replace(bundle, candidates=(*bundle.candidates, away))
    found, left_out = whole_networks(mixed, ["mobilenet", "exits@1", "away"])
    assert [one.name for one in found] == ["mobilenet"]
    assert left_out == [
        "exits@1 is an exit; only whole networks are copied",
        "away runs on another server; nothing here to copy",
    ]
    assert "away" not in {one.name for one in whole_networks(mixed, [])[0]}
