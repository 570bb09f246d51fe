"""Whether a frame still shows what the last computed one did.

gate = FrameGate.parse("margin:0.4:0.1:1")
change(before, now, gate).what  # "still"; both as `View.picture` gives them
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adaptive.checks import finite, shown
from adaptive.errors import InputError
from adaptive.opencv import cv2

#: What a gate may go by.
MARGIN, DIFFERENCE, HISTOGRAM = "margin", "difference", "histogram"

#: What became of a frame: reused, or why it was computed.
STILL, FIRST, MOVED, LIGHT, CUT, OLD = "still", "first", "moved", "light", "cut", "old"
LEARNING = "learning"

#: Threshold and share of each kind where a text leaves them out.
USUAL = {MARGIN: (0.4, 0.1), DIFFERENCE: (15.0, 0.0), HISTOGRAM: (0.01, 0.01)}

#: Side of a tile, in pixels of the picture that is compared.
TILE = 8

#: With "margin", a tile has changed where a pixel differs by more levels than this; with boxes,
#: something moves where one differs by more than the second.
CHANGED, OF_BOXES = 25.0, 15.0

#: Blocks along each side and bins a channel of the histograms, as Huynh 2019, 3.4.3, has them.
BLOCKS, BINS = 8, 16

#: From this share of changed tiles on, light or scene changed and not something in it.
EVERYWHERE = 0.5

#: From this correlation of the two frames on, it is the same scene in another light.
SAME_SCENE = 0.8


@dataclass(frozen=True)
class FrameGate:
    """What still counts as the same frame.

    Parameters
    ----------
    compare : "margin": by how far the answer may have moved, told from how much the pictures
        differ and from what this stream's answers did so far, against how clear the last answer
        was (see `Sensitivity`); "difference" of
        pixels; or "histogram": blocks of colour histograms by their chi-square distance (Huynh
        2019, 3.4.3)
    threshold : "margin": the share of the answer's margin that may be used up, 0..1; of boxes
        how many may be expected to come or go for one that is there.
        "difference": levels of 0..255 that any pixel of a tile differs by more than, where it
        has changed. "histogram": the distance of a block's histograms from which it has changed,
        0..1, of which 0.01 does
    share : of the tiles that may have changed, 0..1; boxes do without where "margin" is compared
    age_s : seconds that an answer may be old

    Raises
    ------
    InputError
        when one of them is not what it is to be.
    """

    compare: str = MARGIN
    threshold: float = USUAL[MARGIN][0]
    share: float = USUAL[MARGIN][1]
    age_s: float = 1.0

    def __post_init__(self) -> None:
        if self.compare not in USUAL:
            known = "neither 'margin' nor 'difference' nor 'histogram'"
            raise InputError(f"compare {shown(self.compare)} is {known}")
        most = 255 if self.compare == DIFFERENCE else 1
        for name, high in (("threshold", most), ("share", 1), ("age_s", math.inf)):
            value = finite(getattr(self, name), name)
            if not 0 <= value <= high:
                allowed = "at least 0" if math.isinf(high) else f"between 0 and {high}"
                raise InputError(f"{name} {value:g} is not {allowed}")
        if self.compare == DIFFERENCE and 0 < self.threshold < 1:
            raise InputError(
                f"threshold {self.threshold:g} is less than one of 255 levels; 0 or 1 to 255 do"
            )

    def __str__(self) -> str:
        return f"{self.compare}:{self.threshold:g}:{self.share:g}:{self.age_s:g}"

    @classmethod
    def parse(cls, text: str) -> FrameGate:
        """A gate from COMPARE[:THRESHOLD[:SHARE[:AGE_S]]], as `str` writes it.

        Raises
        ------
        InputError
            when the text is no gate.
        """
        compare, *rest = text.split(":")
        try:
            numbers = [float(part) for part in rest]
        except ValueError:
            numbers = [math.nan] * 4
        if len(numbers) > 3 or any(map(math.isnan, numbers)):
            raise InputError(
                f"{text!r} is no gate; COMPARE:THRESHOLD:SHARE:AGE_S is, as {cls()} or "
                "difference:15:0:1"
            )
        return cls(compare, *numbers, *USUAL.get(compare, ())[len(numbers) :])


class FrameChange(NamedTuple):
    """What became of a frame beside the last computed one.

    what : "still", or why it is computed
    share : of the tiles that changed, 0..1
    """

    what: str
    share: float


def change(before: np.ndarray, now: np.ndarray, gate: FrameGate) -> FrameChange:
    """How one picture differs from another of the same size; both as `View.picture` gives them.

    With "margin" more than 15 levels anywhere are a change; what is known of a stream's answers
    goes into it in `LastComputed` alone.
    """
    if gate.compare == HISTOGRAM:
        share, allowed = changed_blocks(before, now, gate.threshold), gate.share
    elif gate.compare == DIFFERENCE:
        share, allowed = changed_pixels(before, now, gate.threshold), gate.share
    else:
        share, allowed = changed_pixels(before, now, OF_BOXES), 0.0
    return FrameChange(STILL, share) if share <= allowed else told(before, now, share)


def told(before: np.ndarray, now: np.ndarray, share: float) -> FrameChange:
    """What a share of changed tiles means where it is too much."""
    if share < EVERYWHERE:
        return FrameChange(MOVED, share)
    return FrameChange(LIGHT if correlation(before, now) >= SAME_SCENE else CUT, share)


def changed_pixels(before: np.ndarray, now: np.ndarray, levels: float) -> float:
    """The share of tiles with a pixel that differs by more than `levels` in a channel."""
    return changed_tiles(cv2.absdiff(before, now), levels)


def changed_tiles(differs: np.ndarray, levels: float) -> float:
    """The share of tiles with a pixel of more than `levels` in a channel.

    differs : ndarray (height, width, 3), uint8: the difference of two pictures
    """
    if cv2.norm(differs, cv2.NORM_INF) <= levels:
        return 0.0
    height, width = differs.shape[:2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    _, mask = cv2.threshold(differs, levels, 255, cv2.THRESH_BINARY)
    bottom, right = rows * TILE - height, columns * TILE - width
    if bottom or right:
        mask = cv2.copyMakeBorder(mask, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    # eight pixels are 24 bytes, three words of a row; much quicker than a sum or any() of bytes
    words = mask.reshape(rows, TILE, columns, 3 * TILE).view(np.uint64)
    tiles = np.bitwise_or.reduce(words, axis=1).any(axis=2)
    return float(np.count_nonzero(tiles) / (rows * columns))


def changed_blocks(before: np.ndarray, now: np.ndarray, distance: float) -> float:
    """The share of blocks whose colour histograms are further apart than `distance`.

    The distance of two histograms p and q of a block is half the sum of (p - q)^2 / (p + q), 0..1,
    and the mean over the channels.
    """
    first, second = histograms(before), histograms(now)
    both = first + second
    apart = np.divide((first - second) ** 2, both, out=np.zeros_like(both), where=both > 0)
    return float(np.mean(apart.sum(axis=1).mean(axis=0) / 2 > distance))


def histograms(small: np.ndarray) -> np.ndarray:
    """Each block's colour histograms, ndarray (3, bins, blocks), float32; each sums to 1."""
    height, width = small.shape[:2]
    rows, columns = min(BLOCKS, height), min(BLOCKS, width)
    along = np.arange(height) * rows // height
    across = np.arange(width) * columns // width
    place = (along[:, None] * columns + across).astype(np.uint8)  # of its block, in row order
    blocks = rows * columns
    sizes, ranges = [BINS, blocks], [0, 256, 0, blocks]
    counts = [
        cv2.calcHist([small, place], [channel, 3], None, sizes, ranges) for channel in range(3)
    ]
    found = np.stack(counts)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def correlation(before: np.ndarray, now: np.ndarray) -> float:
    """Of two frames' pixels, -1..1; another light leaves it high."""
    greys = [cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) for small in (before, now)]
    if min(float(grey.std()) for grey in greys) < 1:
        return 0.0  # one of them shows nothing
    return float(cv2.matchTemplate(greys[0], greys[1], cv2.TM_CCOEFF_NORMED)[0, 0])
