"""The loss of a set of boxes: each true box takes one answer, the rest should say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss


class Objects(NamedTuple):
    """What one image holds.

    Attributes
    ----------
    labels : shape (k,), int64
    boxes : shape (k, 4), x1 y1 x2 y2 as shares of the image, float32
    """

    labels: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class SetLoss:
    """Class, distance and overlap of matched boxes, summed over all stages.

    DETR's: a softmax with a last entry for "nothing", which counts a tenth (Carion et al. 2020,
    section 3.1). Sparse R-CNN's: a sigmoid for each class with the focal loss (Sun et al. 2021,
    section 3.3). Answers and objects are matched by the same weighted cost.

    Attributes
    ----------
    focal : whether classes have sigmoids
    centred : whether boxes come as centre and sides, not corners
    kind, distance, overlap : weights
    nothing : weight of "nothing" in the softmax
    several : answers that each object takes in every stage but the last: more to learn from at
        first (Jia et al. 2023, arXiv 2207.13080, learn from one and from several)
    """

    focal: bool
    centred: bool
    kind: float = 1.0
    distance: float = 5.0
    overlap: float = 2.0
    nothing: float = 0.1
    several: int = 1

    def __call__(self, stages: Sequence[tuple[Tensor, Tensor]], truth: Sequence[Objects]) -> Tensor:
        """The loss of a batch.

        stages : of each stage, logits (n, k, classes) and boxes (n, k, 4), shares of the image
        truth : of each of the n images
        """
        found = max(1, sum(len(one.labels) for one in truth))
        total = stages[0][0].new_zeros(())
        for number, (logits, boxes) in enumerate(stages, 1):
            several = 1 if number == len(stages) else self.several
            corners = box_convert(boxes, "cxcywh", "xyxy") if self.centred else boxes
            image, answer, wanted = self._matched(logits, corners, boxes, truth, several)
            labels = torch.cat([one.labels for one in truth])[wanted]
            true = torch.cat([one.boxes for one in truth])[wanted]
            count = found * several
            total = total + self.kind * self._classes(logits, image, answer, labels, count)
            near = box_convert(true, "xyxy", "cxcywh") if self.centred else true
            off = nn.functional.l1_loss(boxes[image, answer], near, reduction="sum")
            apart = 1 - torch.diag(generalized_box_iou(corners[image, answer], true))
            total = total + (self.distance * off + self.overlap * apart.sum()) / count
        return total

    def _classes(
        self, logits: Tensor, image: Tensor, answer: Tensor, labels: Tensor, found: int
    ) -> Tensor:
        if self.focal:
            goal = torch.zeros_like(logits)
            goal[image, answer, labels] = 1.0
            value: Tensor = sigmoid_focal_loss(logits, goal, 0.25, 2.0, "sum") / found
            return value
        last = logits.shape[-1] - 1
        kinds = torch.full(logits.shape[:2], last, dtype=torch.int64)
        kinds[image, answer] = labels
        weight = torch.ones(last + 1)
        weight[last] = self.nothing
        return nn.functional.cross_entropy(logits.transpose(1, 2), kinds, weight)

    @torch.no_grad()
    def _matched(
        self,
        logits: Tensor,
        corners: Tensor,
        boxes: Tensor,
        truth: Sequence[Objects],
        several: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Image, answer, and row among all true boxes, of each pair (the Hungarian method)."""
        labels = torch.cat([one.labels for one in truth])
        true = torch.cat([one.boxes for one in truth])
        # of every answer to every object of the batch; an image looks at its own
        chance = logits.flatten(0, 1).sigmoid() if self.focal else logits.flatten(0, 1).softmax(1)
        cost = -chance
        if self.focal:
            # the focal loss of a right answer less that of a wrong one
            right = 0.25 * (1 - chance) ** 2 * -(chance + 1e-8).log()
            wrong = 0.75 * chance**2 * -(1 - chance + 1e-8).log()
            cost = right - wrong
        near = box_convert(true, "xyxy", "cxcywh") if self.centred else true
        cost = self.kind * cost[:, labels]
        cost = cost + self.distance * torch.cdist(boxes.flatten(0, 1), near, p=1)
        cost = cost - self.overlap * generalized_box_iou(corners.flatten(0, 1), true)
        costs = np.nan_to_num(cost.numpy(), nan=1e6).reshape(*logits.shape[:2], len(labels))
        images, answers, wanted, before = [], [], [], 0
        for row, one in enumerate(truth):
            own = np.arange(before, before + len(one.labels))
            columns = np.tile(own, min(several, logits.shape[1] // max(1, len(own))) or 1)
            left, chosen = linear_sum_assignment(costs[row][:, columns])
            images.append(np.full(len(left), row))
            answers.append(left)
            wanted.append(columns[chosen])
            before += len(own)
        parts = (np.concatenate(part) for part in (images, answers, wanted))
        image, answer, goal = (torch.from_numpy(part.astype(np.int64)) for part in parts)
        return image, answer, goal
