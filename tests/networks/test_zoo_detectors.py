"""Published detectors as candidates: what the files answer, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the zoo needs torch, which a board does not have")
torchvision = pytest.importorskip("torchvision", reason="the zoo needs torchvision")
pytest.importorskip("onnx", reason="export needs onnx, which a board does not have")

from adaptive.cli.zoo import command
from adaptive.errors import InputError
from adaptive.networks.detectors.as_onnx import AsItIs, OneStage
from adaptive.networks.detectors.published import (
    LABELS,
    PublishedDetector,
    detectors,
    load_own,
    random_detector,
)
from adaptive.routing.router import Router
from adaptive.tasks.decoding import COCO_NUMBERS, BoxSpec, detections
from adaptive.tasks.placement import stretched

pytestmark = pytest.mark.train

BY_NAME = {entry.name: entry for entry in detectors()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(*arguments: object) -> click.testing.Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


def test_labels_are_cocos_eighty_in_order() -> None:
    assert len(LABELS) == 80
    assert (LABELS[0], LABELS[11], LABELS[79]) == ("person", "stop sign", "toothbrush")
    assert LABELS[COCO_NUMBERS[13]] == "stop sign"  # its number in COCO is 13


def small_retinanet() -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNet

    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    return RetinaNet(_TwoMaps(), 91, anchor_generator=anchors, score_thresh=0.0)


def small_fcos() -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOS

    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    return FCOS(_TwoMaps(), 91, anchor_generator=anchors, score_thresh=0.0)


def small_ssd() -> Any:
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.5, 0.9])
    backbone = _TwoMaps()
    backbone.out_channels = [32, 32]
    return SSD(backbone, boxes, (64, 96), 91, score_thresh=0.0)


class _TwoMaps(torch.nn.Module):
    """A backbone of two feature maps, of 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 32, 8, 8)
        self.second = torch.nn.Conv2d(32, 32, 2, 2)
        self.out_channels: Any = 32

    def forward(self, images: Any) -> dict[str, Any]:
        fine = self.first(images).relu()
        return {"0": fine, "1": self.second(fine).relu()}


@pytest.mark.parametrize("make", [small_retinanet, small_fcos, small_ssd])
def test_boxes_suppressed_outside_are_torchvisions(make: Any) -> None:
    torch.manual_seed(0)
    network = make().eval()
    for name, weight in network.head.named_parameters():
        if weight.dim() > 1 and not name.endswith("norm.weight"):
            torch.nn.init.normal_(weight, std=0.1)  # scores that differ
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 96)
        raw = OneStage(network, (64, 96))(images)
        network.transform = AsItIs()
        expected = network(list(images))
    # torchvision may say class 0, which means nothing, and keeps boxes outside the image
    spec = BoxSpec("proposals", 90, 0.0, network.nms_thresh, several=True)
    for row in range(2):
        outputs = {name: part[row : row + 1].numpy() for name, part in zip(OneStage.outputs, raw)}
        found = detections(outputs, spec, (64, 96), stretched((64, 96), (64, 96)))
        wanted = {name: part.numpy() for name, part in expected[row].items()}
        corners = wanted["boxes"]
        meant = (wanted["labels"] > 0) & (corners[:, 2:] > corners[:, :2]).all(1)
        # neither hands over more than its most, and what 0 took up is ours besides
        count = min(int(meant.sum()), 80)
        np.testing.assert_allclose(found.scores[:count], wanted["scores"][meant][:count], atol=1e-5)
        np.testing.assert_allclose(found.boxes[:count], wanted["boxes"][meant][:count], atol=1e-2)
        assert (found.classes[:count] + 1 == wanted["labels"][meant][:count]).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """SSDlite with random weights, and what was printed."""
    zoo = tmp_path_factory.mktemp("made") / "zoo"
    result = run("export", "ssdlite320_mobilenet_v3_large", "-o", zoo, "--untrained")
    assert result.exit_code == 0, (result.output, result.exception)
    return zoo, result.output


@pytest.mark.slow
def test_an_exported_detector_is_a_candidate(made: tuple[Path, str]) -> None:
    zoo, printed = made
    assert "input 320 x 320, random weights" in printed
    manifest = json.loads((zoo / "manifest.json").read_text())
    assert manifest["task"] == "detect"
    (entry,) = manifest["candidates"]
    assert entry["untrained"]
    assert entry["output"]["decoder"] == "proposals"
    assert entry["input"]["resize"] == "stretch"
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    with Router.load(zoo) as router:
        found = router.detect(image)
    assert found.candidate == "ssdlite320_mobilenet_v3_large"
    assert set(found.labels) <= set(LABELS)


@pytest.mark.slow
def test_a_two_stage_detector_is_a_candidate_of_a_size_that_was_asked_for(tmp_path: Path) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    arguments = ("export", name, "-o", tmp_path / "zoo", "--untrained", "--size", "96x128")
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    (entry,) = json.loads((tmp_path / "zoo" / "manifest.json").read_text())["candidates"]
    assert entry["output"]["decoder"] == "final"
    assert entry["input"]["size"] == [96, 128]
    assert (entry["input"]["resize"], entry["input"]["pad"]) == ("fit", [124, 116, 104])
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    with Router.load(tmp_path / "zoo") as router:
        found = router.detect(image)
    assert len(found.boxes) > 0  # random weights that find something
    assert (found.boxes[:, 2] <= 128).all()


