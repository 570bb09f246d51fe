"""Backbones of detectors: torchvision's ResNet under others' names, and a small one."""

from __future__ import annotations

from typing import Sequence

import torchvision
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from adaptive.networks.small import Residual, conv_bn


class LastStage(nn.Module):
    """A ResNet's last feature map, its weights named as DETR's checkpoints name them.

    Parameters
    ----------
    name : a ResNet of torchvision
    dilated : whether the last stage keeps the resolution of the one before ("DC5")
    """

    def __init__(self, name: str = "resnet50", dilated: bool = False) -> None:
        super().__init__()
        network = torchvision.models.get_model(
            name,
            weights=None,
            norm_layer=FrozenBatchNorm2d,
            replace_stride_with_dilation=[False, False, dilated],
        )
        self.channels: int = network.fc.in_features
        layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        self.body = nn.Sequential()
        for layer in layers:
            self.body.add_module(layer, getattr(network, layer))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


class NormedConv(nn.Conv2d):
    """A convolution that holds its normalisation, as detectron2's layers do."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = FrozenBatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(super().forward(x))
        return y


class Bottleneck(nn.Module):
    """A ResNet's bottleneck, the stride in its 3 x 3 convolution."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = None if inputs == outputs else NormedConv(inputs, outputs, 1, stride)
        self.conv1 = NormedConv(inputs, middle, 1)
        self.conv2 = NormedConv(middle, middle, 3, stride, 1)
        self.conv3 = NormedConv(middle, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x).relu()).relu()
        near = x if self.shortcut is None else self.shortcut(x)
        result: Tensor = (self.conv3(y) + near).relu()
        return result


class Stem(nn.Module):
    """To a quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, 64, 7, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.conv1(images).relu(), 3, 2, 1)


class BottomUp(nn.Module):
    """A ResNet of bottlenecks, its weights named as detectron2's checkpoints name them."""

    def __init__(self, depths: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.stem = Stem()
        self.channels = [256, 512, 1024, 2048]
        inputs = 64
        for level, (depth, outputs) in enumerate(zip(depths, self.channels), 2):
            blocks = []
            for block in range(depth):
                stride = 2 if block == 0 and level > 2 else 1
                blocks.append(Bottleneck(inputs, outputs // 4, outputs, stride))
                inputs = outputs
            self.add_module(f"res{level}", nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> list[Tensor]:
        x, levels = self.stem(images), []
        for level in range(2, 6):
            x = getattr(self, f"res{level}")(x)
            levels.append(x)
        return levels


class SmallBottomUp(nn.Module):
    """Three feature maps, at a quarter, an eighth and a sixteenth of the image."""

    def __init__(self, channels: Sequence[int] = (32, 64, 96)) -> None:
        super().__init__()
        self.stem = conv_bn(3, 24, 3, 2)
        self.channels = list(channels)
        inputs = 24
        for level, outputs in enumerate(channels, 2):
            self.add_module(f"res{level}", Residual(inputs, outputs, 2))
            inputs = outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        x, levels = self.stem(images), []
        for level in range(2, 2 + len(self.channels)):
            x = getattr(self, f"res{level}")(x)
            levels.append(x)
        return levels


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017, arXiv 1612.03144), named as detectron2 names it.

    Parameters
    ----------
    bottom_up : gives feature maps, the finest first, and has `channels`
    width : channels of every level
    """

    def __init__(self, bottom_up: nn.Module, width: int = 256) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        channels: list[int] = bottom_up.channels  # type: ignore[assignment]
        self.levels = range(2, 2 + len(channels))
        for level, inputs in zip(self.levels, channels):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(inputs, width, 1))
            self.add_module(f"fpn_output{level}", nn.Conv2d(width, width, 3, padding=1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps at 1/4, 1/8 and so on of the image, each of `width` channels."""
        found: list[Tensor] = []
        above: Tensor | None = None
        for level, features in reversed(list(zip(self.levels, self.bottom_up(images)))):
            here: Tensor = getattr(self, f"fpn_lateral{level}")(features)
            if above is not None:
                here = here + nn.functional.interpolate(above, scale_factor=2.0, mode="nearest")
            found.append(getattr(self, f"fpn_output{level}")(here))
            above = here
        return found[::-1]


class Coarse(nn.Module):
    """One map of a bottom-up network, for a detector that reads one."""

    def __init__(self, bottom_up: SmallBottomUp, level: int) -> None:
        super().__init__()
        self.body = bottom_up
        self.level = level
        self.channels = bottom_up.channels[level]

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)[self.level]
        return features
