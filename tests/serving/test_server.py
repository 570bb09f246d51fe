from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from adaptive.errors import EngineError
from adaptive.serving.http import Readiness, create_app
from adaptive.serving.server import Server, serve

_spec = importlib.util.spec_from_file_location(
    "http_fixtures", Path(__file__).with_name("http_fixtures.py")
)
http_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(http_fixtures)
JPEG, MAX_BODY_BYTES = http_fixtures.JPEG, http_fixtures.MAX_BODY_BYTES
ODD, URL, PlainRouter = http_fixtures.ODD, http_fixtures.URL, http_fixtures.PlainRouter

HEAD, HANG_S, post = http_fixtures.HEAD, http_fixtures.HANG_S, http_fixtures.post


@contextlib.contextmanager
def running(seconds: float = 0.0, **options):
    """A server in a thread around a plain router that takes `seconds` an image."""
    app = create_app(PlainRouter(seconds), max_body_bytes=MAX_BODY_BYTES)
    server = Server(app, "127.0.0.1", 0, max_body_bytes=MAX_BODY_BYTES, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(HANG_S)
        assert not thread.is_alive()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.effective_port)), HANG_S)


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


def refused(answer: bytes, status: int) -> str:
    """The sentence of an answer that must be a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] %d " % status, head)
    assert b"Connection: close" in head
    value = json.loads(body)
    assert list(value) == ["error"]
    return value["error"]


def test_keep_alive_serves_many_requests_on_one_connection():
    with running() as server, connect(server) as link:
        for _ in range(20):
            link.sendall(HEAD + JPEG)
            assert b'"label": "cat"' in until_answered(link)


def test_slow_header_is_answered_with_408_and_others_go_on():
    with running(receive_s=0.2, threads=1) as server:
        slow = [connect(server) for _ in range(8)]
        for link in slow:
            link.sendall(HEAD[:25])
        assert post(int(server.effective_port), ODD["jpeg"])[0] == 200
        for link in slow:
            assert "did not arrive" in refused(until_closed(link), 408)
            link.close()


def test_slow_body_is_answered_with_408():
    with running(receive_s=0.2) as server, connect(server) as link:
        link.sendall(HEAD + JPEG[:50])
        assert "did not arrive" in refused(until_closed(link), 408)


@pytest.mark.parametrize("chunked", [False, True])
def test_long_body_is_refused_before_it_has_arrived(chunked):
    with running() as server, connect(server) as link:
        length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 20000000"
        block = b"x" * 1_000_000
        link.sendall(f"POST {URL} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        for _ in range(20):  # the server reads on, so that its answer is not lost to a reset
            link.sendall(b"f4240\r\n" + block + b"\r\n" if chunked else block)
        assert "2000000 bytes" in refused(until_closed(link), 413)


def test_long_body_is_refused_instead_of_continued():
    with running() as server, connect(server) as link:
        link.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        link.shutdown(socket.SHUT_WR)
        refused(until_closed(link), 413)


def test_expected_continue_is_said():
    with running() as server, connect(server) as link:
        link.sendall(HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert link.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(JPEG)
        assert b"HTTP/1.1 200" in until_answered(link)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "not a request"),
        (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", 400, "not a request"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", 431, "65536 bytes"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400, "not a request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "not a request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: zip\r\n\r\n", 501, "not a request"),
    ],
)
def test_what_is_no_http_is_refused_in_json(request_, status, words):
    with running() as server:
        with connect(server) as link:
            link.sendall(request_)
            link.shutdown(socket.SHUT_WR)
            assert words in refused(until_closed(link), status)
        assert post(int(server.effective_port), ODD["jpeg"])[0] == 200


def test_stop_answers_what_is_under_way_and_says_that_it_closes():
    with running(seconds=0.3, threads=2) as server:
        links = [connect(server) for _ in range(6)]  # four of them wait for a thread
        for link in links:
            link.sendall(HEAD + JPEG)
        idle = connect(server)
        time.sleep(0.1)
        server.stop()
        for link in links:
            answer = until_closed(link)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"Connection: close" in answer
            link.close()
        assert until_closed(idle) == b""
        idle.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_stop_answers_requests_sent_in_one_go():
    with running(seconds=0.1, threads=1) as server, connect(server) as link:
        link.sendall((HEAD + JPEG) * 3)
        time.sleep(0.05)
        server.stop()
        assert until_closed(link).count(b"HTTP/1.1 200") == 3


def test_stop_waits_for_a_request_that_is_still_arriving():
    with running() as server, connect(server) as link:
        link.sendall(HEAD + JPEG[:100])
        time.sleep(0.1)
        server.stop()
        time.sleep(0.3)
        link.sendall(JPEG[100:])
        assert until_closed(link).startswith(b"HTTP/1.1 200")


def test_stop_gives_up_on_a_request_that_never_arrives():
    with running(drain_s=1.5) as server, connect(server) as link:
        link.sendall(HEAD + JPEG[:100])
        time.sleep(0.1)
        server.stop()
        refused(until_closed(link), 408)


def test_url_names_the_port_that_was_taken():
    with running() as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", server.url)


def test_serve_announces_itself_when_warm_and_returns_on_sigterm(capsys):
    readiness = Readiness("the networks are warming up")
    seen = []

    def warm_up():
        seen.append(readiness.problem)

    def stop():
        while readiness.problem == "the networks are warming up":
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    app = create_app(PlainRouter(), readiness=readiness)
    serve(app, "127.0.0.1", 0, name="this", readiness=readiness, warm_up=warm_up)
    assert seen == ["the networks are warming up"]
    assert readiness.problem == "the server is stopping"
    assert signal.getsignal(signal.SIGTERM) is before
    assert re.fullmatch(r"serving this at http://127\.0\.0\.1:\d+\n", capsys.readouterr().out)


def test_serve_passes_on_what_warming_up_raises(capsys):
    def warm_up():
        raise EngineError("the network does not run")

    with pytest.raises(EngineError, match="does not run"):
        serve(create_app(PlainRouter()), "127.0.0.1", 0, warm_up=warm_up)
    assert capsys.readouterr().out == ""
