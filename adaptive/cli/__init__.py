"""The command line. Each command lives in a module of its own, loaded only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from adaptive.errors import AdaptiveError

#: command -> the module of `adaptive.cli` that holds it, as a click command called `command`
COMMANDS = {
    "board": "board",
    "build": "build",
    "bundle": "bundle",
    "candidates": "candidates",
    "classify": "classify",
    "compress": "compress",
    "detect": "detect",
    "doctor": "doctor",
    "evaluate": "evaluate",
    "experiment": "experiment",
    "features": "features",
    "identify": "identify",
    "outcomes": "outcomes",
    "profile": "profile",
    "pull": "pull",
    "push": "push",
    "quantize": "quantize",
    "reload": "reload",
    "replay": "replay",
    "serve": "serve",
    "train": "train",
    "train-exits": "train_exits",
    "train-together": "train_together",
    "tune": "tune",
    "video": "video",
    "wheelhouse": "wheelhouse",
    "worker": "worker",
    "zoo": "zoo",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"adaptive.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adaptive-serving")
def group() -> None:
    """Answer each image with the cheapest network that gets it right.

    Exit codes: 0 done, 1 done with omissions (listed), 2 bad input (nothing written).
    """


def main() -> None:
    """Run the command line; an error of this library becomes one sentence and exit code 2."""
    try:
        group(prog_name="adaptive")
    except AdaptiveError as error:
        click.echo(f"adaptive: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(
            f"adaptive: {error.filename or 'the system'}: {error.strerror or error}", err=True
        )
        sys.exit(2)
