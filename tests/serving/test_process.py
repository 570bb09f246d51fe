from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time

import pytest
from http_fixtures import PlainRouter

from adaptive.errors import EngineError
from adaptive.serving.admission import Admissions
from adaptive.serving.asgi import Adapter
from adaptive.serving.http import create_app
from adaptive.serving.notify import Notifier
from adaptive.serving.process import run, serve
from adaptive.serving.readiness import Readiness
from adaptive.serving.server import Server


def adapter() -> Adapter:
    return Adapter(create_app(PlainRouter()), Admissions(2), 1_000_000)


def stop_when(happened) -> None:
    """Send SIGTERM to this process once `happened()`."""

    def wait() -> None:
        while not happened():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait).start()


def test_serve_announces_itself_when_warm_and_returns_on_sigterm(capsys):
    readiness = Readiness("the networks are warming up")
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    stop_when(lambda: readiness.problem != "the networks are warming up")
    serve(
        adapter(),
        "127.0.0.1",
        0,
        name="this",
        readiness=readiness,
        warm_up=lambda: seen.append(readiness.problem),
    )
    assert seen == ["the networks are warming up"]
    assert readiness.problem == "the server is stopping"
    assert signal.getsignal(signal.SIGTERM) is before
    assert re.fullmatch(r"serving this at http://127\.0\.0\.1:\d+\n", capsys.readouterr().out)


def test_serve_passes_on_what_warming_up_raises(capsys):
    def warm_up():
        raise EngineError("the network does not run")

    with pytest.raises(EngineError, match="does not run"):
        serve(adapter(), "127.0.0.1", 0, warm_up=warm_up)
    assert capsys.readouterr().out == ""


def test_sighup_calls_what_it_should_and_does_not_stop():
    called = threading.Event()
    readiness = Readiness("warming up")

    def reload() -> None:
        assert threading.current_thread() is not threading.main_thread()
        called.set()

    def warm_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    stop_when(called.is_set)
    serve(
        adapter(),
        "127.0.0.1",
        0,
        readiness=readiness,
        warm_up=warm_up,
        reload=reload,
    )
    assert called.is_set()


def test_systemd_is_told_of_readiness_life_and_end(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(30)
        told: list[bytes] = []

        def listen() -> None:
            while not told or b"STOPPING=1" not in told[-1]:
                told.append(systemd.recv(1000))

        listener = threading.Thread(target=listen)
        listener.start()
        stop_when(lambda: any(b"WATCHDOG=1" in line for line in told))
        server = Server(adapter(), "127.0.0.1", 0)
        run(server, "this", notifier=Notifier(address, watchdog_s=2.0))
        listener.join(30)
    assert told[0].split(b"\n")[0] == b"READY=1"
    assert b"STATUS=serving this at http://127.0.0.1:" in told[0]
    assert told[-1] == b"STOPPING=1"


def test_many_sighups_at_once_load_twice():
    # the one that runs may have read the old file; the one that waits has not
    began, hold, calls = threading.Event(), threading.Event(), []

    def reload() -> None:
        calls.append(1)
        began.set()
        hold.wait(30)

    def ask() -> None:
        began.wait(30)
        for _ in range(10):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        hold.set()

    def warm_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        threading.Thread(target=ask).start()

    stop_when(lambda: hold.is_set() and len(calls) >= 2)
    serve(adapter(), "127.0.0.1", 0, warm_up=warm_up, reload=reload)
    assert len(calls) == 2
