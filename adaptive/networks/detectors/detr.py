"""DETR (Carion et al. 2020, arXiv 2005.12872): boxes as a set, by a transformer.

Weights carry the names of the published checkpoints (`detr_r50`), so these load as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adaptive.networks.detectors.pyramids import LastStage


def sine_positions(padded: Tensor, width: int) -> Tensor:
    """A position's code: sines and cosines of its row, then of its column (ibid., appendix A.4).

    Rows and columns count what is no padding, and end at 2 pi.

    Parameters
    ----------
    padded : bool tensor of shape (n, height, width), true where the image is padded
    width : numbers a position; half of them for the row

    Returns
    -------
    Tensor of shape (n, width, height, width of the map), float32
    """
    seen = (~padded).to(torch.float32)
    half = width // 2
    place = torch.arange(half, dtype=torch.float32, device=padded.device)
    period = 10_000 ** (2 * torch.div(place, 2, rounding_mode="floor") / half)
    codes = []
    for axis in (1, 2):
        count = seen.cumsum(axis)
        last = count[:, -1:, :] if axis == 1 else count[:, :, -1:]
        angle = (count / (last + 1e-6) * (2 * math.pi))[..., None] / period
        code = torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=4)
        codes.append(code.flatten(3))
    return torch.cat(codes, dim=3).permute(0, 3, 1, 2)


class EncoderLayer(nn.Module):
    """Self-attention over positions, then two linear layers; normalised after each."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, padded: Tensor | None) -> Tensor:
        where = x + positions
        near = self.self_attn(where, where, x, key_padding_mask=padded, need_weights=False)[0]
        x = self.norm1(x + self.dropout(near))
        more = self.linear2(self.dropout(self.linear1(x).relu()))
        result: Tensor = self.norm2(x + self.dropout(more))
        return result


class DecoderLayer(nn.Module):
    """Self-attention over queries, attention to the image, then two linear layers."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        queries: Tensor,
        image: Tensor,
        positions: Tensor,
        padded: Tensor | None,
        apart: Tensor | None = None,
    ) -> Tensor:
        where = x + queries
        near = self.self_attn(where, where, x, need_weights=False, attn_mask=apart)[0]
        x = self.norm1(x + self.dropout(near))
        seen = self.multihead_attn(
            x + queries, image + positions, image, key_padding_mask=padded, need_weights=False
        )[0]
        x = self.norm2(x + self.dropout(seen))
        more = self.linear2(self.dropout(self.linear1(x).relu()))
        result: Tensor = self.norm3(x + self.dropout(more))
        return result


class EncoderLayers(nn.Module):
    """The encoder's layers."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, hidden, dropout) for _ in range(layers)
        )


class DecoderLayers(nn.Module):
    """The decoder's layers, and the normalisation of what they answer."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, hidden, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)


class Transformer(nn.Module):
    """Encoder and decoder; every decoder layer's answer is normalised and given back."""

    def __init__(
        self, width: int, heads: int, encoders: int, decoders: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = EncoderLayers(encoders, width, heads, hidden, dropout)
        self.decoder = DecoderLayers(decoders, width, heads, hidden, dropout)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(
        self,
        features: Tensor,
        queries: Tensor,
        positions: Tensor,
        padded: Tensor | None,
        apart: Tensor | None = None,
    ) -> list[Tensor]:
        """Per decoder layer, shape (n, queries, width).

        apart : bool tensor of shape (queries, queries), true where two may not see each other
        """
        image = features.flatten(2).permute(2, 0, 1)
        places = positions.flatten(2).permute(2, 0, 1)
        asked = queries[:, None].expand(-1, image.shape[1], -1)
        blank = None if padded is None else padded.flatten(1)
        for layer in self.encoder.layers:
            image = layer(image, places, blank)
        x, answers = torch.zeros_like(asked), []
        for layer in self.decoder.layers:
            x = layer(x, asked, image, places, blank, apart)
            answers.append(self.decoder.norm(x).transpose(0, 1))
        return answers


class BoxHead(nn.Module):
    """Three linear layers to a box's four numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)]
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        box: Tensor = last(second(first(x).relu()).relu()).sigmoid()
        return box


class DETR(nn.Module):
    """A set of boxes from one feature map.

    Parameters
    ----------
    backbone : gives a feature map and has `channels`; `LastStage` for published weights
    classes : numbers that a class may have; one more logit says that there is nothing. 91 for
        COCO's published checkpoints
    queries : boxes an image
    width, heads, encoders, decoders, hidden, dropout : of the transformer
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        queries: int = 100,
        width: int = 256,
        heads: int = 8,
        encoders: int = 6,
        decoders: int = 6,
        hidden: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.transformer = Transformer(width, heads, encoders, decoders, hidden, dropout)
        self.class_embed = nn.Linear(width, classes + 1)
        self.bbox_embed = BoxHead(width)
        self.query_embed = nn.Embedding(queries, width)
        channels: int = backbone.channels  # type: ignore[assignment]
        self.input_proj = nn.Conv2d(channels, width, 1)
        self.backbone = nn.Sequential(backbone)  # the position's code, [1] there, has no weights
        self.width = width

    def stages(
        self,
        images: Tensor,
        padded: Tensor | None = None,
        queries: Tensor | None = None,
        apart: Tensor | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Every decoder layer's answer, as `forward` gives the last one's.

        queries : in place of its own, (k, width)
        apart : bool tensor of shape (k, k), true where two of them may not see each other
        """
        features = self.input_proj(self.backbone(images))
        shape = features.shape[-2:]
        blank = None
        if padded is not None:
            small = nn.functional.interpolate(padded[:, None].float(), size=shape)
            blank = small[:, 0].to(torch.bool)
        seen = features.new_zeros((1, *shape), dtype=torch.bool) if blank is None else blank
        positions = sine_positions(seen, self.width)
        asked = self.query_embed.weight if queries is None else queries
        answers = self.transformer(features, asked, positions, blank, apart)
        return [(self.class_embed(x), self.bbox_embed(x)) for x in answers]

    def forward(self, images: Tensor, padded: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits, (n, queries, classes + 1), and boxes, (n, queries, 4).

        images : what the backbone reads; (n, 3, height, width), normalised, for `LastStage`
        padded : bool tensor of shape (n, height, width), true where an image is padded

        Boxes are centre and sides, as shares of the image. The last logit says "nothing".
        """
        return self.stages(images, padded)[-1]


def detr_resnet50(classes: int = 91) -> DETR:
    """The published DETR on a ResNet-50, with random weights; `detr-r50-e632da11.pth` fits."""
    return DETR(LastStage("resnet50"), classes)
