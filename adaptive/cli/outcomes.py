"""`adaptive outcomes`: the audited requests of decision logs as an outcome table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adaptive.bundle.bundle import Bundle
from adaptive.files import refuse_existing
from adaptive.monitoring.audited_table import AuditedTable
from adaptive.monitoring.logged import Logged
from adaptive.outcomes.quality import quality_words
from adaptive.outcomes.table import OutcomeTable, check_table_name


@click.command(name="outcomes")
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="LOG...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="X.csv",
    help="The table to write; X.json and X.probs go beside it.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="The bundle that was served: tells which decisions are meant.",
)
@click.option(
    "--newest",
    type=click.IntRange(min=1),
    metavar="N",
    help="Take only the latest N audited requests; default all.",
)
@click.option("--force", is_flag=True, help="Replace an existing table.")
def command(
    logs: tuple[Path, ...], output: Path, bundle: Path | None, newest: int | None, force: bool
) -> None:
    """Make an outcome table of what a server's own cameras saw, to train and tune on again.

    LOG is a decision log of `adaptive serve --log LOG --audit all --audit-share S`; LOG.1, LOG.2
    and so on are read too. A log holds no labels, so the table's quality is agreement: whether an
    answer is the reference's, or of boxes their F1 against the reference's. Exit code 1 when lines
    had to be left out, which are then listed.
    """
    check_table_name(output)
    refuse_existing(output, force)
    served = None if bundle is None else Bundle.read(bundle)
    made = AuditedTable.of(Logged.read(logs, served), served, newest)
    made.write(output)
    table = OutcomeTable.read(output)  # as whoever uses it next will read it
    click.echo(f"{output}: {len(table)} audited requests, {len(table.candidates)} candidates")
    words = quality_words(table.quality_name)
    for name in table.candidates:
        click.echo(f"  {name:20} {100 * table.quality(name).mean():6.2f} % {words}")
    for line in made.notes:
        click.echo(f"note: {line}")
    for line in made.omitted:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if made.omitted else 0)
