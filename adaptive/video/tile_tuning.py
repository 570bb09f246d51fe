"""Thresholds of tiles, tuned from the front of a network to its back against a stated loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Sequence

import numpy as np

from adaptive.engines.tiles.engine import TileEngine
from adaptive.engines.tiles.state import Thresholds
from adaptive.errors import InputError

#: From a network's own outputs for a frame and those with tiles, what was lost, 0..1; not a number
#: where the frame tells nothing, as one without boxes.
Loss = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], float]

#: Thresholds that are tried, as shares of a map's deviation.
STEPS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 1.0)

#: Times as fast from which tiles are worth their memory.
WORTH = 1.1

#: Groups of maps that share a threshold, beside the input.
GROUPS = 5


@dataclass(frozen=True)
class TunedTiles:
    """What tuning came to.

    thresholds : of each map
    loss : mean over the clips' frames
    speed_up : by the costs that were measured when the network was opened
    tried : how many settings were run
    """

    thresholds: Thresholds
    loss: float
    speed_up: float
    tried: int

    @property
    def pays(self) -> bool:
        """Whether it is worth its trouble; else let the gate alone answer."""
        return self.speed_up >= WORTH


def total_variation(dense: Sequence[np.ndarray], tiles: Sequence[np.ndarray]) -> float:
    """Half the sum of the differences of two answers' probabilities, of logits by a softmax."""
    first, second = _probabilities(dense[0]), _probabilities(tiles[0])
    return float(np.abs(first - second).sum() / 2)


def disagreement(dense: Sequence[np.ndarray], tiles: Sequence[np.ndarray]) -> float:
    """1 where the likeliest class is another one, else 0."""
    return float(np.argmax(dense[0]) != np.argmax(tiles[0]))


def _probabilities(raw: np.ndarray) -> np.ndarray:
    values = raw.ravel().astype(np.float64)
    if values.min() >= 0 and abs(values.sum() - 1) < 1e-3:
        return values
    grown = np.exp(values - values.max())
    return np.asarray(grown / grown.sum())


def tuned_tiles(
    engine: TileEngine,
    clips: Sequence[Sequence[np.ndarray]],
    bound: float,
    loss: Loss = disagreement,
    tell: Callable[[str], None] = lambda _: None,
) -> TunedTiles:
    """The thresholds that save most and lose at most `bound` on these clips.

    All begin at the largest common threshold that loses no more than half the bound. Then each
    group of maps, the input first and then from front to back, is raised step by step while that
    saves time and all the groups so far have lost no more than their part of what is left, as
    DeltaCNN does (Parger et al., CVPR 2022, section 3.4).

    Parameters
    ----------
    engine : the network, opened with its costs measured
    clips : frames in their order, each as the network reads it, with an axis of one before it
    bound : mean loss that is allowed
    loss : what a frame has lost
    tell : is told of every setting that was tried

    Raises
    ------
    InputError
        when there is no clip, or the engine's costs were not measured.
    """
    if not any(len(clip) > 1 for clip in clips):
        raise InputError("tiles are tuned on clips of two frames or more; none was given")
    if engine.costs is None or engine.dense_ms is None:
        raise InputError(f"{engine.name} was opened without measuring its costs")
    trial = _Trial(engine, clips, loss)
    names = list(engine.maps)
    groups = [names[:1], *_parts(names[1:], GROUPS)]
    values = [0.0] * len(groups)

    def tried(settings: Sequence[float]) -> TunedTiles:
        maps = {name: value for group, value in zip(groups, settings) for name in group}
        found = trial.run(Thresholds(0.0, maps))
        told = " ".join(f"{value:g}" for value in settings)
        tell(f"thresholds {told}: loss {found.loss:.4f}, {found.speed_up:.2f} times as fast")
        return found

    best = tried(values)
    for step in STEPS:
        found = tried([min(step, 0.1), *[step] * (len(groups) - 1)])
        if found.loss > bound / 2:
            break
        values, best = [min(step, 0.1), *[step] * (len(groups) - 1)], found
    for place in range(len(groups)):
        allowed = best.loss + max(bound - best.loss, 0) / (len(groups) - place)
        for step in STEPS:
            if step <= values[place]:
                continue
            raised = [*values[:place], step, *values[place + 1 :]]
            found = tried(raised)
            if found.loss > allowed:
                break
            if found.speed_up > best.speed_up:
                values, best = raised, found
    return TunedTiles(best.thresholds, best.loss, best.speed_up, trial.tried)


def _parts(names: Sequence[str], count: int) -> List[Sequence[str]]:
    edges = [round(k * len(names) / count) for k in range(count + 1)]
    return [names[a:b] for a, b in zip(edges, edges[1:]) if b > a]


class _Trial:
    """Runs settings over clips; what the network itself says of each frame is computed once."""

    def __init__(
        self, engine: TileEngine, clips: Sequence[Sequence[np.ndarray]], loss: Loss
    ) -> None:
        self.engine = engine
        self.clips = clips
        self.loss = loss
        self.wanted = [[engine.run(frame) for frame in clip] for clip in clips]
        self.tried = 0

    def run(self, thresholds: Thresholds) -> TunedTiles:
        """Run one setting; a clip's first frame, which is always computed, is not counted."""
        engine, losses, costs = self.engine, [], []
        assert engine.costs is not None
        assert engine.dense_ms is not None
        for clip, wanted in zip(self.clips, self.wanted):
            state = engine.state(thresholds, always=True)  # or what rests would lose nothing
            for number, frame in enumerate(clip):
                found = engine.run_streams([state], frame)
                if number:
                    losses.append(self.loss(wanted[number], found))
                    costs.append(min(engine.estimated_ms(state), engine.dense_ms))
        self.tried += 1
        mean = float(np.mean(costs))
        told = [loss for loss in losses if not np.isnan(loss)]
        lost = float(np.mean(told)) if told else 0.0
        return TunedTiles(thresholds, lost, engine.dense_ms / mean, self.tried)
