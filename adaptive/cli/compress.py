"""`adaptive compress`: smaller copies of networks, as further candidates."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adaptive.bundle.bundle import Bundle, check_output
from adaptive.cli.training import needing_train
from adaptive.errors import InputError
from adaptive.outcomes.labelled import list_images, list_unlabelled


@click.command(name="compress")
@click.argument("candidates", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--tucker", is_flag=True, help="Decompose layers: Tucker-2, and SVD of 1 x 1 layers.")
@click.option("--prune", is_flag=True, help="Take filters out; needs --data.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Training images, train/CLASS/IMAGE and, if there is, test/CLASS/IMAGE. With --tucker "
    "the copies are fine-tuned on them.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="In place of --data: labelled images, none of which is trained on.",
)
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with columns image,label.")
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Repair on images of this folder; default the first of --images or --data.",
)
@click.option(
    "--keep",
    type=float,
    multiple=True,
    metavar="SHARE",
    help="With --tucker: a copy that keeps this share of the weights' variance, such as 0.8. "
    "Several times; then --max-loss is not searched for unless it is given.",
)
@click.option(
    "--max-loss",
    type=float,
    help="Top-1, as a share, that a copy may lose on the images of the search; default 0.01.",
)
@click.option(
    "--importance",
    type=click.Choice(["l1", "mask", "taylor", "random"]),
    default="l1",
    show_default=True,
    help="With --prune: what tells which filters go.",
)
@click.option(
    "--share",
    type=float,
    default=0.2,
    show_default=True,
    help="With --prune: of a layer's filters, those worth least, in one iteration.",
)
@click.option(
    "--vote",
    type=float,
    show_default="0.95",
    help="With masks: a filter goes when more than this share of the training images mask it.",
)
@click.option("--iterations", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--mask-epochs",
    metavar="N,N",
    show_default="2,3",
    help="With masks: masks alone, then with all.",
)
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Fine-tuning.")
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True)
@click.option("--learning-rate", type=float, default=0.02, show_default=True, help="Its peak.")
@click.option(
    "--device", default="cpu", show_default=True, help="That trains: cpu, cuda, or cuda:1."
)
@click.option(
    "--mixed/--full",
    default=None,
    help="Train in mixed or full precision; default mixed on CUDA, full on a CPU.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Copy this candidate; several times.")
@click.option(
    "--repair",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="So many images, labels unread, repair decomposed layers.",
)
@click.option(
    "--search",
    type=click.IntRange(1),
    help="So many images keep to --max-loss; default 300, or a tenth of the training images.",
)
@click.option(
    "--check",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="So many other images only report.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where a stopped run is taken up again; default DIR of --output with '-work'.",
)
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def command(
    candidates: Path,
    output: Path,
    tucker: bool,
    prune: bool,
    data: Path | None,
    images: Path | None,
    labels: Path | None,
    unlabelled: Path | None,
    keep: tuple[float, ...],
    max_loss: float | None,
    importance: str,
    share: float,
    vote: float | None,
    iterations: int,
    mask_epochs: str | None,
    epochs: int,
    batch: int,
    learning_rate: float,
    device: str,
    mixed: bool | None,
    only: tuple[str, ...],
    repair: int,
    search: int | None,
    check: int,
    threads: int,
    seed: int,
    work: Path | None,
    force: bool,
) -> None:
    """Write CANDIDATES and smaller copies of them as a folder of candidates.

    NAME-tucker90 keeps 0.9 of the weights' variance, NAME-tucker as little as --max-loss allows;
    a layer stays decomposed only where it is faster on this machine. NAME-pruned has fewer
    filters. Profile the folder to see whether they enter the front, and leave the images that
    compressed.json names out of the outcome table. The same command goes on after it was
    stopped. Needs the extra `train`.
    """
    check_output(output, force)
    if tucker == prune:
        raise InputError("give --tucker or --prune, one of them; copies of copies can follow")
    if (data is None) == (images is None):
        raise InputError("give --data with training images, or --images that only judge; one")
    if prune and data is None:
        raise InputError("--prune trains; give --data with train/CLASS/IMAGE")
    if importance != "mask" and (vote is not None or mask_epochs is not None):
        raise InputError("--vote and --mask-epochs belong to --prune --importance mask")
    if prune and keep:
        raise InputError("--keep belongs to --tucker")
    with needing_train("compressing a network"):
        import torch

        from adaptive.networks.compression.compressed import compress
        from adaptive.networks.compression.pruning import PruneRecipe
        from adaptive.networks.compression.recipes import (
            TuckerRecipe,
            labelled_material,
            training_material,
        )
        from adaptive.networks.training import TrainingRecipe, check_device

    torch.set_num_threads(threads)
    check_device(device)
    tune = TrainingRecipe(
        epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed,
        bfloat16=device.startswith("cuda") if mixed is None else mixed,
    )  # fmt: skip
    limit = 0.01 if max_loss is None and not keep else max_loss
    recipe: TuckerRecipe | PruneRecipe
    if tucker:
        recipe = TuckerRecipe(keep, limit, None if data is None else tune, threads, seed)
    else:
        recipe = PruneRecipe(
            importance, share, 0.95 if vote is None else vote,
            0.01 if limit is None else limit, iterations, _epochs(mask_epochs or "2,3"), tune, seed,
        )  # fmt: skip
    bundle = Bundle.read(candidates)
    if data is not None:
        material = training_material(data, bundle.labels, repair, search, check, seed)
    else:
        assert images is not None
        found = list_images(images, bundle.labels, labels)
        others = None if unlabelled is None else list_unlabelled(unlabelled)
        guiding = 0 if limit is None else search or 300
        material = labelled_material(found, repair, guiding, check, seed, others)
    folder = work or output.with_name(f"{output.name}-work")
    _, left_out = compress(
        bundle, material, output, recipe, folder, only, force, click.echo, device
    )
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if left_out else 0)


def _epochs(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise InputError(f"--mask-epochs {text!r} is not two numbers such as 2,3")
    return int(parts[0]), int(parts[1])
