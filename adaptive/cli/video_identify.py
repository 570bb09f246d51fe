"""`adaptive video identify`: who of a store is seen in a clip."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click
from tqdm import tqdm

from adaptive.cli.people import (
    PeopleOptions,
    PeopleSeen,
    finding_options,
    json_option,
    learn_option,
    opened_people,
    oracle_option,
)
from adaptive.images.video import VideoReader


@click.command(name="identify")
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Names, embeddings.")
@finding_options(required=True)
@oracle_option
@learn_option
@click.option("--every", type=click.IntRange(1), default=1, help="Each so-many-th frame only.")
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames.")
@json_option
def command(
    clip: Path,
    store: Path,
    finding: PeopleOptions,
    oracle: Path | None,
    learn: bool,
    every: int,
    frames: int | None,
    as_json: bool,
) -> None:
    """Who of --store is seen in CLIP; it is only read without --learn.

    Exit code 1 where the clip ends early.
    """
    told = PeopleSeen(as_json)
    with opened_people(store, finding, learn, oracle) as people, VideoReader(
        clip, live=False, every=every
    ) as reader:
        for frame in tqdm(islice(reader, frames), total=frames, disable=None, leave=False):
            about = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
            for box, answer in people.answers(frame.image, learn):
                told.show(about, box, answer)
        rest = reader.lost.rest
    told.end([] if rest is None else [rest])
