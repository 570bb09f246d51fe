"""The two halves of a network that is learnt together: what an edge has, and what the server has.

ResNets for 32 x 32 photographs (He et al. 2015, section 4.2), cut behind their first block: the
edge's is a ResNet-8, the server's what follows that cut in a ResNet-20 or another of that family.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptive.errors import InputError
from adaptive.networks.multiexit import MultiExit
from adaptive.networks.small import NormalisePixels, Residual, conv_bn
from adaptive.networks.small_exits import ExitHead

#: Channels of a feature map as it leaves an edge, at the images' own size.
MAPS = 16


class EdgeNetwork(nn.Module):
    """An extractor whose feature maps the server gets, and a classifier of the edge's own.

    Takes uint8 images of shape (n, height, width, 3).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.extractor = nn.Sequential(NormalisePixels(), conv_bn(3, MAPS, 3), Residual(MAPS, MAPS))
        self.classifier = nn.Sequential(
            Residual(MAPS, 32, 2), Residual(32, 64, 2), ExitHead(64, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (n, classes)."""
        logits: Tensor = self.classifier(self.extractor(images))
        return logits


class ServerNetwork(nn.Module):
    """The rest of a ResNet of `depth` layers: from feature maps to logits."""

    def __init__(self, classes: int, depth: int = 20) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise InputError(
                f"a ResNet for small photographs has 6 n + 2 layers (8, 20, 32, 56), not {depth}"
            )
        stages: list[nn.Module] = [Residual(MAPS, MAPS) for _ in range(blocks - 1)]
        for before, after in ((MAPS, 32), (32, 64)):
            stages += [Residual(before, after, 2)]
            stages += [Residual(after, after) for _ in range(blocks - 1)]
        self.trunk = nn.Sequential(*stages)
        self.head = ExitHead(64, classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits, shape (n, classes), of feature maps of shape (n, 16, height, width)."""
        logits: Tensor = self.head(self.trunk(maps))
        return logits


def new_edge(classes: int, seed: int) -> EdgeNetwork:
    """An edge's network before training; all edges of a seed begin with the same weights."""
    torch.manual_seed(seed)
    return EdgeNetwork(classes)


def new_server(classes: int, depth: int, seed: int) -> ServerNetwork:
    """The server's network before training; the same for the same seed."""
    torch.manual_seed(seed + 1)
    return ServerNetwork(classes, depth)


def joined(edge: EdgeNetwork, server: ServerNetwork) -> MultiExit:
    """Both halves as one network with two exits: the edge's answer, and the server's."""
    return MultiExit([edge.extractor, server.trunk], [edge.classifier, server.head])
