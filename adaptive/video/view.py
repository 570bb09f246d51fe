"""Which part of a frame is compared, and at which scale: what the networks see of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Iterable, NamedTuple, Tuple

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.images.pixels import Pixels
from adaptive.images.preprocess import scale_of, source_box
from adaptive.opencv import cv2

#: A picture is halved while so much is left of what the finest network sees, and so many pixels.
LEAST_SHARE, LEAST = 0.7, 112

#: The input's side where nobody said one, pixels.
USUAL = 224


class ViewPart(NamedTuple):
    """A part of a frame, and how often it is halved."""

    top: int
    left: int
    height: int
    width: int
    halvings: int


class View:
    """What is compared of a frame: the part that any network sees, not much finer than it does.

    What moves beside a centre crop then wakes nobody, and what moves inside is not lost among
    tiles that no network looks at.

    Parameters
    ----------
    inputs : of the networks that may answer; the whole frame where there is none
    whole : compare the whole frame in any case, since something else looks at it
    """

    def __init__(self, inputs: Tuple[InputSpec, ...] = (), whole: bool = False) -> None:
        self.inputs = inputs
        self.whole = whole
        #: The part of a frame of this height and width; frames of one camera have one.
        self.part = lru_cache(maxsize=8)(self._part)

    @classmethod
    def of(cls, inputs: Iterable[InputSpec], whole: bool = False) -> View:
        """The view of some networks; one that gets the image as it is sees all of it."""
        found = tuple(inputs)
        return cls(found, whole or not found or any(isinstance(i, Pixels) for i in found))

    def _part(self, height: int, width: int) -> ViewPart:
        top, left, bottom, right = 0, 0, height, width
        fitted = [i for i in self.inputs if not isinstance(i, Pixels)]
        boxes = [source_box(height, width, spec) for spec in fitted]
        if boxes and not self.whole:
            top, left = min(b[0] for b in boxes), min(b[1] for b in boxes)
            bottom, right = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
        short = min(bottom - top, right - left)
        # pixels of a network's input for one of the frame, of the network that sees most
        finest = max((scale_of(height, width, spec) for spec in fitted), default=USUAL / short)
        halvings = 0
        while short // 2 >= LEAST and 0.5 ** (halvings + 1) >= LEAST_SHARE * finest:
            short, halvings = short // 2, halvings + 1
        return ViewPart(top, left, bottom - top, right - left, halvings)

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """What is compared of a frame, ndarray (height, width, 3), uint8; a copy.

        Halved by OpenCV's mean of four pixels, which is by far the quickest of its resizes.
        """
        top, left, height, width, halvings = self.part(*frame.shape[:2])
        seen: Any = frame[top : top + height, left : left + width]
        for _ in range(halvings):
            seen = halved(seen)
        return np.asarray(seen) if halvings else seen.copy()


def halved(pixels: np.ndarray) -> np.ndarray:
    """A picture of half the height and width; an odd last row or column is left out."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    small = cv2.resize(
        pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small)
