"""What each filter of a group is worth: by its weights, by the loss, or by a coin.

Larger is worth more. The learned masks stand in `masks`.
"""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from adaptive.networks.compression.filters import FilterGroup
from adaptive.networks.compression.torch_network import Classifier, OnnxNetwork
from adaptive.networks.images import ImageArrays

#: "mask" is Huynh's learned mask; the others are what it is compared with.
IMPORTANCES = ("l1", "mask", "taylor", "random")


def by_weights(network: OnnxNetwork, groups: Sequence[FilterGroup]) -> dict[str, np.ndarray]:
    """The sum of a filter's absolute weights over the group's convolutions (Li et al. 2017).

    Weights are taken as they work, with the normalisation behind them.
    """
    found = {}
    for group in groups:
        total = torch.zeros(group.width)
        for key in group.members:
            layer, norm = _parts(network.layers[key])
            sizes = layer.weight.detach().abs().sum(dim=(1, 2, 3))
            if norm is not None and norm.running_var is not None:
                sizes = sizes * norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
            total += sizes
        found[group.name] = total.numpy()
    return found


def by_loss(
    classifier: Classifier, groups: Sequence[FilterGroup], data: ImageArrays, batch: int = 100
) -> dict[str, np.ndarray]:
    """How much the loss is expected to change without a filter, to first order.

    Sum over images of (sum over positions of output times gradient) squared (Molchanov et al.
    2017 and 2019), over the group's convolutions.
    """
    network = classifier.own_network()
    totals = {group.name: torch.zeros(group.width) for group in groups}
    kept: dict[str, Tensor] = {}

    def keep(key: str) -> object:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            output.retain_grad()
            kept[key] = output

        return network.layers[key].register_forward_hook(hook)

    hooks = [keep(key) for group in groups for key in group.members]
    classifier.eval()
    try:
        for start in tqdm(range(0, len(data.labels), batch), desc="taylor", leave=False):
            images = torch.from_numpy(data.images[start : start + batch])
            labels = torch.from_numpy(data.labels[start : start + batch])
            loss = nn.functional.cross_entropy(classifier(images), labels, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            for group in groups:
                change = torch.zeros(len(images), group.width)
                for key in group.members:
                    output = kept[key]
                    assert output.grad is not None
                    change += (output.detach() * output.grad).sum(dim=(2, 3))
                totals[group.name] += change.square().sum(dim=0)
    finally:
        for one in hooks:
            one.remove()  # type: ignore[attr-defined]
        classifier.zero_grad(set_to_none=True)
    return {name: total.numpy() for name, total in totals.items()}


def by_chance(groups: Sequence[FilterGroup], seed: int) -> dict[str, np.ndarray]:
    """Numbers that mean nothing, the same for the same seed."""
    generator = np.random.default_rng(seed)
    return {group.name: generator.random(group.width) for group in groups}


def least_first(worth: Mapping[str, np.ndarray], name: str) -> list[int]:
    """The positions of a group's filters from the one worth least to the one worth most."""
    return [int(position) for position in np.argsort(worth[name], kind="stable")]


def _parts(layer: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d | None]:
    if isinstance(layer, nn.Sequential):
        convolution, norm = layer
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return convolution, norm
    assert isinstance(layer, nn.Conv2d)
    return layer, None
