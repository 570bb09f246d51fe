"""Torchvision's networks with exits attached to layers by name.

The trunk and the last exit are the network's own, with its pretrained weights where these are
given; the heads of the earlier exits and the joins are new and have to be trained.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import torch
import torchvision
from torch import Tensor, nn

from adaptive.causes import reason
from adaptive.errors import InputError
from adaptive.networks.multiexit import Join, MultiExit, split_at
from adaptive.networks.small import conv_bn
from adaptive.networks.small_exits import ExitHead

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ExitPlaces:
    """Where exits sit by default, and where the network's own head begins.

    Attributes
    ----------
    exits : layers of the early exits
    trunk : the last layer before the network's own pooling and head
    answer : the linear layer that has one output for each class
    """

    exits: tuple[str, ...]
    trunk: str
    answer: str


DESIGNS = {
    "resnet18": ExitPlaces(("layer1", "layer2", "layer3", "layer4.0"), "layer4", "fc"),
    "resnet50": ExitPlaces(("layer1", "layer2", "layer3.2", "layer3"), "layer4", "fc"),
    "mobilenet_v2": ExitPlaces(
        ("features.3", "features.6", "features.10", "features.13"), "features", "classifier.1"
    ),
}


class Photographs(nn.Module):
    """Normalise uint8 images of shape (n, height, width, 3) as torchvision's weights expect."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


def torchvision_exits(
    name: str,
    classes: int,
    size: int = 224,
    layers: Sequence[str] | None = None,
    joins: bool = True,
    weights: str | None = None,
) -> MultiExit:
    """A network of torchvision with early exits, the last exit being its own head.

    It takes uint8 images of shape (n, size, size, 3). Without joins and with weights for as many
    classes, the last exit gives the network's own logits; where the number of classes differs,
    its last layer is new.

    Parameters
    ----------
    name : one of `DESIGNS`
    layers : where the early exits are attached, as in `named_modules()`
    weights : a file with a state_dict, or the name of torchvision's weights, such as
        "IMAGENET1K_V1" or "DEFAULT", which are downloaded where they are not there

    Raises
    ------
    InputError
        when the network is unknown, weights do not fit, or an exit cannot be attached.
    """
    if name not in DESIGNS:
        raise InputError(f"network {name!r} is not one of {list(DESIGNS)}")
    design = DESIGNS[name]
    network = _network(name, classes, weights)
    wanted = list(design.exits if layers is None else layers)
    if design.trunk in wanted:
        raise InputError(
            f"the last exit of {name} sits behind {design.trunk!r} anyway; name earlier layers"
        )
    example = torch.zeros((2, 3, size, size))
    *parts, own = split_at(network, [*wanted, design.trunk], example)
    channels = _channels(parts, example)
    heads = [_early_head(inputs, classes) for inputs in channels[:-1]]
    mixed = [Join(earlier, later) for earlier, later in zip(channels, channels[1:])]
    first = nn.Sequential(OrderedDict([("pixels", Photographs()), ("part", parts[0])]))
    return MultiExit([first, *parts[1:]], [*heads, own], mixed if joins else None)


def _early_head(channels: int, classes: int) -> nn.Module:
    """A convolution of the exit's own, at half the size, before the mean and the linear layer."""
    return nn.Sequential(conv_bn(channels, channels, 3, 2), ExitHead(channels, classes))


def _channels(parts: Sequence[nn.Module], example: Tensor) -> list[int]:
    found = []
    with torch.no_grad():
        for part in parts:
            mode = part.training
            example = part.eval()(example)
            part.train(mode)
            if example.ndim != 4:
                raise InputError(
                    f"an exit reads a state of shape (n, channels, height, width), not one with "
                    f"{example.ndim} axes; name an earlier layer"
                )
            found.append(int(example.shape[1]))
    return found


def _network(name: str, classes: int, weights: str | None) -> nn.Module:
    """The plain network for so many classes, with random or pretrained weights."""
    if weights is None:
        plain: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
        return plain
    answer = DESIGNS[name].answer
    network = _from_file(name, Path(weights)) if Path(weights).is_file() else _named(name, weights)
    own = network.get_submodule(answer)
    if isinstance(own, nn.Linear) and own.out_features != classes:
        parent, _, last = answer.rpartition(".")
        fresh = nn.Linear(own.in_features, classes)
        setattr(network.get_submodule(parent), last, fresh)
    return network.train()


def _named(name: str, weights: str) -> nn.Module:
    """Torchvision's own weights, downloaded where they are not there."""
    from adaptive.networks.zoo import fetch_weights, find, load_network, weights_folder

    asked = name if weights == "DEFAULT" else f"{name}:{weights}"
    try:
        entry = find([asked])[0]
    except InputError as exc:
        raise InputError(
            f"--weights {weights!r} is no file and no weights of {name}: {exc}"
        ) from exc
    return load_network(entry, fetch_weights(entry, weights_folder()))


def _from_file(name: str, path: Path) -> nn.Module:
    """Weights from a state_dict, for as many classes as it was trained for."""
    answer = DESIGNS[name].answer
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        classes = len(state[f"{answer}.weight"])
        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
        network.load_state_dict(state)
    except Exception as exc:  # torch's loader raises nearly everything on a damaged file
        raise InputError(f"{path} does not hold a state_dict of {name} ({reason(exc)})") from exc
    return network
