"""What a program's own candidate reads where it prepares images by itself: the pixels."""

from __future__ import annotations

from dataclasses import dataclass

from adaptive.candidate import MAX_SIZE, InputSpec
from adaptive.errors import InputError


@dataclass(frozen=True)
class Pixels(InputSpec):
    """The whole upright image, ndarray (height, width, 3), uint8, RGB; a batch is a list of them.

    Parameters
    ----------
    size : short side that is enough, pixels: a larger image may come scaled down, its short side
        never below that, which is quicker. At its own size when left out.
    """

    size: int = MAX_SIZE
    dtype: str = "uint8"
    layout: str = "NHWC"
    resize: str = "cover"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dtype, self.layout, self.resize) != ("uint8", "NHWC", "cover"):
            raise InputError(
                "Pixels takes a size alone; InputSpec says how an image is to be prepared"
            )
