"""Compare WSGI servers under the same application: `python benchmarks/servers.py`.

Every server runs `create_app` around a stand-in router (about 0.6 ms of work that lets go of the
interpreter lock, as a network does) with four threads in one process, and gets, in this order:

- drops    SIGTERM in the middle of the requests of eight keep-alive clients: requests whose
           last byte was sent, and that got no whole answer; then exit code, seconds until the
           process is gone, and processes left over. The worst of `--repeats` runs.
- cpu      CPU time of the server a request at 16 keep-alive connections, beyond the stand-in's own
- memory   proportional set size after those requests, and at 256 MB of request body the growth
           of the peak, with what the client was answered (Content-Length, then chunked)
- slow     whether a good request is answered within 5 s beside 64 clients that stopped sending
           in the middle of a header, and 64 that stopped in the middle of a body
- cut off  the same after 300 clients hung up in the middle of a request; threads and open files
           that were not there before

Servers that are not installed are left out. Numbers are for comparison within one run only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import importlib.util
import io
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterator

from PIL import Image

from adaptive.limits import UNLIMITED, Limits
from adaptive.prediction import Prediction
from adaptive.serving.readiness import Readiness

THREADS = 4
LIMIT = 16_000_000
HERE = os.path.abspath(__file__)


class StandIn:
    """A router whose answer costs about 0.6 ms outside the interpreter lock."""

    def __init__(self) -> None:
        self.block = b"x" * 400_000
        self.ready = Readiness()
        self.labels = ("cat", "dog", "owl", "fox", "bee")

    def limits_from(self, headers: Any) -> Limits:
        """No limits."""
        return UNLIMITED

    def models(self) -> list[Any]:
        """None that answers by itself."""
        return []

    def classify(self, image: bytes, **_: Any) -> Prediction:
        """Hash a fixed block and answer always the same."""
        hashlib.blake2b(self.block).digest()
        top5 = (("cat", 0.9), ("dog", 0.05), ("owl", 0.03), ("fox", 0.01), ("bee", 0.01))
        return Prediction("cat", 0, 0.9, top5, "small", ("small",), {"decode": 0.1, "total": 0.7})

    def describe(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}


def application() -> Any:
    """The application that every server runs; granian imports it by name."""
    from adaptive.serving.http import create_app

    return create_app(StandIn(), max_body_bytes=LIMIT)


def run_adaptive(port: int) -> None:
    from adaptive.serving.process import serve

    serve(application(), "127.0.0.1", port, threads=THREADS, max_body_bytes=LIMIT)


def run_waitress(port: int) -> None:
    import waitress

    waitress.serve(
        application(),
        listen=f"127.0.0.1:{port}",
        threads=THREADS,
        max_request_body_size=LIMIT + 1,
    )


def run_cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), application(), numthreads=THREADS, max=THREADS)
    server.max_request_body_size = LIMIT
    stop_on_sigterm(server.stop)
    server.start()


def run_granian(port: int) -> None:
    from granian import Granian

    sys.path.insert(0, os.path.dirname(HERE))
    Granian(
        "servers:application",
        address="127.0.0.1",
        port=port,
        interface="wsgi",
        factory=True,
        log_enabled=False,
        blocking_threads=THREADS,
    ).serve()


def run_gunicorn(port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Gunicorn(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            self.cfg.set("bind", f"127.0.0.1:{port}")
            self.cfg.set("worker_class", "gthread")
            self.cfg.set("threads", THREADS)
            self.cfg.set("loglevel", "critical")

        def load(self) -> Any:
            return application()

    Gunicorn().run()


def stop_on_sigterm(stop: Callable[[], None]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop).start())


SERVERS = {
    "adaptive": run_adaptive,
    "waitress": run_waitress,
    "cheroot": run_cheroot,
    "granian": run_granian,
    "gunicorn": run_gunicorn,
}


class Server:
    """One server in a process of its own, watched through /proc."""

    def __init__(self, name: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, HERE, "--run", name, "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                if good_request(self.port, 5):
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{name} did not start")

    def processes(self) -> list[int]:
        """All living processes of the server's session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    fields = read(f"/proc/{entry}/stat").rpartition(")")[2].split()
                    if int(fields[3]) == self.process.pid and fields[0] != "Z":
                        found.append(int(entry))
        return found

    def cpu_s(self) -> float:
        ticks = 0
        for pid in self.processes():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def total(self, file: str, key: str) -> float:
        """Sum of one line of a /proc file over the processes, MB."""
        kilobytes = 0
        for pid in self.processes():
            for line in read(f"/proc/{pid}/{file}").splitlines():
                if line.startswith(key + ":"):
                    kilobytes += int(line.split()[1])
        return kilobytes / 1000

    def forget_peak(self) -> None:
        for pid in self.processes():
            with open(f"/proc/{pid}/clear_refs", "w") as file:
                file.write("5")

    def handles(self) -> int:
        """Threads and open files."""
        return sum(
            len(os.listdir(f"/proc/{pid}/{kind}"))
            for pid in self.processes()
            for kind in ("task", "fd")
        )

    def stop(self) -> tuple[int | None, float, int]:
        """SIGTERM; then exit code (None: killed after 30 s), seconds, processes left over."""
        started = time.monotonic()
        self.process.terminate()
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(30)
        seconds = time.monotonic() - started
        time.sleep(0.3)
        left = self.processes()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        return code, seconds, len(left)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def photograph() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((128, 128), 60).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


PHOTO = photograph()
HEAD = (
    f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    f"Content-Length: {len(PHOTO)}\r\n\r\n"
).encode()


