"""What reuse between frames would have been worth on a clip, beside every n-th frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Callable, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from adaptive.errors import InputError
from adaptive.images.video import VideoFrame
from adaptive.intervals import Estimate, mean
from adaptive.prediction import Prediction
from adaptive.video.gate import DIFFERENCE, HISTOGRAM, STILL, FrameGate, change, look

#: Seconds of a block: frames inside are not independent, blocks are taken to be.
BLOCK_S = 2.0

#: The gates that tuning tries.
TRIED = tuple(
    [
        FrameGate(DIFFERENCE, levels, share, age_s)
        for levels in (15.0, 25.0, 35.0, 50.0)
        for share in (0.0, 0.01, 0.015, 0.02, 0.03)
        for age_s in (0.5, 1.0)
    ]
    + [
        FrameGate(HISTOGRAM, distance, share, age_s)
        for distance in (0.005, 0.01, 0.02)
        for share in (0.0, 0.05)
        for age_s in (0.5, 1.0)
    ]
)


@dataclass(frozen=True)
class Replayed:
    """A clip's answers, all computed, and which of them each gate would have given.

    labels : of each frame, as the network says it; "" where it abstained
    scores, times_s : ndarray (frames,)
    sources : for each gate, ndarray (frames,): the frame whose answer it gives
    dense_ms : mean time of computing a frame
    gate_ms : for each gate, mean time of looking at a frame
    """

    name: str
    labels: np.ndarray
    scores: np.ndarray
    times_s: np.ndarray
    sources: Dict[FrameGate, np.ndarray]
    dense_ms: float
    gate_ms: Dict[FrameGate, float]

    def agrees(self, sources: np.ndarray) -> np.ndarray:
        """For each frame, whether the answer is that of computing it."""
        return np.asarray(self.labels[sources] == self.labels)

    def cost(self, gate: FrameGate) -> float:
        """Time with the gate as a share of the time without."""
        sources = self.sources[gate]
        computed = float(np.mean(sources == np.arange(len(sources))))
        return computed + self.gate_ms[gate] / self.dense_ms

    def every_nth(self, cost: float) -> float:
        """Agreement of computing every n-th frame at a cost, mixed of the two nearest n."""
        count = len(self.labels)
        wanted = 1 / min(max(cost, 1 / count), 1.0)
        low = math.floor(wanted)
        high = low + 1
        first, second = (float(self.agrees(np.arange(count) // n * n).mean()) for n in (low, high))
        return first + (second - first) * (1 / low - 1 / wanted) / (1 / low - 1 / high)


@dataclass(frozen=True)
class Worth:
    """What a gate is worth on a clip.

    agreement : share of frames with the answer of computing them; the interval is over blocks of
        seconds
    sure : the same where computing gave a score of 0.5 or more; None without such frames
    nth : agreement of every n-th frame at equal cost
    speed_up : time without the gate over time with it, by measured means
    reused : share of frames
    worst_age_s : of a reused answer
    """

    agreement: Estimate
    sure: float | None
    nth: float
    speed_up: float
    reused: float
    worst_age_s: float

    @property
    def pays(self) -> bool:
        """Whether it saves time, and agrees more often than every n-th frame at equal cost."""
        return self.speed_up > 1 and self.agreement.value > self.nth


def replayed(
    name: str,
    frames: Iterable[VideoFrame],
    classify: Callable[[np.ndarray], Prediction],
    gates: Sequence[FrameGate],
) -> Replayed:
    """Compute every frame of a clip, and ask each gate what it would have done.

    Raises
    ------
    InputError
        when there are fewer than two frames.
    """
    labels: List[str] = []
    scores: List[float] = []
    times_s: List[float] = []
    kept: Dict[FrameGate, Tuple[np.ndarray, int]] = {}
    sources: Dict[FrameGate, List[int]] = {gate: [] for gate in gates}
    spent_s = dict.fromkeys(gates, 0.0)
    dense_s = 0.0
    for place, frame in enumerate(frames):
        began = perf_counter()
        answer = classify(frame.image)
        dense_s += perf_counter() - began
        labels.append("" if answer.label is None else answer.label)
        scores.append(answer.score or 0.0)
        times_s.append(frame.time_s)
        for gate in gates:
            began = perf_counter()
            small = look(frame.image, gate.compare)
            source = place
            if gate in kept:
                before, number = kept[gate]
                still = frame.time_s - times_s[number] <= gate.age_s
                if still and before.shape == small.shape:
                    source = number if change(before, small, gate).what == STILL else place
            spent_s[gate] += perf_counter() - began
            if source == place:
                kept[gate] = small, place
            sources[gate].append(source)
    count = len(labels)
    if count < 2:
        raise InputError(f"{name} has {count} frames; reuse between frames needs two or more")
    return Replayed(
        name,
        np.array(labels),
        np.array(scores),
        np.array(times_s),
        {gate: np.array(found) for gate, found in sources.items()},
        1e3 * dense_s / count,
        {gate: 1e3 * spent / count for gate, spent in spent_s.items()},
    )


def worth(clip: Replayed, gate: FrameGate) -> Worth:
    """What a gate is worth on a clip."""
    sources = clip.sources[gate]
    agrees = clip.agrees(sources)
    block = ((clip.times_s - clip.times_s[0]) // BLOCK_S).astype(int)
    over = mean(np.array([agrees[block == b].mean() for b in np.unique(block)]))
    half = (over.high - over.low) / 2
    value = float(agrees.mean())
    sure = clip.scores >= 0.5
    cost = clip.cost(gate)
    return Worth(
        Estimate(value, max(0.0, value - half), min(1.0, value + half)),
        float(agrees[sure].mean()) if sure.any() else None,
        clip.every_nth(cost),
        1 / cost,
        float(np.mean(sources != np.arange(len(sources)))),
        float((clip.times_s - clip.times_s[sources]).max()),
    )


def tuned(clips: Sequence[Replayed], loss: float) -> FrameGate | None:
    """The cheapest gate whose answers differ on at most a share `loss` of the clips' frames.

    It must also save time, and agree more often than every n-th frame at equal cost, over the
    clips together; None where no gate does.
    """
    frames = np.array([len(clip.labels) for clip in clips])
    best: Tuple[float, FrameGate] | None = None
    for gate in clips[0].sources:
        found = [worth(clip, gate) for clip in clips]
        agreement, nth, cost = (
            float(np.average(values, weights=frames))
            for values in (
                [w.agreement.value for w in found],
                [w.nth for w in found],
                [1 / w.speed_up for w in found],
            )
        )
        if 1 - agreement <= loss and agreement > nth and cost < (1.0 if best is None else best[0]):
            best = cost, gate
    return None if best is None else best[1]
