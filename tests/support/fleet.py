"""A Redis and an S3 server on loopback, a proxy that answers 503 for a while, and workers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable, Iterator

from adaptive.outcomes.table import OutcomeTable

#: A guard against hanging, not a promise of speed.
HANG_S = 120.0

BUCKET = "experiments"

KEYS = {
    "AWS_ACCESS_KEY_ID": "key-of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def until(true: Callable[[], object], what: str, seconds: float = HANG_S) -> float:
    """Wait until something is true; the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"{what} did not come within {seconds:g} s"
        time.sleep(0.01)
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Redis:
    """A redis-server that keeps nothing when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        line = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        line += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        until(lambda: answers(self.port), "Redis")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    server = Redis(folder)
    try:
        yield server
    finally:
        server.kill()


def find_s3() -> list[str] | None:
    """The line that starts an S3 server, but for its ports: SeaweedFS, or else moto."""
    weed = os.environ.get("ADAPTIVE_WEED") or shutil.which("weed")
    if weed:
        return [weed]
    moto = os.environ.get("ADAPTIVE_MOTO") or shutil.which("moto_server")
    return [moto] if moto else None


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The address of an S3 server with one empty bucket."""
    found = find_s3()
    assert found is not None
    # s3fs leaves a session that dies to the thread's own loop, which Python 3.8 makes and nobody
    # runs; where there is none it closes the session itself.
    asyncio.set_event_loop(None)
    port = free_port()
    if Path(found[0]).name == "weed":
        line = [*found, "mini", "-dir", str(folder), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"]
        line += ["-webdav=false", "-master.telemetry=false", f"-s3.port={port}"]
        for name in ("master", "volume", "filer", "admin"):
            line.append(f"-{name}.port={20_000 + free_port() % 10_000}")
    else:
        line = [*found, "-H", "127.0.0.1", "-p", str(port)]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, env={**os.environ, **KEYS})
    try:
        until(lambda: answers(port), "the S3 server")
        address = f"http://127.0.0.1:{port}"
        until(lambda: _made(address), "a bucket")
        yield address
    finally:
        process.kill()
        process.wait()


def _made(address: str) -> bool:
    import s3fs

    files = s3fs.S3FileSystem(
        key=KEYS["AWS_ACCESS_KEY_ID"],
        secret=KEYS["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=address,
        skip_instance_cache=True,
    )
    with contextlib.suppress(Exception):
        files.mkdir(BUCKET)
        return True
    return False


class Flaky:
    """A proxy before an HTTP server, which answers 503 while `down`, and counts how often."""

    def __init__(self, address: str) -> None:
        self.down = False
        self.refused = 0
        host, _, port = address.partition("://")[2].partition(":")
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if flaky.down:
                    flaky.refused += 1
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = http.client.HTTPConnection(host, int(port), timeout=60)
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                content = response.read()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = response.getheader("Content-Length") or str(len(content))
                if self.command != "HEAD":
                    length = str(len(content))
                if response.status != 204:
                    self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                connection.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class Worker:
    """`adaptive worker` as a process; its lines are kept."""

    def __init__(self, *words: object, **environment: str) -> None:
        line = [sys.executable, "-m", "adaptive.cli", "worker", *map(str, words)]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def ready(self) -> Worker:
        until(lambda: any("working for" in line for line in self.lines) or self.ended, "a worker")
        assert not self.ended, self.lines
        return self

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._thread.join()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=HANG_S)
        self._thread.join()
        return code


@contextlib.contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """Starts workers, and ends those that still run."""
    begun: list[Worker] = []

    def start(*words: object, **environment: str) -> Worker:
        begun.append(Worker(*words, **environment))
        return begun[-1]

    try:
        yield start
    finally:
        for worker in begun:
            if not worker.ended:
                worker.kill()
            assert worker.process.stdout is not None
            worker.process.stdout.close()


def text_of(photos: Path, candidates: Path, shard: int = 6, more: str = "") -> str:
    return f"""
name = "tried"

[data]
images = "{photos}"
labels = "{photos / "labels.csv"}"

[candidates]
folder = "{candidates}"

[measure]
features = "paper7"
shard = {shard}
times = 4

[[policy]]
fixed = "strong"
{more}
"""


def same_outcomes(one: OutcomeTable, other: OutcomeTable) -> None:
    """Bit for bit, whatever the times are."""
    assert one.images == other.images
    assert one.candidates == other.candidates
    assert one.label.tobytes() == other.label.tobytes()
    assert one.X.tobytes() == other.X.tobytes()
    for name in one.candidates:
        for part in ("quality", "top5", "confidence"):
            first, second = getattr(one.of(name), part), getattr(other.of(name), part)
            assert first.tobytes() == second.tobytes()
        assert one.probabilities_of(name).tobytes() == other.probabilities_of(name).tobytes()
