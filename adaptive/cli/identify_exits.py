"""`adaptive identify train-exits`: exits for an embedding network that others trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Iterator, List, Tuple

import click
import numpy as np

from adaptive.cli.classify import listed
from adaptive.cli.features import ImagePath
from adaptive.cli.people import Box, PeopleOptions, end, finding_options, images_of, opened_parts
from adaptive.cli.training import needing_train
from adaptive.errors import InputError
from adaptive.files import refuse_existing
from adaptive.images.video import VideoReader
from adaptive.video.embedding import read_embedding_files, whole_network


@click.command(name="train-exits")
@click.argument("images", nargs=-1, type=ImagePath(), metavar="[IMAGE_OR_DIR]...")
@click.option(
    "--clip",
    "clips",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A video file to take frames from as well; may be repeated.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Each so-many-th frame of a clip only.",
)
@finding_options()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to write: networks.json, and a file for each exit.",
)
@click.option("--network", help="Which of --networks gets exits, where it lists several.")
@click.option(
    "--exits",
    default="0.2,0.45",
    show_default=True,
    metavar="PLACE,...",
    help="Of each early exit the value in the network where it sits, or a share of the network's "
    "multiply-adds; the last exit is the network's own answer.",
)
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=3e-3)
@click.option(
    "--views",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Of each crop: as it is cut, and others a little beside it and mirrored.",
)
@click.option("--width", type=click.IntRange(8, 1024), default=128, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of torch; 0 leaves its own choice.",
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where a stopped run is taken up again; default DIR of --output with '-checkpoints'.",
)
@click.option("--force", is_flag=True, help="Replace a folder that is there.")
def command(
    images: Tuple[Path, ...],
    clips: Tuple[Path, ...],
    every: int,
    finding: PeopleOptions,
    output: Path,
    network: str | None,
    exits: str,
    epochs: int,
    batch: int,
    learning_rate: float,
    views: int,
    width: int,
    seed: int,
    threads: int,
    checkpoints: Path | None,
    force: bool,
) -> None:
    """Give an embedding network exits that learn, from crops without names, its last embedding.

    Crops come from images (folders with all below them) and --clip, cut out by --detector. The
    network itself stays as it is. What it makes of the crops is kept in --checkpoints until the
    training has ended; the same command goes on from there after it was stopped. Needs the extra
    `train`. Exit code 1 where an image cannot be read.
    """
    if not images and not clips:
        raise InputError("there are no images and no --clip to learn from")
    refuse_existing(output, force)
    paths, passed = listed(images) if images else ([], [])
    with needing_train():
        import torch

        from adaptive.networks.embedding_crops import CropSource
        from adaptive.networks.embedding_exits import HeadRecipe, train_embedding_exits
    if threads:
        torch.set_num_threads(threads)
    whole = whole_network(read_embedding_files(finding.networks), network)
    recipe = HeadRecipe(epochs, batch, learning_rate, 0.05, views, width, seed)

    def sources() -> Iterator[CropSource]:
        for _, image in images_of(paths, passed):
            yield CropSource(image)
        for clip in clips:
            with VideoReader(clip, live=False, every=every) as reader:
                for frame in reader:
                    yield CropSource(frame.image, True)

    names = [[str(path) for path in paths], [str(clip) for clip in clips]]
    told = json.dumps([*names, every, finding.least, finding.label])
    about = hashlib.sha256(told.encode()).hexdigest()
    with opened_parts(finding) as parts:

        def find(image: np.ndarray) -> List[Box]:
            return [box for _, box in parts(image)]

        train_embedding_exits(
            sources(),
            find,
            whole,
            [_place(text) for text in exits.split(",")],
            output,
            recipe,
            checkpoints or output.with_name(f"{output.name}-checkpoints"),
            about,
            None if clips else len(paths),
            click.echo,
        )
    end(passed)


def _place(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
