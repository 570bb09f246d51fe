"""`adaptive zoo`: pretrained networks of torchvision as candidates."""

from __future__ import annotations

from pathlib import Path

import click

WEIGHTS_DIR = click.option(
    "--weights-dir",
    type=click.Path(path_type=Path),
    help="Where files of weights lie and are downloaded to, instead of torch's cache.",
)


@click.group(name="zoo")
def command() -> None:
    """Turn torchvision's pretrained networks into candidates. Needs the extra `train`."""


@command.command(name="list")
@WEIGHTS_DIR
def list_networks(weights_dir: Path | None) -> None:
    """List the networks that can be exported, by the names that `export` takes.

    The columns: what the image's short side is scaled to and the side of its middle that the
    network sees, millions of parameters, published top-1 on ImageNet in percent, and whether
    the weights are on this machine.
    """
    from adaptive.networks.zoo import pretrained, weights_folder

    folder = weights_folder(weights_dir)
    entries = pretrained()
    width = max(len(entry.asked_as) for entry in entries)
    click.echo(f"{'name':{width}}   input  params  top-1  weights")
    for entry in entries:
        short, side = entry.sides
        top1 = "" if entry.top1 is None else f"{entry.top1:.2f}"
        here = "here" if (folder / entry.file_name).exists() else "to download"
        click.echo(
            f"{entry.asked_as:{width}} {short:3}/{side:3} {entry.parameters / 1e6:6.1f}M "
            f"{top1:>6}  {here}"
        )


@command.command(name="export")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of candidates to write.",
)
@click.option("--untrained", is_flag=True, help="Random weights, marked in the manifest.")
@WEIGHTS_DIR
@click.option("--opset", type=click.IntRange(13, 16), default=13, show_default=True)
@click.option(
    "--force",
    is_flag=True,
    help="Add to a folder of candidates that exists; those of the same name are replaced.",
)
def export_networks(
    names: tuple[str, ...],
    output: Path,
    untrained: bool,
    weights_dir: Path | None,
    opset: int,
    force: bool,
) -> None:
    """Write networks as ONNX files with a manifest and labels, all of them or nothing.

    NAME is a network, such as mobilenet_v2, or a network and its weights, such as
    resnet50:IMAGENET1K_V1.
    """
    from adaptive.networks.zoo import export_zoo

    export_zoo(names, output, untrained, weights_dir, opset, force, say=click.echo)
