"""`adaptive quantize`: copies of networks in fewer bits, as further candidates."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from adaptive.bundle.bundle import Bundle, check_output
from adaptive.errors import MissingExtra
from adaptive.outcomes.labelled import list_images


@click.command(name="quantize")
@click.argument("candidates", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of images, one sub-folder a class unless --labels is given.",
)
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with columns image,label.")
@click.option(
    "--int8",
    "targets",
    multiple=True,
    type=click.Choice(["cpu", "arm", "tensorrt"]),
    help="Make an eight-bit copy for: any processor (cpu), ARM or x86 with VNNI (arm), TensorRT. "
    "May be given several times.",
)
@click.option(
    "--fp16-layers",
    is_flag=True,
    help="Make a copy with as many 16-bit convolutions as --max-loss allows.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="Top-1 that 16-bit convolutions may lose together, on the images of the search.",
)
@click.option(
    "--tables",
    is_flag=True,
    help="Also write NAME.calibration for `adaptive build --precision int8 --calibration`.",
)
@click.option(
    "--averaged",
    is_flag=True,
    help="Take eight-bit ranges as means over images, which cuts outliers off.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Copy this candidate; several times.")
@click.option(
    "--calibrate",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="So many images, the first, give the eight-bit ranges; of class folders, drawn from all.",
)
@click.option(
    "--search",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="So many images, the next, guide the choice of 16-bit convolutions.",
)
@click.option(
    "--check",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="So many images, after those, only report.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def command(
    candidates: Path,
    output: Path,
    images: Path,
    labels: Path | None,
    targets: tuple[str, ...],
    fp16_layers: bool,
    max_loss: float,
    tables: bool,
    averaged: bool,
    only: tuple[str, ...],
    calibrate: int,
    search: int,
    check: int,
    threads: int,
    force: bool,
) -> None:
    """Write CANDIDATES and copies of them in fewer bits as a folder of candidates.

    NAME-int8 computes in eight bits, NAME-fp16 in 16 bits where that loses little. Profile the
    folder to see whether they enter the front. Leave the images that calibrated or guided the
    search out of the outcome table; copies.json names them. A star marks what was simulated,
    because this processor computes otherwise. Needs the extra `train`.
    """
    check_output(output, force)
    try:
        from adaptive.networks.copies import CopyRecipe, make_copies
    except ImportError as exc:
        raise MissingExtra("quantising a network", exc.name or "onnx", "train") from exc

    recipe = CopyRecipe(
        targets, max_loss if fp16_layers else None, tables, averaged, calibrate, search, threads
    )
    bundle = Bundle.read(candidates)
    used = (calibrate if targets or tables else 0) + (search if fp16_layers else 0)
    found = list_images(images, bundle.labels, labels)
    order = np.arange(len(found))
    if labels is None:  # which come class by class
        order = np.random.default_rng(0).permutation(len(found))
    found = found.select(order[: used + check])
    _, left_out = make_copies(bundle, found, output, recipe, only, force, click.echo)
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if left_out else 0)
