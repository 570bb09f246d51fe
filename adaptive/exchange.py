"""A socket on which a request and its whole answer end at one time, and within one size.

A socket's own timeout is for each wait alone: with a byte now and then an answer lasts forever.
"""

from __future__ import annotations

import io
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from adaptive.errors import ServiceError

if TYPE_CHECKING:
    import ssl

#: Bytes of the longest answer that is read, its headers included.
LONGEST_ANSWER = 64_000_000


class Line:
    """As much of a connected socket as `http.client` needs, and no wait on it after `end`.

    Parameters
    ----------
    connected : a socket that is
    end : when each of the waits raises `socket.timeout` at the latest, on the monotonic clock;
        to be set anew for each request
    """

    def __init__(self, connected: socket.socket, end: float) -> None:
        self.socket = connected
        self.end = end

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            self.socket.settimeout(left_s(self.end))
            rest = rest[self.socket.send(rest) :]

    def makefile(self, _: str = "rb") -> io.BufferedReader:
        """What arrives for one answer."""
        return _Bounded(_Arriving(self))

    def close(self) -> None:
        """Close the socket, once the files made of it are closed as well."""
        self.socket.close()


class _Arriving(io.RawIOBase):
    """The bytes as they come, until the time or the room for them is used up."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._room = LONGEST_ANSWER
        self._file: Any = line.socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._line.socket.settimeout(left_s(self._line.end))
        count: int = self._file.readinto(buffer)
        self._room -= count
        if self._room < 0:
            raise _too_long()
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Bounded(io.BufferedReader):
    """A reader that makes no room for an announced length which is refused anyway."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > LONGEST_ANSWER:
            raise _too_long()
        return super().read(size)


def connected(host: str, port: int, end: float) -> socket.socket:
    """A socket that is connected to the first of a host's addresses that takes it.

    Each address may take its share of the time that is left. Only the look-up of the name lasts
    as long as the system lets it.

    Raises
    ------
    OSError
        of the last address, when none does; `socket.timeout` when the time is up.
    """
    failed: OSError = OSError(f"{host} has no address")
    addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            found = socket.socket(family, kind, protocol)
        except OSError as exc:  # a kind of address that this system has not
            failed = exc
            continue
        try:
            found.settimeout(left_s(end) / (len(addresses) - number))
            found.connect(address)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return found
        except OSError as exc:
            found.close()
            failed = exc
    raise failed


def secured(plain: socket.socket, host: str, context: ssl.SSLContext, end: float) -> socket.socket:
    """The same with TLS, once the server's certificate has been checked."""
    try:
        plain.settimeout(left_s(end))
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def left_s(end: float) -> float:
    """Seconds until then; `socket.timeout` when there are none."""
    left = end - monotonic()
    if left <= 0:
        raise socket.timeout("the time is up")
    return left


def _too_long() -> ServiceError:
    return ServiceError(
        f"the answer is longer than {LONGEST_ANSWER} bytes, as none of `adaptive serve` is"
    )
