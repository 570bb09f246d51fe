"""The options of every command that trains: what it keeps back, from which seed, and where."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import click

from adaptive.errors import MissingExtra


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --held-out, --seed, --threads and --checkpoints."""
    options = (
        click.option(
            "--held-out",
            type=click.IntRange(0),
            help="Training images kept for premodel and thresholds; default a fifth.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True),
        click.option(
            "--threads",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Of torch; 0 leaves its own choice. Where other work keeps the cores busy, fewer "
            "threads are many times faster.",
        ),
        click.option(
            "--checkpoints",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where a stopped run is taken up again; default DIR of --output with "
            "'-checkpoints'.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def needing_train(use: str = "training networks") -> Iterator[None]:
    """Say which extra brings what an import within this does not find.

    Raises
    ------
    MissingExtra
        in its place.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ImportError as exc:
        raise MissingExtra(use, exc.name or "a module", "train") from exc
