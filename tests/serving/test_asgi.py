"""The adapter alone, as any ASGI server would call it."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from adaptive.serving.admission import Admissions
from adaptive.serving.answers import as_json
from adaptive.serving.asgi import Adapter


def echo(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read()]


class Asked:
    """One request to an adapter, its body in pieces, and what came back."""

    def __init__(self, adapter: Adapter, *pieces: bytes, method: str = "POST", **headers: str):
        self.pieces = list(pieces) or [b""]
        self.sent: list[dict] = []
        self.received = 0
        scope = {
            "type": "http",
            "method": method,
            "path": "/x",
            "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()],
            "client": ("127.0.0.1", 5),
        }
        self.scope = scope

        async def receive():
            if self.received == len(self.pieces):
                return {"type": "http.disconnect"}
            self.received += 1
            more = self.received < len(self.pieces)
            return {
                "type": "http.request",
                "body": self.pieces[self.received - 1],
                "more_body": more,
            }

        async def send(message):
            self.sent.append(message)

        asyncio.run(adapter(scope, receive, send))
        if self.sent:
            self.status = self.sent[0]["status"]
            self.headers = dict(self.sent[0]["headers"])
            self.body = b"".join(message.get("body", b"") for message in self.sent[1:])


@pytest.fixture
def adapt():
    """Make adapters that are closed after the test."""
    made = []

    def make(app=echo, threads: int = 2, queue: int = 4, limit: int = 1_000_000, **options):
        made.append(Adapter(app, Admissions(threads, queue), limit, **options))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


@pytest.mark.parametrize("size", [0, 10, 400_000, 900_000])
def test_body_in_pieces_arrives_whole(adapt, size):
    body = bytes(k % 251 for k in range(size))
    asked = Asked(adapt(), *(body[k : k + 65_536] for k in range(0, max(1, size), 65_536)))
    assert (asked.status, asked.body) == (200, body)
    assert asked.headers[b"content-length"] == str(size).encode()


def test_long_body_is_refused_by_its_length_and_read_away(adapt):
    asked = Asked(adapt(limit=100), b"x" * 60, b"x" * 60, content_length="120")
    assert asked.status == 413
    assert asked.headers[b"connection"] == b"close"
    assert "100 bytes" in json.loads(asked.body)["error"]
    assert asked.received == 2  # else the connection is reset, and the response may be lost


def test_long_body_without_a_length_is_refused_while_it_arrives(adapt):
    seen = []

    def app(environ, start_response):
        seen.append(environ)
        return echo(environ, start_response)

    asked = Asked(adapt(app, limit=100), *([b"x" * 60] * 5), transfer_encoding="chunked")
    assert (asked.status, asked.received, seen) == (413, 5, [])


def test_gate_is_asked_before_the_body_is_read(adapt):
    told = []

    def refused(environ, answer):
        told.append((environ["REMOTE_ADDR"], answer.status))
        return (("X-Request-Id", "7"),)

    adapter = adapt(gate=lambda _: as_json({"error": "no"}, 401), refused=refused)
    asked = Asked(adapter, b"x", content_length="1")
    assert (asked.status, asked.headers[b"x-request-id"]) == (401, b"7")
    assert asked.headers[b"connection"] == b"close"
    whole = Asked(adapter, method="GET")
    assert (whole.status, whole.received) == (401, 0)
    assert b"connection" not in whole.headers
    assert told == [("127.0.0.1", 401)] * 2


def test_client_that_leaves_while_it_sends_is_no_request(adapt):
    adapter, sent = adapt(), []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(adapter(scope, receive, send))
    assert sent == []
    assert adapter.admissions.images.busy == 0


def test_application_that_fails_is_a_500_that_does_not_say_why(adapt, caplog):
    def app(environ, start_response):
        raise RuntimeError("secret")

    asked = Asked(adapt(app))
    assert (asked.status, b"secret" in asked.body) == (500, False)
    assert "secret" in caplog.text


def test_application_may_write_and_answer_twice_before_it_is_sent(adapt):
    def app(environ, start_response):
        start_response("200 OK", [])
        write = start_response("404 Not Found", [("X", "1")], (None, None, None))
        write(b"a")
        return [b"b", b"c"]

    asked = Asked(adapt(app))
    assert (asked.status, asked.body) == (404, b"abc")


def test_request_without_a_place_is_told_when_to_come_again(adapt):
    hold, begun = threading.Event(), threading.Event()

    def app(environ, start_response):
        begun.set()
        assert hold.wait(30)
        return echo(environ, start_response)

    adapter = adapt(app, threads=1, queue=0)
    first = threading.Thread(target=Asked, args=(adapter,))
    first.start()
    assert begun.wait(30)
    asked = Asked(adapter, b"body")
    hold.set()
    first.join(30)
    assert (asked.status, asked.headers[b"retry-after"]) == (503, b"1")
    assert b"connection" not in asked.headers


def test_other_protocols_are_not_spoken(adapt):
    with pytest.raises(ValueError, match="websocket"):
        asyncio.run(adapt()({"type": "websocket"}, None, None))
