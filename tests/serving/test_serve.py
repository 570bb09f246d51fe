"""`adaptive serve` as a process, with a real bundle."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "http_fixtures", Path(__file__).with_name("http_fixtures.py")
)
http_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(http_fixtures)
JPEG, MAX_BODY_BYTES = http_fixtures.JPEG, http_fixtures.MAX_BODY_BYTES
ODD, URL, HEAD = http_fixtures.ODD, http_fixtures.URL, http_fixtures.HEAD
HANG_S, post = http_fixtures.HANG_S, http_fixtures.post

COMMAND = [sys.executable, "-c", "from adaptive.cli import main; main()", "serve"]


class Process:
    """`adaptive serve` in a process of its own."""

    def __init__(self, bundle: Path) -> None:
        limit = str(MAX_BODY_BYTES / 1e6)
        self.process = subprocess.Popen(
            [*COMMAND, str(bundle), "--port", "0", "--max-body-mb", limit],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(r"serving .+ at http://127\.0\.0\.1:(\d+)\n", line)
        assert found, line + self.process.stderr.read()
        self.port = int(found[1])

    def end(self) -> tuple[int, str]:
        """Exit code and what it said on standard error."""
        try:
            _, errors = self.process.communicate(timeout=HANG_S)
        finally:
            self.process.kill()
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def process(tiny_bundle):
    server = Process(tiny_bundle)
    yield server
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGINT)
        assert server.end() == (0, "")


@pytest.mark.parametrize("name", ODD)
def test_real_server_answers_odd_requests_and_goes_on(process, name):
    sent = ODD[name]
    status, value = post(process.port, sent)
    assert status == sent.status, value
    if status == 200:
        assert {"label", "path", "ms"} <= set(value)
    else:
        assert list(value) == ["error"]
        assert sent.words in value["error"]
    status, value = post(process.port, ODD["jpeg"])
    assert status == 200
    assert value["ms"]["total"] > 0


def test_real_server_takes_a_chunked_body(process):
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=HANG_S)
    pieces = (JPEG[i : i + 700] for i in range(0, len(JPEG), 700))
    connection.request("POST", URL, pieces, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_real_server_outlives_clients_that_hang_up(process):
    for length in range(0, len(HEAD) + len(JPEG), 97):
        with socket.create_connection(("127.0.0.1", process.port), HANG_S) as link:
            link.sendall((HEAD + JPEG)[:length])
    assert post(process.port, ODD["jpeg"])[0] == 200


def test_real_server_is_ready_and_shows_its_bundle(process):
    for path in ("/healthz", "/readyz", "/v1/bundle"):
        status, value = post(process.port, ODD["wrong method"]._replace(path=path))
        assert status == 200
        assert "error" not in value


class Client(threading.Thread):
    """Sends images over one kept connection at a time; counts what was left without an answer."""

    def __init__(self, port: int, requests: int | None = None) -> None:
        super().__init__()
        self.port, self.requests = port, requests
        self.answered = 0
        self.lost: list[str] = []

    def run(self) -> None:
        while self.requests is None or self.answered < self.requests:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)
            try:
                connection.connect()
            except OSError:
                return  # the server is gone, and no request was started
            try:
                while self.requests is None or self.answered < self.requests:
                    connection.request("POST", URL, JPEG)
                    answer = connection.getresponse()
                    assert json.loads(answer.read())["label"]
                    self.answered += 1
                    if answer.will_close:
                        break
            except Exception as failure:
                self.lost.append(repr(failure))
                return
            finally:
                connection.close()


def test_sigterm_in_a_stream_of_requests_loses_none(tiny_bundle):
    server = Process(tiny_bundle)
    first = [Client(server.port, 25) for _ in range(8)]
    for client in first:
        client.start()
    for client in first:
        client.join(HANG_S)
    assert [client.answered for client in first] == [25] * 8
    second = [Client(server.port) for _ in range(8)]
    for client in second:
        client.start()
    while min(client.answered for client in second) < 3:
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, "")
    for client in second:
        client.join(HANG_S)
    assert [client.lost for client in second] == [[]] * 8


def test_address_in_use_ends_with_exit_code_2(process, tiny_bundle):
    run = subprocess.run(
        [*COMMAND, str(tiny_bundle), "--port", str(process.port)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert re.fullmatch(r"adaptive: cannot listen at .*: Address already in use\n", run.stderr)


def test_missing_bundle_ends_with_exit_code_2(tmp_path):
    run = subprocess.run(
        [*COMMAND, str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "none" in run.stderr
