"""What takes minutes: memory over many requests, and every kind of bad client at once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import threading
import urllib.request
from collections import Counter
from time import monotonic, sleep
from typing import Any, Callable

import numpy as np

from servers.contestants import Contestant, Served, ask, form
from servers.load import Load, post
from servers.process import Process

#: Pieces that the requests of the memory run are sent in, with a look at the memory after each.
PIECES = 40

#: Statuses that a server may answer a bad request with; 503 and 504 are no fault either.
ALLOWED = {200, 400, 404, 405, 408, 411, 413, 415, 431, 501, 503, 504}


def memory_run(
    contestant: Contestant, served: Served, core: int | None, requests: int, _: float
) -> dict[str, Any]:
    """Memory over so many requests, and the slope of a line through the last three quarters."""
    process = contestant.start(served, core)
    try:
        load = Load(process.port, contestant.request(served), 16)
        answered, own, failed = [0], [process.own_mb()], 0
        for _piece in range(PIECES):
            tally = load.run(600.0, requests=requests // PIECES)
            failed += tally.answered - tally.statuses["200"] + tally.dropped
            answered.append(answered[-1] + tally.answered)
            own.append(process.own_mb())
        quarter = PIECES // 4
        slope = float(np.polyfit(answered[quarter:], own[quarter:], 1)[0])
        return {
            "requests": answered[-1],
            "failed": failed,
            "own_mb": [round(size, 2) for size in own],
            "pss_mb": round(process.pss_mb(), 1),
            "slope_mb_per_100000": round(slope * 1e5, 3),
            **process.counts(),
        }
    finally:
        process.kill()


class Faults:
    """Clients of every kind, good and bad, each in a thread.

    Parameters
    ----------
    port : of the server
    image : a JPEG that it answers

    Attributes
    ----------
    answers : how many requests of a kind were answered with which status, or not at all
    wrong : answers that should not have been
    """

    def __init__(self, port: int, image: bytes) -> None:
        self.port = port
        self.image = image
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.over = threading.Event()

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        quick = [self.valid, self.valid, self.malformed, self.malformed, self.cut_off]
        kinds = [*quick, *[self.slow] * 24]
        threads = [
            threading.Thread(target=self._repeat, args=(kind, seed))
            for seed, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()

    def _repeat(self, kind: Callable[[random.Random], None], seed: int) -> None:
        generator = random.Random(seed)
        while not self.over.is_set():
            kind(generator)
            self.over.wait(generator.uniform(0.0, 0.02))

    def _expect(self, kind: str, request: bytes, *statuses: int) -> None:
        """Send a request and hold its answer against what is right."""
        try:
            with self._link() as link:
                with contextlib.suppress(OSError):  # refused before it was sent whole
                    link.sendall(request)
                self._judge(kind, read_answer(link), *statuses)
        except OSError as failure:
            self.wrong.append(f"{kind}: {failure!r}")

    def _link(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def _judge(self, kind: str, answer: tuple[int, bytes] | None, *statuses: int) -> None:
        status = 0 if answer is None else answer[0]
        self.answers[f"{kind} {status or 'none'}"] += 1
        if status not in (statuses or ALLOWED) and status not in (503,):
            self.wrong.append(f"{kind}: {answer!r}"[:300])
        elif answer is not None and status >= 400:
            with contextlib.suppress(ValueError):
                if set(json.loads(answer[1])) == {"error"}:
                    return
            self.wrong.append(f"{kind}: {answer!r}"[:300])

    def valid(self, generator: random.Random) -> None:
        """A request that must be answered with 200."""
        import base64
        import zlib

        text = base64.b64encode(self.image).decode()
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
        infer = json.dumps({"inputs": [tensor]}).encode()
        packed = zlib.compress(infer)
        requests = (
            post("/v1/classify", self.image, "image/jpeg"),
            post("/v1/classify?explain=1", self.image, "image/jpeg", "X-Prefer: fast"),
            form(self.image, "file", "/v1/classify"),
            post("/v2/models/small/infer", infer, "application/json"),
            post(
                "/v2/models/adaptive/infer", packed, "application/json", "Content-Encoding: deflate"
            ),
            post("/v2/models/adaptive/infer", self.image, "image/jpeg", HEADLESS),
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v1/bundle HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v2/models/small/stats HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        self._expect("valid", generator.choice(requests), 200)

    def malformed(self, generator: random.Random) -> None:
        """A request that must be refused, and be refused well."""
        image = self.image
        cut = image[: generator.randrange(1, len(image) // 2)]
        noise = bytes(generator.randrange(256) for _ in range(300))
        infer = "/v2/models/small/infer"
        requests = (
            post("/v1/classify", b"", "image/jpeg"),
            post("/v1/classify", noise, "image/jpeg"),
            post("/v1/classify", cut, "image/jpeg"),
            post("/v1/classify?explain=maybe", image, "image/jpeg"),
            post("/v1/classify", image, "image/jpeg", "X-Deadline-Ms: soon"),
            post("/v1/classify", image, "image/jpeg", "Content-Encoding: br"),
            post("/v1/classify", noise, "image/jpeg", "Content-Encoding: gzip"),
            post("/v1/classify", image, "multipart/form-data; boundary=none"),
            post(infer, b"{", "application/json"),
            post(infer, b"[]", "application/json"),
            post(infer, noise, "application/json"),
            post(infer, b"{}", "application/json", "Inference-Header-Content-Length: 99999"),
            post("/v2/models/nobody/infer", b"{}", "application/json"),
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n",
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            b"DELETE /v1/classify HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 70_000 + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            noise + b"\r\n\r\n",
        )
        refused = sorted(ALLOWED - {200, 408})
        self._expect("malformed", generator.choice(requests), *refused)

    def cut_off(self, generator: random.Random) -> None:
        """A client that hangs up in the middle, in order or with a reset."""
        request = post("/v1/classify", self.image, "image/jpeg")
        with contextlib.suppress(OSError), self._link() as link:
            link.sendall(request[: generator.randrange(1, len(request) + 1)])
            if generator.random() < 0.5:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.answers["cut off"] += 1

    def slow(self, generator: random.Random) -> None:
        """A client that sends a few bytes a second, or stops; or reads its answer as slowly."""
        request = post("/v1/classify", self.image, "image/jpeg", "Connection: close")
        stops = generator.choice((None, None, generator.randrange(1, len(request))))
        seconds = generator.uniform(2.0, 40.0)
        step = max(1, int(len(request) / (seconds / 0.2)))
        kind = "slow, stops" if stops else "slow"
        with contextlib.suppress(OSError), self._link() as link:
            began = monotonic()
            for begin in range(0, stops or len(request), step):
                link.sendall(request[begin : min(begin + step, stops or len(request))])
                sleep(0.2)
                if self.over.is_set():
                    return
            late = stops is not None or monotonic() - began > 25
            self._judge(kind, read_answer(link), *((408, 200) if late else (200,)))
            return
        self.answers[f"{kind}, hung up"] += 1


HEADLESS = "Inference-Header-Content-Length: 0"


def read_answer(link: socket.socket) -> tuple[int, bytes] | None:
    """Status and body of one answer; None where there was none."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = link.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        more = link.recv(65536)
        if not more:
            return None
        body += more
    return int(head[9:12]), body


