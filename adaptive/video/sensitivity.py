"""How far a stream's answers move as its pictures do, learnt from the frames that are computed."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Tuple

import numpy as np

from adaptive.tasks.boxes import ious
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import image_f1
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match

#: Computed frames that are remembered, how many are needed, and which of them is taken: of 64
#: the seventh largest.
REMEMBERED, NEEDED, TAKEN = 64, 4, 0.9

#: Computed frames over which the mean is taken.
LATEST = 32

#: Boxes of at least this score are compared.
SCORE = 0.3

#: Scores that lie no further from it may pass it with the next frame.
NEAR = 0.15

#: How much of what boxes lose by a change they lose where no score is near.
ALWAYS = 0.6


def margin(answer: Any) -> float:
    """How far an answer may move before it is another, 0..1.

    Of classes: the best probability less the second. Of a program's own answers: how sure it is.
    """
    if not answer.top5:
        return float(answer.score or 0.0)
    second = answer.top5[1][1] if len(answer.top5) > 1 else 0.0
    return float(answer.top5[0][1] - second)


def moved(before: Any, now: Any) -> float:
    """How far an answer moved towards another one, 0..2.

    Of classes: by how much the first answer's lead over the best other class changed.
    """
    if not before.top5:
        return float(before.answer != now.answer)
    label = before.top5[0][0]
    of_it = next((p for name, p in now.top5 if name == label), 0.0)
    best = next((p for name, p in now.top5 if name != label), 0.0)
    return float(abs(margin(before) - (of_it - best)))


def boxes_f1(truth: Detections, found: Detections, score: float = SCORE) -> float:
    """F1 of some boxes against others at an overlap of 0.5, both of at least a score."""
    true = truth.above(score)
    held = [TrueBoxes.of(true.boxes, true.classes)]
    return float(image_f1(Truth.of(held), match(held, [found]), score)[0])


def boxes_moved(before: Detections, now: Detections) -> float:
    """How many boxes came or went for one that is there, 0..2: twice what F1 lacks to 1.

    Pairs overlap each other most, and by half; that is quicker to tell than the pairs of
    `boxes_f1`, by COCO's rules. Of equal boxes, as many are paired as both frames have.
    """
    first, second = before.scores >= SCORE, now.scores >= SCORE
    count = int(first.sum() + second.sum())
    if not count:
        return 0.0
    overlaps = ious(before.boxes[first], now.boxes[second])
    overlaps[before.classes[first][:, None] != now.classes[second]] = 0
    pairs = overlaps >= 0.5
    if pairs.any():
        pairs &= overlaps == overlaps.max(axis=0)
        pairs &= overlaps == overlaps.max(axis=1, keepdims=True)
    paired = min(int(pairs.any(axis=0).sum()), int(pairs.any(axis=1).sum()))
    return 2 - 4 * paired / count


def doubt(answer: Detections) -> float:
    """How likely boxes are to lose by a change, about 1 on average.

    What comes and goes from frame to frame are the boxes whose score is near the one from which
    they count. So it grows with their number, beside that of all that count.
    """
    scores = answer.scores
    near = np.clip(1 - np.abs(scores - SCORE) / NEAR, 0, None).sum()
    return float(ALWAYS + 2 * near / max(int((scores >= SCORE).sum()), 1))


class Sensitivity:
    """How far answers moved for each level that pictures differed by.

    Of the last 64 computed frames, the ninth decile of: how far the answer moved from the one
    computed before, over the mean difference of the two pictures. A stream whose answers flip by
    noise gets a high one, and reuses little; one where moving leaves do not touch the answer
    gets a low one.

    Attributes
    ----------
    per_level : None while fewer than four frames have been seen
    mean_per_level : of the last 32, the sum of their moves over that of their differences
    """

    def __init__(self) -> None:
        self.per_level: float | None = None
        self.mean_per_level: float | None = None
        self._ratios: Deque[float] = deque(maxlen=REMEMBERED)
        self._moves: Deque[Tuple[float, float]] = deque(maxlen=LATEST)

    def learn(self, levels: float, by: float) -> None:
        """An answer moved by so much while its picture changed by so many levels, on average."""
        if levels <= 0:
            return
        self._ratios.append(by / levels)
        self._moves.append((by, levels))
        count = len(self._ratios)
        if count >= NEEDED:
            moves, apart = (sum(part) for part in zip(*self._moves))
            self.mean_per_level = moves / apart
            self.per_level = sorted(self._ratios)[min(int(TAKEN * count), count - 1)]
