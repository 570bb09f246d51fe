"""`adaptive pull`: fetch a bundle from a store, and check it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("pull")
@click.argument("url")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER")
@click.option(
    "--sha256", metavar="HEX", help="Refuse any bundle but that whose manifest has this SHA-256."
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def command(url: str, output: Path, sha256: str | None, force: bool) -> None:
    """Fetch the bundle at URL, such as s3://BUCKET/bundles/plants, into FOLDER.

    FOLDER is there only once every file is, and as the manifest says. An S3 store's address and
    keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Needs the extra
    `fleet`.
    """
    from adaptive.bundle.carrying import pull

    bundle = pull(url, output, sha256, force)
    click.echo(f"{output}: {bundle.policy.words()}")
    if sha256 is None:
        click.echo("nobody looked whether it is the bundle that is meant; --sha256 does", err=True)
