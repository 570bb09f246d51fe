"""What reuse between frames would have been worth on a clip, beside every n-th frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

import numpy as np

from adaptive.intervals import Estimate, mean
from adaptive.tuning.certificate import Counts, bound_on_drop
from adaptive.video.gate import DIFFERENCE, HISTOGRAM, MARGIN, FrameGate
from adaptive.video.replay import Replayed

#: Seconds of a block: frames inside are not independent, blocks are taken to be.
BLOCK_S = 2.0

#: The lower bound on agreement fails with at most this probability.
DELTA = 0.05

#: Confidence bands that agreement is told by: from each of these scores to the next.
BANDS = (0.0, 0.25, 0.5, 0.75)

_AGES = (0.5, 1.0)

#: The gates that tuning tries: for classes, and for boxes, whose places change with every step.
TRIED = tuple(
    [
        FrameGate(MARGIN, part, share, age_s)
        for part in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.85, 1.0)
        for share in (0.1, 1.0)
        for age_s in _AGES
    ]
    + [
        FrameGate(DIFFERENCE, levels, share, age_s)
        for levels in (15.0, 25.0, 50.0)
        for share in (0.0, 0.01, 0.03)
        for age_s in _AGES
    ]
    + [FrameGate(HISTOGRAM, 0.01, share, age_s) for share in (0.0, 0.05) for age_s in _AGES]
)
TRIED_BOXES = tuple(
    [FrameGate(MARGIN, part) for part in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    + [
        FrameGate(DIFFERENCE, levels, share, age_s)
        for levels in (15.0, 25.0, 50.0)
        for share in (0.0, 0.005, 0.01, 0.03, 0.1)
        for age_s in (0.05, 0.1, 0.2, 0.5, 1.0)
    ]
)


@dataclass(frozen=True)
class Worth:
    """What a gate is worth on a clip.

    agreement : with computing every frame: of classes the share of frames with the same one, of
        boxes the mean F1; the interval is over blocks of seconds
    at_least : agreement that holds with probability 0.95 over blocks like these
    bands : for each confidence from which a band begins, agreement there and the share of frames
    variation : mean total variation of the probabilities; None for boxes
    nth : agreement of every n-th frame at equal cost
    speed_up : time without the gate over time with it, by measured means
    reused : share of frames
    worst_age_s : of a reused answer
    """

    agreement: Estimate
    at_least: float
    bands: Dict[float, Tuple[float, float]]
    variation: float | None
    nth: float
    speed_up: float
    reused: float
    worst_age_s: float

    @property
    def sure(self) -> float | None:
        """Agreement where computing gave a score of 0.5 or more; None without such frames."""
        parts = [part for low, part in self.bands.items() if low >= 0.5]
        frames = sum(share for _, share in parts)
        return sum(a * share for a, share in parts) / frames if frames else None

    @property
    def pays(self) -> bool:
        """Whether it saves time, and agrees more often than every n-th frame at equal cost."""
        return self.speed_up > 1 and self.agreement.value > self.nth


def worth(clip: Replayed, gate: FrameGate) -> Worth:
    """What a gate is worth on a clip."""
    sources = clip.sources[gate]
    agrees = clip.agreement(sources)
    each = block_means(agrees, clip.times_s)
    over = mean(each)
    half = (over.high - over.low) / 2
    value = float(agrees.mean())
    bands, variation = {}, None
    if not clip.detects:
        variation = float(clip.variation(sources).mean())
        scores = clip.scores
        for low, high in zip(BANDS, (*BANDS[1:], 2.0)):
            inside = (scores >= low) & (scores < high)
            if inside.any():
                bands[low] = float(agrees[inside].mean()), float(inside.mean())
    cost = clip.cost(gate)
    return Worth(
        Estimate(value, max(0.0, value - half), min(1.0, value + half)),
        max(0.0, 1 - bound_on_drop(Counts.of(np.ones(len(each)), each), DELTA)),
        bands,
        variation,
        clip.every_nth(cost),
        1 / cost,
        float(np.mean(sources != np.arange(len(sources)))),
        float((clip.times_s - clip.times_s[sources]).max()),
    )


def block_means(values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """The mean of each block of seconds, ndarray (blocks,)."""
    block = ((times_s - times_s[0]) // BLOCK_S).astype(int)
    return np.array([values[block == b].mean() for b in np.unique(block)])


def tuned(clips: Sequence[Replayed], loss: float) -> FrameGate | None:
    """The cheapest gate whose answers lose at most `loss` of the agreement, clip by clip mean.

    It must also save time, and agree more than every n-th frame at equal cost, over the clips
    together; None where no gate does.
    """
    best: Tuple[float, FrameGate] | None = None
    for gate in clips[0].sources:
        cost = float(np.mean([clip.cost(gate) for clip in clips]))
        if cost >= (1.0 if best is None else best[0]):
            continue
        agreement = np.mean([clip.agreement(clip.sources[gate]).mean() for clip in clips])
        if 1 - agreement > loss:
            continue
        if agreement > np.mean([clip.every_nth(clip.cost(gate)) for clip in clips]):
            best = cost, gate
    return None if best is None else best[1]
