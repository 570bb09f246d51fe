"""Moving and mirroring images, so that a network does not learn them by heart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def augment(images: Tensor, shift: int, cutout: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, shift each by up to `shift` pixels, blank one square of each.

    images : uint8 tensor of shape (n, height, width, 3), on the generator's device
    """
    count, height, width, _ = images.shape
    own: dict[str, Any] = {"generator": generator, "device": generator.device}
    flip = torch.rand(count, **own) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(2), images)
    if shift:
        padded = nn.functional.pad(
            images.permute(0, 3, 1, 2).float(), (shift,) * 4, mode="reflect"
        ).to(torch.uint8)
        padded = padded.permute(0, 2, 3, 1)
        offset = torch.randint(0, 2 * shift + 1, (2, count, 1, 1), **own)
        rows = _numbers(height, images).view(1, -1, 1) + offset[0]
        columns = _numbers(width, images).view(1, 1, -1) + offset[1]
        images = padded[_numbers(count, images).view(-1, 1, 1), rows, columns]
    if cutout:
        centre = torch.rand((2, count, 1, 1), **own)
        rows = (_numbers(height, images).view(1, -1, 1) - centre[0] * height).abs() < cutout / 2
        columns = (_numbers(width, images).view(1, 1, -1) - centre[1] * width).abs() < cutout / 2
        images = images.masked_fill((rows & columns).unsqueeze(-1), 117)
    return images


def _numbers(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)
