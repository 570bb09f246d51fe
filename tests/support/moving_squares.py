"""A clip of a static camera through which coloured squares move, and lookers that see them."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Sequence

import cv2
import numpy as np

from adaptive.images.video import VideoFrame
from adaptive.video.index import IndexSettings
from adaptive.video.lookers import MovingLooker
from adaptive.video.objects import MovingObjects

LABELS = ("blue", "green", "red")

#: Colours by frame: red from 20 to 44, green from 60 to 79, nothing else.
RED, GREEN = range(20, 45), range(60, 80)
COUNT = 90


def frames(squares: bool = True) -> List[np.ndarray]:
    """RGB frames of 96 by 128 pixels."""
    scene = np.random.default_rng(0).integers(90, 130, (96, 128, 3), np.uint8)
    found = []
    for number in range(1, COUNT + 1):
        frame = scene.copy()
        for span, colour in ((RED, (250, 20, 20)), (GREEN, (20, 250, 20))):
            if squares and number in span:
                left = 4 + 4 * (number - span[0])
                frame[40:64, left : left + 24] = colour
        found.append(frame)
    return found


def shown(squares: bool = True) -> Iterator[VideoFrame]:
    """The frames as a reader gives those of the clip."""
    for number, frame in enumerate(frames(squares), start=1):
        yield VideoFrame(number, (number - 1) / 25, frame)


def write_clip(path: Path, squares: bool = True) -> Path:
    """Write them as a file that loses nothing, 25 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 25, (128, 96))
    assert writer.isOpened()
    for frame in frames(squares):
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def colours(crops: Sequence[np.ndarray]) -> List[np.ndarray]:
    """One candidate: the strongest colour of each crop's middle, quite sure."""
    found = []
    for crop in crops:
        height, width = crop.shape[:2]
        middle = crop[height // 3 : 2 * height // 3 + 1, width // 3 : 2 * width // 3 + 1]
        strong = middle.reshape(-1, 3).mean(axis=0)[::-1].astype(np.float64)  # blue first
        chances = np.exp((strong - strong.max()) / 30)
        found.append(chances / chances.sum())
    return [np.array(found, np.float32).reshape(-1, 3)]


def looker() -> MovingLooker:
    return MovingLooker(colours, 3, 1, MovingObjects(short=96))


def settings(threshold: float = 0.3, gate: str = "") -> IndexSettings:
    return IndexSettings(LABELS, ("colours",), ("0" * 64,), 3, "moving", 1, 0.0, threshold, gate)


def judge(
    pictures: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
) -> List[List[tuple[str, ...]]]:
    """A strong network: the same, by its likeliest class."""
    (chances,) = colours(pictures)
    return [[(LABELS[int(row.argmax())],)] * len(own) for row, own in zip(chances, boxes)]
