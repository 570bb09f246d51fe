"""Where an image lies in a network's input, so that boxes find their way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError

Place = Literal["centre", "top-left"]
Size = Tuple[int, int]


@dataclass(frozen=True)
class Rectangle:
    """Whole pixels of an image or of an input."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"a rectangle of {self.width}x{self.height} pixels holds none")


@dataclass(frozen=True)
class Placement:
    """A part of the upright image, and the part of the network's input that it was scaled to.

    Attributes
    ----------
    image : (height, width) of the upright image, pixels
    source : the part of the image that the network sees
    target : where that lies in the input; what is around it is padding
    """

    image: Size
    source: Rectangle
    target: Rectangle

    def undo(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes in pixels of the input as boxes in pixels of the upright image, not clipped."""
        source, target = self.source, self.target
        scale = np.array([source.width / target.width, source.height / target.height] * 2)
        before = np.array([target.left, target.top] * 2, np.float64)
        after = np.array([source.left, source.top] * 2, np.float64)
        moved: NDArray[np.float64] = (boxes.astype(np.float64) - before) * scale + after
        return moved

    def apply(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes in pixels of the upright image as boxes in pixels of the input."""
        source, target = self.source, self.target
        scale = np.array([target.width / source.width, target.height / source.height] * 2)
        before = np.array([source.left, source.top] * 2, np.float64)
        after = np.array([target.left, target.top] * 2, np.float64)
        moved: NDArray[np.float64] = (boxes.astype(np.float64) - before) * scale + after
        return moved


def fitted(image: Size, size: Size, place: Place = "centre") -> Placement:
    """The whole image at its own proportions, as large as the input allows ("letterbox").

    Sides are rounded to whole pixels; of an odd number of padding pixels, the one more stands
    right and below. `place` says whether padding stands on two sides or on one.
    """
    height, width = _checked(image)
    rows, columns = _checked(size)
    ratio = min(rows / height, columns / width)
    inner = max(1, min(rows, round(height * ratio))), max(1, min(columns, round(width * ratio)))
    if place not in ("centre", "top-left"):
        raise InputError(f"place {place!r} is not one of ['centre', 'top-left']")
    left, top = (columns - inner[1]) // 2, (rows - inner[0]) // 2
    if place == "top-left":
        left = top = 0
    return Placement(image, _whole(image), Rectangle(left, top, inner[1], inner[0]))


def stretched(image: Size, size: Size) -> Placement:
    """The whole image scaled to the whole input, at other proportions."""
    return Placement(image, _whole(_checked(image)), _whole(_checked(size)))


def cropped(image: Size, size: Size, share: float = 1.0) -> Placement:
    """The middle of the image, of the input's proportions, scaled to the whole input.

    share : of the largest such middle that is taken, 0..1, by its sides
    """
    height, width = _checked(image)
    rows, columns = _checked(size)
    if not 0 < share <= 1:
        raise InputError(f"a share of {share!r} of an image cannot be cut out; 0 < share <= 1")
    ratio = min(height / rows, width / columns) * share
    cut = max(1, min(height, round(rows * ratio))), max(1, min(width, round(columns * ratio)))
    source = Rectangle((width - cut[1]) // 2, (height - cut[0]) // 2, cut[1], cut[0])
    return Placement(image, source, _whole(size))


def shortened(image: Size, short: int, long: int) -> Placement:
    """The whole image with its short side scaled to `short`, its long side to `long` at most.

    The input then has the size of the target, another one for each image.
    """
    height, width = _checked(image)
    ratio = min(short / min(height, width), long / max(height, width))
    return stretched(image, (max(1, round(height * ratio)), max(1, round(width * ratio))))


def _whole(size: Size) -> Rectangle:
    return Rectangle(0, 0, size[1], size[0])


def _checked(size: Size) -> Size:
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"a size of {width}x{height} pixels holds none")
    return height, width
