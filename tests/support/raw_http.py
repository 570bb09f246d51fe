"""A server in a thread, and clients that speak to it byte by byte."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from typing import Any

from http_fixtures import HANG_S, MAX_BODY_BYTES, PlainRouter
from served import in_a_thread

from adaptive.serving.admission import Admissions
from adaptive.serving.asgi import Adapter
from adaptive.serving.http import create_app
from adaptive.serving.server import Server


@contextlib.contextmanager
def running(seconds: float = 0.0, **options):
    """A server in a thread around a plain router that takes `seconds` an image."""
    app = create_app(PlainRouter(seconds), max_body_bytes=MAX_BODY_BYTES)
    with serving(app, max_body_bytes=MAX_BODY_BYTES, **options) as server:
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), HANG_S)


def until_closed(link: socket.socket) -> bytes:
    data = b""
    while True:
        more = link.recv(65536)
        if not more:
            return data
        data += more


def until_answered(link: socket.socket) -> bytes:
    """One answer, header and body."""
    data = b""
    while b"}\n" not in data:
        more = link.recv(65536)
        assert more, f"closed after {data!r}"
        data += more
    return data


def error_of(answer: bytes, status: int) -> str:
    """The sentence of an answer that must be a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] %d " % status, head)
    assert b"connection: close" in head.lower()
    value = json.loads(body)
    assert list(value) == ["error"]
    return value["error"]


def plain_app(seconds: float = 0.0, entered=None):
    """A WSGI application that says what it was asked, after `seconds` for a POST."""

    def app(environ, start_response):
        if entered is not None:
            entered.release()
        if environ["REQUEST_METHOD"] == "POST":
            time.sleep(seconds)
        asked = {
            name: value for name, value in environ.items() if isinstance(value, (str, int, float))
        }
        body = json.dumps({**asked, "body": environ["wsgi.input"].read().decode("latin-1")})
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body.encode() + b"\n"]

    return app


@contextlib.contextmanager
def serving(app, threads: int = 4, queue: int = 64, **options):
    with in_a_thread(make_server(app, threads, queue, **options)) as server:
        yield server


def make_server(
    app: Any,
    threads: int = 4,
    queue: int = 64,
    *,
    max_body_bytes: int = 16_000_000,
    gate: Any = lambda _: None,
    refused: Any = lambda *_: (),
    **options: Any,
) -> Server:
    """A server at a free port, not yet running."""
    adapter = Adapter(app, Admissions(threads, queue), max_body_bytes, gate, refused)
    return Server(adapter, "127.0.0.1", 0, **options)


def exchange(server: Server, *sent: bytes, pause: float = 0.0) -> bytes:
    """Send bytes and the end, and return everything that comes back."""
    with connect(server) as link:
        for part in sent:
            link.sendall(part)
            time.sleep(pause)
        link.shutdown(socket.SHUT_WR)
        return until_closed(link)


def assert_none_is_left(server: Server) -> None:
    deadline = time.monotonic() + HANG_S
    while server.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server.connections
