"""Sparse R-CNN (Sun et al. 2021, arXiv 2011.12450): learned proposals, refined in stages.

Weights carry the names of the published checkpoints, so these load as they are.
"""

from __future__ import annotations

import math
from typing import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from adaptive.networks.detectors.pyramids import BottomUp, Pyramid

#: Largest logarithm of what a stage may multiply a side by.
LARGEST = math.log(100_000.0 / 16)

#: What the four numbers that move a box are divided by: twice for the centre, twice for sides.
WEIGHTS = (2.0, 2.0, 1.0, 1.0)


class BoxPooler(nn.Module):
    """The features within boxes, each from the level of the pyramid that suits its size.

    A box of `side` pixels (the root of its area) is read at level 4 (Lin et al. 2017,
    equation 1). All levels are read and one is chosen, so that the graph is the same for all
    boxes.

    Parameters
    ----------
    size : side of what is read, positions
    side : of the box that belongs to level 4
    levels : of the maps that it is given; level k has a stride of 2^k
    """

    def __init__(self, size: int, side: float, levels: Sequence[int]) -> None:
        super().__init__()
        self.size, self.side, self.levels = size, side, list(levels)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Features of shape (n * boxes, channels, size, size), for boxes (n, boxes, 4)."""
        flat = boxes.reshape(-1, 4)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
        owner = image.expand(-1, boxes.shape[1]).reshape(-1, 1).to(flat.dtype)
        places = torch.cat([owner, flat], dim=1)
        sides = ((flat[:, 2] - flat[:, 0]) * (flat[:, 3] - flat[:, 1])).clamp(min=0).sqrt()
        wanted = torch.floor(4 + torch.log2(sides / self.side + 1e-8))
        wanted = wanted.clamp(self.levels[0], self.levels[-1])
        total: Tensor | None = None
        for level, features in zip(self.levels, maps):
            read = roi_align(features, places, self.size, 0.5**level, 2, aligned=True)
            read = read * (wanted == level).to(read.dtype)[:, None, None, None]
            total = read if total is None else total + read
        assert total is not None
        return total


class DynamicConv(nn.Module):
    """A proposal's own two layers, applied to the features within its box (section 3.2)."""

    def __init__(self, width: int, inner: int, size: int) -> None:
        super().__init__()
        self.width, self.inner = width, inner
        self.dynamic_layer = nn.Linear(width, 2 * width * inner)
        self.norm1 = nn.LayerNorm(inner)
        self.norm2 = nn.LayerNorm(width)
        self.out_layer = nn.Linear(width * size**2, width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, proposals: Tensor, features: Tensor) -> Tensor:
        """proposals : (m, width); features : (m, positions, width); returns (m, width)."""
        first, second = self.dynamic_layer(proposals).split(self.width * self.inner, dim=1)
        x = torch.bmm(features, first.view(-1, self.width, self.inner))
        x = self.norm1(x).relu()
        x = torch.bmm(x, second.view(-1, self.inner, self.width))
        x = self.norm2(x).relu()
        result: Tensor = self.norm3(self.out_layer(x.flatten(1))).relu()
        return result


