"""`adaptive serve`: answer images over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptive.cli.engines import engine_options
from adaptive.cli.extractor import extractor_option
from adaptive.cli.identities import PersonsOptions, identity_options, opened_identities
from adaptive.cli.listening import Listening, listening_options
from adaptive.cli.settings import configurable
from adaptive.engines.choose import EngineOptions
from adaptive.errors import InputError
from adaptive.monitoring.audit import SCOPES, Audit
from adaptive.routing.bucket import Bucket
from adaptive.video.gate import FrameGate
from adaptive.video.streams import IDLE_S, MOST_STREAMS

if TYPE_CHECKING:
    from adaptive.routing.extractors import Extractor


@configurable
@click.command("serve")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@listening_options(8080)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    help="Images that are worked on at a time; one for each core when left out, and twice "
    "--max-batch where requests are gathered.",
)
@click.option(
    "--queue",
    default=64,
    show_default=True,
    type=click.IntRange(0, 10_000),
    help="Requests that may wait for that; the next one is answered with 503 and Retry-After.",
)
@click.option(
    "--batch-window-ms",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 10_000),
    help="Gather requests for the same network so long, to run it on them together; 0 is off.",
)
@click.option(
    "--max-batch",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Images that are gathered at most.",
)
@click.option(
    "--models",
    default="all",
    show_default=True,
    type=click.Choice(("all", "policy")),
    help="Open every candidate, or only those that the policy asks.",
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
    "--request-log",
    default="-",
    show_default=True,
    metavar="FILE",
    help="One JSON line a request, and what else there is to say; - is standard error, none "
    "writes no requests.",
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
@click.option(
    "--reuse",
    default=str(FrameGate()),
    show_default=True,
    metavar="GATE",
    help="When the frame of a stream (X-Stream) gets the last computed answer; see `adaptive "
    "video reuse`.",
)
@click.option(
    "--streams",
    default=MOST_STREAMS,
    show_default=True,
    type=click.IntRange(0, 4096),
    help="Streams that are known at a time; the least recently used goes first. 0 takes none.",
)
@click.option(
    "--stream-idle-s",
    default=IDLE_S,
    show_default=True,
    type=click.FloatRange(1, 86_400),
    help="Forget a stream that sent nothing for so long.",
)
@identity_options
@extractor_option("What computes the features of your own that the bundle's premodel reads.")
@engine_options
def command(
    bundle: Path | None,
    threads: int | None,
    queue: int,
    batch_window_ms: float,
    max_batch: int,
    models: str,
    max_body_mb: float,
    max_megapixels: float,
    request_log: str,
    budget_ms: float | None,
    budget_mj: float | None,
    log_path: Path | None,
    audit_share: float,
    audit_scope: str,
    reuse: str,
    streams: int,
    stream_idle_s: float,
    extractor: Extractor | None,
    listening: Listening,
    persons: PersonsOptions | None,
    engines: EngineOptions,
) -> None:
    """Serve BUNDLE, or the embedded default, until SIGTERM or Ctrl-C; SIGHUP loads it again.

    POST /v1/classify takes an image, of detectors POST /v1/detect, and clients of the Open
    Inference Protocol find both below /v2. /healthz, /readyz, /metrics, /v1/bundle and
    /openapi.json tell about the server. With --identities and --keys, POST /v1/identify says who
    is on an image.
    """
    from adaptive.bundle.bundle import default_bundle
    from adaptive.monitoring.decisions import DecisionLog
    from adaptive.routing.generation import Settings
    from adaptive.serving.assembly import Endpoint, serve_service
    from adaptive.serving.logs import Lines
    from adaptive.serving.service import Service
    from adaptive.serving.stderr import as_json

    if persons is not None and listening.keys is None:
        raise InputError(
            "--identities says who is on an image, which is told behind keys only; give --keys too"
        )
    audit = Audit(audit_share, audit_scope) if audit_share > 0 else None
    with ExitStack() as opened:
        lines = None
        if request_log == "-":
            lines = Lines()
            opened.callback(lines.close)
            opened.enter_context(as_json(lines))
        decisions = None if log_path is None else opened.enter_context(DecisionLog(log_path))
        settings = Settings(
            max_pixels=round(max_megapixels * 1e6),
            models=models,
            window_ms=batch_window_ms,
            max_batch=max_batch,
            bucket=_bucket(budget_ms, budget_mj),
            audit=audit,
            observers=() if decisions is None else (decisions,),
            engines=engines,
            extractor=extractor,
            reuse=FrameGate.parse(reuse),
            streams=streams,
            stream_idle_s=stream_idle_s,
        )
        folder = default_bundle() if bundle is None else bundle
        service = opened.enter_context(Service(folder, settings, log=log_path))
        if audit is not None and service.generation.monitor is None:
            click.echo(
                "drift is not watched: the bundle's certificate does not say how often its "
                "policy disagreed with the reference; audits are made and counted all the same",
                err=True,
            )
        if request_log not in ("-", "none"):
            lines = Lines(Path(request_log))
            opened.callback(lines.close)
        known = None
        if persons is not None:
            known = opened.enter_context(opened_identities(persons, settings.max_pixels))
        endpoint = Endpoint(
            listening.host,
            listening.port,
            threads,
            queue,
            round(max_body_mb * 1e6),
            listening.keys,
            listening.certificate,
            lines,
            known,
            None if persons is None else persons.keys,
        )
        name = "the embedded default" if bundle is None else str(bundle)
        serve_service(service, endpoint, name)


def _bucket(mean_ms: float | None, mean_mj: float | None) -> Bucket | None:
    if mean_ms is not None and mean_mj is not None:
        raise InputError("give one of --budget-ms and --budget-mj")
    if mean_mj is not None:
        return Bucket(mean_mj, unit="mj")
    return None if mean_ms is None else Bucket(mean_ms)
