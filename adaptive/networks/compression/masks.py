"""Learned masks: a small block that says, image by image, which filters are worth least.

Huynh 2019, chapter 4: the filters' outputs are averaged over the image, two dense layers and a
softmax give a score a filter, and the filters with the lowest scores get mask 0. Where several
convolutions share their filters the first of them is looked at, and one mask is laid on all.
"""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from adaptive.networks.compression.filters import FilterGroup
from adaptive.networks.compression.torch_network import Classifier, OnnxNetwork


class MaskingBlock(nn.Module):
    """Gives one mask for each image, of shape (n, filters, 1, 1).

    The gradient passes as if the mask were the score times the number of filters.

    Parameters
    ----------
    share : of the filters that get mask 0, at least one
    """

    def __init__(self, filters: int, share: float) -> None:
        super().__init__()
        inner = max(8, filters // 4)
        self.dense = nn.Sequential(
            nn.Linear(filters, inner), nn.ReLU(inplace=True), nn.Linear(inner, filters)
        )
        self.filters = filters
        self.masked = max(1, min(filters - 1, round(share * filters)))
        self.mask: Tensor | None = None

    def forward(self, outputs: Tensor) -> Tensor:
        # what is averaged is rectified, as the next layer sees it
        means = outputs.relu().mean(dim=(2, 3)).float()
        scores = self.dense(means).softmax(dim=1) * means.shape[1]
        lowest = scores.topk(self.masked, dim=1, largest=False).indices
        hard = torch.ones_like(scores).scatter(1, lowest, 0.0)
        # exactly 0 or 1 forwards, the score's gradient backwards
        mask: Tensor = (hard + (scores - scores.detach())).unsqueeze(-1).unsqueeze(-1)
        self.mask = mask
        return mask


class Masked(nn.Module):
    """A layer whose outputs are multiplied by a mask, its own or that of the layer that leads."""

    def __init__(self, inner: nn.Module, block: MaskingBlock, leads: bool) -> None:
        super().__init__()
        self.inner = inner
        self.block = block
        self.leads = leads

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.inner(x)
        mask = self.block(outputs) if self.leads else self.block.mask
        assert mask is not None
        return outputs * mask.to(outputs.dtype)


def lay_masks(network: OnnxNetwork, groups: Sequence[FilterGroup], share: float) -> None:
    """Put a masking block on every group."""
    for group in groups:
        block = MaskingBlock(group.width, share)
        for key in group.members:
            network.layers[key] = Masked(network.layers[key], block, key == group.name)


def lift_masks(network: OnnxNetwork) -> None:
    """Take all masking blocks off."""
    for key, layer in network.layers.items():
        if isinstance(layer, Masked):
            network.layers[key] = layer.inner


def only_blocks_learn(network: nn.Module, only: bool) -> None:
    """Let the masking blocks alone learn, or everything."""
    blocks = {
        id(p) for m in network.modules() if isinstance(m, MaskingBlock) for p in m.parameters()
    }
    for parameter in network.parameters():
        parameter.requires_grad_(not only or id(parameter) in blocks)


@torch.inference_mode()
def masked_shares(
    classifier: Classifier, images: np.ndarray, batch: int = 250
) -> Mapping[str, np.ndarray]:
    """Of each group's filters, the share of the images for which each is masked.

    images : ndarray of shape (n, height, width, 3), uint8

    Returns
    -------
    dict from a group's name to an ndarray of shape (filters,)
    """
    network, device = classifier.own_network(), classifier.mean.device
    leading = {k: m for k, m in network.layers.items() if isinstance(m, Masked) and m.leads}
    counted = {
        key: torch.zeros(layer.block.filters, device=device) for key, layer in leading.items()
    }
    classifier.eval()
    for start in tqdm(range(0, len(images), batch), desc="votes", unit="batch", leave=False):
        classifier(torch.from_numpy(images[start : start + batch]).to(device))
        for key, layer in leading.items():
            assert layer.block.mask is not None
            counted[key] += (layer.block.mask < 0.5).sum(dim=(0, 2, 3))
    for layer in leading.values():
        layer.block.mask = None
    return {key: votes.cpu().numpy() / len(images) for key, votes in counted.items()}
