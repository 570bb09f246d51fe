"""DETR and Sparse R-CNN: names of weights, and laws of what they compute."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="these networks are of torch")

from adaptive.networks.detectors.detr import DETR, detr_resnet50, sine_positions
from adaptive.networks.detectors.pyramids import Coarse, SmallBottomUp
from adaptive.networks.detectors.sparse_rcnn import BoxPooler, moved_boxes, sparse_rcnn_resnet50

pytestmark = pytest.mark.train


def test_detr_has_the_published_names() -> None:
    with torch.device("meta"):
        weights = detr_resnet50().state_dict()
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    for name, shape in {
        "backbone.0.body.conv1.weight": (64, 3, 7, 7),
        "backbone.0.body.layer4.2.bn3.running_var": (2048,),
        "input_proj.weight": (256, 2048, 1, 1),
        "query_embed.weight": (100, 256),
        "class_embed.weight": (92, 256),
        "bbox_embed.layers.2.bias": (4,),
        "transformer.encoder.layers.5.self_attn.in_proj_weight": (768, 256),
        "transformer.decoder.layers.0.multihead_attn.out_proj.bias": (256,),
        "transformer.decoder.norm.weight": (256,),
    }.items():
        assert shapes[name] == shape, name
    first = {name.split(".")[0] for name in shapes}
    assert first == {
        *("backbone", "input_proj", "query_embed", "class_embed", "bbox_embed", "transformer"),
    }


def test_sparse_rcnn_has_the_published_names() -> None:
    with torch.device("meta"):
        weights = sparse_rcnn_resnet50(proposals=300).state_dict()
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    for name, shape in {
        "backbone.bottom_up.stem.conv1.norm.weight": (64,),
        "backbone.bottom_up.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.bottom_up.res5.2.conv3.norm.running_mean": (2048,),
        "backbone.fpn_lateral5.weight": (256, 2048, 1, 1),
        "backbone.fpn_output2.bias": (256,),
        "init_proposal_features.weight": (300, 256),
        "init_proposal_boxes.weight": (300, 4),
        "head.head_series.0.inst_interact.dynamic_layer.weight": (32768, 256),
        "head.head_series.5.bboxes_delta.bias": (4,),
        "head.head_series.5.class_logits.weight": (80, 256),
        "head.head_series.2.reg_module.6.weight": (256, 256),
    }.items():
        assert shapes[name] == shape, name
    assert len({name.split(".")[2] for name in shapes if name.startswith("head.")}) == 6


def test_padding_that_is_masked_changes_nothing_in_the_transformer() -> None:
    """A feature map and the same one with padded cells beside it give the same boxes."""
    torch.manual_seed(0)
    network = DETR(Coarse(SmallBottomUp(), 1), 3, 5, 32, 4, 2, 2, 64).eval()
    features = torch.randn(1, 32, 5, 6)
    wide = torch.cat([features, torch.randn(1, 32, 5, 3)], dim=3)
    wide = torch.cat([wide, torch.randn(1, 32, 2, 9)], dim=2)
    padded = torch.ones((1, 7, 9), dtype=torch.bool)
    padded[:, :5, :6] = False
    none = torch.zeros((1, 5, 6), dtype=torch.bool)
    queries = network.query_embed.weight
    with torch.no_grad():
        small = network.transformer(features, queries, sine_positions(none, 32), None)
        large = network.transformer(wide, queries, sine_positions(padded, 32), padded)
        blind = network.transformer(wide, queries, sine_positions(padded & False, 32), None)
    for a, b in zip(small, large):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert (small[-1] - blind[-1]).abs().max() > 1e-3


def test_moves_are_shares_of_a_boxs_sides() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    torch.testing.assert_close(moved_boxes(boxes, torch.zeros(1, 4)), boxes)
    # the centre by half a side (1 / 2), sides doubled
    moves = torch.tensor([[1.0, -1.0, torch.log(torch.tensor(2.0)), 0.0]])
    torch.testing.assert_close(moved_boxes(boxes, moves), torch.tensor([[10.0, 0.0, 50.0, 40.0]]))


def test_a_box_is_read_from_the_level_of_its_size() -> None:
    pooler = BoxPooler(2, 224.0, range(2, 6))
    maps = [torch.full((1, 1, 256 >> k, 256 >> k), float(k + 2)) for k in range(4)]
    sides = torch.tensor([30.0, 111.0, 113.0, 223.0, 225.0, 449.0, 900.0])
    boxes = torch.stack([torch.full((7,), 8.0), torch.full((7,), 8.0), sides + 8, sides + 8], 1)
    read = pooler(maps, boxes[None])[:, 0].amax((1, 2))
    assert read.tolist() == [2, 2, 3, 3, 4, 5, 5]
