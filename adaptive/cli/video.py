"""`adaptive video`: what reuse between a video's frames is worth, and what was seen in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

import click
from tqdm import tqdm

from adaptive.cli.engines import engine_options
from adaptive.cli.video_identify import command as identify_command
from adaptive.cli.video_index import command as index_command
from adaptive.cli.video_query import command as query_command
from adaptive.engines.choose import EngineOptions
from adaptive.errors import InputError
from adaptive.images.video import VideoFrame, VideoReader
from adaptive.routing.router import Router
from adaptive.video.gate import FrameGate
from adaptive.video.reuse import BLOCK_S, TRIED, Replayed, Worth, replayed, tuned, worth


@click.group(name="video")
def command() -> None:
    """What reuse between the frames of a video is worth, and what was seen in it."""


command.add_command(identify_command)
command.add_command(index_command)
command.add_command(query_command)


@command.command(name="reuse")
@click.argument(
    "clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIP..."
)
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="It classifies.")
@click.option(
    "--tune",
    "tuning",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CLIP",
    help="Choose the gate on this clip; may be given several times. CLIP... only report.",
)
@click.option(
    "--loss",
    type=click.FloatRange(0, 1),
    default=0.015,
    show_default=True,
    help="With --tune: share of frames whose answer may be another than computing gives.",
)
@click.option(
    "--gate",
    metavar="GATE",
    help="Without --tune: COMPARE:THRESHOLD:SHARE:AGE_S, as difference:25:0.01:1 (the default).",
)
@click.option("--frames", type=click.IntRange(2), help="Of each clip, so many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@engine_options
def reuse(
    clips: Tuple[Path, ...],
    bundle: Path,
    tuning: Tuple[Path, ...],
    loss: float,
    gate: str | None,
    frames: int | None,
    as_json: bool,
    engines: EngineOptions,
) -> None:
    """Compute every frame of CLIPs, and say what a gate between frames would have saved.

    Beside it stands every n-th frame at equal cost, which a gate must beat. Exit code 1 where a
    clip ends early.
    """
    if tuning and gate is not None:
        raise InputError("--tune chooses the gate; leave --gate out")
    twice = {p.resolve() for p in tuning} & {p.resolve() for p in clips}
    if twice:
        raise InputError(f"{min(twice).name} tunes and reports; a clip may do one of them")
    rests: List[str] = []
    with Router.load(bundle, engine=engines) as router:
        router.warm_up()
        chosen: FrameGate | None = FrameGate() if gate is None else FrameGate.parse(gate)
        if tuning:
            chosen = tuned([_replay(router, p, TRIED, frames, rests) for p in tuning], loss)
            if chosen is None:
                click.echo(
                    f"no gate differs on at most {100 * loss:g}% of the frames, saves time and "
                    "beats every n-th frame: reuse does not pay, compute every frame"
                )
        if chosen is not None:
            for path in clips:
                clip = _replay(router, path, [chosen], frames, rests)
                _show(clip, chosen, worth(clip, chosen), as_json)
    for rest in rests:
        click.echo(f"left out: {rest}", err=True)
    sys.exit(1 if rests else 0)


def _replay(
    router: Router,
    path: Path,
    gates: Tuple[FrameGate, ...] | List[FrameGate],
    most: int | None,
    rests: List[str],
) -> Replayed:
    """One clip, with a bar on a terminal."""
    with VideoReader(path, live=False) as reader:
        found = replayed(path.name, _bounded(reader, most), router.classify, gates)
        if reader.lost.rest is not None:
            rests.append(reader.lost.rest)
    return found


def _bounded(reader: VideoReader, most: int | None) -> Iterator[VideoFrame]:
    name = reader.source.name
    with tqdm(total=most, desc=name, unit=" frames", disable=None, leave=False) as bar:
        for count, frame in enumerate(reader, start=1):
            yield frame
            bar.update()
            if count == most:
                return


def _show(clip: Replayed, gate: FrameGate, found: Worth, as_json: bool) -> None:
    """Print what a gate is worth on one clip."""
    if as_json:
        told = {
            "clip": clip.name,
            "gate": str(gate),
            "frames": len(clip.labels),
            "agreement": found.agreement.to_json(),
            "agreement_sure": found.sure,
            "every_nth": found.nth,
            "speed_up": found.speed_up,
            "reused": found.reused,
            "worst_age_s": found.worst_age_s,
            "dense_ms": clip.dense_ms,
            "gate_ms": clip.gate_ms[gate],
            "pays": found.pays,
        }
        click.echo(json.dumps(told))
        return
    of = found.agreement
    sure = "no such frame" if found.sure is None else f"{100 * found.sure:.1f}%"
    interval = f"{100 * of.low:.1f} to {100 * of.high:.1f}" if of.low > 0 else "one block"
    click.echo(
        f"{clip.name}: {len(clip.labels)} frames, gate {gate}\n"
        f"    {found.speed_up:.2f}x, {100 * found.reused:.1f}% reused, the oldest "
        f"{found.worst_age_s:.2f} s; {clip.dense_ms:.1f} ms a frame, the gate "
        f"{clip.gate_ms[gate]:.2f} ms\n"
        f"    agrees on {100 * of.value:.1f}% ({interval}, 95%, over blocks of {BLOCK_S:g} s); "
        f"where the score is 0.5 or more {sure}\n"
        f"    every n-th frame at equal cost agrees on {100 * found.nth:.1f}%: reuse "
        f"{'pays' if found.pays else 'does not pay, compute every frame'}"
    )
