"""`adaptive profile`: run every candidate on labelled images and write the outcome table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adaptive.bundle import Bundle
from adaptive.files import refuse_existing
from adaptive.labelled import list_images
from adaptive.table import check_table_name


@click.command(name="profile")
@click.option(
    "--candidates",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with manifest.json, labels and ONNX files.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of images, one sub-folder a class unless --labels is given.",
)
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with columns image,label.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="X.csv")
@click.option("--features", default="all+extra", show_default=True, help="Features to record.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@click.option(
    "--probabilities/--no-probabilities",
    default=True,
    help="Keep whole probability vectors, which averaging and most signals need.",
)
@click.option("--force", is_flag=True, help="Replace an existing table.")
def command(
    candidates: Path,
    images: Path,
    labels: Path | None,
    output: Path,
    features: str,
    threads: int,
    limit: int | None,
    probabilities: bool,
    force: bool,
) -> None:
    """Run every candidate on labelled images, one by one, and record answers and times.

    Stopped, it goes on where it was when called again. Images that cannot be read are listed
    and left out; the exit code is then 1.
    """
    from adaptive.profiling import Profiler

    check_table_name(output)
    refuse_existing(output, force)
    bundle = Bundle.read(candidates)
    found = list_images(images, bundle.labels, labels, limit)
    profiler = Profiler(bundle, threads, features)
    left_out = profiler.profile(found, output, probabilities)
    profiler.close()
    click.echo(f"{output}: {len(found) - len(left_out)} images, {len(bundle.names)} candidates")
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if left_out else 0)
