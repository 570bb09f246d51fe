"""A server as a process: warm-up, signals, and one line that says where it answers."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any, Callable, Iterator

from adaptive.serving.asgi import Adapter
from adaptive.serving.memory import keep_little, trim
from adaptive.serving.notify import Notifier
from adaptive.serving.readiness import Readiness
from adaptive.serving.server import Server


def serve(
    adapter: Adapter,
    host: str,
    port: int,
    *,
    name: str = "adaptive",
    readiness: Readiness | None = None,
    warm_up: Callable[[], object] | None = None,
    reload: Callable[[], object] | None = None,
    **options: Any,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once.

    The address is taken first, so that `/healthz` and `/readyz` answer while `warm_up` runs in a
    thread beside. When it is done, `readiness` turns to yes, systemd is told where it wants to
    know, and one line is printed: `serving NAME at http://HOST:PORT`.

    Parameters
    ----------
    reload : is called, in a thread beside, when SIGHUP comes
    options : of `Server`

    Raises
    ------
    InputError
        when the address does not exist or is taken; and whatever `warm_up` raises.
    """
    run(Server(adapter, host, port, **options), name, readiness, warm_up, reload)


def run(
    server: Server,
    name: str,
    readiness: Readiness | None = None,
    warm_up: Callable[[], object] | None = None,
    reload: Callable[[], object] | None = None,
    notifier: Notifier | None = None,
) -> None:
    """The same with a server that is made already."""
    keep_little()
    ready = readiness or Readiness()
    systemd = notifier or Notifier.from_environment()
    failures: list[BaseException] = []

    def start() -> None:
        try:
            if warm_up is not None:
                warm_up()
                trim()
        except BaseException as failure:
            failures.append(failure)
            server.stop()
            return
        if not server.should_exit:
            ready.problem = None
            systemd.ready(f"serving {name} at {server.url}")
            with contextlib.suppress(OSError):  # nobody reads it, and that is no reason to end
                print(f"serving {name} at {server.url}", flush=True)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if server.should_exit:
            raise KeyboardInterrupt
        ready.problem = "the server is stopping"
        server.stop()
        systemd.stopping()

    loading, waiting = threading.Lock(), threading.Lock()

    def load() -> None:
        if reload is None or not waiting.acquire(blocking=False):
            return  # whoever waits already will see what there is by then
        with loading:
            waiting.release()
            reload()
            trim()

    def on_reload(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=load, name="reload", daemon=True).start()

    starter = threading.Thread(target=start, name="warm-up", daemon=True)
    with _handling(stop, signal.SIGTERM, signal.SIGINT), _handling(on_reload, signal.SIGHUP):
        starter.start()
        server.run(systemd.beat)
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], *signals: int) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
