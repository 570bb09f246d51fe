"""Run a WSGI application in one process: waitress's loop and threads, stopped without a loss."""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import threading
import time
from types import FrameType
from typing import Any, Callable, Iterator

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from adaptive.serving.connection import LINGER_S, Connection
from adaptive.serving.http import MAX_BODY_BYTES, Readiness
from adaptive.serving.listener import bind, refuse_newcomers

log = logging.getLogger("adaptive.serving")

#: Connections at a time; each may hold a temporary file, and 1024 open files is a usual limit.
CONNECTIONS = 400
#: How long a connection may stay open with nothing asked, seconds.
KEEP_ALIVE_S = 120
#: How long a client may take to send one request, seconds.
RECEIVE_S = 30.0
#: How long a stopping server goes on for requests that are under way, seconds.
DRAIN_S = 10.0
#: How long a stopping server waits on a connection that asks nothing, seconds. Its client may
#: have a request on the way that it could not know to be too late.
GRACE_S = 1.0
#: How long a stopping server still accepts connections that had begun to open, seconds.
OPENING_S = 0.2
#: How long before the end of draining the requests that have not arrived are given up, seconds.
GIVE_UP_S = 1.0


class Server(TcpWSGIServer):  # type: ignore[misc]
    """An application, listening. `run` serves until `stop` is called, then drains.

    Parameters
    ----------
    app : the WSGI application
    host, port : where to listen; port 0 takes a free one, see `url`
    threads : how many requests are worked on at a time
    max_body_bytes : a longer body is refused while it arrives
    receive_s : a request that is not whole after this is answered with 408
    drain_s : bound on the time between `stop` and the return of `run`

    Raises
    ------
    InputError
        when the address does not exist or is taken.
    """

    channel_class = Connection

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        *,
        threads: int = 4,
        max_body_bytes: int = MAX_BODY_BYTES,
        receive_s: float = RECEIVE_S,
        drain_s: float = DRAIN_S,
    ) -> None:
        self.receive_s = receive_s
        self.drain_s = drain_s
        self.draining = False
        self.stopping = threading.Event()
        self._waking = threading.RLock()  # a signal's handler may come in between
        self._closed = False
        sock = bind(host, port)
        settings = Adjustments(
            sockets=[sock],
            threads=threads,
            max_request_body_size=max_body_bytes + 1,  # waitress refuses at this length
            max_request_header_size=65_536,
            connection_limit=CONNECTIONS,
            channel_timeout=KEEP_ALIVE_S,
            cleanup_interval=1,
            recv_bytes=65_536,
            ident="adaptive",
            clear_untrusted_proxy_headers=False,  # the application reads none
            log_socket_errors=False,
        )
        workers = ThreadedTaskDispatcher()
        workers.queue_logger = logging.getLogger("adaptive.serving.queue")
        workers.queue_logger.setLevel(logging.ERROR)  # waitress warns of every wait
        workers.set_thread_count(threads)
        super().__init__(
            app,
            map={},
            _sock=sock,
            dispatcher=workers,
            adj=settings,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            bind_socket=False,
        )

    @property
    def url(self) -> str:
        """Where the server answers."""
        host = f"[{self.effective_host}]" if ":" in self.effective_host else self.effective_host
        return f"http://{host}:{self.effective_port}"

    def run(self) -> None:
        """Serve until `stop`; then answer all that was asked, and close everything."""
        try:
            while not self.stopping.is_set():
                self._turn(1.0)
            self._drain()
        finally:
            self.task_dispatcher.shutdown(timeout=GIVE_UP_S)
            with self._waking:
                self._closed = True
                self.trigger.close()
            wasyncore.close_all(self._map, ignore_all=True)
            self.socket.close()

    def stop(self) -> None:
        """Have `run` drain and return; may be called from any thread or signal handler."""
        self.stopping.set()
        self.pull_trigger()

    def pull_trigger(self) -> None:
        """Wake the loop; after the end do nothing, the handle may be another file by then."""
        with self._waking:
            if not self._closed:
                super().pull_trigger()

    def maintenance(self, now: float) -> None:
        """Hang up on connections that have been quiet or slow for too long."""
        super().maintenance(now)
        for connection in list(self.active_channels.values()):
            if connection.lingering_since is not None:
                if now - connection.lingering_since > LINGER_S:
                    connection.handle_close()
            elif connection.request is not None and now - connection.started > self.receive_s:
                connection.time_out()

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)

    def _drain(self) -> None:
        self.draining = True
        end = time.monotonic() + self.drain_s
        began = time.time()
        refuse_newcomers(self.socket)
        while time.monotonic() < end and (self.active_channels or self.accepting):
            self._turn(0.05)
            now = time.time()
            if self.accepting and now > began + OPENING_S:
                self._accept_waiting()
            for connection in list(self.active_channels.values()):
                if connection.lingering_since is not None:
                    continue
                if connection.idle and now > max(began, connection.last_activity) + GRACE_S:
                    connection.handle_close()
                elif time.monotonic() > end - GIVE_UP_S:
                    connection.time_out()
        lost = sum(not connection.idle for connection in self.active_channels.values())
        if lost:
            log.warning("stopped with %d requests unanswered after %s s", lost, self.drain_s)

    def _accept_waiting(self) -> None:
        """Take over who has connected already, then listen no more."""
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        while waiting.poll(0):
            self.handle_accept()
        self.del_channel()
        self.accepting = False
        self.socket.close()


def serve(
    app: Flask,
    host: str,
    port: int,
    *,
    name: str = "adaptive",
    threads: int = 4,
    max_body_bytes: int = MAX_BODY_BYTES,
    readiness: Readiness | None = None,
    warm_up: Callable[[], object] | None = None,
    drain_s: float = DRAIN_S,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once.

    The address is taken first, so that `/healthz` and `/readyz` answer while `warm_up` runs in a
    thread beside. When it is done, `readiness` turns to yes and one line is printed:
    `serving NAME at http://HOST:PORT`.

    Raises
    ------
    InputError
        when the address does not exist or is taken; and whatever `warm_up` raises.
    """
    ready = readiness or Readiness()
    server = Server(
        app, host, port, threads=threads, max_body_bytes=max_body_bytes, drain_s=drain_s
    )
    failures: list[BaseException] = []

    def start() -> None:
        try:
            if warm_up is not None:
                warm_up()
        except BaseException as failure:
            failures.append(failure)
            server.stop()
            return
        if not server.stopping.is_set():
            ready.problem = None
            print(f"serving {name} at {server.url}", flush=True)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if server.stopping.is_set():
            raise KeyboardInterrupt
        ready.problem = "the server is stopping"
        server.stop()

    starter = threading.Thread(target=start, name="warm-up", daemon=True)
    with _handling(stop, signal.SIGTERM, signal.SIGINT):
        starter.start()
        server.run()
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
