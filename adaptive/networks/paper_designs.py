"""Networks for 32 x 32 photographs that papers compress, so that figures can stand side by side.

ALL-CNN-C (Springenberg et al. 2015, table 1) and NIN (Lin et al. 2014) have no dense layer and no
residual sum; their layers can shrink one by one. ResNet-20 (He et al. 2016, section 4.2) ties the
channels of several layers by its sums. All have batch normalisation behind every convolution but
the last.
"""

from __future__ import annotations

from typing import Callable

from torch import nn

from adaptive.errors import InputError
from adaptive.networks.small import Residual, SmallNetwork, conv_bn


def all_cnn_c(classes: int = 10, width: float = 1.0) -> SmallNetwork:
    """281 million multiply-adds at width 1, 17.8 million at a quarter.

    width : factor on the number of filters of every layer, each rounded to a multiple of 8
    """
    a, b = _scaled(96, width), _scaled(192, width)
    body = nn.Sequential(
        conv_bn(3, a, 3),
        conv_bn(a, a, 3),
        conv_bn(a, a, 3, 2),
        conv_bn(a, b, 3),
        conv_bn(b, b, 3),
        conv_bn(b, b, 3, 2),
        conv_bn(b, b, 3),
        conv_bn(b, b, 1),
    )
    # the average of a 1 x 1 convolution's outputs is the linear layer of the averaged inputs
    return SmallNetwork(body, b, classes)


def nin(classes: int = 10, width: float = 1.0) -> SmallNetwork:
    """222 million multiply-adds at width 1.

    width : factor on the number of filters of every layer, each rounded to a multiple of 8
    """
    a, b, c = (_scaled(count, width) for count in (192, 160, 96))
    body = nn.Sequential(
        conv_bn(3, a, 5),
        conv_bn(a, b, 1),
        conv_bn(b, c, 1),
        nn.MaxPool2d(3, 2, 1),
        conv_bn(c, a, 5),
        conv_bn(a, a, 1),
        conv_bn(a, a, 1),
        nn.AvgPool2d(3, 2, 1),
        conv_bn(a, a, 3),
        conv_bn(a, a, 1),
    )
    # the last 1 x 1 convolution and the average are the linear layer of the averaged inputs
    return SmallNetwork(body, a, classes)


def resnet_20(classes: int = 10, width: float = 1.0) -> SmallNetwork:
    """41 million multiply-adds at width 1.

    width : factor on the number of filters of every layer, each rounded to a multiple of 8
    """
    a, b, c = (_scaled(count, width) for count in (16, 32, 64))
    blocks: list[nn.Module] = [conv_bn(3, a, 3)]
    before = a
    for stage, channels in enumerate((a, b, c)):
        for position in range(3):
            blocks.append(Residual(before, channels, 2 if stage and not position else 1))
            before = channels
    return SmallNetwork(nn.Sequential(*blocks), c, classes)


def _scaled(count: int, width: float) -> int:
    if not width > 0:
        raise InputError(f"a width of {width} leaves no filters; give more than 0")
    return max(8, round(count * width / 8) * 8)


#: The designs by name; each takes the number of classes and the width.
PAPER_DESIGNS: dict[str, Callable[[int, float], SmallNetwork]] = {
    "all-cnn-c": all_cnn_c,
    "nin": nin,
    "resnet-20": resnet_20,
}
