"""The small detectors learn, go on after a stop, and answer as ONNX files as they do in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")
onnx = pytest.importorskip("onnx", reason="export needs onnx, which a board does not have")

from adaptive.bundle.bundle import write_candidates
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import InputError
from adaptive.networks.detectors.scenes import Composer
from adaptive.networks.detectors.small import DESIGNS
from adaptive.networks.detectors.small_export import export_small_detector
from adaptive.networks.detectors.training import (
    DetectorRecipe,
    answers,
    precision,
    tensors,
    train_detector,
)
from adaptive.networks.export import number_names
from adaptive.networks.images import ImageArrays
from adaptive.routing.router import Router
from adaptive.tasks.detections import Detections

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler"),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def composer() -> Composer:
    generator = np.random.default_rng(0)
    levels = np.repeat([60, 200], 6)[:, None, None, None]
    images = np.clip(generator.normal(levels, 20, (12, 32, 32, 3)), 0, 255).astype(np.uint8)
    names = [f"{number}.png" for number in range(12)]
    objects = ImageArrays(names, images, np.repeat([0, 1], 6), ["dark", "light"])
    return Composer(objects, np.full((1, 128, 128, 3), 128, np.uint8))


@pytest.mark.parametrize("design", list(DESIGNS))
def test_steps_on_one_batch_lower_its_loss(design: str, composer: Composer) -> None:
    torch.manual_seed(0)
    network = DESIGNS[design].build(2, 96).train()
    images, truth = tensors([composer.scene(number) for number in range(4)])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        value = network.loss(images, truth)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(value.item())
    assert np.mean(losses[-2:]) < 0.9 * losses[0], losses


def test_a_stopped_training_ends_at_the_same_weights(
    composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = DetectorRecipe(epochs=2, scenes=8, batch=4, backbone=0)
    backbone = DESIGNS["detr"].build(2, 96).bottom_up.state_dict()
    test = [composer.scene(number, 5) for number in range(2)]
    whole, history = train_detector("detr", composer, recipe, tmp_path / "w", backbone, test)
    drawn = Composer.scene

    def cut(self: Composer, number: int, seed: int = 0) -> object:
        if number == 12:
            raise KeyboardInterrupt
        return drawn(self, number, seed)

    monkeypatch.setattr(Composer, "scene", cut)
    with pytest.raises(KeyboardInterrupt):
        train_detector("detr", composer, recipe, tmp_path / "s", backbone, test)
    monkeypatch.setattr(Composer, "scene", drawn)
    resumed, again = train_detector("detr", composer, recipe, tmp_path / "s", backbone, test)
    assert again == history
    assert [line["epoch"] for line in history] == [1, 2]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)
    other = DetectorRecipe(epochs=3, scenes=8, batch=4, backbone=0)
    with pytest.raises(InputError, match="delete it to start again"):
        train_detector("detr", composer, other, tmp_path / "s", backbone, test)


def test_a_recipe_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="at least a batch of scenes"):
        DetectorRecipe(scenes=8, batch=16)


def test_precision_of_the_true_boxes_is_one(composer: Composer) -> None:
    scenes = [composer.scene(number) for number in range(12)]
    true = [Detections.of(s.boxes, np.linspace(0.9, 0.5, len(s.labels)), s.labels) for s in scenes]
    assert precision(scenes, true).ap == pytest.approx(1.0)
    none = [Detections.of(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)) for _ in scenes]
    assert precision(scenes, none).ap == 0.0


@pytest.mark.parametrize("design", list(DESIGNS))
def test_a_candidate_finds_what_torch_finds(
    design: str, composer: Composer, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = DESIGNS[design].build(2, 96).eval()
    classes = composer.objects.classes
    scene = composer.scene(3)
    candidate, difference = export_small_detector(
        network, design, tmp_path / f"{design}.onnx", 96, classes
    )
    assert difference < 1e-3
    write_candidates(tmp_path, [candidate], classes)
    (expected,) = answers(network, design, [scene], classes)
    with Router.load(tmp_path) as router:
        found = router.detect(scene.image)
    assert len(found.boxes) == len(expected.boxes) > 0
    np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-3)
    np.testing.assert_allclose(
        np.sort(found.boxes, axis=0), np.sort(expected.boxes, axis=0), atol=0.05
    )


@pytest.mark.parametrize("design", ["detr", "faster-rcnn"])
def test_numbers_for_names_make_files_small_and_change_no_answer(
    design: str, composer: Composer, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = DESIGNS[design].build(2, 96).eval()
    named, short = tmp_path / "named.onnx", tmp_path / "short.onnx"
    export_small_detector(network, design, named, 96, ["a", "b"])
    model = onnx.load(str(named))
    number_names(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(short))
    assert short.stat().st_size < named.stat().st_size - 50_000
    before, after = OnnxEngine(named), OnnxEngine(short)
    assert after.inputs == before.inputs
    assert after.outputs == before.outputs
    image = composer.scene(3).image[np.newaxis]
    for own, other in zip(after.run(image), before.run(image)):
        np.testing.assert_array_equal(own, other)


def test_weights_in_16_bits_make_files_half_as_large(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DESIGNS["detr"].build(2, 96).eval()
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    export_small_detector(network, "detr", whole, 96, ["a", "b"])
    export_small_detector(network, "detr", half, 96, ["a", "b"], half_weights=True)
    assert half.stat().st_size < 0.5 * whole.stat().st_size


def test_names_within_a_graph_of_a_node_are_numbered_too() -> None:
    """A branch that reads what its surroundings made, as suppression in a detector does."""
    number = onnx.TensorProto.FLOAT
    result = onnx.helper.make_tensor_value_info("inner/result", number, None)
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node(kind, ["outer/sum", "x"], ["inner/result"])], kind, [], [result]
        )
        for kind in ("Add", "Mul")
    ]
    nodes = [
        onnx.helper.make_node("Add", ["x", "x"], ["outer/sum"], name="a/name"),
        onnx.helper.make_node(
            "If", ["which"], ["y"], then_branch=branches[0], else_branch=branches[1]
        ),
    ]
    shown = onnx.helper.make_tensor_value_info
    inputs = [shown("x", number, [2]), shown("which", onnx.TensorProto.BOOL, [])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [shown("y", number, [2])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    number_names(model)
    assert b"/" not in model.SerializeToString()
    runtime = pytest.importorskip("onnxruntime", reason="a board's runtime answers")
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.array([2, 3], np.float32)
    for which, expected in ((True, [6, 9]), (False, [8, 18])):
        (found,) = session.run(None, {"x": x, "which": np.array(which)})
        assert found.tolist() == expected
