"""A service behind a server: the application, what stands in front of it, and the socket."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator

from adaptive.errors import InputError
from adaptive.serving.admission import QUEUE, Admission, AdmissionMiddleware, Admissions
from adaptive.serving.asgi import Adapter
from adaptive.serving.collector import CONTENT_TYPE, Collector
from adaptive.serving.http import MAX_BODY_BYTES, create_app
from adaptive.serving.identities import Identities
from adaptive.serving.keys import Keys
from adaptive.serving.logs import JsonLines, Lines
from adaptive.serving.middleware import Middleware
from adaptive.serving.process import run
from adaptive.serving.server import Server
from adaptive.serving.service import Service
from adaptive.serving.tls import CertificateFiles


@dataclass(frozen=True)
class Endpoint:
    """Where a service answers, whom, and how much at a time.

    Attributes
    ----------
    host, port : where to listen; port 0 takes a free one
    threads : requests that are worked on at a time; see `threads_for` when left out
    queue : requests that may wait for that
    max_body_bytes : a longer body is refused
    keys : who may ask; everybody where there are none
    certificate : speaks TLS with it
    lines : the request log
    identities : who is known, told only behind keys
    identity_keys : who may ask about persons; all of `keys` where there are none

    Raises
    ------
    InputError
        when there are identities, and no keys.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int | None = None
    queue: int = QUEUE
    max_body_bytes: int = MAX_BODY_BYTES
    keys: Keys | None = None
    certificate: CertificateFiles | None = None
    lines: Lines | None = None
    identities: Identities | None = None
    identity_keys: Keys | None = None

    def __post_init__(self) -> None:
        if self.identities is not None and self.keys is None:
            raise InputError("who is on an image is told behind keys only; give --keys too")
        if self.identity_keys is not None and self.identities is None:
            raise InputError("keys for identities are of no use without a store of them")


def assemble(service: Service, endpoint: Endpoint) -> Server:
    """A server that answers with `service`, not yet running.

    Raises
    ------
    InputError
        when the address does not exist or is taken.
    """
    adapter = _adapter(service, endpoint, lambda: server.connections)
    tls = None if endpoint.certificate is None else endpoint.certificate.context
    server = Server(adapter, endpoint.host, endpoint.port, tls=tls)
    return server


def asgi_application(service: Service, endpoint: Endpoint | None = None) -> Adapter:
    """The same as an ASGI 3 application, for another server; admission is in it.

    Parameters
    ----------
    endpoint : its keys, threads, queue, limit and log count, and where it listens does not
    """
    return _adapter(service, endpoint or Endpoint())


def wsgi_application(service: Service, endpoint: Endpoint | None = None) -> AdmissionMiddleware:
    """The same as a WSGI application, for a server that brings threads of its own."""
    endpoint = endpoint or Endpoint()
    admissions = _admissions(service, endpoint)
    app = _application(service, endpoint, admissions.images)
    return AdmissionMiddleware(app, admissions, app.refused)


def _admissions(service: Service, endpoint: Endpoint) -> Admissions:
    return Admissions(endpoint.threads or threads_for(service), endpoint.queue)


def _adapter(
    service: Service, endpoint: Endpoint, connections: Callable[[], int] | None = None
) -> Adapter:
    admissions = _admissions(service, endpoint)
    app = _application(service, endpoint, admissions.images, connections)
    return Adapter(app, admissions, endpoint.max_body_bytes, app.gate, app.refused)


def _application(
    service: Service,
    endpoint: Endpoint,
    admission: Admission,
    connections: Callable[[], int] | None = None,
) -> Middleware:
    """The application with its metrics, and what every request passes before it."""
    secured = endpoint.keys is not None
    app = create_app(
        service,
        max_body_bytes=endpoint.max_body_bytes,
        secured=secured,
        identities=endpoint.identities,
    )
    collector = Collector(service, admission, connections, endpoint.lines)

    def metrics() -> Any:
        return app.response_class(collector.text(), content_type=CONTENT_TYPE)

    app.add_url_rule("/metrics", view_func=metrics)
    return Middleware(app, service.metrics, endpoint.keys, endpoint.lines, endpoint.identity_keys)


def threads_for(service: Service) -> int:
    """One thread for each core; where requests are gathered, enough for two batches."""
    cores = len(os.sched_getaffinity(0))
    settings = service.settings
    return max(cores, 2 * settings.max_batch) if settings.batches else cores


def serve_service(service: Service, endpoint: Endpoint, name: str) -> None:
    """Answer until SIGTERM; SIGHUP loads bundle and certificate anew, and reopens the log.

    Raises
    ------
    AdaptiveError
        when the address cannot be had, or the networks do not run.
    """
    server = assemble(service, endpoint)

    def reload() -> None:
        if endpoint.lines is not None:
            endpoint.lines.reopen()
        if endpoint.certificate is not None:
            endpoint.certificate.reload()
        try:
            service.reload()
        except Exception:
            return  # which the service has logged

    with _logged(endpoint.lines):
        run(server, name, service.ready, service.warm_up, reload)


@contextmanager
def _logged(lines: Lines | None) -> Iterator[None]:
    """Have the library's own records written as JSON lines too."""
    if lines is None:
        yield
        return
    library, handler = logging.getLogger("adaptive"), JsonLines(lines)
    library.addHandler(handler)
    try:
        yield
    finally:
        library.removeHandler(handler)
