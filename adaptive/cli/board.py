"""`adaptive board`: what machine this is, and what state it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adaptive.errors import InputError
from adaptive.files import refuse_existing, refuse_folder, write_json


@click.command(name="board")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write JSON.")
@click.option("--force", is_flag=True, help="Replace an existing JSON file.")
def command(json_path: Path | None, force: bool) -> None:
    """Print this machine's model, software, power mode, clocks, temperatures and power.

    What measurements carry as their board is exactly this. What the machine does not tell is
    left out.
    """
    from adaptive.jetson.board import board_lines, board_profile
    from adaptive.jetson.meter import describe, open_meter

    if json_path is not None:
        refuse_existing(json_path, force)
        refuse_folder(json_path)
    profile = board_profile()
    lines = [line for line in board_lines(profile) if line[0] != "threads"]
    content: dict[str, Any] = {"board": profile}
    try:
        meter = open_meter()
    except InputError as error:
        lines.append(("power", str(error)))
        content["power"] = None
    else:
        try:
            now = meter.read()
        finally:
            meter.close()
        shown = "a counter of energy" if meter.counts else f"{now:.0f} mW now"
        lines.append(
            ("power", f"{meter.name}, {' + '.join(meter.rails)} ({meter.covers}): {shown}")
        )
        content["power"] = {**describe(meter), **({} if meter.counts else {"mw": now})}
    for name, text in lines:
        click.echo(f"{name + ':':14} {text}")
    if json_path is not None:
        write_json(json_path, content)
        click.echo(f"wrote {json_path}")
