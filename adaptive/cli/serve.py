"""`adaptive serve`: answer images over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from adaptive.bucket import Bucket
from adaptive.errors import InputError
from adaptive.monitoring.audit import SCOPES, Audit


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
@click.option(
    "--budget-ms",
    type=click.FloatRange(0, min_open=True),
    help="Cap the mean milliseconds an image, decoding left out, whatever images come.",
)
@click.option(
    "--budget-mj",
    type=click.FloatRange(0, min_open=True),
    help="Cap the mean millijoules an image instead.",
)
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append every decision to FILE as a JSON line; older lines move to FILE.1 and so on.",
)
@click.option(
    "--audit-share",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the images on which other networks run too, to watch for drift.",
)
@click.option(
    "--audit",
    "audit_scope",
    default="reference",
    show_default=True,
    type=click.Choice(SCOPES),
    help="What an audit runs: the reference, or all candidates, for `adaptive replay`.",
)
def command(
    bundle: Path | None,
    host: str,
    port: int,
    threads: int,
    max_body_mb: float,
    max_megapixels: float,
    budget_ms: float | None,
    budget_mj: float | None,
    log_path: Path | None,
    audit_share: float,
    audit_scope: str,
) -> None:
    """Serve BUNDLE, or the embedded default, until SIGTERM or Ctrl-C.

    POST /v1/classify takes an image; GET /v1/bundle, /healthz and /readyz tell about the server.
    """
    from adaptive.bundle import default_bundle
    from adaptive.jetson.watch import watching
    from adaptive.monitoring.drift import resumed
    from adaptive.router import Router
    from adaptive.serving.http import Readiness, create_app
    from adaptive.serving.server import serve

    folder = default_bundle() if bundle is None else bundle
    max_body_bytes = round(max_body_mb * 1e6)
    opened = Router.load(
        folder,
        max_pixels=round(max_megapixels * 1e6),
        bucket=_bucket(budget_ms, budget_mj),
        audit=Audit(audit_share, audit_scope) if audit_share > 0 else None,
        log=log_path,
    )
    with opened as router, resumed(router.drift, log_path), watching(router):
        if audit_share > 0 and router.drift is None:
            click.echo(
                "drift is not watched: the bundle's certificate does not say how often its "
                "policy disagreed with the reference; audits are made and counted all the same",
                err=True,
            )
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


def _bucket(mean_ms: float | None, mean_mj: float | None) -> Bucket | None:
    if mean_ms is not None and mean_mj is not None:
        raise InputError("give one of --budget-ms and --budget-mj")
    if mean_mj is not None:
        return Bucket(mean_mj, unit="mj")
    return None if mean_ms is None else Bucket(mean_ms)
