from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time

import pytest
from http_fixtures import HANG_S
from raw_http import (
    assert_none_is_left,
    connect,
    error_of,
    exchange,
    make_server,
    plain_app,
    serving,
    until_answered,
    until_closed,
)


def loop_of(server):
    """The event loop, which a connection knows."""
    return next(iter(server.server_state.connections)).loop


FRAMING = {
    "chunked twice in one header": (400, b"Transfer-Encoding: chunked, chunked"),
    "chunked in two headers": (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "chunked in HTTP/1.0": (400, None),
    "both lengths": (400, b"Transfer-Encoding: chunked\r\nContent-Length: 4"),
    "both lengths, the other way": (400, b"Content-Length: 4\r\nTransfer-Encoding: chunked"),
    "two lengths": (400, b"Content-Length: 4\r\nContent-Length: 4"),
    "unknown coding": (501, b"Transfer-Encoding: zip"),
    "unknown coding before chunked": (501, b"Transfer-Encoding: gzip, chunked"),
    "unknown coding in a header of its own": (
        501,
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ),
}


@pytest.mark.parametrize("case", FRAMING)
@pytest.mark.parametrize("body", [b"1\r\nx\r\n0\r\n\r\n", b"c\r\n1\r\nx\r\n0\r\n\r\n\r\n0\r\n\r\n"])
def test_length_that_is_told_in_two_ways_is_refused_and_the_connection_closed(case, body):
    status, head = FRAMING[case]
    start = b"POST /a HTTP/1.1\r\nHost: x\r\n"
    if head is None:
        start, head = b"POST /a HTTP/1.0\r\n", b"Transfer-Encoding: chunked"
    asked = []

    def app(environ, start_response):
        asked.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"{}\n"]

    with serving(app) as server:
        hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = exchange(server, start + head + b"\r\n\r\n" + body + hidden)
        error_of(answer, status)
        assert answer.count(b"HTTP/1.1") == 1
    assert asked == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /\xc3\xbc HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
def test_request_line_and_host_are_what_http_asks_for(request_, status):
    with serving(plain_app()) as server:
        answer = exchange(server, request_)
        assert int(answer[9:12]) == status
        if status != 200:
            error_of(answer, status)


def test_refusals_that_the_application_does_not_see_are_counted():
    told = []

    def refused(environ, answer):
        told.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], answer.status))
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        return (("X-Request-Id", environ.get("HTTP_X_REQUEST_ID", "none")),)

    with serving(plain_app(), refused=refused, receive_s=0.2) as server:
        answer = exchange(
            server, b"GET /a HTTP/1.1\r\nHost: x\r\nX-Request-Id: 7\r\nHost: y\r\n\r\n"
        )
        assert b"X-Request-Id: 7" in answer
        exchange(server, b"GET /b HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n")
        with connect(server) as link:
            link.sendall(b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            error_of(until_closed(link), 408)
        exchange(server, b"POST /d HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    assert [(path, status) for _, path, status in told] == [
        ("-", 400),
        ("-", 431),
        ("/c", 408),
        ("/d", 413),
    ]


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=",
        b"\r\n" * 100,
    ],
    ids=["header", "address", "trailer", "extension", "blank lines"],
)
def test_header_without_end_is_refused_while_it_arrives(start):
    block = (b"\r\n" if start[:1] == b"\r" else b"xx") * 16_384
    with serving(plain_app()) as server, connect(server) as link:
        link.sendall(start)
        for _ in range(100):  # 3 MB; what comes after the refusal is thrown away
            link.sendall(block)
        link.shutdown(socket.SHUT_WR)
        error_of(until_closed(link), 431)
        assert_none_is_left(server)


def test_client_that_is_refused_and_goes_on_sending_is_cut_off(monkeypatch):
    monkeypatch.setattr("adaptive.serving.connection.LINGER_S", 0.3)
    with serving(plain_app()) as server, connect(server) as link:
        link.sendall(b"no request\r\n\r\n")
        error_of(until_closed(link), 400)
        assert server.connections
        deadline = time.monotonic() + HANG_S
        while server.connections and time.monotonic() < deadline:
            with contextlib.suppress(ConnectionError):  # it has been cut off meanwhile
                link.sendall(b"x")
            time.sleep(0.02)
        assert server.connections == 0


