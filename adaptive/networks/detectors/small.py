"""Three small detectors on one backbone, for scenes of 96 pixels: one design of each kind.

Each takes uint8 images of shape (n, height, width, 3) and normalises them itself.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from adaptive.networks.detectors.detr import DETR
from adaptive.networks.detectors.pyramids import Coarse, Pyramid, SmallBottomUp
from adaptive.networks.detectors.set_loss import Objects, SetLoss
from adaptive.networks.detectors.sparse_rcnn import SparseRCNN
from adaptive.networks.small import NormalisePixels

#: Channels of a pyramid's level.
WIDTH = 64

#: Groups of queries that DETR is taught with.
GROUPS = 4


class SmallDetector(nn.Module):
    """A small detector: what it learns from, and what its ONNX file hands over.

    `forward` gives the outputs of the file; `loss` is of a batch; `bottom_up` is the backbone
    that all three share.
    """

    outputs: tuple[str, ...] = ("logits", "boxes")
    fixed_batch = False

    def __init__(self) -> None:
        super().__init__()
        self.normalise = NormalisePixels()

    @property
    def bottom_up(self) -> nn.Module:
        raise NotImplementedError

    def loss(self, images: Tensor, truth: Sequence[Objects]) -> Tensor:
        raise NotImplementedError


class SmallDETR(SmallDetector):
    """Three encoder and three decoder layers over a map at an eighth of the image.

    While it learns, further groups of queries, which do not see each other, are asked too, each
    held against the objects by itself: more to learn from an image (Chen et al. 2022, arXiv
    2207.13085). Only the first group answers.
    """

    queries = 16

    def __init__(self, classes: int, groups: int = GROUPS) -> None:
        super().__init__()
        self.network = DETR(
            Coarse(SmallBottomUp(), 1), classes, self.queries, 96, 4, 3, 3, 256, dropout=0.0
        )
        self.more = nn.Embedding(self.queries * (groups - 1), 96)
        self.criterion = SetLoss(focal=False, centred=True)

    @property
    def bottom_up(self) -> nn.Module:
        module: nn.Module = self.network.backbone[0].body  # type: ignore[assignment,union-attr]
        return module

    def loss(self, images: Tensor, truth: Sequence[Objects]) -> Tensor:
        queries = torch.cat([self.network.query_embed.weight, self.more.weight])
        group = torch.arange(len(queries), device=queries.device) // self.queries
        apart = group[:, None] != group
        stages = self.network.stages(self.normalise(images), None, queries, apart)
        groups = int(group[-1]) + 1
        parts = [
            [(logits[:, group == k], boxes[:, group == k]) for logits, boxes in stages]
            for k in range(groups)
        ]
        return torch.stack([self.criterion(part, truth) for part in parts]).mean()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = self.network(self.normalise(images))
        return logits, boxes


class SmallSparseRCNN(SmallDetector):
    """Sixteen proposals in three stages over a pyramid's finest map, where such boxes belong.

    They begin as a grid of squares, and a stage at first leaves boxes where they are, where the
    published ones are all the whole image and moved at random: in a short training there is
    little time to find where to look. Objects take two proposals each in all stages but the last.

    attention : in place of each proposal's own layers, attention to the features within its box:
        the comparison of Sun et al. 2021, table 6
    """

    def __init__(self, classes: int, attention: bool = False) -> None:
        super().__init__()
        self.network = SparseRCNN(
            Pyramid(SmallBottomUp(), WIDTH),
            classes,
            proposals=16,
            width=WIDTH,
            heads=4,
            stages=3,
            hidden=256,
            inner=16,
            size=5,
            levels=1,
            towers=(1, 2),
        )
        with torch.no_grad():
            place = (torch.arange(4) + 0.5) / 4
            first = self.network.init_proposal_boxes.weight
            first[:, :2] = torch.cartesian_prod(place, place)
            first[:, 2:] = 0.4
        for stage in self.network.head.head_series:
            moves: Any = stage.bboxes_delta
            nn.init.normal_(moves.weight, std=0.01)
            nn.init.zeros_(moves.bias)
            if attention:
                stage.inst_interact = BoxAttention(WIDTH, 4)
        self.criterion = SetLoss(focal=True, centred=False, kind=2.0, several=2)

    @property
    def bottom_up(self) -> nn.Module:
        module: nn.Module = self.network.backbone.bottom_up  # type: ignore[assignment]
        return module

    def loss(self, images: Tensor, truth: Sequence[Objects]) -> Tensor:
        pixels = self.normalise(images)
        height, width = pixels.shape[-2:]
        scale = pixels.new_tensor([width, height, width, height])
        stages = [(logits, boxes / scale) for logits, boxes in self.network.stages(pixels)]
        return self.criterion(stages, truth)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = self.network(self.normalise(images))
        return logits, boxes


class BoxAttention(nn.Module):
    """A proposal attends to the features within its box."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads)

    def forward(self, proposals: Tensor, features: Tensor) -> Tensor:
        """proposals : (m, width); features : (m, positions, width); returns (m, width)."""
        keys = features.transpose(0, 1)
        seen: Tensor = self.attention(proposals[None], keys, keys, need_weights=False)[0][0]
        return seen


