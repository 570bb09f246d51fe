"""`adaptive video reuse --tiles`: thresholds tuned on some clips, and their worth on others.

Both are measured as a program sees it: `Router.classify` and a stream with tiles, in turn.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Iterable, List, Sequence

import click
import numpy as np

from adaptive.bundle.outputs import require_task
from adaptive.engines.tiles.engine import TileEngine
from adaptive.errors import InputError
from adaptive.images.video import VideoFrame
from adaptive.intervals import mean
from adaptive.routing.router import Router
from adaptive.video.gate import DIFFERENCE, FrameGate
from adaptive.video.replay import Replayed
from adaptive.video.reuse import BLOCK_S, block_means
from adaptive.video.tile_tuning import tuned_tiles

#: Frames of each clip that thresholds are tuned on, at most.
TUNED_ON = 40

#: Answers no frame again.
NEVER = FrameGate(DIFFERENCE, 0, 0, 0)

#: Gives a clip's frames, so many at most.
Read = Callable[[Path, "int | None"], Iterable[VideoFrame]]


def tune_and_show(
    router: Router,
    clips: Sequence[Path],
    tuning: Sequence[Path],
    read: Read,
    loss: float,
    frames: int | None,
    path: Path,
    as_json: bool,
) -> None:
    """Tune the thresholds of the router's strongest network, keep them, and show their worth.

    Raises
    ------
    InputError
        when the bundle finds boxes, or a clip has fewer than two frames.
    EngineError
        when the network cannot be cut.
    """
    bundle = router.bundle
    require_task(bundle.folder.name, bundle.task, "classify")
    name = bundle.reference or router.policy.candidates[-1]
    candidate = bundle.candidate(name)
    if candidate.remote is not None:
        raise InputError(f"{name} runs on another server; tiles are of networks that run here")
    engine = TileEngine.open(bundle.folder / candidate.file)
    try:
        most = min(frames or TUNED_ON, TUNED_ON)
        shown = [
            [router.decode(frame.image).tensor(candidate.input) for frame in read(clip, most)]
            for clip in tuning
        ]
        found = tuned_tiles(engine, shown, loss, tell=lambda said: click.echo(said, err=True))
    finally:
        engine.close()
    if not found.pays:
        click.echo(
            f"{name}: {found.speed_up:.2f} times as fast by its own costs where {100 * loss:g}% "
            f"may be lost: tiles do not pay, leave them out; {path} is not written",
            err=True,
        )
        return
    found.thresholds.write(path)
    click.echo(f"wrote {path}", err=True)
    for number, clip in enumerate(clips):
        camera = router.stream(f"{number}", NEVER, found.thresholds)
        told = worth_of(clip.name, read(clip, frames), router.classify, camera.classify)
        camera.close()
        click.echo(json.dumps(told) if as_json else words(told))


def worth_of(
    name: str,
    frames: Iterable[VideoFrame],
    plain: Callable[[np.ndarray], Any],
    tiled: Callable[..., Any],
) -> dict[str, Any]:
    """What tiles are worth on a clip: each frame is answered both ways, in turn.

    Raises
    ------
    InputError
        when there are fewer than two frames.
    """
    answers: List[Any] = []
    same: List[bool] = []
    times_s: List[float] = []
    plain_s = tiled_s = 0.0
    for frame in frames:
        began = perf_counter()
        answers.append(plain(frame.image))
        between = perf_counter()
        found = tiled(frame.image, time_s=frame.time_s)
        tiled_s += perf_counter() - between
        plain_s += between - began
        same.append(found.label == answers[-1].label)
        times_s.append(frame.time_s)
    count = len(answers)
    if count < 2:
        raise InputError(f"{name} has {count} frames; reuse between frames needs two or more")
    speed_up, agrees, times = plain_s / tiled_s, np.array(same, float), np.array(times_s)
    clip = Replayed(name, answers, times, {}, 1e3 * plain_s / count, {}, 0)
    over = mean(block_means(agrees, times))
    half = (over.high - over.low) / 2  # infinite where there is one block
    nth = clip.every_nth(1 / speed_up)
    agreement = float(agrees.mean())
    return {
        "clip": name,
        "frames": count,
        "speed_up": speed_up,
        "agreement": agreement,
        "half_interval": half if np.isfinite(half) else None,
        "every_nth": nth,
        "pays": speed_up > 1 and agreement > nth,
    }


def words(told: dict[str, Any]) -> str:
    """The same in two lines."""
    half = told["half_interval"]
    interval = "one block" if half is None else f"± {100 * half:.1f}"
    return (
        f"{told['clip']}: {told['frames']} frames, {told['speed_up']:.2f}x with tiles, agrees on "
        f"{100 * told['agreement']:.1f}% ({interval}, 95%, over blocks of {BLOCK_S:g} s)\n"
        f"    every n-th frame at equal cost {100 * told['every_nth']:.1f}%: tiles "
        f"{'pay' if told['pays'] else 'do not pay, leave them out'}"
    )
