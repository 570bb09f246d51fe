"""`adaptive zoo`: pretrained networks as candidates."""

from __future__ import annotations

from pathlib import Path

import click

WEIGHTS_DIR = click.option(
    "--weights-dir",
    type=click.Path(path_type=Path),
    help="Where files of weights lie and are downloaded to, instead of torch's cache.",
)


def sides(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """`800x1088` as height and width."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{value!r} is not HEIGHTxWIDTH, such as 800x1088")
    return int(parts[0]), int(parts[1])


@click.group(name="zoo")
def command() -> None:
    """Turn pretrained networks, classifiers and detectors, into candidates.

    Needs the extra `train`.
    """


@command.command(name="list")
@WEIGHTS_DIR
def list_networks(weights_dir: Path | None) -> None:
    """List the networks that can be exported, by the names that `export` takes.

    The columns: what the image's short side is scaled to and the side of its middle that the
    network sees, millions of parameters, published top-1 on ImageNet in percent, and whether
    the weights are on this machine. For detectors: height and width of the input, and published
    AP on COCO in percent.
    """
    from adaptive.networks.detectors.published import detectors
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
    found = detectors()
    width = max(len(entry.name) for entry in found)
    click.echo(f"\n{'detector':{width}}     input  params     AP  weights")
    for detector in found:
        height, across = detector.sides
        here = "to download" if detector.url else "to be put there"
        if (folder / detector.file_name).exists():
            here = "here"
        click.echo(
            f"{detector.name:{width}} {height:4}x{across:<4} {detector.parameters / 1e6:6.1f}M "
            f"{detector.ap:6.1f}  {here}"
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
@click.option(
    "--size",
    metavar="HEIGHTxWIDTH",
    callback=sides,
    help="Input of detectors, pixels, such as 800x1088; their own otherwise.",
)
def export_networks(
    names: tuple[str, ...],
    output: Path,
    untrained: bool,
    weights_dir: Path | None,
    opset: int,
    force: bool,
    size: tuple[int, int] | None,
) -> None:
    """Write networks as ONNX files with a manifest and labels, all of them or nothing.

    NAME is a network, such as mobilenet_v2, or a network and its weights, such as
    resnet50:IMAGENET1K_V1; or detectors alone, such as ssdlite320_mobilenet_v3_large.
    """
    from adaptive.networks.zoo import export_zoo

    export_zoo(names, output, untrained, weights_dir, opset, force, click.echo, size)
