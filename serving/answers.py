"""Answers as values, and what each error is answered with."""

from __future__ import annotations

import json
import logging
import math
from http import HTTPStatus
from typing import Any, Callable, List, NamedTuple, Tuple

from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Response

from adaptive.errors import BusyError, DeadlineError, InputError, UnreachableError
from adaptive.routing.loaded import NotLoaded
from adaptive.serving.compression import CODINGS

log = logging.getLogger("adaptive.serving")

Pairs = List[Tuple[str, str]]

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


#: Paths that tell about persons begin so.
ABOUT_PERSONS = "/v1/identi"

#: Behind this a path has a person's name.
_NAMES = "/v1/identities/"


def told_path(path: str) -> str:
    """A request's path as a log may have it: without the name of a person."""
    return f"{_NAMES}NAME" if path.startswith(_NAMES) else path


class Answer(NamedTuple):
    """What goes back: status, body, its type, and further headers."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def pairs(self) -> Pairs:
        """All headers."""
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            *self.headers,
        ]

    def response(self) -> Response:
        """Answer as a Flask view does."""
        return Response(self.body, self.status, self.pairs())

    def encoded(self, *more: tuple[str, str]) -> bytes:
        """Answer as it goes over the wire, where there is no request to answer to."""
        lines = [f"{name}: {value}\r\n" for name, value in (*self.pairs(), *more)]
        head = f"HTTP/1.1 {STATUS_LINES[self.status]}\r\n{''.join(lines)}\r\n"
        return head.encode("latin-1") + self.body

    def send(self, start_response: Callable[..., Any]) -> list[bytes]:
        """Answer as a WSGI application does."""
        start_response(STATUS_LINES[self.status], self.pairs())
        return [self.body]


def as_json(value: Any, status: int = 200, *headers: tuple[str, str]) -> Answer:
    """A JSON value as an answer, with a line end, for people who use curl."""
    return Answer(status, json.dumps(value).encode() + b"\n", headers=headers)


def refusal(error: Exception, environ: dict[str, Any]) -> Answer:
    """What a request that ended in `error` is answered; a bug is logged.

    400 for what the request is to blame for, 409 for a model that is not loaded, 503 and 504 for
    what the server will not do now, Werkzeug's own statuses, and 500 for everything else.
    """
    if isinstance(error, HTTPException):
        return _refused(error, environ)
    if isinstance(error, NotLoaded):
        return as_json({"error": str(error)}, 409)
    if isinstance(error, InputError):
        return as_json({"error": str(error)}, 400)
    if isinstance(error, UnreachableError):
        wait = str(max(1, math.ceil(error.retry_after_s)))
        return as_json({"error": str(error)}, 503, ("Retry-After", wait))
    if isinstance(error, BusyError):
        wait = str(max(1, math.ceil(error.retry_after_s)))
        return as_json({"error": str(error)}, 503, ("Retry-After", wait))
    if isinstance(error, DeadlineError):
        return as_json({"error": str(error)}, 504)
    where = f"{environ.get('REQUEST_METHOD')} {told_path(environ.get('PATH_INFO', ''))}"
    log.error("%s failed", where, exc_info=error)
    return as_json({"error": "the server failed on this request; its log says why"}, 500)


def too_large(limit: int) -> RequestEntityTooLarge:
    """The error for a body of more than `limit` bytes."""
    return RequestEntityTooLarge(f"the body is longer than the {limit} bytes that are allowed")


def _refused(error: HTTPException, environ: dict[str, Any]) -> Answer:
    sentence = error.description or error.name
    headers: Pairs = []
    if isinstance(error, NotFound) and error.description == NotFound.description:
        sentence = "no such path; GET /openapi.json lists what there is"
    elif isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        sentence = f"this path does not take {environ.get('REQUEST_METHOD')}; it takes {allowed}"
        headers.append(("Allow", allowed))
    elif isinstance(error, UnsupportedMediaType):
        headers.append(("Accept-Encoding", ", ".join(CODINGS)))
    return as_json({"error": sentence}, error.code or 500, *headers)
