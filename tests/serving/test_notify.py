"""What systemd is told, read at the other end of a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive.errors import InputError
from adaptive.serving.notify import Notifier


class Systemd:
    """The end at which systemd listens."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path: Path) -> str:
    if request.param == "abstract":
        return f"@adaptive-test-{os.getpid()}"
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str):
    end = Systemd(address)
    yield end
    end.socket.close()


def test_states_and_status_reach_the_socket(systemd, address):
    notifier = Notifier(address)
    assert notifier.ready("serving tiny at http://127.0.0.1:8080")
    assert notifier.status("two\nlines")
    assert notifier.stopping()
    assert systemd.heard() == [
        "READY=1\nSTATUS=serving tiny at http://127.0.0.1:8080",
        "STATUS=two lines",  # a line of its own would be another assignment
        "STOPPING=1",
    ]


def test_beats_are_sent_four_times_in_the_watchdogs_time(systemd, address):
    now = [100.0]
    notifier = Notifier(address, watchdog_s=8.0, clock=lambda: now[0])
    sent = []
    for _ in range(33):  # 16 s, asked every half second
        sent.append(notifier.beat())
        now[0] += 0.5
    assert [row for row, one in enumerate(sent) if one] == [0, 4, 8, 12, 16, 20, 24, 28, 32]
    assert systemd.heard() == ["WATCHDOG=1"] * 9


def test_without_a_watchdog_no_beat_is_sent(systemd, address):
    assert not Notifier(address).beat()
    assert systemd.heard() == []


def test_without_systemd_nothing_is_sent():
    notifier = Notifier.from_environment({})
    assert (notifier.address, notifier.watchdog_s) == (None, None)
    assert not notifier.ready("serving")
    assert not notifier.beat()
    assert not notifier.stopping()


@pytest.mark.parametrize(
    ("pid", "expected"),
    [(None, 30.0), pytest.param(str(os.getpid()), 30.0, id="own"), ("1", None)],
)
def test_environment_tells_address_and_the_watchdog_of_this_process(pid, expected):
    environ = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "30000000"}
    if pid is not None:
        environ["WATCHDOG_PID"] = pid
    notifier = Notifier.from_environment(environ)
    assert notifier.address == "/run/systemd/notify"
    assert notifier.watchdog_s == expected


@pytest.mark.parametrize(
    "environ",
    [
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "/"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "0"},
    ],
)
def test_a_misset_environment_is_refused(environ):
    with pytest.raises(InputError, match=r"NOTIFY_SOCKET|WATCHDOG_USEC|watchdog"):
        Notifier.from_environment(environ)


def test_a_socket_that_is_gone_is_said_once_and_harms_nothing(tmp_path, caplog):
    address = str(tmp_path / "notify")
    notifier = Notifier(address)
    assert not notifier.ready()
    assert not notifier.stopping()
    assert len(caplog.records) == 1
    assert "READY=1" in caplog.text
    systemd = Systemd(address)
    assert notifier.stopping()
    assert systemd.heard() == ["STOPPING=1"]
    systemd.socket.close()


@pytest.mark.slow
def test_adaptive_serve_is_ready_alive_and_stopping(tiny_bundle, tmp_path):
    address = str(tmp_path / "notify")
    systemd = Systemd(address)
    systemd.socket.settimeout(60)
    environ = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    program = "from adaptive.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", str(tiny_bundle), "--port", "0"],
        env=environ,
        stdout=subprocess.DEVNULL,
    )
    try:
        told = [systemd.socket.recv(4096).decode()]
        while "READY=1" not in told[-1]:
            told.append(systemd.socket.recv(4096).decode())
        assert "\nSTATUS=serving " in told[-1]
        while told[-1] != "WATCHDOG=1":
            told.append(systemd.socket.recv(4096).decode())
        process.send_signal(signal.SIGTERM)
        while told[-1] == "WATCHDOG=1":
            told.append(systemd.socket.recv(4096).decode())
        assert told[-1] == "STOPPING=1"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        systemd.socket.close()
