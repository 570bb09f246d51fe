"""A real service, and a real server around it in a thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.policy.cascade import Cascade
from adaptive.routing.generation import Settings
from adaptive.serving.assembly import Endpoint, assemble
from adaptive.serving.server import Server
from adaptive.serving.service import Service

#: A guard against hanging, not a promise of speed.
HANG_S = 30


def whole_bundle(candidates: Path, output: Path) -> Path:
    """A bundle that holds every tiny candidate, exits too; two of them are in its policy."""
    policy = Cascade(("cheap", "strong"), thresholds=(0.9,))
    write_bundle(output, Bundle.read(candidates), policy)
    return output


@contextmanager
def in_a_thread(server: Server) -> Iterator[Server]:
    """A server while it runs; at the end it has drained."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(HANG_S)
        assert not thread.is_alive()


@contextmanager
def served(bundle: Path, settings: Settings | None = None, **endpoint: Any) -> Iterator[Server]:
    """A server at a free port of this machine, warm."""
    with Service(bundle, settings) as service:
        service.warm_up()
        service.ready.problem = None
        with in_a_thread(assemble(service, Endpoint(**{"port": 0, **endpoint}))) as server:
            yield server
