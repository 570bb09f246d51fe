"""Pruned networks: filters that are tied leave together, the loop, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch_pruning", reason="filters are grouped with torch-pruning")

import onnx
import torch

from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.errors import InputError
from adaptive.networks.compression import pruning
from adaptive.networks.compression.counting import count
from adaptive.networks.compression.filters import groups_of, take_out
from adaptive.networks.compression.finetuning import with_normalisation, write_network
from adaptive.networks.compression.importance import by_chance, by_loss, by_weights, least_first
from adaptive.networks.compression.masks import MaskingBlock, lay_masks, lift_masks
from adaptive.networks.compression.pruning import Pruned, Pruner, PruneRecipe, leaving_now
from adaptive.networks.compression.torch_network import Classifier, OnnxNetwork
from adaptive.networks.costs import multiply_adds
from adaptive.networks.export import export_network
from adaptive.networks.images import ImageArrays
from adaptive.networks.paper_designs import all_cnn_c, nin, resnet_20
from adaptive.networks.precision import open_session
from adaptive.networks.small import SmallNetwork, conv_bn
from adaptive.networks.training import TrainingRecipe

pytestmark = pytest.mark.train

SIDE = 16
SPEC = InputSpec(SIDE, "uint8", "NHWC", "cover")


def coloured(count: int = 120, seed: int = 0) -> ImageArrays:
    """Noisy images of one of three colours."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    pixels = draw.normal(90, 25, (count, SIDE, SIDE, 3))
    pixels[np.arange(count), :, :, labels] += 60
    names = [str(row) for row in range(count)]
    return ImageArrays(names, pixels.clip(0, 255).astype(np.uint8), labels, ["r", "g", "b"])


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A ResNet-20 with random weights and statistics that do not stand at their first values."""
    torch.manual_seed(0)
    network = resnet_20(3).train()
    network(torch.from_numpy(coloured().images))
    path = tmp_path_factory.mktemp("residual") / "r.onnx"
    return onnx.load(str(export_network(network, path, SIDE, half_weights=False)))


def test_normalisation_is_that_of_all_classes_where_images_lie_class_by_class(
    residual: onnx.ModelProto,
) -> None:
    data = coloured(1500)
    sorted_rows = np.argsort(data.labels, kind="stable")
    candidate = Candidate("r", "r.onnx", "", SPEC, OutputSpec(3))
    means = []
    for given in (data, data.subset(sorted_rows), data.subset(np.flatnonzero(data.labels == 0))):
        network = with_normalisation(residual, candidate, given).own_network()
        _, norm = network.layers["layer0"]
        means.append(norm.running_mean.numpy())
    apart = np.abs(means[1] - means[0]).max()
    assert apart < 0.1 * np.abs(means[2] - means[0]).max()


def candidate(name: str = "net") -> Candidate:
    return Candidate(name, "net.onnx", "0" * 64, SPEC, OutputSpec(3))


def test_the_papers_networks_cost_what_they_say() -> None:
    image = torch.zeros((1, 32, 32, 3), dtype=torch.uint8)
    assert multiply_adds(all_cnn_c(), image) == pytest.approx(281e6, rel=0.01)
    assert multiply_adds(nin(), image) == pytest.approx(222e6, rel=0.01)
    assert multiply_adds(resnet_20(), image) == pytest.approx(41e6, rel=0.02)
    with pytest.raises(InputError, match="leaves no filters"):
        all_cnn_c(width=0)


@pytest.mark.parametrize("name", ["mobilenet", "inception", "resnet"])
def test_the_torch_network_answers_what_the_file_answers(name: str) -> None:
    bundle = Bundle.read(default_bundle())
    path = bundle.folder / bundle.candidate(name).file
    network = OnnxNetwork(onnx.load(str(path)), name).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    wanted = open_session(str(path), 1).run(None, {network.source: images})[0]
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(images)), wanted, atol=1e-4)
        network.put_normalisation_back([torch.from_numpy(images)])
        normalised = network.eval()(torch.from_numpy(images))
    np.testing.assert_allclose(normalised, wanted, atol=1e-4)
    assert any(isinstance(one, torch.nn.BatchNorm2d) for one in network.modules())


def test_numbers_that_tell_an_operator_what_to_do_are_not_read_while_it_computes() -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    told = {"low": np.float32(-0.5), "high": np.float32(0.5), "sizes": np.int64([1, 3])}
    told.update(starts=np.int64([-3]), ends=np.int64([2**31]), axes=np.int64([2]))
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
        helper.make_node("Clip", ["x", "", "high"], ["lowered"]),
        helper.make_node("Add", ["clipped", "lowered"], ["sum"]),
        helper.make_node("Slice", ["sum", "starts", "ends", "axes"], ["cut"]),
        helper.make_node("Split", ["cut", "sizes"], ["first", "second"], axis=1),
        helper.make_node("Add", ["first", "second"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, ["n", 4, 5])],
        [helper.make_tensor_value_info("y", kind, ["n", 3, 3])],
        [onnx.numpy_helper.from_array(np.array(value), name) for name, value in told.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    wanted = open_session(model.SerializeToString(), 1).run(None, {"x": x})[0]
    network = OnnxNetwork(model)
    np.testing.assert_allclose(network(torch.from_numpy(x)), wanted, rtol=1e-6)
    assert len(list(network.buffers())) == len(told)  # a state holds what it always held
    with torch.no_grad():
        for buffer in network.buffers():
            buffer.zero_()
        np.testing.assert_allclose(network(torch.from_numpy(x)), wanted, rtol=1e-6)


def test_an_operator_that_is_not_known_is_named() -> None:
    node = onnx.helper.make_node("Erf", ["x"], ["y"])
    info = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node], "g", [info("x", kind, ["n", 4])], [info("y", kind, ["n", 4])]
    )
    with pytest.raises(InputError, match="the operator Erf, which cannot be trained here"):
        OnnxNetwork(onnx.helper.make_model(graph))


def test_a_residual_sum_ties_its_convolutions(residual: onnx.ModelProto) -> None:
    network = OnnxNetwork(residual)
    example = torch.zeros((1, SIDE, SIDE, 3), dtype=torch.uint8)
    sizes = sorted((group.width, len(group.members)) for group in groups_of(network, example))
    # each stage: what its sums tie, and the first convolution of each of its three blocks alone
    assert sizes == [
        *[(16, 1)] * 3, (16, 4), *[(32, 1)] * 3, (32, 4), *[(64, 1)] * 3, (64, 4)
    ]  # fmt: skip


def test_filters_that_say_nothing_leave_without_a_trace(residual: onnx.ModelProto) -> None:
    network = OnnxNetwork(residual).eval()
    images = torch.from_numpy(coloured(5).images)
    example = images[:1]
    tied = max(groups_of(network, example), key=lambda g: (len(g.members), g.width))
    gone = [1, 5, 30]
    with torch.no_grad():
        for key in tied.members:
            layer = network.convolutions()[key]
            layer.weight[gone] = 0
            assert layer.bias is not None
            layer.bias[gone] = 0
        wanted = network(images)
        take_out(network, example, {tied.name: gone})
        np.testing.assert_allclose(network(images), wanted, atol=1e-4)
    assert {network.convolutions()[key].out_channels for key in tied.members} == {61}
    with pytest.raises(InputError, match="keep some"):
        take_out(network, example, {tied.name: range(61)})


def test_a_pruned_network_is_a_smaller_dense_file(
    residual: onnx.ModelProto, tmp_path: Path
) -> None:
    network = OnnxNetwork(residual).eval()
    images = coloured(6).images
    example = torch.from_numpy(images[:1])
    groups = groups_of(network, example)
    take_out(network, example, {g.name: range(g.width // 2) for g in groups})
    path = tmp_path / "small.onnx"
    write_network(network, candidate(), path, residual)
    model = onnx.load(str(path))
    assert max(o.version for o in model.opset_import) <= 16
    assert count(model).multiply_adds == multiply_adds(network, example)
    assert 3.5 < count(residual).multiply_adds / count(model).multiply_adds < 4.2
    with torch.no_grad():
        wanted = network(torch.from_numpy(images))
    session = open_session(str(path), 1)
    given = session.run(None, {residual.graph.input[0].name: images})[0]
    np.testing.assert_allclose(given, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "due", "leaves"),
    [(24, 4, 0), (24, 8, 8), (24, 20, 16), (20, 4, 4), (20, 3, 0), (8, 8, 0), (64, 13, 8)],
)
def test_what_stays_is_a_multiple_of_eight(width: int, due: int, leaves: int) -> None:
    assert leaving_now(width, due) == leaves


def test_a_masking_block_masks_the_share_and_teaches_by_its_scores() -> None:
    torch.manual_seed(0)
    block = MaskingBlock(10, 0.2)
    mask = block(torch.randn(6, 10, 4, 4))
    assert mask.shape == (6, 10, 1, 1)
    assert torch.equal((mask < 0.5).sum(dim=(1, 2, 3)), torch.full((6,), 2))
    np.testing.assert_allclose(np.unique(mask.detach().numpy().round(6)), [0, 1])
    mask[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.dense[2].parameters())


def test_masks_are_lifted_without_a_trace(residual: onnx.ModelProto) -> None:
    network = OnnxNetwork(residual).eval()
    images = torch.from_numpy(coloured(4).images)
    with torch.no_grad():
        wanted = network(images)
        lay_masks(network, groups_of(network, images[:1]), 0.3)
        masked = network.eval()(images)
        lift_masks(network)
        np.testing.assert_array_equal(network(images), wanted)
    assert not np.allclose(masked, wanted, atol=1e-3)


def test_importances_find_the_filters_that_are_nothing(residual: onnx.ModelProto) -> None:
    network = OnnxNetwork(residual).eval()
    data = coloured(40)
    classifier = Classifier(network, candidate())
    network.put_normalisation_back([torch.from_numpy(data.images)])
    groups = groups_of(network, torch.from_numpy(data.images[:1]))
    tied = max(groups, key=lambda g: (len(g.members), g.width))
    with torch.no_grad():
        for key in tied.members:
            convolution, norm = network.layers[key]
            convolution.weight[[3, 40]] = 0
            norm.weight[[3, 40]] = 0
            norm.bias[[3, 40]] = 0
    for worth in (by_weights(network, groups), by_loss(classifier, groups, data)):
        assert set(least_first(worth, tied.name)[:2]) == {3, 40}
    assert by_chance(groups, 1)[tied.name].tolist() == by_chance(groups, 1)[tied.name].tolist()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"importance": "size"}, "is not one of"),
        ({"share": 0.0}, "share must lie between 0 and 1"),
        ({"vote": 1.0}, "vote must lie between 0 and 1"),
        ({"max_loss": -0.1}, "cannot be kept to"),
        ({"iterations": 0}, "start at 1"),
        ({"mask_epochs": (0, 0)}, "start at 1"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PruneRecipe(**changed)  # type: ignore[arg-type]


def small(path: Path, filters: int = 24) -> onnx.ModelProto:
    torch.manual_seed(1)
    body = torch.nn.Sequential(conv_bn(3, filters, 3, 2), conv_bn(filters, filters, 3, 2))
    network = SmallNetwork(body, filters, 3)
    return onnx.load(str(export_network(network, path, SIDE, half_weights=False)))


def pruner(model: onnx.ModelProto, folder: Path, **changed: object) -> Pruner:
    tune = TrainingRecipe(epochs=1, batch=40, learning_rate=0.02, shift=1)
    recipe = PruneRecipe(
        share=0.34, vote=0.5, max_loss=1.0, iterations=2, mask_epochs=(1, 1), tune=tune
    )
    recipe = replace(recipe, **changed)  # type: ignore[arg-type]
    return Pruner(model, candidate(), coloured(), coloured(60, 1), recipe, folder, print)


def weights_of(made: Pruned) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in made.network.state_dict().items()}


@pytest.mark.parametrize("importance", ["mask", "l1", "taylor", "random"])
def test_the_loop_leaves_multiples_of_eight(importance: str, tmp_path: Path) -> None:
    model = small(tmp_path / "s.onnx")
    made = pruner(model, tmp_path / "run", importance=importance).prune()
    kept = [one for one in made.iterations if one.kept]
    assert kept
    assert all(width % 8 == 0 for width in made.widths.values())
    if importance != "mask":
        # a third of 24, then a third of 16, which is saved up until eight can go
        assert [one.voted for one in made.iterations] == [16, 10]
        assert list(made.widths.values()) == [16, 16]


def test_a_stopped_run_goes_on_to_the_same_network(tmp_path: Path) -> None:
    model = small(tmp_path / "s.onnx")
    whole = pruner(model, tmp_path / "whole").prune()
    pruner(model, tmp_path / "stopped", iterations=1).prune()
    went_on = pruner(model, tmp_path / "stopped").prune()
    assert went_on.iterations == whole.iterations
    one, two = weights_of(whole), weights_of(went_on)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def test_another_runs_folder_is_refused(tmp_path: Path) -> None:
    model = small(tmp_path / "s.onnx")
    pruner(model, tmp_path / "run", importance="l1", iterations=1).prune()
    with pytest.raises(InputError, match="delete it to start again"):
        pruner(model, tmp_path / "run", importance="random").prune()


@pytest.mark.parametrize(("after", "kept"), [(0.893, True), (0.885, False)])
def test_an_iteration_is_kept_within_the_limit_alone(
    after: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([[0.9], [after]])
    monkeypatch.setattr(pruning, "accuracy", lambda *_: next(told))
    model = small(tmp_path / "s.onnx")
    changed = {"importance": "l1", "max_loss": 0.01, "iterations": 1}
    made = pruner(model, tmp_path / "run", **changed).prune()
    assert [one.kept for one in made.iterations] == [kept]
    assert list(made.widths.values()) == ([16, 16] if kept else [24, 24])


def test_a_network_of_eight_filters_has_none_to_give(tmp_path: Path) -> None:
    model = small(tmp_path / "s.onnx", 8)
    with pytest.raises(InputError, match="no convolution with more than 8 filters"):
        pruner(model, tmp_path / "run").prune()


@pytest.mark.parametrize("importance", ["l1", "mask", "taylor", "random"])
def test_widths_can_be_asked_for(importance: str, tmp_path: Path) -> None:
    model = small(tmp_path / "s.onnx")
    first = model.graph.node[[n.op_type for n in model.graph.node].index("Conv")].output[0]
    tune = TrainingRecipe(epochs=1, batch=40, learning_rate=0.02)
    made = pruner(model, tmp_path / "run", importance=importance).to_widths({first: 16}, tune)
    assert list(made.widths.values()) == [16, 24]
    with pytest.raises(InputError, match="has 24 filters, not 25"):
        pruner(model, tmp_path / "other", importance="l1").to_widths({first: 25}, tune)
