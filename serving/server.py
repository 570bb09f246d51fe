"""Run an application behind uvicorn in one process, stopped without a loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from time import monotonic, time
from typing import Any, Callable, Iterator, List, cast

import uvicorn
from uvicorn.config import Config

from adaptive.serving.asgi import Adapter
from adaptive.serving.connection import Connection
from adaptive.serving.listener import listen, refuse_newcomers

log = logging.getLogger("adaptive.serving")

#: Connections at a time; each may hold a temporary file, and 1024 open files is a usual limit.
CONNECTIONS = 400
#: How long a connection may stay open with nothing asked, seconds; and where others wait for it.
KEEP_ALIVE_S, CROWDED_S = 120.0, 5.0
#: How long before its end a stopping server gives up on requests that have not arrived, seconds.
GIVE_UP_S = 1.0
#: How long a stopping server waits on a connection that asks nothing, seconds. Its client may
#: have a request on the way that it could not know to be too late.
GRACE_S = 1.0
#: How long a stopping server still accepts connections that had begun to open, seconds.
OPENING_S = 0.2


class Server(uvicorn.Server):
    """An application, listening. `run` serves until `stop` is called, then drains.

    uvicorn's own server bounds neither connections nor handshakes, and closes connections that
    are fresh when it stops; so connections are taken and ended here.

    Parameters
    ----------
    adapter : the application
    host, port : where to listen; port 0 takes a free one, see `url`
    tls : speaks TLS with this
    receive_s : a request that is not whole after this is answered with 408, and a client that
        takes nothing of its response is given up
    drain_s : bound on the time between `stop` and the return of `run`

    Raises
    ------
    InputError
        when the address does not exist or is taken.
    """

    def __init__(
        self,
        adapter: Adapter,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        receive_s: float = 30.0,
        drain_s: float = 10.0,
    ) -> None:
        options: dict[str, Any] = {"interface": "asgi3", "ws": "none", "lifespan": "off"}
        options.update(log_config=None, access_log=False, proxy_headers=False)
        options.update(server_header=False, headers=[("server", "adaptive")])
        options.update(timeout_keep_alive=KEEP_ALIVE_S)
        options.update(callback_notify=self._each_second, timeout_notify=0.5)
        super().__init__(Config(adapter, http=Connection, **options))
        self.adapter = adapter
        self.receive_s = receive_s
        self.drain_s = drain_s
        self._tls = tls
        self._socket = listen(host, port)
        self._socket.setblocking(False)
        name, self.port = self._socket.getsockname()[:2]
        shown = f"[{name}]" if ":" in name else name
        self.url = f"http{'s' if tls else ''}://{shown}:{self.port}"
        self._opening: set[asyncio.Task[None]] = set()  # connections that shake hands
        self._beat: Callable[[], object] = lambda: None

    # Signals are for whoever runs the server.
    capture_signals = staticmethod(contextlib.nullcontext)  # type: ignore[assignment]

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self.server_state.connections) + len(self._opening)

    def run(self, each_second: Callable[[], object] = lambda: None) -> None:  # type: ignore[override]
        """Serve until `stop`; then answer all that was asked, and close everything.

        Parameters
        ----------
        each_second : is called about once a second from the event loop while no request has hung
        """
        self._beat = each_second
        try:
            with _without_preemption():
                super().run()
        finally:
            self._socket.close()
            self.adapter.close()

    def stop(self) -> None:
        """Have `run` drain and return; may be called from any thread or signal handler."""
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """Begin to take connections."""
        self.started, self.last_notified = True, time()  # the first second begins here
        self._accepting = asyncio.ensure_future(self._accept())

    async def shutdown(self, sockets: Any = None) -> None:
        """Answer what was asked, and what comes from who could not know."""
        end = monotonic() + self.drain_s
        refuse_newcomers(self._socket)
        for connection in self._open_ones():
            connection.shutdown()
        await asyncio.sleep(OPENING_S)
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._socket.close()
        while self.connections and monotonic() < end:
            self._check(GRACE_S, 0.0 if monotonic() > end - GIVE_UP_S else self.receive_s)
            await asyncio.sleep(0.05)
        lost = sum(not connection.idle for connection in self._open_ones())
        if lost:
            log.warning("stopped with %d requests unanswered after %s s", lost, self.drain_s)
        for connection in self._open_ones():
            connection.transport.abort()

    async def _each_second(self) -> None:
        self._check(CROWDED_S if self.connections >= CONNECTIONS else KEEP_ALIVE_S, self.receive_s)
        if not self.adapter.hung():
            self._beat()

    async def _accept(self) -> None:
        """Take connections, up to the limit; the next ones wait in the kernel's queue."""
        loop = asyncio.get_running_loop()
        while True:
            while self.connections >= CONNECTIONS and not self.should_exit:
                await asyncio.sleep(0.05)
            try:
                link, _ = await loop.sock_accept(self._socket)
            except ConnectionError:  # whose client has left already
                continue
            except OSError as error:  # no more open files, say
                log.error("a connection cannot be taken: %s", error.strerror)
                await asyncio.sleep(1.0)
                continue
            task = loop.create_task(self._open(link))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, link: socket.socket) -> None:
        """Shake hands, and hand the connection to uvicorn."""
        options: dict[str, Any] = {}
        if self._tls is not None:
            options.update(ssl=self._tls, ssl_handshake_timeout=self.receive_s)
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(AttributeError):  # Linux ends who takes none of a response
                patience = int(self.receive_s * 1e3)
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self, link), link, **options
            )
        except (OSError, asyncio.TimeoutError):  # who speaks no TLS, or never shakes hands
            link.close()

    def _open_ones(self) -> list[Connection]:
        return cast(List[Connection], list(self.server_state.connections))

    def _check(self, keep_s: float, receive_s: float) -> None:
        for connection in self._open_ones():
            connection.check(keep_s, receive_s)


@contextlib.contextmanager
def _without_preemption() -> Iterator[None]:
    """Have this thread, and those that it starts, interrupt nobody when they wake (Linux).

    Otherwise each request that arrives takes the core from the network that runs there, which
    costs a third more processor time a request. A policy that somebody chose, such as a real-time
    one (chrt), stays as it is.
    """
    before = None
    with contextlib.suppress(OSError, AttributeError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            before = os.SCHED_OTHER
    try:
        yield
    finally:
        if before is not None:
            os.sched_setscheduler(0, before, os.sched_param(0))
