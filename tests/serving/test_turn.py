from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

from http_fixtures import HANG_S
from served import in_a_thread

from adaptive.serving.server import Server
from adaptive.serving.turn import END, LISTEN, Turn


def test_first_call_is_to_listen_and_jobs_come_in_order():
    turn: Turn[str] = Turn()
    assert turn.wait(0) is LISTEN
    turn.call("a")
    turn.call("b")
    assert (turn.wait(1), turn.wait(2)) == ("a", "b")


def test_nobody_takes_the_turn_of_one_who_listens():
    turn: Turn[str] = Turn()
    turn.wait(0)
    assert not turn.take(1)
    assert turn.back(0)


def test_turn_of_one_who_is_away_is_taken_once():
    turn: Turn[str] = Turn()
    turn.wait(0)
    turn.away()
    assert turn.take(1)
    assert not turn.take(2)
    assert not turn.back(0)
    assert turn.back(1)


def test_turn_that_was_passed_on_is_its_own_no_more():
    turn: Turn[str] = Turn()
    turn.wait(0)
    turn.pass_on()
    assert not turn.back(0)
    assert not turn.take(0)
    assert turn.wait(3) is LISTEN
    assert turn.back(3)


def test_somebody_looks_while_who_listens_is_away_for_long():
    turn: Turn[str] = Turn()
    looked = threading.Event()
    thread = threading.Thread(target=turn.relieve, args=(looked.set,))
    thread.start()
    turn.wait(0)
    assert not looked.wait(0.1)
    turn.away()
    assert looked.wait(HANG_S)
    assert turn.back(0)
    turn.end(1)
    thread.join(HANG_S)
    assert not thread.is_alive()
    assert turn.wait(0) is END


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
    with in_a_thread(Server(app, "127.0.0.1", 0, threads=threads, queue=queue)) as server:
        try:
            yield server, app
        finally:
            app.open.set()


def ask(server: Server, method: str, path: str) -> socket.socket:
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


def test_queue_is_kept_while_who_listens_is_at_work():
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
