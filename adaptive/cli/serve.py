"""`adaptive serve`: answer images over HTTP."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("serve")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen at; 0 takes a free one, and the line printed says which.",
)
@click.option(
    "--threads",
    default=4,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Images that are worked on at a time.",
)
@click.option(
    "--max-body-mb",
    default=16.0,
    show_default=True,
    type=click.FloatRange(0.001, 2000),
    help="Longest request body, million bytes; a longer one is answered with 413.",
)
@click.option(
    "--max-megapixels",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0.001, 2000),
    help="Largest image, million pixels; a larger one is refused before it is decoded.",
)
def command(
    bundle: Path | None,
    host: str,
    port: int,
    threads: int,
    max_body_mb: float,
    max_megapixels: float,
) -> None:
    """Serve BUNDLE, or the embedded default, until SIGTERM or Ctrl-C.

    POST /v1/classify takes an image; GET /v1/bundle, /healthz and /readyz tell about the server.
    """
    from adaptive.bundle import default_bundle
    from adaptive.router import Router
    from adaptive.serving.http import Readiness, create_app
    from adaptive.serving.server import serve

    folder = default_bundle() if bundle is None else bundle
    max_body_bytes = round(max_body_mb * 1e6)
    with Router.load(folder, max_pixels=round(max_megapixels * 1e6)) as router:
        readiness = Readiness("the networks are warming up")
        serve(
            create_app(router, max_body_bytes=max_body_bytes, readiness=readiness),
            host,
            port,
            name="the embedded default" if bundle is None else str(bundle),
            threads=threads,
            max_body_bytes=max_body_bytes,
            readiness=readiness,
            warm_up=router.warm_up,
        )