def test_trailer_is_no_header():
    with serving(plain_app()) as server:
        answer = exchange(
            server,
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\nHost: y\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
        )
    asked = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert asked["body"] == "x"
    assert asked["HTTP_HOST"] == "x"
    assert "HTTP_X_FORWARDED_FOR" not in asked


def test_what_is_no_request_ends_the_connection_behind_the_responses_before_it():
    with serving(plain_app(0.2)) as server:
        answer = exchange(
            server,
            b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        )
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200"]
    assert b"/3" not in answer


def test_offer_of_another_protocol_is_answered_in_this_one():
    with serving(plain_app()) as server, connect(server) as link:
        link.sendall(
            b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        answer = until_closed(link)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


def test_client_that_ends_its_side_gets_its_answer_and_no_more():
    with serving(plain_app(0.3)) as server:
        whole = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        assert exchange(server, whole).count(b"HTTP/1.1 200") == 1
        assert exchange(server, whole + b"POST /2 HT").count(b"HTTP/1.1 ") == 1
        assert exchange(server, b"POST /2 HT") == b""
        assert_none_is_left(server)


def test_connection_that_was_reset_is_forgotten():
    import gc
    import weakref

    with serving(plain_app()) as server:
        link = connect(server)
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        until_answered(link)
        (connection,) = [weakref.ref(c) for c in server.server_state.connections]
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()
        assert_none_is_left(server)
        deadline = time.monotonic() + HANG_S
        while connection() is not None and time.monotonic() < deadline:
            gc.collect()  # a timer would keep it for as long as a connection may be quiet
            time.sleep(0.05)
        assert connection() is None


def test_time_before_the_loop_sees_a_request_is_counted():
    waited = []

    def app(environ, start_response):
        waited.append(time.perf_counter() - environ["adaptive.arrived"])
        start_response("200 OK", [])
        return [b"{}\n"]

    with serving(app) as server, connect(server) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        until_answered(link)
        loop_of(server).call_soon_threadsafe(time.sleep, 0.5)
        time.sleep(0.1)
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        until_answered(link)
    assert waited[0] < 0.2 < waited[1]


def test_hung_application_does_not_keep_the_server(caplog):
    hold = threading.Event()

    def app(environ, start_response):
        hold.wait(HANG_S)
        start_response("200 OK", [])
        return [b"{}\n"]

    server = make_server(app, drain_s=1.5)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with connect(server) as link:
            link.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
            time.sleep(0.2)
            server.stop()
            assert until_closed(link) == b""
        thread.join(HANG_S)
        assert not thread.is_alive()
        assert not hold.is_set()
        assert "1 requests unanswered" in caplog.text
        assert "Traceback" not in caplog.text
    finally:
        hold.set()


def test_life_is_told_from_the_loop_and_not_while_that_is_stuck():
    beats, threads = [], set()

    def beat():
        threads.add(threading.current_thread().name)
        beats.append(time.monotonic())

    server = make_server(plain_app())
    thread = threading.Thread(target=server.run, args=(beat,), name="the loop")
    thread.start()
    try:
        deadline = time.monotonic() + HANG_S
        while not beats and time.monotonic() < deadline:
            time.sleep(0.01)
        with connect(server) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            until_answered(link)
            loop_of(server).call_soon_threadsafe(time.sleep, 2.5)
        time.sleep(0.1)
        before = len(beats)
        time.sleep(2.0)
        assert len(beats) == before
    finally:
        server.stop()
        thread.join(HANG_S)
    assert threads == {"the loop"}


def test_two_servers_in_one_process_are_told_apart():
    with serving(plain_app()) as first, serving(plain_app()) as second:
        for server in (first, second):
            with connect(server) as link:
                link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in until_answered(link)
                assert (first.connections + second.connections) == 1
            assert_none_is_left(server)