class SmallFasterRCNN(SmallDetector):
    """Torchvision's Faster R-CNN (Ren et al. 2015) on the small pyramid; one image at a time."""

    outputs = ("boxes", "classes", "scores")
    fixed_batch = True

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        anchors = AnchorGenerator(((16, 24), (32, 44), (54, 64)), ((0.7, 1.0, 1.43),) * 3)
        self.network = FasterRCNN(
            _Levels(Pyramid(SmallBottomUp(), WIDTH)),
            num_classes=None,
            min_size=size,
            max_size=size,
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            rpn_anchor_generator=anchors,
            rpn_pre_nms_top_n_train=600,
            rpn_post_nms_top_n_train=200,
            rpn_pre_nms_top_n_test=200,
            rpn_post_nms_top_n_test=50,
            rpn_batch_size_per_image=128,
            box_batch_size_per_image=64,
            box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 5, 2, canonical_scale=224),
            box_head=TwoMLPHead(WIDTH * 25, 256),
            box_predictor=_Predictor(256, classes + 1),
            box_score_thresh=0.01,
            box_detections_per_img=50,
        )

    @property
    def bottom_up(self) -> nn.Module:
        module: nn.Module = self.network.backbone.pyramid.bottom_up  # type: ignore[assignment,union-attr]
        return module

    def loss(self, images: Tensor, truth: Sequence[Objects]) -> Tensor:
        pixels = self.normalise(images)
        height, width = pixels.shape[-2:]
        scale = pixels.new_tensor([width, height, width, height])
        goals = [{"boxes": one.boxes * scale, "labels": one.labels + 1} for one in truth]
        parts: dict[str, Tensor] = self.network(list(pixels), goals)
        return torch.stack(list(parts.values())).sum()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes in pixels, classes from 1, and scores, of the first image."""
        found: Any = self.network(list(self.normalise(images)[:1]))
        first: dict[str, Tensor] = found[0]
        return first["boxes"], first["labels"], first["scores"]


class _Levels(nn.Module):
    """A pyramid's maps under the names that torchvision's detectors look for."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.out_channels = WIDTH

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict((str(k), level) for k, level in enumerate(self.pyramid(images)))


class _Predictor(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes)
        self.bbox_pred = nn.Linear(width, classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


@dataclass(frozen=True)
class DetectorDesign:
    """How one of the small detectors is made and trained.

    Attributes
    ----------
    build : from the number of classes and the side of a scene
    learning_rate : of AdamW, its peak
    clip : largest norm of a gradient
    decoder, options : how a manifest says what the file hands over
    opset : the least that has its operations
    """

    build: Callable[[int, int], SmallDetector]
    learning_rate: float
    clip: float
    decoder: str
    options: dict[str, Any] = field(default_factory=dict)
    opset: int = 16


#: The designs by the name of the candidate made from them.
DESIGNS: dict[str, DetectorDesign] = {
    "faster-rcnn": DetectorDesign(
        lambda classes, size: SmallFasterRCNN(classes, size), 1e-3, 10.0, "final", opset=13
    ),
    "detr": DetectorDesign(
        lambda classes, size: SmallDETR(classes), 5e-4, 0.1, "detr", {"nothing": "last"}, 14
    ),
    "sparse-rcnn": DetectorDesign(
        lambda classes, size: SmallSparseRCNN(classes),
        1e-3,
        1.0,
        "proposals",
        {"unit": "shares", "kind": "sigmoid"},
    ),
    "sparse-rcnn-attention": DetectorDesign(
        lambda classes, size: SmallSparseRCNN(classes, attention=True),
        1e-3,
        1.0,
        "proposals",
        {"unit": "shares", "kind": "sigmoid"},
    ),
}
