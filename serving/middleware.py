"""Layers around the application: keys, request ids, traces, counting, and the request log."""

from __future__ import annotations

import re
from time import perf_counter
from typing import Any, Callable, Iterable, List, Mapping, Tuple

from adaptive.serving.answers import ABOUT_PERSONS, Answer, as_json, told_path
from adaptive.serving.asgi import Application
from adaptive.serving.keys import Keys
from adaptive.serving.logs import Lines, line
from adaptive.serving.metrics import Metrics
from adaptive.serving.origin import from_another_site, from_here
from adaptive.serving.page import FILES
from adaptive.serving.record import Record, begin, end

Headers = List[Tuple[str, str]]

#: Paths that need no key: whoever watches a server has none, and they tell nothing.
OPEN = frozenset((*FILES, "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"))

#: What changes which models are served.
_CHANGES = re.compile(r"/v2/repository/models/[^/]+/(load|unload)/?")

_KINDS = (
    (re.compile(r"/v1/classify"), "classify"),
    (re.compile(r"/v1/detect"), "detect"),
    (re.compile(r"/v1/identify"), "identify"),
    (re.compile(r"/v1/identities.*", re.DOTALL), "identities"),
    (re.compile(r"/v2/models/.*/infer"), "infer"),
    (re.compile(r"/v2/repository/.*"), "repository"),
    (re.compile(r"/healthz|/readyz|/v2/health/.*"), "health"),
    (re.compile(r"/metrics"), "metrics"),
)


def _refusal(status: int, sentence: str, *headers: tuple[str, str]) -> Answer:
    return as_json({"error": sentence}, status, *headers)


NO_KEY = _refusal(
    401,
    "this server wants a key: send the header 'Authorization: Bearer KEY'",
    ("WWW-Authenticate", 'Bearer realm="adaptive"'),
)
_NO_PATH = _refusal(404, "no such path; GET /openapi.json lists what there is")
_NOT_FROM_A_PAGE = _refusal(
    403, "where the server has no keys, models are not loaded or unloaded by pages of other sites"
)
_NOT_FROM_HERE = _refusal(
    403, "models are loaded and unloaded from this machine alone, where the server has no keys"
)


_NOT_ABOUT_PERSONS = _refusal(403, "this key may not ask about persons")


class Middleware:
    """What every request passes before the application. It is a WSGI application itself.

    Parameters
    ----------
    app : the application
    metrics : where requests are counted
    keys : who may ask; everybody where there are none
    lines : the request log
    identity_keys : who may ask about persons; all of `keys` where there are none
    """

    def __init__(
        self,
        app: Application,
        metrics: Metrics,
        keys: Keys | None = None,
        lines: Lines | None = None,
        identity_keys: Keys | None = None,
    ) -> None:
        self.app = app
        self.keys = keys
        self.identity_keys = identity_keys
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
            refusal = self.gate(environ)
            if refusal is not None:
                return refusal.send(start)
            parts = self.app(environ, start)
            if not sent and isinstance(parts, list):
                sent = sum(map(len, parts))
            return parts
        finally:
            self._tell(
                record, environ["REQUEST_METHOD"], environ["PATH_INFO"], status, environ, sent
            )
            end()

    def gate(self, environ: Mapping[str, Any]) -> Answer | None:
        """Refuse a request by its header; a server may ask this before it reads the body."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        header: Callable[[str], str | None] = environ.get
        about_persons = path.startswith(ABOUT_PERSONS)
        if about_persons and self.identity_keys is not None:
            authorization = header("HTTP_AUTHORIZATION")
            if self.identity_keys.allow(authorization):
                return None
            known = self.keys is not None and self.keys.allow(authorization)
            return _NOT_ABOUT_PERSONS if known else NO_KEY
        open_to_all = self.keys is None or (path in OPEN and method in ("GET", "HEAD"))
        if not open_to_all and not self.keys.allow(header("HTTP_AUTHORIZATION")):  # type: ignore[union-attr]
            return NO_KEY
        if path[:1] != "/" or path[1:2] == "/":
            # Flask would read it as if one slash stood there, and the rules below would not.
            return _NO_PATH
        if self.keys is not None:
            return None
        if not path.startswith("/v2/repository") or not _CHANGES.fullmatch(path):
            return None
        if not from_here(environ):
            return _NOT_FROM_HERE
        # A browser on this machine may be sent here by a page from anywhere.
        foreign = header("HTTP_ORIGIN") or from_another_site(environ)
        return _NOT_FROM_A_PAGE if foreign else None

    def refused(self, environ: Mapping[str, Any], answer: Answer) -> tuple[tuple[str, str], ...]:
        """Count and log what the server refused itself; the headers that go with the response."""
        record = Record(
            environ.get("adaptive.arrived") or perf_counter(),
            environ.get("HTTP_X_REQUEST_ID"),
            environ.get("HTTP_TRACEPARENT"),
        )
        sent = len(answer.body)
        self._tell(
            record,
            environ.get("REQUEST_METHOD", "-"),
            environ.get("PATH_INFO", "-"),
            str(answer.status),
            environ,
            sent,
        )
        return _added(record, environ.get("HTTP_TRACESTATE"))

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
        self._metrics.request(kind, status, spent)
        if kind in ("classify", "detect", "identify", "infer"):
            self._metrics.step("queue", record.waited)
        if self._lines is None:
            return
        length = environ.get("CONTENT_LENGTH") or "0"
        values: dict[str, Any] = {
            "request": record.id,
            "client": environ.get("REMOTE_ADDR"),
            "method": method,
            "path": told_path(path)[:200],
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
