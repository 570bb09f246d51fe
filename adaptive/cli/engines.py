"""The options of every command that runs networks: with which engine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Callable

import click

from adaptive.cli.choice import OpenChoice
from adaptive.engines.choose import ENGINES, MAKERS, EngineOptions
from adaptive.engines.providers import PRECISIONS
from adaptive.plugins import ENGINES as GROUP


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --engine and what belongs to it, as one argument `engines`."""

    @functools.wraps(command)
    def with_engines(
        *arguments: Any,
        engine: str,
        precision: str | None,
        engines_folder: Path | None,
        allow_fallback: bool,
        remote_keys: Path | None,
        **options: Any,
    ) -> Any:
        chosen = EngineOptions(engine, precision, engines_folder, allow_fallback, remote_keys)
        return command(*arguments, engines=chosen, **options)

    for option in (
        click.option(
            "--remote-keys",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Bearer keys for candidates on other servers, each a line https://HOST:PORT KEY.",
        ),
        click.option(
            "--allow-fallback",
            is_flag=True,
            help="Run on the processor where the engine asked for does not run.",
        ),
        click.option(
            "--engines",
            "engines_folder",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where adaptive build put its engines; default the user's cache.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            help="Of TensorRT's engines; default what was built last.",
        ),
        click.option(
            "--engine",
            type=OpenChoice((*ENGINES, *MAKERS), GROUP),
            default="auto",
            show_default=True,
            help="What runs the networks; auto takes the best that really runs here.",
        ),
    ):
        with_engines = option(with_engines)
    return with_engines
