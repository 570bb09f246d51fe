"""urllib3's connections, on which a request and its whole answer end at one time and in one size.

A socket's own timeout is for each wait alone: with a byte now and then an answer lasts forever.
"""

from __future__ import annotations

import contextlib
import io
import socket
from http.client import HTTPException
from time import monotonic
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ProtocolError

from adaptive.errors import ServiceError

if TYPE_CHECKING:
    import ssl

#: Bytes of the longest answer that is read, its headers included.
LONGEST_ANSWER = 64_000_000

#: Connections that are kept open between requests.
KEPT = 64


class KeptConnectionLost(Exception):
    """A connection that had been kept open turns out to be closed; another one may do."""


def make_pool(host: str, port: int, context: ssl.SSLContext | None) -> HTTPConnectionPool:
    """A pool of connections to a server, with TLS where there is a context."""
    pool = HTTPConnectionPool(host, port, maxsize=KEPT, context=context)
    pool.ConnectionCls = _Connection
    return pool


class _Connection(HTTPConnection):
    """A connection whose timeout is for connecting, sending and the answer together."""

    def __init__(self, *args: Any, context: ssl.SSLContext | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context = context
        self.answered = False
        if context is not None:
            self.default_port = 443  # type: ignore[misc]

    def connect(self) -> None:
        self.answered = False
        end = monotonic() + (self.timeout or 0.0)
        try:
            connected = _connected(self.host, self.port, end)
            if self.context is not None:
                connected = self.context.wrap_socket(connected, server_hostname=self.host)
        except OSError as exc:  # urllib3 would take some for what it forgives while sending
            raise ProtocolError("no connection", exc) from exc
        self.sock: Any = _Socket(connected, end)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        # what a server says to half a request can still be read
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().request(*args, **kwargs)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except (OSError, HTTPException) as exc:
            if self.answered and not isinstance(exc, socket.timeout):
                raise KeptConnectionLost from exc
            raise
        self.answered = True
        return response


def _connected(host: str, port: int, end: float) -> socket.socket:
    """A connection to the first of a host's addresses that takes it, each in its share of time.

    Only the look-up of the name lasts as long as the system lets it.
    """
    failed: OSError = OSError(f"{host} has no address")
    addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        found = None
        try:
            found = socket.socket(family, kind, protocol)
            found.settimeout(_left_s(end) / (len(addresses) - number))
            found.connect(address)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.settimeout(_left_s(end))
            return found
        except OSError as exc:
            failed = exc
            if found is not None:
                found.close()
    raise failed


class _Socket:
    """As much of a connected socket as a connection needs; all waits on it end at one time."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        self.connected, self.end = connected, end
        self.fileno, self.close = connected.fileno, connected.close

    def settimeout(self, seconds: float) -> None:
        """urllib3 sets it before a request is sent, and to what is left before it reads."""
        self.end = monotonic() + seconds

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.connected.settimeout(_left_s(self.end))
            rest = rest[self.connected.send(rest) :]

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Arriving(self))


class _Arriving(io.RawIOBase):
    """The bytes of one answer as they come, until the time or the room for them is used up."""

    def __init__(self, source: _Socket) -> None:
        self.source, self.room = source, LONGEST_ANSWER
        self.file: Any = source.connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.source.connected.settimeout(_left_s(self.source.end))
        count: int = self.file.readinto(buffer)
        self.room -= count
        check_length(LONGEST_ANSWER - self.room)
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def check_length(count: int, longest: int | None = None) -> None:
    """Raise a ServiceError where an answer has, or announces, more bytes than are read."""
    longest = LONGEST_ANSWER if longest is None else longest
    if count > longest:
        raise ServiceError(f"the answer is longer than {longest} bytes, and no more are read")


def _left_s(end: float) -> float:
    left = end - monotonic()
    if left <= 0:
        raise socket.timeout("the time is up")
    return left
