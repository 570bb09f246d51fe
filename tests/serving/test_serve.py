"""`adaptive serve` as a process, with a real bundle."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from http_fixtures import (
    HANG_S,
    HEAD,
    JPEG,
    MAX_BODY_BYTES,
    ODD,
    URL,
    encoded,
    picture,
    post,
)

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.policy.fixed import Fixed

pytestmark = pytest.mark.slow

#: What the server's parser refuses before the application, which would say 405, sees it.
REAL = {
    **ODD,
    "invented method": ODD["invented method"]._replace(status=501, words="a method that HTTP"),
}

COMMAND = [sys.executable, "-c", "from adaptive.cli import main; main()", "serve"]


class Process:
    """`adaptive serve` in a process of its own."""

    def __init__(self, bundle: Path, *options: str, log: str = "none") -> None:
        limit = str(MAX_BODY_BYTES / 1e6)
        basic = ["--port", "0", "--max-body-mb", limit, "--request-log", log]
        self.process = subprocess.Popen(
            [*COMMAND, str(bundle), *basic, *options],
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


@pytest.mark.parametrize("name", REAL)
def test_real_server_answers_odd_requests_and_goes_on(process, name):
    sent = REAL[name]
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
        super().__init__(daemon=True)
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


def link_to(link: Path, folder: Path) -> None:
    """Point a link at another folder at one go, as a deployment does."""
    aside = link.with_name(link.name + ".fresh")
    aside.symlink_to(folder)
    os.replace(aside, link)


@pytest.fixture
def two_bundles(tiny_candidates, tmp_path) -> tuple[Path, list[Path]]:
    """A link to the first of two bundles, which ask one candidate each."""
    folders = []
    for name in ("cheap", "strong"):
        folders.append(tmp_path / name)
        write_bundle(folders[-1], Bundle.read(tiny_candidates), Fixed((name,)))
    link_to(tmp_path / "current", folders[0])
    return tmp_path / "current", folders


@pytest.fixture
def start():
    """Start servers that are gone after the test, however it ends."""
    servers = []

    def begin(bundle: Path, *options: str, log: str = "none") -> Process:
        servers.append(Process(bundle, *options, log=log))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.end()


def until(happened) -> None:
    end = time.monotonic() + HANG_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def candidate_of(port: int) -> str:
    status, value = post(port, ODD["jpeg"])
    assert status == 200
    return value["candidate"]


def test_sighup_changes_the_bundle_and_loses_no_request(start, two_bundles):
    link, folders = two_bundles
    server = start(link)
    clients = [Client(server.port) for _ in range(4)]
    for client in clients:
        client.start()
    assert candidate_of(server.port) == "cheap"
    link_to(link, folders[1])
    server.process.send_signal(signal.SIGHUP)
    until(lambda: candidate_of(server.port) == "strong")
    # Now with something that cannot be served: the last one stays.
    (folders[0] / "cheap.onnx").write_bytes(b"broken")
    link_to(link, folders[0])
    server.process.send_signal(signal.SIGHUP)
    run = reload_command(server.port)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert candidate_of(server.port) == "strong"
    link_to(link, folders[1])
    assert reload_command(server.port).returncode == 0
    server.process.send_signal(signal.SIGTERM)
    code, errors = server.end()
    for client in clients:
        client.join(HANG_S)
    assert [client.lost for client in clients] == [[]] * 4
    assert code == 0
    assert "the last one is served on" in errors


def reload_command(port: int, *options: str) -> subprocess.CompletedProcess:
    command = [*COMMAND[:-1], "reload", "--url", f"http://127.0.0.1:{port}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)


@pytest.mark.parametrize("delay_ms", [0, 5, 20, 60])
def test_kill_during_a_reload_leaves_a_bundle_that_can_be_served(start, two_bundles, delay_ms):
    link, folders = two_bundles
    server = start(link)
    link_to(link, folders[1])
    server.process.send_signal(signal.SIGHUP)
    time.sleep(delay_ms / 1e3)
    server.process.kill()
    server.end()
    again = start(link)
    assert candidate_of(again.port) == "strong"
    again.process.send_signal(signal.SIGTERM)
    assert again.end()[0] == 0


def test_keys_are_asked_for_and_may_change(start, tiny_bundle, tmp_path):
    first, second = "first-key-0123456789", "second-key-0123456789"
    keys = tmp_path / "keys"
    keys.write_text(f"# the camera\n{first}\n")
    server = start(tiny_bundle, "--keys", str(keys))
    jpeg = ODD["jpeg"]

    def status(key: str) -> int:
        return post(server.port, jpeg._replace(headers={"Authorization": f"Bearer {key}"}))[0]

    assert post(server.port, jpeg)[0] == 401
    assert status(first) == 200
    ready = post(server.port, ODD["wrong method"]._replace(path="/readyz"))
    assert ready == (200, {"status": "ready"})
    assert reload_command(server.port).returncode == 2
    assert reload_command(server.port, "--key-file", str(keys)).returncode == 0
    keys.write_text(f"{second}\n")
    until(lambda: status(second) == 200)
    assert status(first) == 401
    server.process.send_signal(signal.SIGTERM)
    code, errors = server.end()
    assert code == 0
    assert first not in errors
    assert second not in errors


def test_request_log_is_json_on_standard_error(start, tiny_bundle):
    server = start(tiny_bundle, log="-")
    named = ODD["jpeg"]._replace(headers={"X-Request-Id": "camera-7"})
    assert post(server.port, named)[0] == 200
    assert post(server.port, ODD["text file"])[0] == 400
    assert post(server.port, ODD["too long"])[0] == 413
    server.process.send_signal(signal.SIGTERM)
    code, errors = server.end()
    assert code == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["status"] for line in lines] == [200, 400, 413]
    assert lines[0]["request"] == "camera-7"
    assert lines[0]["ran"][0] == "cheap"


def test_what_decoders_write_is_json_on_standard_error_too(start, tiny_bundle):
    """libjpeg writes of a JPEG that was cut off and then ended properly."""
    server = start(tiny_bundle, log="-")
    photo = encoded(picture(size=(400, 300)))
    cut = photo[: len(photo) * 6 // 10] + b"\xff\xd9"
    assert post(server.port, ODD["jpeg"]._replace(body=cut))[0] == 200
    server.process.send_signal(signal.SIGTERM)
    code, errors = server.end()
    assert code == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["status"] for line in lines if "status" in line] == [200]
    (said,) = (line for line in lines if "status" not in line)
    assert said["logger"] == "stderr"
    assert said["message"].startswith("Corrupt JPEG data")


def test_metrics_are_told_to_prometheus(process):
    assert post(process.port, ODD["jpeg"])[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=HANG_S)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    text = answer.read().decode()
    connection.close()
    assert 'adaptive_requests_total{kind="classify",status="200"}' in text
    assert "adaptive_queue_depth" in text
    assert "adaptive_ready 1" in text


def test_gathered_requests_are_answered(start, tiny_bundle):
    server = start(tiny_bundle, "--batch-window-ms", "5", "--max-batch", "4")
    clients = [Client(server.port, 20) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(HANG_S)
    assert [(client.answered, client.lost) for client in clients] == [(20, [])] * 8
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, "")


def test_deadline_and_preference_reach_the_policy(process):
    jpeg = ODD["jpeg"]
    assert post(process.port, jpeg._replace(headers={"X-Prefer": "accurate"}))[0] == 200
    status, value = post(process.port, jpeg._replace(headers={"X-Prefer": "best"}))
    assert (status, "X-Prefer" in value["error"]) == (400, True)
    status, value = post(process.port, jpeg._replace(headers={"X-Deadline-Ms": "0.001"}))
    assert (status, "X-Deadline-Ms" in value["error"]) == (400, True)
    assert post(process.port, jpeg._replace(headers={"X-Deadline-Ms": "20000"}))[0] == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keys", "/nowhere/keys"], "cannot be read"),
        (["--tls-key", "/nowhere/key.pem"], "--tls-cert"),
        (["--tls-cert", "/nowhere/chain.pem"], "cannot be used"),
        (["--request-log", "/nowhere/requests.jsonl"], "cannot be opened"),
    ],
)
def test_options_that_cannot_be_end_with_exit_code_2(tiny_bundle, options, words):
    run = subprocess.run(
        [*COMMAND, str(tiny_bundle), "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert run.returncode == 2
    assert words in run.stderr
    assert run.stderr.count("\n") == 1


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
