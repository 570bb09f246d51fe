"""Decomposed layers: equal at full rank, counted from the file, repaired without labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="networks are rewritten with onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

from adaptive.errors import InputError
from adaptive.networks.compression.counting import count
from adaptive.networks.compression.decomposition import Decomposer, Decomposition
from adaptive.networks.compression.layer_times import LayerTimes
from adaptive.networks.compression.layers import Layer, Ranks, decomposed, layers_of
from adaptive.networks.compression.repair import fit
from adaptive.networks.compression.staged import StagedRun
from adaptive.networks.compression.tucker import (
    allowed_ranks,
    kept_by_pairs,
    kept_by_ranks,
    smallest_rank,
    smallest_ranks,
    tucker,
    two_factors,
)
from adaptive.networks.precision import open_session

pytestmark = pytest.mark.train


class Faster:
    """Times by which every layer, or none, is faster decomposed."""

    def __init__(self, faster: bool = True) -> None:
        self._faster = faster

    def ms(self, layer: Layer, ranks: Ranks) -> tuple[float, float]:
        return (2.0, 1.0) if self._faster else (1.0, 1.0)


def tensor(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng((seed, *shape)).normal(0, 0.2, shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def model_of(
    nodes: list[Any], tensors: list[Any], channels: int, side: int, answer: str, opset: int = 13
) -> onnx.ModelProto:
    shape = ["n", channels, side, side] if side else ["n", channels]
    rank = 2 if answer == "answer" else len(shape)
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["n", *"abc"[: rank - 1]])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model)
    return model


def one_convolution(kernel: tuple[int, int], bias: bool = True, **attributes: Any) -> Any:
    groups = attributes.get("group", 1)
    tensors = [tensor("w", 24, 32 // groups, *kernel)] + ([tensor("b", 24)] if bias else [])
    inputs = ["image", *(t.name for t in tensors)]
    return model_of(
        [helper.make_node("Conv", inputs, ["made"], **attributes)], tensors, 32, 13, "made"
    )


def residual() -> onnx.ModelProto:
    """conv, relu, two convolutions and a sum, a strided one, mean and a dense layer."""
    conv = helper.make_node
    nodes = [
        conv("Conv", ["image", "w0", "b0"], ["c0"], pads=[1] * 4),
        conv("Relu", ["c0"], ["r0"]),
        conv("Conv", ["r0", "w1"], ["c1"], pads=[1] * 4),
        conv("Relu", ["c1"], ["r1"]),
        conv("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        conv("Add", ["c2", "r0"], ["sum"]),
        conv("Conv", ["sum", "w3"], ["c3"], strides=[2, 2]),
        conv("ReduceMean", ["c3"], ["means"], axes=[2, 3], keepdims=0),
        conv("Gemm", ["means", "w4", "b4"], ["answer"], transB=1),
    ]
    tensors = [
        tensor("w0", 24, 3, 3, 3),
        tensor("b0", 24),
        tensor("w1", 24, 24, 3, 3),
        tensor("w2", 24, 24, 3, 3, seed=1),
        tensor("w3", 32, 24, 1, 1),
        tensor("w4", 20, 32),
        tensor("b4", 20),
    ]
    return model_of(nodes, tensors, 3, 12, "answer")


def images(count: int, channels: int = 3, side: int = 12, seed: int = 5) -> np.ndarray:
    shape = (count, channels, side, side) if side else (count, channels)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def answers(model: onnx.ModelProto, given: np.ndarray) -> np.ndarray:
    session = open_session(model.SerializeToString(), 1)
    result: np.ndarray = session.run(None, {"image": given})[0]
    return result


CONVOLUTIONS = {
    "padded": one_convolution((3, 3), pads=[1] * 4),
    "without bias": one_convolution((3, 3), bias=False),
    "strided": one_convolution((3, 3), strides=[2, 2], pads=[1] * 4),
    "strided unevenly": one_convolution((3, 3), strides=[2, 1], pads=[0, 1, 1, 0]),
    "dilated": one_convolution((3, 3), dilations=[2, 2], pads=[2] * 4),
    "grouped": one_convolution((3, 3), pads=[1] * 4, group=2),
    "grouped and strided": one_convolution((5, 5), pads=[2] * 4, strides=[2, 2], group=2),
    "SAME": one_convolution((3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "wide": one_convolution((1, 3), pads=[0, 1, 0, 1]),
    "pointwise": one_convolution((1, 1)),
    "pointwise, strided": one_convolution((1, 1), strides=[2, 2]),
    "pointwise, grouped": one_convolution((1, 1), group=2, bias=False),
}


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_a_convolution_at_full_rank_equals_the_original(kind: str) -> None:
    model = CONVOLUTIONS[kind]
    layers = layers_of(model)
    whole, parts = decomposed(model, layers, {"made": layers[0].full})
    given = images(3, 32, 13)
    assert len(parts["made"].nodes) == (2 if kind.startswith("pointwise") else 3)
    np.testing.assert_allclose(answers(whole, given), answers(model, given), atol=1e-4)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_dense_layer_at_full_rank_equals_the_original(turned: int) -> None:
    shape = (20, 30) if turned else (30, 20)
    node = helper.make_node("Gemm", ["image", "w", "b"], ["made"], transB=turned)
    model = model_of([node], [tensor("w", *shape), tensor("b", 20)], 30, 0, "made")
    (layer,) = layers_of(model)
    whole, _ = decomposed(model, [layer], {"made": (20,)})
    given = images(4, 30, 0)
    np.testing.assert_allclose(answers(whole, given), answers(model, given), atol=1e-4)


def test_a_matrix_product_is_decomposed_too() -> None:
    node = helper.make_node("MatMul", ["image", "w"], ["made"])
    model = model_of([node], [tensor("w", 30, 20)], 30, 0, "made")
    (layer,) = layers_of(model)
    whole, _ = decomposed(model, [layer], {"made": layer.full})
    given = images(4, 30, 0)
    np.testing.assert_allclose(answers(whole, given), answers(model, given), atol=1e-4)


def test_a_network_with_a_residual_sum_at_full_rank_equals_the_original() -> None:
    model = residual()
    layers = layers_of(model)
    assert [layer.name for layer in layers] == ["c1", "c2", "c3", "answer"]  # c0 reads three
    whole, _ = decomposed(model, layers, {layer.name: layer.full for layer in layers})
    np.testing.assert_allclose(answers(whole, images(3)), answers(model, images(3)), atol=1e-4)


def test_multiply_adds_are_those_that_the_shapes_say() -> None:
    model = residual()
    counted = count(model)
    assert counted.layers == {
        "c0": 144 * 24 * 3 * 9,
        "c1": 144 * 24 * 24 * 9,
        "c2": 144 * 24 * 24 * 9,
        "c3": 36 * 32 * 24,
        "answer": 20 * 32,
    }
    assert counted.parameters == 24 * 27 + 24 + 2 * 24 * 216 + 32 * 24 + 20 * 32 + 20


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_what_a_decomposed_layer_claims_is_what_the_file_has(kind: str) -> None:
    model = CONVOLUTIONS[kind]
    (layer,) = layers_of(model)
    assert count(model).multiply_adds == layer.products()
    ranks = tuple(min(8, rank) for rank in layer.full)
    smaller, _ = decomposed(model, [layer], {"made": ranks})
    assert count(smaller).multiply_adds == layer.products(ranks)


def test_a_strided_layer_pays_for_its_first_part_at_every_input_position() -> None:
    (layer,) = layers_of(CONVOLUTIONS["strided"])
    # 13 x 13 positions in, 7 x 7 out
    assert layer.products((8, 16)) == 169 * 32 * 8 + 49 * (8 * 16 * 9 + 16 * 24)


def test_the_cheapest_ranks_are_those_that_a_search_through_all_finds() -> None:
    kernel = np.random.default_rng(3).normal(size=(40, 32, 3, 3))
    kernel[:, 20:] *= 0.1
    kept = kept_by_pairs([kernel])
    for share in (0.5, 0.8, 0.95, 1.0):
        allowed = [
            (c, n)
            for c, n in itertools.product(allowed_ranks(32), allowed_ranks(40))
            if kept[n - 1, c - 1] >= share - 1e-9
        ]
        cheapest = min(allowed, key=lambda r: 4 * 32 * r[0] + 9 * r[0] * r[1] + 40 * r[1])
        assert smallest_ranks(kept, 9, share, in_cost=4) == cheapest
        made = tucker(kernel, cheapest).kernel()
        assert 1 - ((kernel - made) ** 2).sum() / (kernel**2).sum() >= share - 1e-6


def test_a_kernel_of_low_rank_is_found_exactly() -> None:
    draw = np.random.default_rng(0)
    kernel = np.einsum(
        "ni,ijhw,jc->nchw", draw.normal(size=(24, 8)), draw.normal(size=(8, 16, 3, 3)),
        draw.normal(size=(16, 32)),
    )  # fmt: skip
    ranks = smallest_ranks(kept_by_pairs([kernel]), 9, 1.0)
    assert ranks == (16, 8)
    np.testing.assert_allclose(tucker(kernel, ranks).kernel(), kernel, atol=1e-9)


def test_alternating_steps_are_no_worse_than_the_first_answer() -> None:
    kernel = np.random.default_rng(1).normal(size=(24, 16, 3, 3))

    def apart(steps: int) -> float:
        return float(((tucker(kernel, (8, 8), steps).kernel() - kernel) ** 2).sum())

    assert apart(5) <= apart(1) <= apart(0) + 1e-9
    assert apart(5) < apart(0)


def test_two_factors_are_the_nearest_of_their_rank() -> None:
    weight = np.random.default_rng(2).normal(size=(24, 40))
    left, right = two_factors(weight, 16)
    sizes = np.linalg.svd(weight, compute_uv=False)
    assert ((weight - left @ right) ** 2).sum() == pytest.approx((sizes[16:] ** 2).sum())
    kept = kept_by_ranks([weight])
    rank = smallest_rank(kept, float(kept[15]))
    assert rank == 16


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ({"c1": (0, 8)}, "input's rank must lie in 1..24, got 0"),
        ({"c1": (8, 25)}, "output's rank must lie in 1..24, got 25"),
        ({"c3": (25,)}, "matrix's rank must lie in 1..24, got 25"),
        ({"c1": (8,)}, "decomposed at 2 ranks"),
        ({"r1": (8, 8)}, "no layer 'r1'"),
    ],
)
def test_ranks_out_of_range_are_refused(ranks: dict[str, Ranks], words: str) -> None:
    model = residual()
    with pytest.raises(InputError, match=words):
        decomposed(model, layers_of(model), ranks)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_cannot_be_kept_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share of variance to keep"):
        Decomposer(residual(), times=Faster()).at(share)


def test_layers_that_are_no_faster_stay_whole() -> None:
    with pytest.raises(InputError, match=r"no layer .* is worth decomposing .* none is faster"):
        Decomposer(residual(), times=Faster(False)).at(0.6)


def test_a_network_of_depthwise_layers_has_nothing_to_decompose() -> None:
    node = helper.make_node("Conv", ["image", "w"], ["made"], group=16, pads=[1] * 4)
    model = model_of([node], [tensor("w", 16, 1, 3, 3)], 16, 8, "made")
    assert layers_of(model) == []
    with pytest.raises(InputError, match="of 0 layers with more than 8 channels"):
        Decomposer(model).at(0.5)


def test_a_run_in_pieces_gives_what_the_whole_network_gives() -> None:
    model = residual()
    given = [images(1, seed=seed) for seed in range(5)]
    run = StagedRun(model, given, batch=2)
    whole = ModelWith(model, ["c0", "sum", "answer"])
    for name in ("c0", "sum", "answer"):
        np.testing.assert_allclose(
            run.value(name), whole.of(name, np.concatenate(given)), atol=1e-5
        )


class ModelWith:
    """A network with further tensors among its outputs."""

    def __init__(self, model: onnx.ModelProto, names: list[str]) -> None:
        more = onnx.ModelProto()
        more.CopyFrom(model)
        have = {output.name for output in model.graph.output}
        more.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
        self._session = open_session(more.SerializeToString(), 1)

    def of(self, name: str, given: np.ndarray) -> np.ndarray:
        result: np.ndarray = self._session.run([name], {"image": given})[0]
        return result


@pytest.mark.parametrize("groups", [1, 2])
def test_the_fit_finds_the_map_that_was(groups: int) -> None:
    draw = np.random.default_rng(0)
    given = draw.normal(size=(4000, 8))
    weight, bias = draw.normal(size=(12, 8 // groups)), draw.normal(size=12)
    parts = zip(np.split(given, groups, 1), np.split(weight, groups))
    wanted = np.concatenate([x @ w.T for x, w in parts], axis=1) + bias
    found, offset = fit(given, wanted, weight + 0.3, bias * 0, groups)
    np.testing.assert_allclose(found, weight, atol=0.01)
    np.testing.assert_allclose(offset, bias, atol=0.01)


def test_repair_brings_answers_nearer_on_images_that_it_has_not_seen() -> None:
    model = residual()
    seen = [images(1, seed=seed) for seed in range(40)]
    others = images(50, seed=99)
    own = answers(model, others)

    def apart(decomposer: Decomposer) -> float:
        return float(np.abs(answers(decomposer.at(0.5).model, others) - own).mean())

    plain = apart(Decomposer(model, times=Faster()))
    assert apart(Decomposer(model, seen, times=Faster())) < 0.6 * plain


def test_repair_is_the_same_for_the_same_seed() -> None:
    model, seen = residual(), [images(1, seed=seed) for seed in range(10)]
    made = [Decomposer(model, seen, seed=3, times=Faster()).at(0.6) for _ in range(2)]
    np.testing.assert_array_equal(*(answers(one.model, images(4)) for one in made))


def test_the_search_finds_the_smallest_share_within_the_limit() -> None:
    decomposer = Decomposer(residual(), times=Faster())
    asked = []

    def loss(made: Decomposition) -> float:
        asked.append(made.share)
        return 0.0 if made.share >= 0.6 else 0.2

    found = decomposer.smallest(loss, 0.1)
    assert found.share == 0.6
    assert len(asked) <= 6  # by halves, of 35 shares


def test_a_limit_that_nothing_keeps_to_is_said() -> None:
    decomposer = Decomposer(residual(), times=Faster())
    with pytest.raises(InputError, match=r"loses more than 0\.01 of top-1 at every share"):
        decomposer.smallest(lambda made: 0.5, 0.01)
    with pytest.raises(InputError, match="cannot be kept to"):
        decomposer.smallest(lambda made: 0.0, -0.1)


def test_times_of_layers_are_kept_for_the_next_run(tmp_path: Any) -> None:
    (layer,) = layers_of(CONVOLUTIONS["padded"])
    file = tmp_path / "times.json"
    first = LayerTimes(file, runs=3).ms(layer, (8, 8))
    assert min(first) > 0
    assert LayerTimes(file, runs=3).ms(layer, (8, 8)) == first
