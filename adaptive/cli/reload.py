"""`adaptive reload`: have a running server load its bundle again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("reload")
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Where the server answers. Without keys it reloads only for who asks on its own machine.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Send the first key of FILE, where the server asks for one.",
)
@click.option(
    "--timeout-s",
    default=120.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="How long to wait until the new bundle is loaded and warm.",
)
def command(url: str, key_file: Path | None, timeout_s: float) -> None:
    """Load the bundle of a running server again, and change over without losing a request.

    The new one is checked, opened and warmed up beside the old one. When anything fails the old
    one is served on, and the exit code is 2; the server's log says why.
    """
    from adaptive.client.client import Client, read_key

    key = None if key_file is None else read_key(key_file)
    with Client(url, timeout_s=timeout_s, api_key=key) as client:
        client.reload()
    click.echo(f"{url} serves what its bundle's folder holds now")
