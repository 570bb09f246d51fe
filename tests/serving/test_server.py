from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import threading
import time

import pytest
from http_fixtures import HANG_S, HEAD, JPEG, ODD, URL, post
from raw_http import (
    assert_none_is_left,
    connect,
    error_of,
    exchange,
    make_server,
    plain_app,
    running,
    serving,
    until_answered,
    until_closed,
)

from adaptive.serving.answers import as_json

pytestmark = pytest.mark.slow


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
        assert post(server.port, ODD["jpeg"])[0] == 200
        for link in slow:
            assert "did not arrive" in error_of(until_closed(link), 408)
            link.close()


def test_slow_body_is_answered_with_408():
    with running(receive_s=0.2) as server, connect(server) as link:
        link.sendall(HEAD + JPEG[:50])
        assert "did not arrive" in error_of(until_closed(link), 408)


@pytest.mark.parametrize("chunked", [False, True])
def test_long_body_is_refused_before_it_has_arrived(chunked):
    with running() as server, connect(server) as link:
        length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 20000000"
        block = b"x" * 1_000_000
        link.sendall(f"POST {URL} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        for _ in range(20):  # the server reads on, so that its answer is not lost to a reset
            link.sendall(b"f4240\r\n" + block + b"\r\n" if chunked else block)
        assert "2000000 bytes" in error_of(until_closed(link), 413)


def test_long_body_is_refused_instead_of_continued():
    with running() as server, connect(server) as link:
        link.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        link.shutdown(socket.SHUT_WR)
        error_of(until_closed(link), 413)


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
            assert words in error_of(until_closed(link), status)
        assert post(server.port, ODD["jpeg"])[0] == 200


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
            assert b"connection: close" in answer
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
        error_of(until_closed(link), 408)


def test_url_names_the_port_that_was_taken():
    with running() as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", server.url)


def test_environment_is_what_wsgi_promises():
    with serving(plain_app()) as server:
        answer = exchange(
            server,
            b"POST /a%20b/%c3%bc?x=%20&y=1 HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n"
            b"Content-Type: text/plain\r\nX-Two: 1\r\nX-Two: 2\r\nX_Two: 3\r\n\r\nabc",
        )
    head, _, body = answer.partition(b"\r\n\r\n")
    asked = json.loads(body)
    assert asked["PATH_INFO"] == "/a b/\xc3\xbc"
    assert asked["QUERY_STRING"] == "x=%20&y=1"
    assert asked["CONTENT_LENGTH"] == "3"
    assert asked["CONTENT_TYPE"] == "text/plain"
    assert "HTTP_CONTENT_TYPE" not in asked
    assert asked["HTTP_X_TWO"] == "1, 2"  # a name with an underscore could pose as another
    assert asked["body"] == "abc"
    assert asked["REMOTE_ADDR"] == "127.0.0.1"
    assert re.search(rb"\r\ncontent-length: %d$" % len(body), head)
    assert re.search(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", head)


def test_request_that_comes_byte_by_byte_is_answered():
    whole = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    with serving(plain_app()) as server:
        answer = exchange(server, *(whole[i : i + 1] for i in range(len(whole))), pause=0.001)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["body"] == "body"


def test_old_http_closes_unless_asked_to_keep_alive():
    with serving(plain_app()) as server:
        with connect(server) as link:
            link.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"connection: close\r\n" in until_closed(link)
        with connect(server) as link:
            for _ in range(2):
                link.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert b"connection: keep-alive\r\n" in until_answered(link)


def test_head_has_a_length_and_no_body():
    with serving(plain_app()) as server:
        answer = exchange(server, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert re.search(rb"content-length: [1-9]\d+\r\n", answer)
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 0x4\r\n",
        b"Content-Length : 4\r\n",
        b"Content-Length: 4\nX: 1\r\n",
        b" folded: 1\r\n",
    ],
)
def test_ambiguous_length_never_smuggles_a_second_request(head):
    asked = []

    def app(environ, start_response):
        asked.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"{}\n"]

    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(app) as server:
        exchange(
            server,
            b"POST /seen HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n0\r\n\r\n",
            hidden,
        )
    assert "/hidden" not in asked


def test_answer_that_breaks_a_header_is_a_500(caplog):
    def app(environ, start_response):
        start_response("200 OK", [("X-Given", "1\r\nSet-Cookie: a=b")])
        return [b"{}"]

    with serving(app) as server:
        answer = exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"Set-Cookie" not in answer
    assert "line break" in caplog.text


def test_bug_in_the_application_is_logged_and_not_shown(caplog):
    def app(environ, start_response):
        raise RuntimeError("secret in /home/user/file.py")

    with serving(app) as server, connect(server) as link:
        for _ in range(2):  # and the connection goes on
            link.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = until_answered(link)
            assert answer.startswith(b"HTTP/1.1 500")
            assert b"secret" not in answer
    assert "GET /x failed" in caplog.text
    assert "secret" in caplog.text


