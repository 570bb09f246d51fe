"""`adaptive build`: build the engines that a bundle's networks run as on this board."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adaptive.bundle.bundle import Bundle, default_bundle


@click.command(name="build")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorrt", "tensorrt-provider"]),
    default="auto",
    show_default=True,
    help="TensorRT itself, or ONNX Runtime's provider of it; auto takes the first that is here.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Fewest bits that TensorRT may compute in.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    help="Largest batch; a longer one runs in parts.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of NAME.calibration, for the provider at int8 (adaptive quantize --tables).",
)
@click.option(
    "--workspace-mb",
    type=click.IntRange(1),
    help="Memory that TensorRT may try kernels in.",
)
@click.option(
    "--engines",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where engines are kept; default adaptive/engines in the user's cache.",
)
@click.option("--force", is_flag=True, help="Build anew what is there already.")
def command(
    bundle: Path | None,
    engine: str,
    precision: str,
    max_batch: int,
    calibration: Path | None,
    workspace_mb: int | None,
    engines: Path | None,
    force: bool,
) -> None:
    """Build what is missing of BUNDLE's engines (the embedded default's when left out).

    It takes minutes a network, on the board that will run them: an engine runs only there, under
    the versions that built it. Stopped, it goes on where it was when called again. The commands
    that run networks find the engines by themselves.
    """
    from adaptive.engines.built import EngineStore
    from adaptive.jetson.build import BuildOptions, build_engines

    options = BuildOptions(engine, precision, max_batch, calibration, workspace_mb, force)
    store = EngineStore(engines)
    read = Bundle.read(default_bundle() if bundle is None else bundle)
    done = build_engines(read, store, options, click.echo)
    click.echo(
        f"{store.folder}: {len(done.built)} built, {len(done.kept)} there already, "
        f"{len(done.left_out)} left out"
    )
    sys.exit(1 if done.left_out else 0)
