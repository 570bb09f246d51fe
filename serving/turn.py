"""Whose turn it is to listen to the connections, where one of several threads does at a time."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, Callable, Generic, TypeVar

Job = TypeVar("Job")

#: Who listens may be away at work for so long before somebody else has a look, seconds. Short
#: work is never interrupted: were somebody to listen all the while, each request would take the
#: processor from the one that is being answered.
RELIEF_S = 0.005

#: Where nobody was away for so many looks in a row, nobody looks until somebody is.
_QUIET = 10

#: What threads are called for, beside jobs.
LISTEN = object()
END = object()


class Turn(Generic[Job]):
    """Threads that wait to be called, and one of them that listens.

    The one that listens may work on what it hears. Meanwhile nobody listens, unless a thread
    that has nothing to do takes the turn; when it stays away for long, `relieve` looks now and
    then. It is no lock: that two threads look at the same moment does no harm.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Any] = SimpleQueue()
        self._calls.put(LISTEN)
        self._own = -1  # the thread whose turn it is; -1 is the one that takes the call
        self._since: float | None = None
        self._some = threading.Event()  # somebody is away, or was a moment ago
        self._lock = threading.Lock()
        self._over = False

    def __repr__(self) -> str:
        return f"Turn({'away' if self._since is not None else 'here'})"

    def wait(self, own: int) -> Any:
        """Wait to be called: a job to do, LISTEN, or END."""
        call = self._calls.get()
        if call is LISTEN:
            with self._lock:
                self._own, self._since = own, None
        return call

    def call(self, job: Job) -> None:
        """Have another thread do a job."""
        self._calls.put(job)

    def pass_on(self) -> None:
        """Have another thread listen."""
        with self._lock:
            self._own, self._since = -1, None
        self._calls.put(LISTEN)

    def away(self) -> None:
        """The thread that listens goes to work."""
        self._since = monotonic()
        if not self._some.is_set():
            self._some.set()

    def back(self, own: int) -> bool:
        """A thread comes from work; whether it is its turn still."""
        if self._own != own:
            return False
        with self._lock:
            if self._own != own:
                return False
            self._since = None
            return True

    def take(self, own: int) -> bool:
        """Listen instead of the one that is away; whether there was one."""
        with self._lock:
            if self._since is None:
                return False
            self._own, self._since = own, None
            return True

    def relieve(self, look: Callable[[], object]) -> None:
        """Look once in a while for who listens, when that one is away for long; until `end`."""
        quiet = 0
        while not self._over:
            self._some.wait()
            sleep(RELIEF_S)
            since = self._since
            if since is not None:
                quiet = 0
                if monotonic() - since >= RELIEF_S:
                    look()
                continue
            quiet += 1
            if quiet > _QUIET:
                self._some.clear()
                if self._since is not None or self._over:
                    self._some.set()

    def end(self, threads: int) -> None:
        """Call so many threads to end."""
        self._over = True
        self._some.set()
        for _ in range(threads):
            self._calls.put(END)
