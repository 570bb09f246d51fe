"""Our application under another WSGI server: `python hosts.py NAME PORT BUNDLE`.

Keys, metrics, request ids and the log in front of it are the same, and so is one thread a core.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable

from adaptive.serving.assembly import Endpoint, wsgi_application
from adaptive.serving.http import MAX_BODY_BYTES
from adaptive.serving.logs import Lines
from adaptive.serving.service import Service

THREADS = len(os.sched_getaffinity(0))


def application() -> Any:
    """What every server runs; granian imports it by name."""
    service = Service(Path(os.environ["BUNDLE"]))
    service.warm_up()
    service.ready.problem = None
    lines = Lines(Path(os.environ["BUNDLE"] + ".jsonl"))
    return wsgi_application(service, Endpoint(lines=lines))


def run_waitress(port: int) -> None:
    import waitress

    limit = MAX_BODY_BYTES + 1
    listen = f"127.0.0.1:{port}"
    waitress.serve(application(), listen=listen, threads=THREADS, max_request_body_size=limit)


def run_cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), application(), numthreads=THREADS, max=THREADS)
    server.max_request_body_size = MAX_BODY_BYTES
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.stop).start())
    server.start()


def run_granian(port: int) -> None:
    from granian import Granian

    options: dict[str, Any] = {"interface": "wsgi", "factory": True, "log_enabled": False}
    where = {"address": "127.0.0.1", "port": port}
    Granian("hosts:application", **where, **options, blocking_threads=THREADS).serve()


def run_gunicorn(port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Gunicorn(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            settings = {"worker_class": "gthread", "threads": THREADS, "loglevel": "critical"}
            for name, value in {**settings, "bind": f"127.0.0.1:{port}"}.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return application()

    Gunicorn().run()


RUN: dict[str, Callable[[int], None]] = {
    "waitress": run_waitress,
    "cheroot": run_cheroot,
    "granian": run_granian,
    "gunicorn": run_gunicorn,
}

if __name__ == "__main__":
    os.environ["BUNDLE"] = sys.argv[3]
    folder = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = folder
    sys.path.insert(0, folder)
    RUN[sys.argv[1]](int(sys.argv[2]))