def faults_run(
    contestant: Contestant, served: Served, core: int | None, _: int, minutes: float
) -> dict[str, Any]:
    """So many minutes of all of them, with a reload each minute; what is left afterwards."""
    process = contestant.start(served, core)
    try:
        image = served.image
        Faults(process.port, image).run(5.0)  # whatever is made once is made now
        reload(process)
        before, first_mb = settled(process), process.own_mb()
        faults, own = Faults(process.port, image), []
        runner = threading.Thread(target=faults.run, args=(minutes * 60,))
        runner.start()
        while runner.is_alive():
            runner.join(60.0)
            own.append(round(process.own_mb(), 1))
            reload(process)
        after = settled(process)
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics").read().decode()
        fives = [line for line in metrics.splitlines() if 'status="500"' in line]
        busy = [
            line
            for line in metrics.splitlines()
            if line.startswith(("adaptive_queue_depth ", "adaptive_requests_in_progress "))
        ]
        goes_on = ask(process.port, contestant.request(served)) == 200
        return {
            "minutes": minutes,
            "answers": dict(sorted(faults.answers.items())),
            "wrong": len(faults.wrong),
            "wrong_first": faults.wrong[:10],
            "status_500": fives,
            "before": {**before, "own_mb": round(first_mb, 1)},
            "after": {**after, "own_mb": round(process.own_mb(), 1)},
            "own_mb_each_minute": own,
            "at_work": busy,
            "goes_on": goes_on,
            **process.stop(),
        }
    finally:
        process.kill()


def reload(process: Process) -> None:
    """Have ours read its bundle again."""
    os.kill(process.process.pid, signal.SIGHUP)
    sleep(2.0)


def settled(process: Process, patience_s: float = 60.0) -> dict[str, int]:
    """Threads and open files, once they have been the same for some seconds."""
    end, same, last = monotonic() + patience_s, 0, process.counts()
    while monotonic() < end and same < 10:
        sleep(0.5)
        now = process.counts()
        same, last = (same + 1 if now == last else 0), now
    return last


LONG: dict[str, Callable[..., dict[str, Any]]] = {"memory": memory_run, "faults": faults_run}