def test_long_answer_to_a_slow_reader_arrives_whole():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 20_000_000]

    with serving(app) as server, connect(server) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        assert exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"x" * 1000)
        answer = until_closed(link)
    assert len(answer.partition(b"\r\n\r\n")[2]) == 20_000_000


def test_full_queue_is_answered_with_503_and_the_rest_in_order():
    entered = threading.Semaphore(0)
    with serving(plain_app(0.3, entered), threads=1, queue=2) as server:
        links = [connect(server) for _ in range(4)]
        for number, link in enumerate(links):
            link.sendall(b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % number)
            if number == 0:
                assert entered.acquire(timeout=HANG_S)
            time.sleep(0.05)
        refusal = until_answered(links[3])
        assert refusal.startswith(b"HTTP/1.1 503")
        assert re.search(rb"retry-after: [1-9]\d*\r\n", refusal)
        assert b"2 requests wait already" in refusal
        # Questions have a place of their own, and the refused connection goes on.
        links[3].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until_answered(links[3]).startswith(b"HTTP/1.1 200")
        assert server.adapter.admissions.images.busy == 1
        for number, link in enumerate(links[:3]):
            assert b'"/%d"' % number in until_answered(link)
        for link in links:
            link.close()


def test_gate_refuses_before_the_body_has_come():
    told = []

    def gate(environ):
        return as_json({"error": "no key"}, 401) if environ["PATH_INFO"] == "/closed" else None

    def refused(environ, answer):
        told.append((environ["PATH_INFO"], answer.status))
        return (("X-Request-Id", "7"),)

    with serving(plain_app(), gate=gate, refused=refused) as server, connect(server) as link:
        link.sendall(
            b"POST /closed HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = until_closed(link)
        assert error_of(answer, 401) == "no key"
        assert b"x-request-id: 7" in answer
    assert told == [("/closed", 401)]


def test_gate_that_refuses_a_whole_request_keeps_the_connection():
    def gate(environ):
        return as_json({"error": "no key"}, 401) if environ["PATH_INFO"] == "/closed" else None

    with serving(plain_app(), gate=gate) as server, connect(server) as link:
        link.sendall(b"GET /closed HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until_answered(link).startswith(b"HTTP/1.1 401")
        link.sendall(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until_answered(link).startswith(b"HTTP/1.1 200")


def test_requests_in_one_go_are_answered_in_order_across_places():
    order = [b"GET /1", b"POST /2", b"GET /3", b"POST /4", b"POST /v2/repository/x", b"GET /6"]
    with serving(plain_app(), threads=2) as server:
        answer = exchange(
            server,
            b"".join(r + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" for r in order),
        )
    paths = re.findall(rb'"PATH_INFO": "([^"]+)"', answer)
    assert paths == [request.split(b" ")[1] for request in order]


def test_many_connections_at_once_are_all_answered():
    with serving(plain_app(0.001), threads=3, queue=500) as server:
        answers: list[bytes] = []

        def client(number: int) -> None:
            with connect(server) as link:
                for turn in range(10):
                    body = b"%d-%d" % (number, turn)
                    link.sendall(
                        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                        + body
                    )
                    answers.append(until_answered(link))
                    assert b'"body": "%s"' % body in answers[-1]

        clients = [threading.Thread(target=client, args=(number,)) for number in range(40)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(HANG_S)
        assert len(answers) == 400
        deadline = time.monotonic() + HANG_S
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.connections == 0
        assert (server.adapter.admissions.images.busy, len(server.adapter.admissions.images)) == (
            0,
            0,
        )


def test_more_connections_than_the_limit_wait_for_their_turn(monkeypatch):
    monkeypatch.setattr("adaptive.serving.server.CONNECTIONS", 3)
    with serving(plain_app()) as server:
        links = [connect(server) for _ in range(6)]
        for link in links:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for link in links:
            assert until_answered(link).startswith(b"HTTP/1.1 200")
            assert server.connections <= 3
            link.close()


def test_quiet_connection_is_closed(monkeypatch):
    monkeypatch.setattr("adaptive.serving.server.KEEP_ALIVE_S", 0.1)
    with serving(plain_app()) as server, connect(server) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        until_answered(link)
        assert link.recv(10) == b""


def test_client_that_takes_nothing_is_given_up():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 50_000_000]

    with serving(app, receive_s=0.2) as server, connect(server) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline = time.monotonic() + HANG_S
        while not server.connections or time.monotonic() > deadline:
            time.sleep(0.01)
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.connections == 0


def test_nothing_is_left_open_after_the_end():
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with serving(plain_app()) as server:
            exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_server_gives_no_sign_of_life_while_a_request_hangs(monkeypatch, caplog):
    monkeypatch.setattr("adaptive.serving.asgi.HUNG_S", 0.5)
    hold, beats = threading.Event(), []

    def app(environ, start_response):
        hold.wait(HANG_S)
        start_response("200 OK", [])
        return [b"{}\n"]

    server = make_server(app)
    thread = threading.Thread(target=server.run, args=(lambda: beats.append(1),))
    thread.start()
    try:
        with connect(server) as link:
            link.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
            deadline = time.monotonic() + HANG_S
            while "worked on for more than" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.05)
            before = len(beats)
            time.sleep(1.5)  # in which there would be one
            assert (len(beats), "worked on for more" in caplog.text) == (before, True)
            hold.set()
            assert until_answered(link).endswith(b"{}\n")
            while len(beats) == before and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(beats) > before
    finally:
        hold.set()
        server.stop()
        thread.join(HANG_S)


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    ],
    ids=["address", "length"],
)
def test_what_the_parser_did_not_foresee_costs_no_connection(head):
    with serving(plain_app()) as server:
        for _ in range(3):
            with connect(server) as link:
                link.sendall(head)
                answer = until_closed(link)
            # some Pythons read numbers of any length
            assert answer[9:12] in (b"400", b"413")
        assert_none_is_left(server)


def test_a_connection_on_which_the_server_fails_is_closed(monkeypatch, caplog):
    def fails(self):
        raise RuntimeError("a bug")

    with serving(plain_app()) as server:
        with monkeypatch.context() as broken:
            broken.setattr("adaptive.serving.connection.Connection.on_message_begin", fails)
            with connect(server) as link:
                link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert until_closed(link) == b""
        assert_none_is_left(server)
        with connect(server) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert until_answered(link).startswith(b"HTTP/1.1 200")
    assert "closes it, and goes on" in caplog.text


class Gated:
    """An application whose images wait until they are let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            self.begun.release()
            assert self.open.wait(HANG_S)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]


@contextlib.contextmanager
def gated(threads: int, queue: int = 4):
    app = Gated()
    with serving(app, threads, queue) as server:
        try:
            yield server, app
        finally:
            app.open.set()


def ask(server, method: str, path: str) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", server.port), HANG_S)
    link.sendall(f"{method} {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    return link


def answer(link: socket.socket) -> bytes:
    with link, link.makefile("rb") as stream:
        return stream.read()


def test_questions_are_answered_while_every_thread_for_images_is_at_work():
    for threads in (1, 3):
        with gated(threads) as (server, app):
            images = [ask(server, "POST", f"/{k}") for k in range(threads)]
            for _ in images:
                assert app.begun.acquire(timeout=HANG_S)
            for _ in range(3):
                assert answer(ask(server, "GET", "/healthz")).endswith(b"/healthz")
            app.open.set()
            for k, link in enumerate(images):
                assert answer(link).endswith(f"/{k}".encode())


def test_images_that_find_room_run_side_by_side():
    with gated(3) as (server, app):
        images = [ask(server, "POST", f"/{k}") for k in range(3)]
        for _ in images:
            assert app.begun.acquire(timeout=HANG_S)
        app.open.set()
        for k, link in enumerate(images):
            assert answer(link).endswith(f"/{k}".encode())


def test_queue_is_kept_while_every_thread_is_at_work():
    with gated(1, queue=1) as (server, app):
        first = ask(server, "POST", "/first")
        assert app.begun.acquire(timeout=HANG_S)
        others = [ask(server, "POST", "/other") for _ in range(3)]
        end = time.monotonic() + HANG_S
        while len(select.select(others, [], [], 1.0)[0]) < 2:  # two are refused meanwhile
            assert time.monotonic() < end
        app.open.set()
        assert answer(first).endswith(b"/first")
        assert sorted(answer(link)[9:12] for link in others) == [b"200", b"503", b"503"]


def test_model_that_is_loaded_keeps_no_image_waiting():
    with gated(1) as (server, app):
        load = ask(server, "POST", "/v2/repository/models/a/load")
        assert app.begun.acquire(timeout=HANG_S)
        image = ask(server, "POST", "/image")
        assert app.begun.acquire(timeout=HANG_S)
        app.open.set()
        assert answer(image).endswith(b"/image")
        assert answer(load).endswith(b"/load")


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="needs Linux")
@pytest.mark.parametrize("chosen", [None, "SCHED_IDLE"])
def test_threads_interrupt_nobody_while_the_server_runs(chosen):
    policies = {}

    def app(environ, start_response):
        policies["worker"] = os.sched_getscheduler(0)
        start_response("200 OK", [])
        return [b"{}\n"]

    server = make_server(app)

    def run() -> None:
        if chosen is not None:
            os.sched_setscheduler(0, getattr(os, chosen), os.sched_param(0))
        server.run(lambda: policies.setdefault("loop", os.sched_getscheduler(0)))
        policies["after"] = os.sched_getscheduler(0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline = time.monotonic() + HANG_S
        while "loop" not in policies and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        server.stop()
        thread.join(HANG_S)
    if chosen is not None:  # it is left as somebody chose it
        assert set(policies.values()) == {os.SCHED_IDLE}
        return
    batch = os.SCHED_BATCH
    assert policies == {"worker": batch, "loop": batch, "after": os.SCHED_OTHER}