def test_random_weights_are_the_same_for_a_seed() -> None:
    entry = BY_NAME["ssdlite320_mobilenet_v3_large"]
    one, again, other = (random_detector(entry, seed) for seed in (0, 0, 1))
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    weight = next(iter(one.state_dict()))
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])


@pytest.fixture
def small_designs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two networks of our own, made small."""
    from adaptive.networks.detectors import published
    from adaptive.networks.detectors.detr import DETR
    from adaptive.networks.detectors.pyramids import Coarse, Pyramid, SmallBottomUp
    from adaptive.networks.detectors.sparse_rcnn import SparseRCNN

    monkeypatch.setattr(
        published,
        "detr_resnet50",
        lambda: DETR(Coarse(SmallBottomUp(), 1), 91, 5, 32, 4, 1, 1, 64),
    )
    monkeypatch.setattr(
        published,
        "sparse_rcnn_resnet50",
        lambda proposals: SparseRCNN(
            Pyramid(SmallBottomUp(), 32), 80, proposals, 32, 4, 2, 64, 8, 3, 3
        ),
    )


@pytest.mark.parametrize("name", ["detr_resnet50", "sparse_rcnn_resnet50"])
def test_files_that_the_user_has_become_candidates(
    name: str, tmp_path: Path, small_designs: None
) -> None:
    """As their authors publish them: a dict with the state dict under `model`."""
    entry = BY_NAME[name]
    network = random_detector(entry, seed=3)
    held = {"model": network.state_dict(), "epoch": 36}
    torch.save(held, tmp_path / entry.file_name)
    options = ("--weights-dir", tmp_path, "--size", "64x96", "--opset", 16)
    result = run("export", name, "-o", tmp_path / "zoo", *options)
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"published AP {entry.ap} %" in result.output
    manifest = json.loads((tmp_path / "zoo" / "manifest.json").read_text())
    assert manifest["reference"] == name
    assert (
        "untrained" not in manifest["candidates"][0] or not manifest["candidates"][0]["untrained"]
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    with Router.load(tmp_path / "zoo") as router:
        assert router.detect(image).candidate == name


def test_any_number_of_proposals_is_loaded(tmp_path: Path, small_designs: None) -> None:
    from adaptive.networks.detectors import published

    three = published.sparse_rcnn_resnet50(proposals=300)
    torch.save({"model": three.state_dict()}, tmp_path / "w.pth")
    loaded: Any = load_own(BY_NAME["sparse_rcnn_resnet50"], tmp_path / "w.pth")
    assert len(loaded.init_proposal_boxes.weight) == 300


class _Stranger:
    """What no file of weights should hold."""


@pytest.mark.parametrize("content", ["text", "other network", "objects", "number"])
def test_bad_files_of_weights_are_refused(
    content: str, tmp_path: Path, small_designs: None
) -> None:
    entry: PublishedDetector = BY_NAME["detr_resnet50"]
    path = tmp_path / entry.file_name
    if content == "text":
        path.write_text("no weights")
    else:
        held = {"other network": {"model": {"a": torch.zeros(1)}}, "objects": _Stranger()}
        torch.save(held.get(content, 7), path)
    with pytest.raises(InputError, match="does not hold the weights of detr_resnet50"):
        load_own(entry, path)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    to = ("-o", tmp_path / "zoo", "--untrained")
    ssd = "ssd300_vgg16"
    assert "reads 300 x 300 pixels" in refusal("export", ssd, *to, "--size", "320x320")
    faster = "fasterrcnn_resnet50_fpn"
    assert "multiple of 32" in refusal("export", faster, *to, "--size", "100x100")
    assert "is no detector" in refusal("export", "resnet18", *to, "--size", "320x320")
    assert "finds boxes and resnet18 does not" in refusal("export", ssd, "resnet18", *to)
    assert "named twice" in refusal("export", ssd, ssd, *to)
    assert "HEIGHTxWIDTH" in run("export", faster, *to, "--size", "320").output
    assert not (tmp_path / "zoo").exists()


def test_sparse_rcnn_without_its_file_says_what_to_do(tmp_path: Path) -> None:
    said = refusal(
        "export", "sparse_rcnn_resnet50", "-o", tmp_path / "zoo", "--weights-dir", tmp_path
    )
    assert "no lasting address" in said
    assert "r50_100pro_3x_model.pth" in said
    assert "--untrained" in said


def test_attention_and_aligned_regions_need_their_opset(
    tmp_path: Path, small_designs: None
) -> None:
    to = ("-o", tmp_path / "zoo", "--untrained", "--size", "64x96")
    assert "needs --opset 14, not 13" in refusal("export", "detr_resnet50", *to)
    said = refusal("export", "sparse_rcnn_resnet50", *to, "--opset", 15)
    assert "needs --opset 16, not 15" in said


def test_the_list_has_every_detector(tmp_path: Path) -> None:
    (tmp_path / "detr-r50-e632da11.pth").touch()
    printed = run("list", "--weights-dir", tmp_path).output
    lines = {line.split()[0]: line for line in printed.splitlines() if line}
    assert lines["detr_resnet50"].split()[1:] == ["800x1088", "41.5M", "42.0", "here"]
    assert lines["sparse_rcnn_resnet50"].endswith("to be put there")
    assert lines["ssdlite320_mobilenet_v3_large"].endswith("to download")
    assert "maskrcnn_resnet50_fpn" not in lines
    assert "resnet50" in lines
