"""`adaptive video reuse --tiles`: thresholds tuned on some clips, and their worth on others.

All is measured as a program sees it: `Router.classify` or `detect`, and streams with tiles, with
a gate and with both, in turn.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

import click
import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.candidate import Candidate
from adaptive.engines.tiles.engine import TileEngine
from adaptive.engines.tiles.state import Thresholds
from adaptive.errors import InputError
from adaptive.images.decoded import DecodedImage
from adaptive.images.preprocess import placed
from adaptive.images.video import VideoFrame
from adaptive.intervals import mean
from adaptive.routing.router import Router
from adaptive.tasks.detections import Detections
from adaptive.tasks.reading import Reading
from adaptive.video.gate import DIFFERENCE, FrameGate
from adaptive.video.replay import Replayed
from adaptive.video.reuse import BLOCK_S, block_means
from adaptive.video.sensitivity import SCORE, boxes_f1
from adaptive.video.tile_tuning import Loss, disagreement, tuned_tiles

#: Frames of each clip that thresholds are tuned on, at most.
TUNED_ON = 40

#: Answers no frame again.
NEVER = FrameGate(DIFFERENCE, 0, 0, 0)

#: Gives a clip's frames, so many at most.
Read = Callable[[Path, "int | None"], Iterable[VideoFrame]]


def tune(
    router: Router,
    tuning: Sequence[Path],
    read: Read,
    loss: float,
    frames: int | None,
    path: Path,
) -> Thresholds | None:
    """Tune the thresholds of the router's strongest network, and keep them; None where none pays.

    Raises
    ------
    InputError
        when a clip has fewer than two frames.
    EngineError
        when the network cannot be cut.
    """
    bundle = router.bundle
    name = bundle.reference or router.policy.candidates[-1]
    candidate = bundle.candidate(name)
    if candidate.remote is not None:
        raise InputError(f"{name} runs on another server; tiles are of networks that run here")
    detects = bundle.task == "detect"
    engine = TileEngine.open(bundle.folder / candidate.file)
    try:
        most = min(frames or TUNED_ON, TUNED_ON)
        images = [[router.decode(frame.image) for frame in read(clip, most)] for clip in tuning]
        shown = [[image.tensor(candidate.input) for image in clip] for clip in images]
        lost: Loss = disagreement
        if detects and any(images):
            (first, *_) = (image for clip in images for image in clip)
            lost = boxes_lost(candidate, engine.dense.outputs, first)
        found = tuned_tiles(engine, shown, loss, lost, lambda said: click.echo(said, err=True))
    finally:
        engine.close()
    if not found.pays:
        click.echo(
            f"{name}: {found.speed_up:.2f} times as fast by its own costs where {100 * loss:g}% "
            f"may be lost: tiles do not pay, leave them out; {path} is not written",
            err=True,
        )
        return None
    found.thresholds.write(path)
    click.echo(f"wrote {path}", err=True)
    return found.thresholds


def show(
    router: Router,
    clips: Sequence[Path],
    read: Read,
    thresholds: Thresholds,
    gate: FrameGate,
    frames: int | None,
    as_json: bool,
) -> None:
    """What tiles are worth on each clip, alone and behind a gate, and the gate alone.

    Raises
    ------
    InputError
        when a clip has fewer than two frames, or no network can be cut.
    """
    detects = router.bundle.task == "detect"
    plain = router.detect if detects else router.classify
    for number, clip in enumerate(clips):
        cameras = {
            "tiles": router.stream(f"{number}, tiles", NEVER, thresholds),
            f"the gate {gate}": router.stream(f"{number}, gate", gate),
            f"the gate {gate} and tiles": router.stream(f"{number}, both", gate, thresholds),
        }
        ways = {what: c.detect if detects else c.classify for what, c in cameras.items()}
        for told in worth_of(clip.name, read(clip, frames), plain, ways):
            click.echo(json.dumps(told) if as_json else words(told))
        for camera in cameras.values():
            camera.close()


def boxes_lost(candidate: Candidate, names: Sequence[str], image: DecodedImage) -> Loss:
    """What boxes of tiles lose: 1 - F1 with the network's own; not a number without any.

    image : of the clips; boxes of a frame are compared with each other, wherever they lie
    """
    output, spec = candidate.output, candidate.input
    assert isinstance(output, BoxOutput)
    reading = Reading.of(output)
    height, width, _ = image.source(spec).shape
    place, size = placed(height, width, spec), image.size

    def lost(dense: Sequence[np.ndarray], tiles: Sequence[np.ndarray]) -> float:
        own, found = (
            reading.boxes(dict(zip(names, raw)), spec.sides, place, size) for raw in (dense, tiles)
        )
        if not (own.scores >= SCORE).any() and not (found.scores >= SCORE).any():
            return float("nan")
        return 1 - boxes_f1(own, found)

    return lost


def worth_of(
    name: str,
    frames: Iterable[VideoFrame],
    plain: Callable[[np.ndarray], Any],
    ways: Mapping[str, Callable[..., Any]],
) -> List[Dict[str, Any]]:
    """What streams are worth on a clip: each frame is answered in all ways, in turn.

    Raises
    ------
    InputError
        when there are fewer than two frames.
    """
    answers: List[Any] = []
    worth: Dict[str, List[float]] = {what: [] for what in ways}
    spent_s = dict.fromkeys(ways, 0.0)
    times_s: List[float] = []
    plain_s = 0.0
    for frame in frames:
        began = perf_counter()
        answers.append(plain(frame.image))
        plain_s += perf_counter() - began
        for what, way in ways.items():
            began = perf_counter()
            found = way(frame.image, time_s=frame.time_s)
            spent_s[what] += perf_counter() - began
            worth[what].append(_agreement(answers[-1], found))
        times_s.append(frame.time_s)
    count = len(answers)
    if count < 2:
        raise InputError(f"{name} has {count} frames; reuse between frames needs two or more")
    clip = Replayed(name, answers, np.array(times_s), {}, 1e3 * plain_s / count, {}, 0)
    return [_told(clip, what, np.array(worth[what]), plain_s / spent_s[what]) for what in ways]


def _agreement(own: Any, found: Any) -> float:
    if isinstance(own, Detections):
        return boxes_f1(own, found)
    return float(found.label == own.label)


def _told(clip: Replayed, what: str, agrees: np.ndarray, speed_up: float) -> Dict[str, Any]:
    over = mean(block_means(agrees, clip.times_s))
    half = (over.high - over.low) / 2  # infinite where there is one block
    nth = clip.every_nth(1 / speed_up)
    agreement = float(agrees.mean())
    sure = None if clip.detects else clip.scores >= 0.5
    return {
        "clip": clip.name,
        "with": what,
        "frames": len(clip),
        "speed_up": speed_up,
        "agreement": agreement,
        "half_interval": half if np.isfinite(half) else None,
        "agreement_sure": float(agrees[sure].mean()) if sure is not None and sure.any() else None,
        "every_nth": nth,
        "pays": speed_up > 1 and agreement > nth,
    }


def words(told: Dict[str, Any]) -> str:
    """The same in two lines."""
    half, sure = told["half_interval"], told["agreement_sure"]
    interval = "one block" if half is None else f"± {100 * half:.1f}"
    high = "" if sure is None else f"; where the score is 0.5 or more {100 * sure:.1f}%"
    return (
        f"{told['clip']}: {told['frames']} frames, {told['speed_up']:.2f}x with {told['with']}, "
        f"agrees by {100 * told['agreement']:.1f}% ({interval}, 95%, over blocks of {BLOCK_S:g} s)"
        f"{high}\n"
        f"    every n-th frame at equal cost {100 * told['every_nth']:.1f}%: that "
        f"{'pays' if told['pays'] else 'does not pay, leave it out'}"
    )
