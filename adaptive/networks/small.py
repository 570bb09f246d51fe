"""Small classifiers for 32 x 32 photographs, one for each of the papers' three designs.

They are made for a board that has no pretrained network at hand: the embedded default is
trained from them. Each takes uint8 images and normalises inside the graph, so that a
manifest entry for them needs no mean or standard deviation.

Designs: depthwise-separable inverted residuals (Sandler et al. 2018, MobileNetV2), parallel
branches with 1 x 1 reductions (Szegedy et al. 2015, Inception v1, with the batch normalisation
of v2), and pre-activation residual blocks (He et al. 2016).
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True
) -> nn.Sequential:
    """A convolution, its batch normalisation and, unless told otherwise, a ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activate:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class NormalisePixels(nn.Module):
    """Normalise uint8 images of shape (n, height, width, 3), so that no manifest has to."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.0, 117.0, 104.0]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(1 / 58.0))

    def forward(self, images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2).float() - self.mean) * self.scale


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project back; add the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.body = nn.Sequential(
            conv_bn(inputs, hidden, 1),
            conv_bn(hidden, hidden, 3, stride, groups=hidden),
            conv_bn(hidden, outputs, 1, activate=False),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class InceptionBlock(nn.Module):
    """Four branches side by side: 1 x 1, 3 x 3, two 3 x 3 in a row, and a pooled 1 x 1."""

    def __init__(self, inputs: int, one: int, three: int, five: int, pool: int) -> None:
        super().__init__()
        # The three 1 x 1 convolutions that read the input are one convolution, then split:
        # the same arithmetic in a third of the calls.
        self.split = [one, three * 2 // 3, five]
        self.reduce = conv_bn(inputs, sum(self.split), 1)
        self.three = conv_bn(self.split[1], three, 3)
        self.five = nn.Sequential(conv_bn(five, five, 3), conv_bn(five, five, 3))
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(inputs, pool, 1))
        self.outputs = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        one, three, five = self.reduce(x).split(self.split, dim=1)
        return torch.cat([one, self.three(three), self.five(five), self.pool(x)], dim=1)


class ResidualBlock(nn.Module):
    """Pre-activation residual block; a 1 x 1 convolution carries the input where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.body = nn.Sequential(
            conv_bn(inputs, outputs, 3, stride), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        ready = self.first(x)
        y: Tensor = self.body(ready)
        return y + (x if self.shortcut is None else self.shortcut(ready))


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2015).

    The activation comes last, so that batch normalisation folds into the convolutions.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, 3, activate=False)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, 1, stride, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.shortcut(x)
        return nn.functional.relu(y, inplace=True)


class SmallNetwork(nn.Module):
    """A body and a linear head behind a normalisation that reads uint8 images.

    Takes ndarray-like tensors of shape (n, height, width, 3), uint8 or float in 0..255, RGB;
    returns logits of shape (n, classes).
    """

    def __init__(self, body: nn.Sequential, channels: int, classes: int) -> None:
        super().__init__()
        self.normalise = NormalisePixels()
        self.body = body
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.normalise(images)).mean(dim=(2, 3)))
        return logits


def small_mobilenet(classes: int = 10) -> SmallNetwork:
    """About 6 million multiply-adds on 32 x 32 pixels."""
    body = nn.Sequential(
        conv_bn(3, 24, 3, 2),
        InvertedResidual(24, 24, 1, 3),
        InvertedResidual(24, 40, 2, 4),
        InvertedResidual(40, 40, 1, 4),
        InvertedResidual(40, 40, 1, 4),
        InvertedResidual(40, 80, 2, 4),
        InvertedResidual(80, 80, 1, 4),
        conv_bn(80, 240, 1),
    )
    return SmallNetwork(body, 240, classes)


def small_inception(classes: int = 10) -> SmallNetwork:
    """About 20 million multiply-adds on 32 x 32 pixels."""
    first = InceptionBlock(64, 24, 48, 16, 16)
    second = InceptionBlock(first.outputs, 48, 72, 24, 24)
    third = InceptionBlock(second.outputs, 64, 96, 32, 32)
    body = nn.Sequential(
        conv_bn(3, 24, 3, 2),
        conv_bn(24, 64, 3),
        first,
        nn.MaxPool2d(2),
        second,
        third,
        nn.MaxPool2d(2),
        InceptionBlock(third.outputs, 96, 128, 48, 48),
    )
    return SmallNetwork(body, 320, classes)


def small_resnet(classes: int = 10) -> SmallNetwork:
    """About 85 million multiply-adds on 32 x 32 pixels."""
    body = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False),
        ResidualBlock(32, 32, 1),
        ResidualBlock(32, 64, 2),
        ResidualBlock(64, 64, 1),
        ResidualBlock(64, 128, 2),
        ResidualBlock(128, 128, 1),
        ResidualBlock(128, 128, 1),
        nn.BatchNorm2d(128),
        nn.ReLU(inplace=True),
    )
    return SmallNetwork(body, 128, classes)


#: The designs by the name that a candidate made from them carries.
DESIGNS: dict[str, Callable[[int], SmallNetwork]] = {
    "mobilenet": small_mobilenet,
    "inception": small_inception,
    "resnet": small_resnet,
}
