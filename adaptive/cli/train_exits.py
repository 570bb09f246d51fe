"""`adaptive train-exits`: train a network that answers at several depths."""

from __future__ import annotations

from pathlib import Path

import click

from adaptive.cli.training import needing_train, training_options
from adaptive.errors import InputError

NETWORKS = ("small", "resnet18", "resnet50", "mobilenet_v2")


@click.command(name="train-exits")
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of candidates to write, one for each exit.",
)
@click.option("--network", type=click.Choice(NETWORKS), default="small", show_default=True)
@click.option("--name", help="Of the candidates, NAME@1 and so on; default the network's.")
@click.option(
    "--exits",
    metavar="LAYER,...",
    help="Layers of the early exits, as torch names them; the last exit is the network's own. "
    "Not for `small`.",
)
@click.option("--join/--no-join", default=True, help="Aggregation between exits; default on.")
@click.option(
    "--loss",
    type=click.Choice(["cross-entropy", "focal"]),
    default="cross-entropy",
    show_default=True,
)
@click.option("--gamma", type=float, help="Of the focal loss; default 2.")
@click.option(
    "--distil",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of each exit's loss that is its distance from the last exit, 0 to 1.",
)
@click.option("--temperature", type=float, default=3.0, show_default=True, help="For --distil.")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="ONNX",
    help="A larger network whose answers the exits learn too; it reads uint8 images of --size.",
)
@click.option("--teach", type=float, help="The teacher's share of the loss, 0 to 1; default 0.5.")
@click.option("--exit-weights", metavar="W,...", help="One for each exit; default 1 each.")
@click.option(
    "--weights",
    help="Begin with these: a file with a state_dict, or the name of torchvision's weights, such "
    "as DEFAULT. Not for `small`.",
)
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True)
@click.option("--learning-rate", type=float, help="Its peak; default 0.2, or 0.02 with --weights.")
@click.option("--size", type=click.IntRange(8), help="Side of the images; default 32, or 224.")
@training_options
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, or cuda:1.")
@click.option(
    "--mixed/--full",
    default=None,
    help="Mixed or full precision; default mixed on CUDA, full on a CPU.",
)
@click.option("--force", is_flag=True, help="Replace an existing folder of candidates.")
def command(
    data: Path,
    output: Path,
    network: str,
    name: str | None,
    exits: str | None,
    join: bool,
    loss: str,
    gamma: float | None,
    distil: float,
    temperature: float,
    teacher: Path | None,
    teach: float | None,
    exit_weights: str | None,
    weights: str | None,
    epochs: int,
    batch: int,
    learning_rate: float | None,
    size: int | None,
    held_out: int | None,
    seed: int,
    device: str,
    threads: int,
    mixed: bool | None,
    checkpoints: Path | None,
    force: bool,
) -> None:
    """Train a network with exits on DATA and write its segments as candidates.

    DATA holds `train/CLASS/IMAGE` and, optionally, `test/CLASS/IMAGE`. The same command goes on
    from its checkpoint after it was stopped. `held_out.csv` in the folder lists the training
    images that the network has not seen: profile and tune on those. Needs the extra `train`.
    """
    if gamma is not None and loss != "focal":
        raise InputError("--gamma belongs to --loss focal")
    if teach is not None and teacher is None:
        raise InputError("--teach belongs to --teacher")
    if network == "small" and (exits or weights):
        raise InputError("the small network has its own exits and no pretrained weights")
    with needing_train():
        from adaptive.networks.exit_training import ExitDesign, train_exits
        from adaptive.networks.losses import ExitLoss
        from adaptive.networks.training import TrainingRecipe

    if threads:
        import torch

        torch.set_num_threads(threads)
    design = ExitDesign(
        network,
        name or network,
        size or (32 if network == "small" else 224),
        tuple(exits.split(",")) if exits else None,
        join,
        weights,
    )
    own = ExitLoss(
        _numbers(exit_weights),
        (2.0 if gamma is None else gamma) if loss == "focal" else 0.0,
        distil,
        temperature,
        0.0 if teacher is None else 0.5 if teach is None else teach,
    )
    recipe = TrainingRecipe(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate or (0.02 if weights else 0.2),
        bfloat16=device.startswith("cuda") if mixed is None else mixed,
        seed=seed,
    )
    folder = checkpoints or output.with_name(f"{output.name}-checkpoints")
    train_exits(
        data, output, design, own, recipe, folder, held_out, device, force, teacher, click.echo
    )


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as exc:
        raise InputError(f"--exit-weights {text!r} is not a list of numbers such as 1,1,2") from exc
