"""Layers around the application: keys, request ids, traces, counting, and the request log."""

from __future__ import annotations

import ipaddress
import re
from time import perf_counter
from typing import Any, Callable, Iterable, Mapping

from adaptive.serving import families
from adaptive.serving.connection import Connection, Refusal, Request
from adaptive.serving.keys import Keys
from adaptive.serving.logs import Lines, line
from adaptive.serving.metrics import Metrics
from adaptive.serving.page import FILES
from adaptive.serving.record import Record, begin, end
from adaptive.serving.wsgi import Application, Headers

#: Paths that need no key: whoever watches a server has none, and they tell nothing.
OPEN = frozenset((*FILES, "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"))

#: What changes which models are served.
_CHANGES = re.compile(r"/v2/repository/models/[^/]+/(load|unload)/?")

_KINDS = (
    (re.compile(r"/v1/classify"), "classify"),
    (re.compile(r"/v2/models/.*/infer"), "infer"),
    (re.compile(r"/v2/repository/.*"), "repository"),
    (re.compile(r"/healthz|/readyz|/v2/health/.*"), "health"),
    (re.compile(r"/metrics"), "metrics"),
)

_NO_KEY = Refusal(
    401,
    "this server wants a key: send the header 'Authorization: Bearer KEY'",
    (("WWW-Authenticate", 'Bearer realm="adaptive"'),),
)
_NO_PATH = Refusal(404, "no such path; GET /openapi.json lists what there is")
_NOT_FROM_A_PAGE = Refusal(
    403, "where the server has no keys, models are not loaded or unloaded by pages of other sites"
)
_NOT_FROM_HERE = Refusal(
    403, "models are loaded and unloaded from this machine alone, where the server has no keys"
)


class Front:
    """An application with all that every request passes first. It is a WSGI application itself.

    Parameters
    ----------
    app : the application
    metrics : where requests are counted
    keys : who may ask; everybody where there are none
    lines : the request log
    """

    def __init__(
        self,
        app: Application,
        metrics: Metrics,
        keys: Keys | None = None,
        lines: Lines | None = None,
    ) -> None:
        self.app = app
        self.keys = keys
        self._metrics = metrics
        self._lines = lines

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        arrived = environ.get("adaptive.arrived")
        record = Record(
            perf_counter() if arrived is None else arrived,
            environ.get("HTTP_X_REQUEST_ID"),
            environ.get("HTTP_TRACEPARENT"),
        )
        environ["adaptive.request_id"] = record.id
        added = _added(record, environ.get("HTTP_TRACESTATE"))
        status, sent = "500", 0

        def start(line: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
            nonlocal status, sent
            status = line[:3]
            sent = next((int(value) for name, value in headers if name == "Content-Length"), 0)
            write: Callable[[bytes], None] = start_response(line, [*headers, *added], exc_info)
            return write

        begin(record)
        try:
            refusal = self._look(
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                environ.get("REMOTE_ADDR", ""),
                lambda name: environ.get("HTTP_" + name),
            )
            if refusal is not None:
                return _refuse(refusal, start)
            parts = self.app(environ, start)
            if not sent and isinstance(parts, list):
                sent = sum(map(len, parts))
            return parts
        finally:
            self._tell(
                record, environ["REQUEST_METHOD"], environ["PATH_INFO"], status, environ, sent
            )
            end()

    def gate(self, connection: Connection, request: Request) -> Refusal | None:
        """Refuse a request by its header, before its body is read; for the server."""
        headers = request.headers
        return self._look(
            request.command,
            request.path,
            connection.address[0],
            headers.get,
        )

    def refused(self, connection: Connection, request: Request) -> tuple[tuple[str, str], ...]:
        """Count and log what the server itself refused; the headers that go with the answer."""
        headers = request.headers
        record = Record(request.arrived, headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
        environ = {
            "REMOTE_ADDR": connection.address[0],
            "CONTENT_LENGTH": headers.get("CONTENT_LENGTH", ""),
        }
        assert request.refusal is not None
        status = str(request.refusal.status)
        command = getattr(request, "command", "-")
        self._tell(record, command, getattr(request, "path", "-"), status, environ, 0)
        return _added(record, headers.get("TRACESTATE"))

    def _look(
        self, method: str, path: str, address: str, header: Callable[[str], str | None]
    ) -> Refusal | None:
        open_to_all = self.keys is None or (path in OPEN and method in ("GET", "HEAD"))
        if not open_to_all and not self.keys.allow(header("AUTHORIZATION")):  # type: ignore[union-attr]
            return _NO_KEY
        if path[:1] != "/" or path[1:2] == "/":
            # Flask would read it as if one slash stood there, and the rules below would not.
            return _NO_PATH
        if self.keys is not None:
            return None
        if not path.startswith("/v2/repository") or not _CHANGES.fullmatch(path):
            return None
        # Behind a proxy everybody comes from this machine; such a request says who sent it.
        if header("X_FORWARDED_FOR") or header("FORWARDED") or not _local(address):
            return _NOT_FROM_HERE
        # A browser on this machine may be sent here by a page from anywhere.
        foreign = header("ORIGIN") or header("SEC_FETCH_SITE") not in (None, "same-origin", "none")
        return _NOT_FROM_A_PAGE if foreign or not _named_locally(header("HOST")) else None

    def _tell(
        self,
        record: Record,
        method: str,
        path: str,
        status: str,
        environ: Mapping[str, Any],
        sent: int,
    ) -> None:
        """Count and log an answered request."""
        spent = perf_counter() - record.arrived
        kind = next((name for known, name in _KINDS if known.fullmatch(path)), "other")
        self._metrics.count(families.REQUESTS, (kind, status))
        self._metrics.observe(families.REQUEST_SECONDS, spent, (kind,))
        if kind in ("classify", "infer"):
            self._metrics.observe(families.STEP_SECONDS, record.waited, ("queue",))
        if self._lines is None:
            return
        length = environ.get("CONTENT_LENGTH") or "0"
        values: dict[str, Any] = {
            "request": record.id,
            "client": environ.get("REMOTE_ADDR"),
            "method": method,
            "path": path[:200],
            "status": int(status),
            "ms": round(spent * 1e3, 3),
            "queue_ms": round(record.waited * 1e3, 3),
            "bytes_in": int(length) if re.fullmatch("[0-9]{1,18}", length) else 0,
            "bytes_out": sent,
        }
        if record.trace is not None:
            values.update(trace=record.trace, span=record.span, parent=record.parent)
        said = record.said
        if said is not None:
            values["candidate"] = said.candidate
            values["ran"] = said.path
            values["steps_ms"] = {step: round(ms, 3) for step, ms in said.ms.items()}
        self._lines.add(line(values))


def _added(record: Record, tracestate: str | None) -> tuple[tuple[str, str], ...]:
    """Headers of the answer."""
    if record.trace is None:
        return (("X-Request-Id", record.id),)
    added = (("X-Request-Id", record.id), ("traceparent", record.traceparent or ""))
    return added if tracestate is None else (*added, ("tracestate", tracestate))


def _refuse(refusal: Refusal, start_response: Any) -> list[bytes]:
    status, headers, body = refusal.parts()
    start_response(status, list(headers))
    return [body]


def _named_locally(host: str | None) -> bool:
    """Whether a Host is an address or localhost, and no name that may be bent to this machine."""
    if host is None:
        return True  # which no browser sends
    name = re.sub(r":[0-9]*$", "", host).strip("[]").rstrip(".").lower()
    if name.rpartition(".")[2] == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _local(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
