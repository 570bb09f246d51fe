"""`adaptive video`: what reuse between a video's frames is worth, and what was seen in it."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, NoReturn, Sequence, Tuple

import click

from adaptive.cli.engines import engine_options
from adaptive.cli.frames import with_bar
from adaptive.cli.video_identify import command as identify_command
from adaptive.cli.video_index import command as index_command
from adaptive.cli.video_query import command as query_command
from adaptive.cli.video_tune_index import command as tune_index_command
from adaptive.engines.choose import EngineOptions
from adaptive.errors import InputError
from adaptive.files import refuse_existing, written_aside
from adaptive.images.video import VideoFrame, VideoReader
from adaptive.routing.router import Router
from adaptive.video.gate import FrameGate
from adaptive.video.replay import Replayed, replayed
from adaptive.video.reuse import BLOCK_S, TRIED, TRIED_BOXES, Worth, tuned, worth


@click.group(name="video")
def command() -> None:
    """What reuse between the frames of a video is worth, and what was seen in it."""


command.add_command(identify_command)
command.add_command(index_command)
command.add_command(query_command)
command.add_command(tune_index_command)


@command.command(name="reuse")
@click.argument(
    "clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIP..."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    help="It classifies, or finds boxes.",
)
@click.option(
    "--tune",
    "tuning",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CLIP",
    help="Choose the gate on this clip; may be given several times. CLIP... only report.",
)
@click.option(
    "--cross",
    is_flag=True,
    help="For each of CLIP..., choose the gate on the others, and show the default beside it.",
)
@click.option(
    "--loss",
    type=click.FloatRange(0, 1),
    default=0.015,
    show_default=True,
    help="With --tune or --cross: what agreement with computing may lose, on average over clips.",
)
@click.option(
    "--gate",
    metavar="GATE",
    help=f"Without them: COMPARE:THRESHOLD:SHARE:AGE_S, as {FrameGate()} (the default).",
)
@click.option(
    "--tiles",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Judge tiles with these thresholds; with --tune they are tuned first, and written where "
    "they pay.",
)
@click.option("--frames", type=click.IntRange(2), help="Of each clip, so many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write a page that shows each clip over time.",
)
@click.option("--force", is_flag=True, help="Replace an existing report or FILE.json.")
@engine_options
def reuse(
    clips: Tuple[Path, ...],
    bundle: Path,
    tuning: Tuple[Path, ...],
    cross: bool,
    loss: float,
    gate: str | None,
    tiles: Path | None,
    frames: int | None,
    as_json: bool,
    report: Path | None,
    force: bool,
    engines: EngineOptions,
) -> None:
    """Compute every frame of CLIPs, and say what a gate between frames would have saved.

    Beside it stands every n-th frame at equal cost, which a gate must beat. Of a bundle that finds
    boxes, agreement is F1 against the frame's own boxes at an overlap of 0.5, both of a score of
    0.3 or more. With --tiles, tiles are judged instead, alone and behind the gate. Exit code 1
    where a clip ends early.
    """
    if (tuning or cross) and gate is not None and tiles is None:
        raise InputError("--tune and --cross choose the gate; leave --gate out")
    if cross and (tuning or len(clips) < 2):
        raise InputError("--cross takes two clips or more, and no --tune")
    twice = {p.resolve() for p in tuning} & {p.resolve() for p in clips}
    if twice:
        raise InputError(f"{min(twice).name} tunes and reports; a clip may do one of them")
    if tiles is not None and (cross or report is not None):
        raise InputError(
            "--tiles takes the clips that tune with --tune, no --cross and no --report"
        )
    for made in (report, tiles if tuning else None):
        if made is not None:
            refuse_existing(made, force)
    rests: List[str] = []
    rows: List[Tuple[Replayed, FrameGate | None]] = []

    def row(clip: Replayed, chosen: FrameGate | None) -> None:
        rows.append((clip, chosen))
        _show(clip, chosen, as_json)

    with Router.load(bundle, engine=engines) as router:
        router.warm_up()
        if tiles is not None:
            from adaptive.cli import video_tiles
            from adaptive.engines.tiles.state import Thresholds

            read = partial(_frames, rests=rests)
            behind = FrameGate() if gate is None else FrameGate.parse(gate)
            kept = (
                video_tiles.tune(router, tuning, read, loss, frames, tiles)
                if tuning
                else Thresholds.read(tiles)
            )
            if kept is not None:
                video_tiles.show(router, clips, read, kept, behind, frames, as_json)
            _leave(rests)
        tried = [FrameGate(), *(TRIED_BOXES if router.bundle.task == "detect" else TRIED)]
        given = [] if gate is None else [FrameGate.parse(gate)]
        if cross:
            found = [_replay(router, path, tried, frames, rests) for path in clips]
            for clip in found:
                row(clip, tried[0])
                row(clip, _chosen([other for other in found if other is not clip], loss))
        else:
            if tuning:
                chosen = _chosen([_replay(router, p, tried, frames, rests) for p in tuning], loss)
                given = [] if chosen is None else [chosen]
            for path in clips if given or not tuning else ():
                one = given or [FrameGate()]
                row(_replay(router, path, one, frames, rests), one[0])
    if report is not None:
        from adaptive.report.video import video_page

        judged = [(clip, of) for clip, of in rows if of is not None]
        with written_aside(report) as aside:
            aside.write_text(video_page(judged, bundle.name), encoding="utf-8")
        click.echo(f"wrote {report}", err=True)
    _leave(rests)


def _leave(rests: Sequence[str]) -> NoReturn:
    """Say what was left out, and end."""
    for rest in rests:
        click.echo(f"left out: {rest}", err=True)
    sys.exit(1 if rests else 0)


def _chosen(clips: Sequence[Replayed], loss: float) -> FrameGate | None:
    """The gate that tuning takes; where none pays that is said."""
    found = tuned(clips, loss)
    if found is None:
        names = ", ".join(clip.name for clip in clips)
        click.echo(
            f"on {names} no gate loses at most {100 * loss:g}%, saves time and beats every n-th "
            "frame: reuse does not pay, compute every frame",
            err=True,
        )
    return found


def _replay(
    router: Router,
    path: Path,
    gates: Sequence[FrameGate],
    most: int | None,
    rests: List[str],
) -> Replayed:
    """One clip under each gate."""
    answer = router.detect if router.bundle.task == "detect" else router.classify
    return replayed(path.name, _frames(path, most, rests), answer, gates, router.view)


def _frames(path: Path, most: int | None, rests: List[str]) -> Iterator[VideoFrame]:
    """A clip's frames, with a bar on a terminal; what could not be read goes to `rests`."""
    with VideoReader(path, live=False) as reader:
        yield from with_bar(reader, most)
        if reader.lost.rest is not None:
            rests.append(reader.lost.rest)