class ProposalStage(nn.Module):
    """Proposals look at each other, then each at its box; then class and moved box."""

    def __init__(
        self,
        width: int,
        classes: int,
        heads: int,
        hidden: int,
        inner: int,
        size: int,
        towers: tuple[int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.inst_interact = DynamicConv(width, inner, size)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.cls_module = nn.ModuleList(_tower(width, towers[0]))
        self.reg_module = nn.ModuleList(_tower(width, towers[1]))
        self.class_logits = nn.Linear(width, classes)
        self.bboxes_delta = nn.Linear(width, 4)

    def forward(
        self, pooled: Tensor, boxes: Tensor, proposals: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, boxes and proposals, of shapes (n, p, classes), (n, p, 4), (n, p, width)."""
        count, each, width = proposals.shape
        asked = proposals.transpose(0, 1)
        near = self.self_attn(asked, asked, asked, need_weights=False)[0]
        x = self.norm1(asked + self.dropout(near)).transpose(0, 1).reshape(-1, width)
        seen = self.inst_interact(x, pooled.flatten(2).transpose(1, 2))
        x = self.norm2(x + self.dropout(seen))
        x = self.norm3(x + self.dropout(self.linear2(self.dropout(self.linear1(x).relu()))))
        kind = side = x
        for layer in self.cls_module:
            kind = layer(kind)
        for layer in self.reg_module:
            side = layer(side)
        logits = self.class_logits(kind).view(count, each, -1)
        moved = moved_boxes(boxes.reshape(-1, 4), self.bboxes_delta(side)).view(count, each, 4)
        return logits, moved, x.view(count, each, width)


def _tower(width: int, depth: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU()]
    return layers


def moved_boxes(boxes: Tensor, moves: Tensor) -> Tensor:
    """Boxes moved by shares of their sides, and scaled (Girshick et al. 2014, appendix C).

    boxes : (m, 4), x1 y1 x2 y2 in pixels
    moves : (m, 4), of the centre's x and y, and logarithms of the sides' factors
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * sides
    moves = moves / moves.new_tensor(WEIGHTS)
    centre = centre + moves[:, :2] * sides
    half = 0.5 * sides * moves[:, 2:].clamp(max=LARGEST).exp()
    return torch.cat([centre - half, centre + half], dim=1)


class SeriesOfStages(nn.Module):
    """The stages, under the name that checkpoints have for them."""

    def __init__(self, stages: Sequence[ProposalStage]) -> None:
        super().__init__()
        self.head_series = nn.ModuleList(stages)


class SparseRCNN(nn.Module):
    """A few learned proposals, refined in stages; no anchors and no suppression.

    Parameters
    ----------
    backbone : gives a pyramid's maps from level 2 on, of `width` channels each
    classes : how many; each has a sigmoid of its own. 80 for the published checkpoints
    proposals : boxes an image, 100 or 300 there
    levels : how many maps the backbone gives
    side : of the box that is read at level 4, pixels; 224 there
    inner : width between a proposal's own two layers
    towers : layers before class and before box
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int = 80,
        proposals: int = 100,
        width: int = 256,
        heads: int = 8,
        stages: int = 6,
        hidden: int = 2048,
        inner: int = 64,
        size: int = 7,
        levels: int = 4,
        side: float = 224.0,
        towers: tuple[int, int] = (1, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.init_proposal_features = nn.Embedding(proposals, width)
        self.init_proposal_boxes = nn.Embedding(proposals, 4)
        nn.init.constant_(self.init_proposal_boxes.weight[:, :2], 0.5)
        nn.init.constant_(self.init_proposal_boxes.weight[:, 2:], 1.0)
        self.head = SeriesOfStages(
            [
                ProposalStage(width, classes, heads, hidden, inner, size, towers, dropout)
                for _ in range(stages)
            ]
        )
        for weight in self.head.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        for name, weight in self.head.named_parameters():
            if name.endswith("class_logits.bias"):
                # at first every class is as rare as one in a hundred (Lin et al., 1708.02002)
                nn.init.constant_(weight, -math.log(0.99 / 0.01))
        self.pooler = BoxPooler(size, side, range(2, 2 + levels))

    def stages(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Every stage's answer, as `forward` gives the last one's; boxes in pixels, corners."""
        maps = self.backbone(images)
        height, width = images.shape[-2:]
        scale = maps[0].new_tensor([width, height, width, height])
        first = self.init_proposal_boxes.weight
        half = 0.5 * first[:, 2:]
        corners = torch.cat([first[:, :2] - half, first[:, :2] + half], dim=1)
        boxes = (corners * scale)[None].expand(images.shape[0], -1, -1)
        proposals = self.init_proposal_features.weight[None].expand(images.shape[0], -1, -1)
        answers = []
        for stage in self.head.head_series:
            pooled = self.pooler(maps, boxes)
            logits, moved, proposals = stage(pooled, boxes, proposals)
            answers.append((logits, moved))
            boxes = moved.detach()
        return answers

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, (n, proposals, classes), and boxes, (n, proposals, 4), as shares of the image.

        images : what the backbone reads; (n, 3, height, width), normalised, for `BottomUp`

        Boxes are x1 y1 x2 y2. A class's score is the sigmoid of its logit.
        """
        logits, boxes = self.stages(images)[-1]
        height, width = images.shape[-2:]
        return logits, boxes / boxes.new_tensor([width, height, width, height])


def sparse_rcnn_resnet50(classes: int = 80, proposals: int = 100) -> SparseRCNN:
    """The published Sparse R-CNN on a ResNet-50 with a pyramid, with random weights."""
    return SparseRCNN(Pyramid(BottomUp()), classes, proposals)
