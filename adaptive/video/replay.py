"""A clip with every frame computed, and which frame's answer each gate would have given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from adaptive.errors import InputError
from adaptive.images.video import VideoFrame
from adaptive.tasks.detections import Detections
from adaptive.video.computed import LastComputed
from adaptive.video.gate import STILL, FrameGate
from adaptive.video.sensitivity import boxes_f1
from adaptive.video.view import View


@dataclass(eq=False)
class Replayed:
    """A clip's answers, all computed, and whose answer each gate would have given.

    Attributes
    ----------
    answers : of each frame, a Prediction or Detections
    times_s : ndarray (frames,)
    sources : for each gate, ndarray (frames,): the frame whose answer it gives
    dense_ms : mean time of computing a frame
    gate_ms : for each gate, mean time of looking at a frame
    picture_bytes : what a stream of this clip keeps beside the answer
    """

    name: str
    answers: List[Any]
    times_s: np.ndarray
    sources: Dict[FrameGate, np.ndarray]
    dense_ms: float
    gate_ms: Dict[FrameGate, float]
    picture_bytes: int
    _known: Dict[Tuple[int, int], float] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def detects(self) -> bool:
        """Whether the answers are boxes."""
        return isinstance(self.answers[0], Detections)

    @property
    def scores(self) -> np.ndarray:
        """Of classes, how sure each computed answer is, ndarray (frames,)."""
        return np.array([answer.score or 0.0 for answer in self.answers])

    def agreement(self, sources: np.ndarray) -> np.ndarray:
        """What each frame's answer is worth beside computing it, ndarray (frames,), 0..1.

        Of classes: 1 where it is the same one. Of boxes: F1 against the frame's own at an
        overlap of 0.5.
        """
        labels = self._labels
        if labels is not None:
            return np.asarray(labels[sources] == labels, float)
        return np.array([self._pair(int(source), i) for i, source in enumerate(sources)])

    def variation(self, sources: np.ndarray) -> np.ndarray:
        """Total variation of the probabilities on each frame, ndarray (frames,), 0..1.

        Told from the five best classes of both answers; all others count as one.
        """
        pairs = ((self.answers[int(s)], self.answers[i]) for i, s in enumerate(sources))
        return np.array([0.0 if a is b else _variation(a.top5, b.top5) for a, b in pairs])

    def cost(self, gate: FrameGate) -> float:
        """Time with the gate as a share of the time without."""
        sources = self.sources[gate]
        computed = float(np.mean(sources == np.arange(len(sources))))
        return computed + self.gate_ms[gate] / self.dense_ms

    def every_nth(self, cost: float) -> float:
        """Agreement of computing every n-th frame at a cost, mixed of the two nearest n."""
        count = len(self)
        wanted = 1 / min(max(cost, 1 / count), 1.0)
        low = math.floor(wanted)
        high = low + 1
        first, second = (
            float(self.agreement(np.arange(count) // n * n).mean()) for n in (low, high)
        )
        return first + (second - first) * (1 / low - 1 / wanted) / (1 / low - 1 / high)

    @cached_property
    def _labels(self) -> np.ndarray | None:
        """Of classes, each frame's; None for boxes and for a program's own answers."""
        if self.detects or any(answer.answer is not None for answer in self.answers):
            return None
        return np.array([answer.label or "" for answer in self.answers])

    def _pair(self, source: int, frame: int) -> float:
        if source == frame:
            return 1.0
        given, own = self.answers[source], self.answers[frame]
        if not self.detects:
            return float(given.answer == own.answer)
        if (source, frame) not in self._known:
            self._known[source, frame] = boxes_f1(own, given)
        return self._known[source, frame]


def _variation(first: Sequence[Tuple[str, float]], second: Sequence[Tuple[str, float]]) -> float:
    one, other = dict(first), dict(second)
    apart = [abs(one.get(label, 0.0) - other.get(label, 0.0)) for label in {*one, *other}]
    rests = abs(sum(one.values()) - sum(other.values()))
    return min(1.0, (sum(apart) + rests) / 2)


def replayed(
    name: str,
    frames: Iterable[VideoFrame],
    answer: Callable[[np.ndarray], Any],
    gates: Sequence[FrameGate],
    view: View,
) -> Replayed:
    """Compute every frame of a clip, and ask each gate what it would have done.

    Parameters
    ----------
    answer : a router's `classify` or `detect`
    view : what of a frame is compared; `Router.view`

    Raises
    ------
    InputError
        when there are fewer than two frames.
    """
    answers: List[Any] = []
    times_s: List[float] = []
    kept = {gate: LastComputed(gate) for gate in gates}
    sources: Dict[FrameGate, List[int]] = {gate: [] for gate in gates}
    spent_s = dict.fromkeys(gates, 0.0)
    dense_s = picture_s = 0.0
    held = 0
    for place, frame in enumerate(frames):
        began = perf_counter()
        answers.append(answer(frame.image))
        done = perf_counter()
        dense_s += done - began
        picture = view.picture(frame.image)
        picture_s += perf_counter() - done
        held = picture.nbytes
        times_s.append(frame.time_s)
        for gate, last in kept.items():
            began = perf_counter()
            what = last.judge(picture, frame.time_s).what
            if what != STILL:
                last.accept(picture, frame.time_s, what, answers[place])
            spent_s[gate] += perf_counter() - began
            sources[gate].append(sources[gate][-1] if what == STILL else place)
    count = len(answers)
    if count < 2:
        raise InputError(f"{name} has {count} frames; reuse between frames needs two or more")
    return Replayed(
        name,
        answers,
        np.array(times_s),
        {gate: np.array(found) for gate, found in sources.items()},
        1e3 * dense_s / count,
        {gate: 1e3 * (picture_s + spent) / count for gate, spent in spent_s.items()},
        held,
    )
