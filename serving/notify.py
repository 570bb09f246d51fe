"""Tell systemd what a server is doing: that it is ready, alive, or stopping.

The protocol of sd_notify(3): one datagram of `NAME=value` lines to the socket that systemd names
in NOTIFY_SOCKET. Without one, as in a terminal, nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
from time import monotonic
from typing import Callable, Mapping

from adaptive.errors import InputError

log = logging.getLogger("adaptive.serving")

#: Signs of life that are sent in the time in which systemd wants one. Two are recommended; with
#: four, one that is late on a busy board does no harm.
BEATS = 4


class Notifier:
    """What systemd is told by one process.

    Parameters
    ----------
    address : path of a socket, or `@name` of one outside the file system; None to send nothing
    watchdog_s : systemd ends a process that gives no sign of life for this long; None if it
        does not look

    Raises
    ------
    InputError
        when the address is neither, or the time is not above zero.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_s: float | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if address is not None and (address[:1] not in ("/", "@") or len(address) < 2):
            raise InputError(
                f"NOTIFY_SOCKET is {address!r}; it must begin with / or @, as systemd sets it"
            )
        if watchdog_s is not None and not watchdog_s > 0:
            raise InputError(f"the watchdog's time is {watchdog_s} s; it must be above zero")
        self.address = address
        self.watchdog_s = watchdog_s if address is not None else None
        self._clock = clock
        self._beat_at = -float("inf")
        self._failed = False

    def __repr__(self) -> str:
        return f"Notifier({self.address!r}, watchdog_s={self.watchdog_s})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """As systemd asks for it in NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.

        A watchdog that watches another process, by WATCHDOG_PID, is left alone.
        """
        given = os.environ if environ is None else environ
        time, pid = given.get("WATCHDOG_USEC", ""), given.get("WATCHDOG_PID", "")
        if time and not (time.isascii() and time.isdigit()):
            raise InputError(f"WATCHDOG_USEC is {time!r}; it must be whole microseconds")
        ours = bool(time) and pid in ("", str(os.getpid()))
        return cls(given.get("NOTIFY_SOCKET") or None, int(time) / 1e6 if ours else None)

    def ready(self, status: str = "") -> bool:
        """Start-up is done: what waits for this unit may start, and the watchdog begins."""
        return self._send("READY=1", status)

    def stopping(self, status: str = "") -> bool:
        """The process is about to end."""
        return self._send("STOPPING=1", status)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def beat(self) -> bool:
        """A sign of life, when one is due; call this as often as you like.

        Call it from the loop whose end would be the service's end, and only while that loop finds
        all well: a thread of its own would go on beating over a server that is stuck.
        """
        if self.watchdog_s is None:
            return False
        now = self._clock()
        if now - self._beat_at < self.watchdog_s / BEATS:
            return False
        self._beat_at = now
        return self._send("WATCHDOG=1")

    def _send(self, state: str, status: str = "") -> bool:
        """Whether the lines were sent. One failure is logged, then none until one succeeds."""
        if self.address is None:
            return False
        line = "STATUS=" + " ".join(status.split()) if status else ""
        data = "\n".join(part for part in (state, line) if part).encode()
        address = self.address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(1.0)  # systemd's queue may be full; it must not hold us up
                link.connect(address)
                link.sendall(data)
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be told %r: %s", data.decode(), error)
            self._failed = True
            return False
        self._failed = False
        return True
