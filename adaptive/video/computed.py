"""The last computed frame of a stream, and whether another still shows the same."""

from __future__ import annotations

import math
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
    OF_BOXES,
    OLD,
    STILL,
    FrameChange,
    FrameGate,
    change,
    changed_tiles,
    told,
)
from adaptive.video.sensitivity import Sensitivity, boxes_moved, doubt, margin, moved


class LastComputed:
    """What a gate remembers of one stream; live and in replay the same.

    With "margin" a stream's first five frames that differ at all are computed, to learn how its
    answers move. Of boxes, what a stream learns is how many come and go for each level that its
    pictures differ by. They are reused where at most the share `threshold` may be expected to;
    where a pixel differs by more than 15 levels, once and then no more, since what moves soon
    leaves its box.

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
        self._reused = 0  # frames in a row
        self._levels: float | None = None  # that the last picture that was judged differs by
        self._sensitivity = Sensitivity()

    def judge(self, picture: np.ndarray, time_s: float) -> FrameChange:
        """What becomes of a frame whose picture, as `View.picture` gives it, this is."""
        before, self._levels = self._picture, None
        if before is None:
            return FrameChange(FIRST, 1.0)
        if before.shape != picture.shape:
            return FrameChange(CUT, 1.0)
        if time_s - self.time_s > self.gate.age_s:
            return FrameChange(OLD, 1.0)
        if self.gate.compare != MARGIN:
            return change(before, picture, self.gate)
        found = self._by_margin(before, picture)
        self._reused += found.what == STILL
        return found

    def _by_margin(self, before: np.ndarray, picture: np.ndarray) -> FrameChange:
        differs = cv2.absdiff(before, picture)
        levels = self._levels = mean_levels(differs)
        if not levels:
            return FrameChange(STILL, 0.0)  # the very same frame
        may_move = self._may_move(levels)
        enough = may_move is not None and may_move <= self.gate.threshold
        boxes = isinstance(self.answer, Detections)
        if boxes and enough and (not self._reused or cv2.norm(differs, cv2.NORM_INF) <= OF_BOXES):
            return FrameChange(STILL, 0.0)
        share = changed_tiles(differs, CHANGED)
        if may_move is None and share < EVERYWHERE:
            return FrameChange(LEARNING, share)
        if enough and not boxes and share <= self.gate.share:
            return FrameChange(STILL, share)
        return told(before, picture, share)

    def _may_move(self, levels: float) -> float | None:
        """How far the answer may have moved, as a share of its lead; of boxes how many changed.

        None while that is not known yet.
        """
        if isinstance(self.answer, Detections):
            lost = self._sensitivity.mean_per_level
            return None if lost is None else lost * levels * self._margin
        most = self._sensitivity.per_level
        if most is None:
            return None
        by = most * levels
        return by / self._margin if self._margin > 0 else math.inf if by > 0 else 0.0

    def accept(self, picture: np.ndarray, time_s: float, what: str, answer: Any) -> None:
        """A frame was computed, for the reason that `judge` gave."""
        if self.gate.compare == MARGIN:
            boxes = isinstance(answer, Detections)
            before = self._picture
            if before is not None and before.shape == picture.shape and what != CUT:
                levels = self._levels
                if levels is None:
                    levels = mean_levels(cv2.absdiff(before, picture))
                by = (boxes_moved if boxes else moved)(self.answer, answer)
                self._sensitivity.learn(levels, by)
            self._margin = doubt(answer) if boxes else margin(answer)
            self._reused = 0
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
