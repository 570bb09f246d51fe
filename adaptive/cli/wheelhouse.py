"""`adaptive wheelhouse`: all wheels that a board needs, for one without a network."""

from __future__ import annotations

import click


@click.command(
    name="wheelhouse",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Fetch all wheels that a board needs, with checksums and an install script."""
    # It needs pip, which a board's environment may be without, so it is imported no earlier, and
    # says itself what its options are.
    from adaptive.jetson.wheelhouse import command as wheelhouse

    wheelhouse.main(list(arguments), prog_name="adaptive wheelhouse")
