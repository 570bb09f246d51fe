"""`adaptive video identify`: who of a store is seen in a clip."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import click
from tqdm import tqdm

from adaptive.cli.identify import (
    People,
    least_option,
    networks_option,
    opened_networks,
    read_or_edit,
)
from adaptive.images.video import VideoReader
from adaptive.video.identified import identify


@click.command(name="identify")
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Names, embeddings.")
@networks_option
@click.option(
    "--detector",
    type=click.Path(path_type=Path),
    required=True,
    metavar="BUNDLE",
    help="Finds faces or persons.",
)
@least_option
@click.option(
    "--learn",
    is_flag=True,
    help="Update the means of those who are found, and add others as unknown-1, -2, ….",
)
@click.option("--every", type=click.IntRange(1), default=1, help="Each so-many-th frame only.")
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    clip: Path,
    store: Path,
    networks: Path,
    detector: Path,
    least: float,
    learn: bool,
    every: int,
    frames: int | None,
    as_json: bool,
) -> None:
    """Who of --store is seen in CLIP; it is only read without --learn.

    Exit code 1 where the clip ends early.
    """
    with read_or_edit(store, learn) as opened, opened_networks(
        opened, networks, detector, least
    ) as (
        embedders,
        parts,
    ):
        seen = People(as_json)
        with VideoReader(clip, live=False, every=every) as reader:
            bar = tqdm(islice(reader, frames), total=frames, disable=None, leave=False)
            for frame in bar:
                about = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
                for crop, box in parts(frame.image):
                    seen.show(about, box, identify(opened, embedders, crop, learn=learn))
            rest = reader.lost.rest
        click.echo(seen.summary(), err=as_json)
    if rest is not None:
        click.echo(f"left out: {rest}", err=True)
        sys.exit(1)
