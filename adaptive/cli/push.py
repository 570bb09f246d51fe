"""`adaptive push`: put a bundle into a store."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("push")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("url")
def command(bundle: Path, url: str) -> None:
    """Put BUNDLE at URL, such as s3://BUCKET/bundles/plants, and print its manifest's SHA-256.

    `adaptive pull URL --sha256 HEX` on a board, or the chart's bundle.sha256, then takes that
    bundle and no other. Needs the extra `fleet`.
    """
    from adaptive.bundle.carrying import push

    click.echo(f"{push(bundle, url)}  {url}")
