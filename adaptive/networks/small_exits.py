"""A small network with five exits for 32 x 32 photographs."""

from __future__ import annotations

from torch import Tensor, nn

from adaptive.networks.multiexit import Join, MultiExit
from adaptive.networks.small import NormalisePixels, Residual, conv_bn


class ExitHead(nn.Module):
    """Mean over all positions, then a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


#: Channels of the state at each exit; the first two are 8 x 8, the others 4 x 4 pixels large.
CHANNELS = (32, 32, 64, 64, 80)


def small_exits(classes: int = 10, joins: bool = True) -> MultiExit:
    """Five exits; all together take 7.3 million multiply-adds on 32 x 32 pixels.

    The ways to the exits, each with its own head alone, cost 1.0, 2.3, 3.2, 4.5 and 6.5 million
    with joins: the first is cheap enough to be tried on every image, and the last segment is the
    most expensive.

    Takes uint8 images of shape (n, 32, 32, 3); other sizes work, at another cost.
    """
    segments = [
        # Few channels at full size, then a maximum: more accurate than to stride at once.
        nn.Sequential(
            NormalisePixels(), conv_bn(3, 16, 3), nn.MaxPool2d(2), conv_bn(16, CHANNELS[0], 3, 2)
        ),
        Residual(CHANNELS[0], CHANNELS[1]),
        Residual(CHANNELS[1], CHANNELS[2], 2),
        Residual(CHANNELS[2], CHANNELS[3]),
        Residual(CHANNELS[3], CHANNELS[4]),
    ]
    heads = [
        # The early states are fine-grained and shallow; a convolution of its own lets an exit
        # read them without bending the trunk to its needs.
        nn.Sequential(conv_bn(CHANNELS[0], 64, 3, 2), ExitHead(64, classes)),
        nn.Sequential(conv_bn(CHANNELS[1], 64, 3, 2), ExitHead(64, classes)),
        *(nn.Sequential(conv_bn(c, 128, 1), ExitHead(128, classes)) for c in CHANNELS[2:]),
    ]
    mixed = [Join(earlier, later) for earlier, later in zip(CHANNELS, CHANNELS[1:])]
    return MultiExit(segments, heads, mixed if joins else None)
