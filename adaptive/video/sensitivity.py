"""How far a stream's answers move as its pictures do, learnt from the frames that are computed."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque

from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import image_f1
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match

#: Computed frames that are remembered, how many are needed, and which of them is taken: of 32
#: the fourth largest.
REMEMBERED, NEEDED, TAKEN = 32, 4, 0.9

#: Boxes of at least this score are compared.
SCORE = 0.3


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


class Sensitivity:
    """How far answers moved for each level that pictures differed by.

    Of the last 32 computed frames, the ninth decile of: how far the answer moved from the one
    computed before, over the mean difference of the two pictures. A stream whose answers flip by
    noise gets a high one, and reuses little; one where moving leaves do not touch the answer
    gets a low one.

    Attributes
    ----------
    per_level : None while fewer than four frames have been seen
    """

    def __init__(self) -> None:
        self.per_level: float | None = None
        self._ratios: Deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, levels: float, by: float) -> None:
        """An answer moved by so much while its picture changed by so many levels, on average."""
        if levels <= 0:
            return
        self._ratios.append(by / levels)
        count = len(self._ratios)
        if count >= NEEDED:
            self.per_level = sorted(self._ratios)[min(int(TAKEN * count), count - 1)]
