"""Filters that can only leave together, and taking them out of a torch network.

A residual sum ties the filters of all convolutions that it adds up. Which belong together is told
by torch-pruning's dependency graph (Fang et al. 2023, DepGraph, CVPR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import torch
from torch import Tensor, nn

from adaptive.errors import InputError, MissingExtra
from adaptive.networks.compression.torch_network import OnnxNetwork


@dataclass(frozen=True)
class FilterGroup:
    """Convolutions whose filters leave together.

    Attributes
    ----------
    name : key of the first of them
    members : keys of all of them in the network's order, depthwise ones aside, which follow
    width : how many filters each has
    """

    name: str
    members: tuple[str, ...]
    width: int


def groups_of(network: OnnxNetwork, example: Tensor) -> tuple[FilterGroup, ...]:
    """The network's groups; the last layer, whose filters are the classes, is in none.

    Left out are groups with a convolution in several groups of channels, those in which only a
    part of a convolution's filters is tied, and those that are split at a fixed place.

    example : an input of the network
    """
    kinds = _torch_pruning().ops.OPTYPE
    graph = _graph(network, example)
    keys = {layer: key for key, layer in network.convolutions().items()}
    last = _weighted(network.layers[network.last()])
    found = []
    for group in graph.get_all_groups(ignored_layers=[last], root_module_types=[nn.Conv2d]):
        members, whole = [], True
        for dependency, indices in group:
            layer = dependency.target.module
            if dependency.target.type in (kinds.SPLIT, kinds.SLICE):
                whole = False
            if not isinstance(layer, nn.Conv2d) or layer not in keys:
                continue
            if not graph.is_out_channel_pruning_fn(dependency.handler):
                continue
            if 1 < layer.groups < layer.out_channels:
                whole = False
            if [int(i) for i in _plain(indices)] != list(range(layer.out_channels)):
                whole = False
            if layer.groups == 1:
                members.append(keys[layer])
        order = {key: position for position, key in enumerate(network.layers)}
        if whole and members:
            members = sorted(set(members), key=order.__getitem__)
            width = network.convolutions()[members[0]].out_channels
            found.append(FilterGroup(members[0], tuple(members), width))
    return tuple(found)


def take_out(network: OnnxNetwork, example: Tensor, leaving: Mapping[str, Sequence[int]]) -> None:
    """Take filters out of groups, with all that reads or follows them.

    leaving : for the name of a group, the positions of the filters that go
    """
    pruning = _torch_pruning()
    for name, filters in leaving.items():
        if not len(filters):
            continue
        layer = network.convolutions()[name]
        if len(filters) >= layer.out_channels:
            raise InputError(f"all {layer.out_channels} filters of {name} would go; keep some")
        graph = _graph(network, example)
        group = graph.get_pruning_group(layer, pruning.prune_conv_out_channels, list(filters))
        group.prune()


def _graph(network: nn.Module, example: Tensor) -> Any:
    pruning = _torch_pruning()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad():
        return pruning.DependencyGraph().build_dependency(network.eval(), example, verbose=False)


def _plain(indices: Any) -> list[int]:
    return [getattr(one, "idx", one) for one in indices]


def _weighted(layer: nn.Module) -> nn.Module:
    return layer[0] if isinstance(layer, nn.Sequential) else layer


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError as exc:
        raise MissingExtra("pruning a network", "torch-pruning", "train") from exc
    return torch_pruning
