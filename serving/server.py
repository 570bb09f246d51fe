"""Run a WSGI application in one process, stopped without a loss.

One thread listens to all connections with one epoll object. When a request is whole that thread
answers it at once, if a lane has room, so that a request is not handed from thread to thread;
where there is room for more, another thread listens meanwhile. Where there is none nobody does
until that request is answered or has taken a few milliseconds (`adaptive.serving.turn`), and what
was asked meanwhile then waits in the lane, or is told 503 when that is full. There is one more
thread than lanes can occupy, so that somebody is always free to listen. Clients that send slowly
hold no thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import ssl
import threading
from time import monotonic, perf_counter, sleep
from typing import Any, Callable, NamedTuple, Tuple

from waitress.adjustments import Adjustments

from adaptive.serving.connection import LINGER_S, Connection, Refusal, Request
from adaptive.serving.http import MAX_BODY_BYTES
from adaptive.serving.lanes import Entry, Lane
from adaptive.serving.listener import bind, refuse_newcomers
from adaptive.serving.memory import give_back
from adaptive.serving.turn import END, LISTEN, Turn
from adaptive.serving.wsgi import Application, Gateway

log = logging.getLogger("adaptive.serving")

#: Connections that are looked at together.
EVENTS = 64
#: Connections at a time; each may hold a temporary file, and 1024 open files is a usual limit.
CONNECTIONS = 400
#: Requests that may wait for a thread.
QUEUE = 64
#: How long a connection may stay open with nothing asked, seconds.
KEEP_ALIVE_S = 120.0
#: The same where there are as many as can be, and others wait.
CROWDED_S = 5.0
#: How long a client may take to send one request, or to take some of its answer, seconds.
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

#: A request that is worked on for longer has hung, seconds; a network that is this slow on one
#: image serves nobody. Loading networks may take longer.
HUNG_S = 60.0

#: Requests to paths below this load and close networks; they have a lane of their own.
ADMIN = "/v2/repository/"


Headers = Tuple[Tuple[str, str], ...]


class Job(NamedTuple):
    """A request in a lane."""

    lane: Lane[Any]
    connection: Connection
    request: Request


class Server:
    """An application, listening. `run` serves until `stop` is called, then drains.

    Parameters
    ----------
    app : the WSGI application
    host, port : where to listen; port 0 takes a free one, see `url`
    threads : how many requests are worked on at a time
    queue : how many more may wait; the next ones are answered with 503
    max_body_bytes : a longer body is refused while it arrives
    receive_s : a request that is not whole after this is answered with 408
    drain_s : bound on the time between `stop` and the return of `run`
    tls : speaks TLS with this
    gate : looks at a request before its body is read, and may refuse it
    refused : is told of every request that the server itself refuses; what it returns goes along
        with the answer

    Raises
    ------
    InputError
        when the address does not exist or is taken.
    """

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        threads: int = 4,
        queue: int = QUEUE,
        max_body_bytes: int = MAX_BODY_BYTES,
        receive_s: float = RECEIVE_S,
        drain_s: float = DRAIN_S,
        tls: ssl.SSLContext | None = None,
        gate: Callable[[Connection, Request], Refusal | None] | None = None,
        refused: Callable[[Connection, Request], Headers] | None = None,
    ) -> None:
        self.receive_s = receive_s
        self.drain_s = drain_s
        self.draining = False
        self.stopping = threading.Event()
        #: Images; questions that are answered at once; what loads and closes networks.
        self.work: Lane[Job] = Lane(threads, queue)
        self.light: Lane[Job] = Lane(1, CONNECTIONS)
        self.admin: Lane[Job] = Lane(1, CONNECTIONS)
        self.connections: dict[int, Connection] = {}
        self._tls = tls
        self._gate = gate or (lambda *_: None)
        self._told = refused or (lambda *_: ())
        self._limits = Adjustments(
            max_request_body_size=max_body_bytes + 1,  # waitress refuses at this length
            max_request_header_size=65_536,
        )
        self._socket = bind(host, port)
        self._socket.setblocking(False)
        self._socket.listen(1024)
        self._accepting = True
        self._taking = threading.Lock()
        name, number = self._socket.getsockname()[:2]
        shown = f"[{name}]" if ":" in name else name
        self.url = f"http{'s' if tls else ''}://{shown}:{number}"
        self.port: int = number
        self._gateway = Gateway(app, name, number, tls is not None)
        self._epoll = select.epoll()
        self._listening = self._socket.fileno()
        self._epoll.register(self._listening, select.EPOLLIN | select.EPOLLONESHOT)
        self._over = False
        self._end, self._ender = os.pipe()
        count = threads + self.light.capacity + self.admin.capacity + 1
        self._free = [False] * count  # which threads have nothing to do
        self._turn: Turn[Job] = Turn()
        self._said_hung = False
        self._begun: dict[int, float] = {}  # by job: when its image began to be worked on
        self._threads = [
            threading.Thread(target=self._serve, args=(own,), name=f"serving-{own}", daemon=True)
            for own in range(count)
        ]
        self._threads.append(
            threading.Thread(
                target=self._turn.relieve, args=(self._call,), name="serving-relief", daemon=True
            )
        )

    def run(self, each_second: Callable[[], object] = lambda: None) -> None:
        """Serve until `stop`; then answer all that was asked, and close everything.

        Parameters
        ----------
        each_second : is called about once a second while somebody listens to the connections,
            and no request has hung
        """
        for thread in self._threads:
            thread.start()
        try:
            while not self.stopping.wait(1.0):
                self._sweep()
                if any(self._free) and not self._hung():
                    each_second()
            self._drain()
        finally:
            self._finish()

    def stop(self) -> None:
        """Have `run` drain and return; may be called from any thread or signal handler."""
        self.stopping.set()

    def _serve(self, own: int) -> None:
        """What every thread does: wait to be called, then listen to the connections, or work."""
        while True:
            self._free[own] = True
            call = self._turn.wait(own)
            self._free[own] = False
            if call is END:
                return
            if call is not LISTEN:
                self._work_on(own, call)
                if not self._turn.take(own):
                    continue
            self._listen(own)

    def _listen(self, own: int) -> None:
        """Wait for requests and work on them, until it is another thread's turn."""
        while not self._over:
            self._free[own] = True
            jobs = self._look(-1)
            self._free[own] = False
            mine = None
            for job in jobs:
                if mine is None and job.lane is not self.admin:
                    mine = job
                else:
                    self._turn.call(job)
            if mine is None:
                continue
            if mine.lane is self.work and not self.work.occupied:
                # There is room for more work, so somebody must go on listening.
                self._turn.pass_on()
                self._work_on(own, mine)
                if not self._turn.take(own):
                    return
            else:
                self._turn.away()
                self._work_on(own, mine)
                if not self._turn.back(own):
                    return

    def _look(self, timeout: float) -> list[Job]:
        """Read from every connection that has something to say; the jobs that may run now."""
        jobs = []
        for number, _ in self._epoll.poll(timeout, EVENTS):
            if number == self._listening:
                self._accept()
                continue
            connection = self.connections.get(number)
            if connection is None:
                continue
            try:
                job = self._enter(connection, connection.turn())
            except Exception:
                log.exception("the server failed on a connection, closes it, and goes on")
                connection.close()
                self._forget(connection)
                continue
            if job is not None:
                jobs.append(job)
        return jobs

    def _call(self) -> None:
        """Read what has come in, and have other threads do what may run now."""
        for job in self._look(0):
            self._turn.call(job)

    def _work_on(self, own: int, first: Job) -> None:
        """Work on a job, and then on those that waited for this thread."""
        job: Job | None = first
        while job is not None:
            began = perf_counter()
            try:
                if job.lane is self.work:
                    self._begun[id(job)] = began
                following = self._answer(job)
                if self._turn.back(own):
                    # Whoever has asked meanwhile waits in the lane, and is behind others there.
                    self._call()
                    self._turn.away()
            except Exception:
                following = None
                log.exception("the server failed on a connection, closes it, and goes on")
                job.connection.close()
            self._begun.pop(id(job), None)
            if job.lane is self.admin:
                give_back()
            waited = job.lane.leave(perf_counter() - began)
            # What the same client asks next is behind those that waited.
            entered = self._enter(job.connection, following)
            if waited is not None and entered is not None:
                self._turn.call(entered)
            job = entered if waited is None else waited

    def _enter(self, connection: Connection, request: Request | None) -> Job | None:
        """A job to run now, or None: it waits, or was refused, or the connection is watched."""
        while request is not None:
            if request.refusal is None:
                job = Job(self._lane(request), connection, request)
                entry = job.lane.enter(job)
                if entry is Entry.RUNS:
                    return job
                if entry is Entry.WAITS:
                    return None  # and its connection may be another thread's already
                retry = (("Retry-After", str(job.lane.retry_after_s())),)
                busy = f"the server is busy: {job.lane.longest} requests wait already"
                request.refused(Refusal(503, busy, retry), False)
            request = self._refuse(connection, request)
        self._watch(connection)
        return None

    def _hung(self) -> bool:
        """Whether a request is worked on for so long that it will hardly end."""
        latest = perf_counter() - HUNG_S
        hung = any(began < latest for began in list(self._begun.values()))
        if hung and not self._said_hung:
            log.error("a request is worked on for more than %g s", HUNG_S)
        self._said_hung = hung
        return hung

    def _lane(self, request: Request) -> Lane[Job]:
        if request.command in ("GET", "HEAD", "OPTIONS"):
            return self.light
        return self.admin if request.path.startswith(ADMIN) else self.work

    def _refuse(self, connection: Connection, request: Request) -> Request | None:
        request.close()
        assert request.refusal is not None
        more = self._told(connection, request)
        refusal = request.refusal._replace(headers=(*request.refusal.headers, *more))
        close = request.connection_close or self.draining
        return connection.refuse(refusal, request.unread, close)

    def _answer(self, job: Job) -> Request | None:
        """Ask the application; the client's next request, if that has come in already."""
        connection, request = job.connection, job.request
        data, close = self._gateway.answer(connection, request, self._last)
        request.close()
        return connection.reply(data, close)

    def _last(self, connection: Connection) -> bool:
        """Whether a connection ends after this answer."""
        # Whatever the client sent together with this request is answered too.
        return self.draining and not connection.surplus

    def _watch(self, connection: Connection) -> None:
        """Wait for the connection's next event, in any thread."""
        if connection.closed:
            self._forget(connection)
            return
        event = select.EPOLLOUT if connection.wants_write else select.EPOLLIN
        try:
            self._epoll.modify(connection.number, event | select.EPOLLONESHOT)
        except (OSError, ValueError):  # at the end, when everything is closed
            connection.close()

    def _forget(self, connection: Connection) -> None:
        # The number may be another connection's by now.
        if self.connections.get(connection.number) is connection:
            del self.connections[connection.number]
        self._accept_again()

    def _accept(self) -> None:
        """Take the connections that wait, up to the limit, and listen again."""
        with self._taking:  # a connection that ends may wake another thread for the next
            while len(self.connections) < CONNECTIONS:
                try:
                    sock, address = self._socket.accept()
                except (BlockingIOError, InterruptedError):
                    break
                except ConnectionError:
                    continue
                except OSError as error:  # no more open files, say; the sweep tries again
                    if self._accepting:
                        log.error("a connection cannot be taken: %s", error.strerror)
                    return
                self._begin(sock, address)
        self._accept_again()

    def _begin(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:
                sock.close()
                return
        connection = Connection(sock, address, self._limits, self._gate)
        self.connections[connection.number] = connection
        self._epoll.register(connection.number, select.EPOLLIN | select.EPOLLONESHOT)

    def _accept_again(self) -> None:
        if self._accepting and len(self.connections) < CONNECTIONS:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.modify(self._listening, select.EPOLLIN | select.EPOLLONESHOT)

    def _sweep(self) -> None:
        """Hang up on connections that have been quiet or slow for too long."""
        now = monotonic()
        keep_s = KEEP_ALIVE_S if len(self.connections) < CONNECTIONS else CROWDED_S
        for connection in list(self.connections.values()):
            if connection.at_work or connection.expired:
                continue
            started, quiet = connection.started, now - connection.active
            if connection.pending:
                if quiet > self.receive_s:
                    connection.expire(gone=True)
            elif connection.lingering:
                if quiet > LINGER_S:
                    connection.expire()
            elif started is not None:
                if now - started > self.receive_s:
                    connection.expire()
            elif quiet > (self.receive_s if connection.shaking else keep_s):
                connection.expire()
        self._accept_again()

    def _drain(self) -> None:
        self.draining = True
        began = monotonic()
        end = began + self.drain_s
        refuse_newcomers(self._socket)
        while monotonic() < end and (self.connections or self._accepting):
            sleep(0.05)
            now = monotonic()
            if self._accepting and now > began + OPENING_S:
                self._accept_waiting()
            for connection in list(self.connections.values()):
                if connection.at_work or connection.expired or connection.lingering:
                    continue
                quiet = now > max(began, connection.active) + GRACE_S
                if (connection.between and quiet) or (connection.started and now > end - GIVE_UP_S):
                    connection.expire()
        lost = sum(not connection.between for connection in self.connections.values())
        if lost:
            log.warning("stopped with %d requests unanswered after %s s", lost, self.drain_s)

    def _accept_waiting(self) -> None:
        """Take over who has connected already, then listen no more."""
        self._accepting = False
        with contextlib.suppress(OSError):
            self._epoll.unregister(self._listening)
        while True:
            try:
                self._begin(*self._socket.accept())
            except ConnectionError:
                continue
            except OSError:  # nobody waits any more
                break
        self._listening = -1  # the number may be a connection's next
        self._socket.close()

    def _finish(self) -> None:
        """End the threads and close what is open; a thread that is busy is left behind."""
        self._over = True
        self._accepting = False
        self._turn.end(len(self._threads))
        self._epoll.register(self._end, select.EPOLLIN)
        os.write(self._ender, b"x")  # never read, so that it wakes whoever listens
        until = monotonic() + GIVE_UP_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - monotonic()))
        busy = any(thread.is_alive() for thread in self._threads)
        self._socket.close()
        for connection in list(self.connections.values()):
            connection.close()
        self.connections.clear()
        if not busy:  # else a thread may still look at them
            self._epoll.close()
            os.close(self._end)
            os.close(self._ender)
