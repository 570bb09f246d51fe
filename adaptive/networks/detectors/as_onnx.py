"""Torchvision's detectors as networks of fixed size that an ONNX file can hold."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD

#: Anchors of a feature map that are handed over, the surest; torchvision itself keeps as many.
FIRST = 1000


class OneStage(nn.Module):
    """RetinaNet, FCOS or SSD before suppression: boxes in pixels, and chances of classes 1 to 90.

    Boxes are cut off at the input's edges, as torchvision does before suppression. Of each feature map the surest anchors are handed over. Suppression is left to who reads the
    file: TensorRT 8.2 has no operation for it.

    Parameters
    ----------
    network : of torchvision
    sides : height and width of what it will read, pixels
    """

    outputs = ("boxes", "chances")

    def __init__(self, network: Any, sides: tuple[int, int]) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head
        self.sides = sides
        self.coder = network.box_coder
        self.background = isinstance(network, SSD)  # a softmax whose first entry is "nothing"
        self.linear = not isinstance(network, (SSD, RetinaNet))  # FCOS: distances to four sides
        blank = torch.zeros((1, 3, *sides))
        with torch.no_grad():
            maps = list(network.backbone.eval()(blank).values())
            anchors = network.anchor_generator(ImageList(blank, [sides]), maps)[0]
        each = network.anchor_generator.num_anchors_per_location()
        counts = [m.shape[-2] * m.shape[-1] * count for m, count in zip(maps, each)]
        #: Where each feature map's anchors end, and how many of them are handed over.
        self.levels = [len(anchors)] if self.background else counts
        self.register_buffer("anchors", anchors)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (n, k, 4), x1 y1 x2 y2, and chances (n, k, 90), for normalised images."""
        found = self.head(list(self.backbone(images).values()))
        logits, moves = found["cls_logits"], found["bbox_regression"]
        if self.background:
            chances = logits.softmax(-1)
        elif self.linear:
            chances = (logits.sigmoid() * found["bbox_ctrness"].sigmoid()).sqrt()
        else:
            chances = logits.sigmoid()
        chances = chances[..., 1:]
        boxes = self._decoded(moves)
        height, width = self.sides
        x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
        boxes = torch.stack([x, y], dim=3).flatten(2)
        if self.background:
            return boxes, chances
        parts: list[tuple[Tensor, Tensor]] = []
        for level, kind in zip(
            torch.split(boxes, self.levels, 1), torch.split(chances, self.levels, 1)
        ):
            row = kind.amax(2).topk(min(FIRST, level.shape[1]), dim=1)[1][..., None]
            parts.append(
                (level.gather(1, row.expand(-1, -1, 4)), kind.gather(1, row.expand(-1, -1, 90)))
            )
        return torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts], 1)

    def _decoded(self, moves: Tensor) -> Tensor:
        anchors: Tensor = self.anchors  # type: ignore[assignment]
        if self.linear:
            boxes: Tensor = self.coder.decode(moves, anchors[None])
            return boxes
        # one row an anchor of an image, as the coder wants them
        repeated = anchors[None].expand(moves.shape[0], -1, -1).reshape(-1, 4)
        flat: Tensor = self.coder.decode_single(moves.reshape(-1, 4), repeated)
        return flat.view(-1, anchors.shape[0], 4)


class TwoStage(nn.Module):
    """Faster R-CNN for one image at a time: final boxes in pixels, with suppression inside."""

    outputs = ("boxes", "classes", "scores")

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        network.transform = AsItIs()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (k, 4), x1 y1 x2 y2, classes (k,), 1 to 90, and scores (k,), of the first image."""
        found: dict[str, Tensor] = self.network([images[0]])[0]
        return found["boxes"], found["labels"], found["scores"]


class AsItIs(nn.Module):
    """In place of torchvision's scaling and normalising, which a manifest entry says."""

    def forward(self, images: Sequence[Tensor], targets: None = None) -> tuple[ImageList, None]:
        sides = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        return ImageList(torch.stack(list(images)), sides), targets

    def postprocess(self, found: Any, sides: object, original: object) -> Any:
        """The boxes as they are: the image was not scaled."""
        return found
