"""A board's camera service: look at a camera all the time, and tell the newest answer by HTTP.

python camera_service.py CAMERA_OR_VIDEO [PORT]

GET /latest is the newest answer as JSON, GET /healthz says whether frames still come. SIGTERM
ends it. `camera.service` beside it starts it with the board.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from adaptive import InputError, Router, VideoReader

#: A camera that gave nothing for so long is taken to be stuck, seconds.
STALE_S = 5.0


class Latest:
    """The newest answer, and when it came; several threads look at it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: dict | None = None
        self._came = 0.0

    def put(self, answer: dict) -> None:
        """Replace it."""
        with self._lock:
            self._answer, self._came = answer, time.monotonic()

    def get(self) -> tuple[dict | None, float]:
        """The answer, or None, and its age in seconds."""
        with self._lock:
            return self._answer, time.monotonic() - self._came


def watch(router: Router, reader: VideoReader, latest: Latest, stopped: threading.Event) -> None:
    """Answer frames until the camera ends or the service does."""
    try:
        for number, _, image in reader:
            answer = router.classify(image).to_json()
            latest.put({"frame": number, **answer})
            if stopped.is_set():
                break
    except InputError as error:
        print(error, file=sys.stderr, flush=True)


def handler_of(latest: Latest) -> type[BaseHTTPRequestHandler]:
    """What answers requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer, age = latest.get()
            fresh = answer is not None and age < STALE_S
            if self.path == "/latest":
                self._send(200 if answer else 503, {"age_s": round(age, 3), "answer": answer})
            elif self.path == "/healthz":
                self._send(200 if fresh else 503, {"fresh": fresh})
            else:
                self._send(404, {"error": "there are /latest and /healthz"})

        def _send(self, status: int, content: dict) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def complain(sentence: str) -> None:
    """Where systemd's journal finds it."""
    print(sentence, file=sys.stderr, flush=True)


def main() -> None:
    """Open the camera and the port, and serve until SIGTERM."""
    source = sys.argv[1] if len(sys.argv) > 1 else "0"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8090
    latest, stopped = Latest(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    server = ThreadingHTTPServer(("127.0.0.1", port), handler_of(latest))
    with Router.load() as router, VideoReader(source, tell=complain) as reader, server:
        router.warm_up()
        threads = [
            threading.Thread(target=watch, args=(router, reader, latest, stopped)),
            threading.Thread(target=server.serve_forever),
        ]
        for thread in threads:
            thread.start()
        print(f"http://127.0.0.1:{server.server_address[1]}/latest", flush=True)
        stopped.wait()
        reader.close()  # it may be waiting for a camera that is gone
        server.shutdown()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
