"""`adaptive video index`: file what clips or a camera show, to be asked about later."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import List, Tuple

import click

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import positions
from adaptive.cli.engines import engine_options
from adaptive.cli.frames import frames_of, until_ctrl_c, with_bar
from adaptive.engines.choose import EngineOptions
from adaptive.errors import InputError
from adaptive.images.video import VideoReader
from adaptive.routing.crops import asking, detecting, policy_of
from adaptive.routing.router import Router
from adaptive.video.gate import FrameGate
from adaptive.video.index import BOXES, IndexSettings
from adaptive.video.index_writer import IndexWriter
from adaptive.video.ingest import Ingest, Ingested
from adaptive.video.lookers import BoxLooker, Looker, MovingLooker


@click.command(name="index")
@click.argument("clips", nargs=-1, type=click.Path(path_type=Path), metavar="[CLIP]...")
@click.option("--camera", metavar="SOURCE", help="Index a camera as it runs, until Ctrl-C.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="INDEX")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    help="Of detectors, which look at frames; or of classifiers, which look at what moves.",
)
@click.option(
    "--cheap",
    "names",
    multiple=True,
    metavar="CANDIDATE",
    help="Names what objects may be; several, exits too, are united. The bundle's first one when "
    "left out.",
)
@click.option(
    "--k",
    type=click.IntRange(1),
    help="Classes that an object is filed under: of each classifier 4, of all detectors 2.",
)
@click.option(
    "--least",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Score from which a detector's box is an object.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    help="Objects closer than this to a cluster's first join it: 0.05 for boxes, 0.4 for what "
    "moves.",
)
@click.option(
    "--gate",
    default=IndexSettings.gate,
    show_default=True,
    help="Frames in which nothing changed are not looked at; none looks at all.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Of the frames that the gate lets through, detectors look at each so-many-th; those "
    "between show what the last one did.",
)
@click.option("--name", metavar="CAMERA", help="The camera whose clips these are.")
@click.option(
    "--start", metavar="TIME", help="When the clip begins, as 2026-11-26T08:00:00, local time."
)
@click.option(
    "--limit-mb",
    type=click.FloatRange(1),
    help="Disk that INDEX may take; what was seen longest ago leaves first.",
)
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--patience", type=click.FloatRange(0), help="Seconds to wait for a lost camera.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@engine_options
def command(
    clips: Tuple[Path, ...],
    camera: str | None,
    output: Path,
    bundle: Path,
    names: Tuple[str, ...],
    k: int | None,
    least: float,
    threshold: float | None,
    gate: str,
    every: int,
    name: str | None,
    start: str | None,
    limit_mb: float | None,
    frames: int | None,
    patience: float | None,
    as_json: bool,
    engines: EngineOptions,
) -> None:
    """File what CLIPS, or a camera, show into INDEX, for `adaptive video query`.

    A second call adds to it, and goes on with a clip where a stopped call left it. Exit code 1
    where a clip ends early.
    """
    if bool(clips) == (camera is not None):
        raise InputError("name clips, or --camera SOURCE, and only one of them")
    if patience is not None and camera is None:
        raise InputError("--patience is how long --camera is waited for; name a camera")
    if start is not None and len(clips) != 1:
        raise InputError("--start is when one clip begins; name that clip alone")
    for path in clips:
        if not path.is_file():
            raise InputError(f"{path} is no file; name clips")
    gate = "" if gate == "none" else str(FrameGate.parse(gate))
    start_s = 0.0 if start is None else _when(start)
    read = Bundle.read(bundle)
    cheap = names or read.names[:1]
    positions(cheap, read.names, "the bundle")
    rests: List[str] = []
    with Router.load(bundle, policy=policy_of(cheap), engine=engines) as router:
        looker = looker_of(router, cheap, k, least)
        if threshold is None:
            threshold = 0.05 if looker.objects == BOXES else 0.4
        settings = settings_of(router, cheap, looker, threshold, gate, every)
        with IndexWriter(output, settings, limit_mb) as writer:
            ingest = Ingest(writer, looker)
            if camera is not None:
                with frames_of(camera, None, 1, patience) as reader:
                    source = reader.source.name  # without the password of its address
                    found = _camera(ingest, reader, name or source, source, frames)
                _show(source, found, as_json)
            for path in clips:
                with VideoReader(path, live=False) as reader:
                    found = ingest.clip(with_bar(reader, frames), path, name, start_s, frames)
                    if reader.lost.rest is not None:
                        rests.append(reader.lost.rest)
                _show(path.name, found, as_json)
    for rest in rests:
        click.echo(f"left out: {rest}", err=True)
    sys.exit(1 if rests else 0)


def looker_of(router: Router, names: Tuple[str, ...], k: int | None, least: float) -> Looker:
    """What looks at frames with these candidates of a router."""
    if router.bundle.task == "detect":
        return BoxLooker(detecting(router, names), least, 2 if k is None else k)
    labels = len(router.bundle.labels)
    return MovingLooker(asking(router, names), labels, min(4, labels) if k is None else k)


def settings_of(
    router: Router,
    names: Tuple[str, ...],
    looker: Looker,
    threshold: float,
    gate: str,
    every: int = 1,
) -> IndexSettings:
    """The settings of an index that this looker fills."""
    return IndexSettings(
        router.bundle.labels,
        tuple(names),
        tuple(router.bundle.candidate(name).sha256 for name in names),
        looker.width,
        looker.objects,
        looker.k,
        looker.least if isinstance(looker, BoxLooker) else 0.0,
        threshold,
        gate,
        every,
    )


def _camera(
    ingest: Ingest, reader: VideoReader, name: str, source: str, most: int | None
) -> Ingested:
    """A camera's frames until Ctrl-C, which ends it well."""

    with until_ctrl_c(islice(reader, most)) as frames:
        return ingest.camera(frames, name, source, lambda: reader.openings)


def _show(name: str, found: Ingested, as_json: bool) -> None:
    if as_json:
        told = {
            "clip": name,
            "frames": found.frames,
            "looked": found.looked,
            "objects": found.objects,
            "ms": {step: round(value, 3) for step, value in found.ms.items()},
        }
        click.echo(json.dumps(told))
    elif not found.frames:
        click.echo(f"{name}: is in the index already")
    else:
        steps = ", ".join(f"{step} {ms / found.frames:.1f}" for step, ms in found.ms.items())
        click.echo(
            f"{name}: {found.frames} frames, {found.looked} looked at, {found.objects} objects; "
            f"ms a frame: {steps}"
        )


def _when(text: str) -> float:
    """A local time as seconds since 1970."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as exc:
        raise InputError(f"{text!r} is no time such as 2026-11-26T08:00:00") from exc
