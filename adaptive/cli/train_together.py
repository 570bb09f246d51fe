"""`adaptive train-together`: edges and a server learn without handing over images or weights."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adaptive.cli.training import needing_train, training_options


@click.command(name="train-together")
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Gets a folder of candidates for each edge.",
)
@click.option("--edges", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--split",
    default="iid",
    show_default=True,
    metavar="iid|dirichlet:ALPHA",
    help="How images are dealt: alike, or with classes that differ, the more the smaller ALPHA.",
)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--edge-epochs", type=click.IntRange(1), default=1, show_default=True, help="A round."
)
@click.option(
    "--server-epochs", type=click.IntRange(1), default=2, show_default=True, help="A round."
)
@click.option(
    "--depth", default=20, show_default=True, help="Layers of the server's ResNet: 20, 32, 56."
)
@click.option(
    "--maps",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float16",
    show_default=True,
    help="How feature maps travel.",
)
@click.option("--alpha", default=1.0, show_default=True, help="Weight of the other side's answers.")
@click.option("--temperature", default=3.0, show_default=True, help="Softens these.")
@click.option(
    "--way-back/--no-way-back", default=True, help="Whether the server answers the edges."
)
@click.option(
    "--balanced",
    is_flag=True,
    help="Learn as if every edge had every class equally often, for edges that differ in what "
    "they have and will all be asked about everything.",
)
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True)
@click.option("--learning-rate", default=0.02, show_default=True, help="Its peak.")
@click.option("--processes", is_flag=True, help="Edges as processes, over HTTP on this machine.")
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a round waits for an edge that has fallen out.",
)
@click.option(
    "--name", default="group", show_default=True, help="Of the candidates, NAME@1 and NAME@2."
)
@click.option(
    "--bfloat16", is_flag=True, help="Train in bfloat16: faster where the processor has it."
)
@click.option(
    "--device", default="cpu", show_default=True, help="That trains: cpu, cuda, or cuda:1."
)
@training_options
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def command(
    data: Path,
    output: Path,
    edges: int,
    split: str,
    rounds: int,
    edge_epochs: int,
    server_epochs: int,
    depth: int,
    maps: str,
    alpha: float,
    temperature: float,
    way_back: bool,
    balanced: bool,
    batch: int,
    learning_rate: float,
    processes: bool,
    patience: float,
    name: str,
    bfloat16: bool,
    device: str,
    held_out: int | None,
    seed: int,
    threads: int,
    checkpoints: Path | None,
    force: bool,
) -> None:
    """Let edges with small networks and a server with a large one learn together from DATA.

    DATA holds `train/CLASS/IMAGE` and, optionally, `test/CLASS/IMAGE`, of 32 x 32 pixels. Feature
    maps, answers and labels go up, answers come down; images and weights stay (FedGKT, He et al.
    2020). The same command goes on from its checkpoints. Needs the extra `train`.
    """
    with needing_train():
        from adaptive.networks.federated.recipe import GroupRecipe
        from adaptive.networks.federated.together import GroupPlan, train_together
        from adaptive.networks.training import check_device

    check_device(device)
    if threads:
        import torch

        torch.set_num_threads(threads)
    recipe = GroupRecipe(
        rounds, edge_epochs, server_epochs, batch, learning_rate,
        temperature=temperature, alpha=alpha, way_back=way_back, depth=depth, maps=maps,
        balanced=balanced, bfloat16=bfloat16, seed=seed,
    )  # fmt: skip
    plan = GroupPlan(edges, split, processes, patience, name, device)
    folder = checkpoints or output.with_name(f"{output.name}-checkpoints")
    left_out = train_together(
        data, output, plan, recipe, folder, held_out, force, threads, click.echo
    )
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if left_out else 0)
