"""What a network costs in multiply-adds, counted on an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaptive.networks.multiexit import MultiExit


@dataclass(frozen=True)
class ExitCosts:
    """Multiply-adds for one image, part by part.

    Attributes
    ----------
    segments : of each part of the trunk, its join included
    heads : of each exit's head
    """

    segments: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def ways(self) -> tuple[int, ...]:
        """Up to each exit, with that exit's head and no other."""
        return tuple(sum(self.segments[: k + 1]) + head for k, head in enumerate(self.heads))

    @property
    def whole(self) -> int:
        """All segments and all heads."""
        return sum(self.segments) + sum(self.heads)


def multiply_adds(network: nn.Module, example: Tensor) -> int:
    """Multiply-adds of all convolutions and linear layers for one image of `example`.

    Normalisation, activations and pooling are not counted. The network is left in evaluation
    mode.
    """
    counted = [0]

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            inputs = layer.in_channels // layer.groups
            counted[0] += output[0].numel() * inputs * height * width
        elif isinstance(layer, nn.Linear):
            counted[0] += output[0].numel() * layer.in_features

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.inference_mode():
            network.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
    return counted[0]


def exit_costs(network: MultiExit, example: Tensor) -> ExitCosts:
    """Multiply-adds of each segment and each head for one image of `example`."""
    network.eval()
    segments, heads = [], []
    state = example
    for k in range(network.exits):
        segments.append(multiply_adds(_Segment(network, k), state))
        with torch.inference_mode():
            state = network.segment(k, state)
        heads.append(multiply_adds(network.heads[k], state))
    return ExitCosts(tuple(segments), tuple(heads))


class _Segment(nn.Module):
    """One segment with its join as a module."""

    def __init__(self, network: MultiExit, k: int) -> None:
        super().__init__()
        self.network, self.k = network, k

    def forward(self, x: Tensor) -> Tensor:
        return self.network.segment(self.k, x)
