"""The last computed frame of a stream, and whether another still shows the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptive.opencv import cv2
from adaptive.tasks.detections import Detections
from adaptive.video.gate import (
    CHANGED,
    CUT,
    EVERYWHERE,
    FIRST,
    LEARNING,
    MARGIN,
    OLD,
    STILL,
    FrameChange,
    FrameGate,
    change,
    changed_tiles,
    told,
)
from adaptive.video.sensitivity import Sensitivity, margin, moved


class LastComputed:
    """What a gate remembers of one stream; live and in replay the same.

    With "margin" a stream's first five frames that differ at all are computed, to learn how its
    answers move. Boxes have no margin; they are reused where no pixel differs by more than 15
    levels.

    Parameters
    ----------
    gate : what still counts as the same frame

    Attributes
    ----------
    answer, time_s : of the last computed frame; None and 0 while there is none
    """

    def __init__(self, gate: FrameGate) -> None:
        self.gate = gate
        self.answer: Any = None
        self.time_s = 0.0
        self._picture: np.ndarray | None = None
        self._margin = 0.0
        self._sensitivity = Sensitivity()

    def judge(self, picture: np.ndarray, time_s: float) -> FrameChange:
        """What becomes of a frame whose picture, as `View.picture` gives it, this is."""
        before = self._picture
        if before is None:
            return FrameChange(FIRST, 1.0)
        if before.shape != picture.shape:
            return FrameChange(CUT, 1.0)
        if time_s - self.time_s > self.gate.age_s:
            return FrameChange(OLD, 1.0)
        if self.gate.compare != MARGIN or isinstance(self.answer, Detections):
            return change(before, picture, self.gate)
        differs = cv2.absdiff(before, picture)
        levels, per_level = mean_levels(differs), self._sensitivity.per_level
        share = changed_tiles(differs, CHANGED)
        if per_level is None:
            if not levels:
                return FrameChange(STILL, 0.0)  # the very same frame
            return (
                FrameChange(LEARNING, share) if share < EVERYWHERE else told(before, picture, share)
            )
        if per_level * levels > self.gate.threshold * self._margin or share > self.gate.share:
            return told(before, picture, share)
        return FrameChange(STILL, share)

    def accept(self, picture: np.ndarray, time_s: float, what: str, answer: Any) -> None:
        """A frame was computed, for the reason that `judge` gave."""
        if self.gate.compare == MARGIN and not isinstance(answer, Detections):
            before = self._picture
            if before is not None and before.shape == picture.shape and what != CUT:
                levels = mean_levels(cv2.absdiff(before, picture))
                self._sensitivity.learn(levels, moved(self.answer, answer))
            self._margin = margin(answer)
        self._picture, self.time_s, self.answer = picture, time_s, answer

    def lose(self) -> None:
        """Nothing is known of what the camera shows; how answers move still is."""
        self._picture = self.answer = None

    @property
    def held_bytes(self) -> int:
        """Memory of the picture."""
        return 0 if self._picture is None else self._picture.nbytes


def mean_levels(differs: np.ndarray) -> float:
    """By how many levels of 0..255 two pictures differ, over all pixels and channels."""
    return float(cv2.norm(differs, cv2.NORM_L1)) / differs.size