def _show(clip: Replayed, gate: FrameGate | None, as_json: bool) -> None:
    """Print what a gate is worth on one clip; None is no gate at all."""
    if gate is None:
        told: Dict[str, Any] = {"clip": clip.name, "gate": None, "frames": len(clip)}
        computed = f"{clip.name}: {len(clip)} frames, every frame computed"
        click.echo(json.dumps(told) if as_json else computed)
        return
    found = worth(clip, gate)
    if as_json:
        click.echo(json.dumps(_values(clip, gate, found)))
        return
    of = found.agreement
    interval = f"{100 * of.low:.1f} to {100 * of.high:.1f}" if of.low > 0 else "one block"
    click.echo(
        f"{clip.name}: {len(clip)} frames, gate {gate}\n"
        f"    {found.speed_up:.2f}x, {100 * found.reused:.1f}% reused, the oldest "
        f"{found.worst_age_s:.2f} s; {clip.dense_ms:.1f} ms a frame, the gate "
        f"{clip.gate_ms[gate]:.2f} ms; a stream keeps {clip.picture_bytes:,} bytes and an answer\n"
        f"    {'F1 with its own boxes' if clip.detects else 'agrees on'} {100 * of.value:.1f}% "
        f"({interval}, 95%, over blocks of {BLOCK_S:g} s; at least {100 * found.at_least:.1f}%)"
    )
    if not clip.detects:
        bands = ", ".join(
            f"from {low:g} {100 * part:.1f}% ({100 * share:.0f}% of frames)"
            for low, (part, share) in found.bands.items()
        )
        click.echo(f"    by score: {bands}; total variation {found.variation:.3f}")
    click.echo(
        f"    every n-th frame at equal cost {100 * found.nth:.1f}%: reuse "
        f"{'pays' if found.pays else 'does not pay, compute every frame'}"
    )


def _values(clip: Replayed, gate: FrameGate, found: Worth) -> Dict[str, Any]:
    """What a gate is worth, as JSON values."""
    return {
        "clip": clip.name,
        "gate": str(gate),
        "frames": len(clip),
        "agreement": found.agreement.to_json(),
        "at_least": found.at_least,
        "bands": {str(low): band for low, band in found.bands.items()},
        "agreement_sure": found.sure,
        "variation": found.variation,
        "every_nth": found.nth,
        "speed_up": found.speed_up,
        "reused": found.reused,
        "worst_age_s": found.worst_age_s,
        "dense_ms": clip.dense_ms,
        "gate_ms": clip.gate_ms[gate],
        "bytes": clip.picture_bytes,
        "pays": found.pays,
    }