def good_request(port: int, timeout: float) -> bool:
    """Whether one image, over a new connection, is answered in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", "/v1/classify", PHOTO)
        return json.loads(connection.getresponse().read())["label"] == "cat"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Client(threading.Thread):
    """Sends one request after the other until told to stop, or until the server is gone."""

    def __init__(self, port: int, requests: int | None = None) -> None:
        super().__init__()
        self.port, self.left = port, requests
        self.answered = self.dropped = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set() and self.left != 0:
            try:
                link = socket.create_connection(("127.0.0.1", self.port), 20)
            except OSError:
                return  # refused: no request was started
            with link:
                while not self.over.is_set() and self.left != 0:
                    try:
                        link.sendall(HEAD + PHOTO)
                    except OSError:
                        break  # the server hung up before the request was whole
                    verdict = receive(link)
                    if verdict is None:
                        self.dropped += 1
                        break
                    self.answered += 1
                    self.left = None if self.left is None else self.left - 1
                    if not verdict:
                        break


def receive(link: socket.socket) -> bool | None:
    """Read one answer: whether the connection stays open, None when there was no answer."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = link.recv(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            more = link.recv(65536)
            if not more:
                return None
            body += more
    except OSError:
        return None
    return b"connection: close" not in lower


def drops(name: str, repeats: int) -> dict[str, Any]:
    worst: dict[str, Any] = {"drops": 0, "exit": 0, "exit_s": 0.0, "left": 0}
    for _ in range(repeats):
        server = Server(name)
        clients = [Client(server.port) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(1.0)
        code, seconds, left = server.stop()
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
        worst["drops"] = max(worst["drops"], sum(client.dropped for client in clients))
        worst["exit"] = code if code != 0 else worst["exit"]
        worst["exit_s"] = round(max(worst["exit_s"], seconds), 2)
        worst["left"] = max(worst["left"], left)
    return worst


def load(port: int, connections: int, requests: int) -> int:
    clients = [Client(port, requests // connections) for _ in range(connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sum(client.answered for client in clients)


def in_process_ms(requests: int) -> float:
    """CPU of the stand-in alone, a request."""
    router = StandIn()
    started = time.process_time()
    for _ in range(requests):
        router.classify(PHOTO)
    return (time.process_time() - started) * 1e3 / requests


def big_body(server: Server, chunked: bool) -> dict[str, Any]:
    """Send 256 MB, read what comes back, and watch the peak."""
    before = server.total("status", "VmRSS")
    server.forget_peak()
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 256000000"
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), 20) as link:
        link.sendall(f"POST /v1/classify HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        block = b"x" * 1_000_000
        part = b"f4240\r\n" + block + b"\r\n" if chunked else block
        with contextlib.suppress(OSError):
            for _ in range(256):
                link.sendall(part)
        with contextlib.suppress(OSError):
            answer = link.recv(65536)
    status = answer.split(b" ")[1].decode() if answer.startswith(b"HTTP") else "reset"
    grown = max(0.0, server.total("status", "VmHWM") - before)
    return {"status": status, "grown_mb": round(grown, 1)}


def beside(server: Server, start: bytes) -> bool:
    """Whether a good request is answered while 64 clients hold back the rest of theirs."""
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            link.sendall(start)
        time.sleep(0.5)
        return good_request(server.port, 5)


def cut_off(server: Server) -> dict[str, Any]:
    before = server.handles()
    for number in range(300):
        with socket.create_connection(("127.0.0.1", server.port), 5) as link:
            link.sendall((HEAD + PHOTO)[: 20 + number * 8])
            if number % 2:  # reset instead of an orderly end
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answered = good_request(server.port, 5)
    for _ in range(50):
        if server.handles() <= before:
            break
        time.sleep(0.1)
    return {"goes_on": answered, "left_over": max(0, server.handles() - before)}


def measure(names: list[str], requests: int, repeats: int) -> Iterator[tuple[str, dict[str, Any]]]:
    results: dict[str, dict[str, Any]] = {name: drops(name, repeats) for name in names}
    servers = {name: Server(name) for name in names}
    spent: dict[str, list[float]] = {name: [] for name in names}
    alone: list[float] = []
    for server in servers.values():
        load(server.port, 16, 320)
    for _ in range(5):  # interleaved, so that all see the same neighbours
        alone.append(in_process_ms(requests // 10))
        for name, server in servers.items():
            before = server.cpu_s()
            answered = load(server.port, 16, requests // 5)
            spent[name].append((server.cpu_s() - before) * 1e3 / max(1, answered))
    for name, server in servers.items():
        result = results[name]
        result["cpu_ms"] = round(sorted(spent[name])[2] - sorted(alone)[2], 3)
        result["processes"] = len(server.processes())
        result["pss_mb"] = round(server.total("smaps_rollup", "Pss"), 1)
        result["256MB"] = big_body(server, chunked=False)
        result["256MB chunked"] = big_body(server, chunked=True)
        result["slow header"] = beside(server, HEAD[:30])
        result["slow body"] = beside(server, HEAD + PHOTO[:100])
        result["cut off"] = cut_off(server)
        server.stop()
        yield name, result


def installed(name: str) -> bool:
    return importlib.util.find_spec("adaptive" if name == "adaptive" else name) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers", nargs="*", help=f"of {', '.join(SERVERS)}; default all")
    parser.add_argument("--requests", type=int, default=8000, help="for the CPU, in all")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the SIGTERM test")
    parser.add_argument("--json", help="write the results here, too")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        SERVERS[args.run](args.port)
        return
    names = [name for name in args.servers or SERVERS if installed(name)]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    results = {}
    for name, result in measure(names, args.requests, args.repeats):
        results[name] = result
        print(name, json.dumps(result), flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
