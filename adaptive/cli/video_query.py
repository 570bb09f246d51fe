"""`adaptive video query`: where and when something was seen, by an index of video."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import click

from adaptive.cli.engines import engine_options
from adaptive.engines.choose import EngineOptions
from adaptive.errors import InputError
from adaptive.files import refuse_existing, written_aside
from adaptive.images.drawing import encoded
from adaptive.images.video import VideoReader
from adaptive.opencv import cv2
from adaptive.policy.fixed import Fixed
from adaptive.report.seen import clock, seen_page
from adaptive.routing.crops import judging
from adaptive.routing.router import Router
from adaptive.video.index import CLIP, Clip, VideoIndex
from adaptive.video.ingest import print_of
from adaptive.video.query import Interval, QueryAnswer, ask, kinds_of


@click.command(name="query")
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("labels", nargs=-1, metavar="[CLASS]...")
@click.option("--bundle", type=click.Path(path_type=Path), help="It judges; of the same classes.")
@click.option(
    "--strong",
    metavar="CANDIDATE",
    help="This one judges, instead of the bundle's own policy.",
)
@click.option("--camera", "cameras", multiple=True, metavar="CAMERA", help="Only what it saw.")
@click.option(
    "--from",
    "since",
    metavar="TIME",
    help="Only what was seen from then on: 75, 1:15 or 1:02:03 in a clip, or a time such as "
    "2026-11-26T08:00:00.",
)
@click.option("--to", "until", metavar="TIME", help="Only what was seen until then.")
@click.option(
    "--gap",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Make one interval of two that are no further apart.",
)
@click.option(
    "--thumbnails",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write each interval's first frame there; the clips must still be there.",
)
@click.option(
    "--clips",
    "moved",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --thumbnails: where the clips are now.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page there that shows where and when.",
)
@click.option("--classes", is_flag=True, help="List the classes that INDEX has objects of.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@engine_options
def command(
    index: Path,
    labels: Tuple[str, ...],
    bundle: Path | None,
    strong: str | None,
    cameras: Tuple[str, ...],
    since: str | None,
    until: str | None,
    gap: float,
    thumbnails: Path | None,
    moved: Path | None,
    page: Path | None,
    classes: bool,
    as_json: bool,
    force: bool,
    engines: EngineOptions,
) -> None:
    """Where and when something of a CLASS was seen; of several classes, any of them.

    The strong network sees the centroids of clusters only. Exit code 1 where a thumbnail cannot be
    made since it is a camera's, whose frames are not kept.
    """
    if page is not None:
        refuse_existing(page, force)
    if moved is not None and thumbnails is None:
        raise InputError("--clips says where --thumbnails finds the clips; give that too")
    with VideoIndex(index) as opened:
        known = opened.settings.labels
        if classes:
            _list(opened, as_json)
            return
        kinds_of(labels, known)
        from_s, to_s = _time(since, -math.inf), _time(until, math.inf)
        if bundle is None:
            raise InputError("--bundle FOLDER has the network that judges; name it")
        policy = None if strong is None else Fixed((strong,))
        with Router.load(bundle, policy=policy, engine=engines) as router:
            if router.bundle.labels != known:
                raise InputError(
                    f"bundle {bundle} has other classes than {index}; judge with a network of the "
                    "classes that it was made with"
                )
            router.warm_up()
            seen = ask(
                opened,
                labels,
                judging(router),
                cameras=cameras,
                from_s=from_s,
                to_s=to_s,
                gap_s=gap,
            )
        clips = opened.clips()
    if as_json:
        click.echo(json.dumps(seen.to_json()))
    else:
        _show(seen)
    if page is not None:
        with written_aside(page) as aside:
            aside.write_text(seen_page(seen, clips), encoding="utf-8")
    omitted = 0
    if thumbnails is not None:  # last: the answer stands, whether or not the clips are still there
        omitted = write_thumbnails(thumbnails, seen.intervals, moved, force)
    if omitted:
        click.echo(f"left out: thumbnails of {omitted} intervals, seen by cameras", err=True)
        sys.exit(1)


def write_thumbnails(
    folder: Path, intervals: Sequence[Interval], moved: Path | None, force: bool
) -> int:
    """Write each interval's first frame, with its box; how many were left out.

    moved : where the clips are now, by their names

    Raises
    ------
    InputError
        when a clip is not where it was, or is another one now.
    """
    wanted: Dict[Clip, List[Tuple[int, Interval]]] = defaultdict(list)
    for number, interval in enumerate(intervals, start=1):
        wanted[interval.clip].append((number, interval))
    paths = {clip: _found(clip, moved) for clip in wanted if clip.kind == CLIP}
    folder.mkdir(parents=True, exist_ok=True)
    for clip, path in paths.items():
        pending = sorted(wanted[clip], key=lambda pair: pair[1].first_frame)
        with VideoReader(path, live=False) as reader:
            for frame in reader:
                while pending and pending[0][1].first_frame <= frame.number:
                    number, interval = pending.pop(0)
                    target = folder / f"{number:05d}-{Path(clip.name).stem}-{frame.number}.jpg"
                    refuse_existing(target, force)
                    pixels = frame.image.copy()
                    x1, y1, x2, y2 = interval.box
                    cv2.rectangle(pixels, (x1, y1), (x2, y2), (230, 60, 50), 2)
                    target.write_bytes(encoded(pixels))
                if not pending:
                    break
    return sum(len(own) for clip, own in wanted.items() if clip.kind != CLIP)


def _found(clip: Clip, moved: Path | None) -> Path:
    """Where a clip is."""
    path = Path(clip.path) if moved is None else moved / clip.name
    cure = "--clips DIR says where it is now, or leave --thumbnails out"
    if not path.is_file():
        raise InputError(f"the clip {clip.name!r} is not at {path} any more; {cure}")
    if print_of(path) != clip.print:
        raise InputError(f"{path} is not the clip {clip.name!r} that was indexed; {cure}")
    return path


def _list(index: VideoIndex, as_json: bool) -> None:
    counts = {index.settings.labels[kind]: count for kind, count in index.classes().items()}
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    if as_json:
        click.echo(json.dumps(dict(ordered)))
        return
    for label, count in ordered:
        click.echo(f"{label}: may be in {count} clusters")
    if not ordered:
        click.echo("nothing is indexed yet, or nothing was found in it")


def _show(seen: QueryAnswer) -> None:
    for interval in seen.intervals:
        start_s = interval.clip.start_s
        box = " ".join(map(str, interval.box))
        click.echo(
            f"{interval.clip.camera}  {clock(interval.from_s, start_s)} to "
            f"{clock(interval.to_s, start_s)}  frames {interval.first_frame} to "
            f"{interval.last_frame} of {interval.clip.name}, within {box}"
        )
    click.echo(
        f"{len(seen.intervals)} intervals; {seen.right} of {seen.judged} centroids are right, of "
        f"{seen.clusters} clusters; {seen.pictures} pictures judged in {seen.ms['network']:.0f} "
        f"ms, {seen.ms['total']:.0f} ms in all"
    )


def _time(text: str | None, default: float) -> float:
    """Seconds of a time in a clip, or since 1970."""
    if text is None:
        return default
    try:
        if "-" in text:
            return datetime.fromisoformat(text).timestamp()
        parts = [float(part) for part in text.split(":")]
        if len(parts) > 3 or not all(math.isfinite(part) and part >= 0 for part in parts):
            raise ValueError(text)
        return sum(part * 60.0**place for place, part in enumerate(reversed(parts)))
    except (ValueError, OverflowError, OSError) as exc:
        raise InputError(
            f"{text!r} is no time; 75, 1:15, 1:02:03 or 2026-11-26T08:00:00 is"
        ) from exc
