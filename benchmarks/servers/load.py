"""Keep-alive load from one process: prebuilt bytes, one epoll object, every request timed.

A request costs the load about 0.1 ms, so that one core keeps up with any server that works on
another one. A connection sends its next request as soon as its answer is whole.
"""

from __future__ import annotations

import re
import select
import socket
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic, perf_counter, process_time
from typing import Callable

#: Headers that say where an answer ends.
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


@dataclass
class Tally:
    """What came of a load.

    Attributes
    ----------
    latency_s : of every answered request, in the order of the answers
    statuses : how many answers had which status
    dropped : requests whose last byte was sent, and that got no whole answer
    seconds, cpu_s : how long it took, and what it cost the load itself
    """

    latency_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def answered(self) -> int:
        """Requests that got a whole answer."""
        return len(self.latency_s)


class Link:
    """One connection, and the answer that it waits for."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex(("127.0.0.1", port))
        self.connected = False
        self.waits = False  # whether a whole request is out
        self.sent_at = 0.0
        self.data = b""

    def whole(self) -> bool:
        """Whether the answer has come in to its end."""
        data = self.data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        found = LENGTH.search(data, 0, end + 2)
        if found is not None:
            return len(data) >= end + 4 + int(found[1])
        return CHUNKED.search(data, 0, end + 2) is not None and data.endswith(b"\r\n0\r\n\r\n")


class Load:
    """Connections that ask one server the same thing again and again.

    Parameters
    ----------
    port : of the server, on this machine
    request : the bytes of one request
    connections : how many ask at a time
    """

    def __init__(self, port: int, request: bytes, connections: int) -> None:
        self.port = port
        self.request = request
        self.connections = connections

    def run(
        self,
        seconds: float,
        requests: int | None = None,
        then: Callable[[], object] | None = None,
        patience_s: float = 30.0,
    ) -> Tally:
        """Ask for so long, or so many times.

        Parameters
        ----------
        then : is called when the time is over; the load goes on until the server takes no more
            connections, `patience_s` at most
        """
        tally = Tally()
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        for _ in range(self.connections):
            self._open()
        began, spent = monotonic(), process_time()
        end, going_on, asked = began + seconds, True, 0
        while self._links:
            now = monotonic()
            if now >= end:
                if then is None:
                    going_on = False
                else:
                    then()
                    then, end = None, now + patience_s
                    requests = None
            for number, event in self._epoll.poll(min(0.1, max(0.0, end - now) + 0.001)):
                link = self._links[number]
                if not link.connected:
                    self._connect(link)
                elif self._receive(link, tally):
                    asked += 1
                    again = going_on and (requests is None or asked < requests)
                    self._next(link, again)
                del event
            if not going_on and (now > end + patience_s or not self._waiting()):
                break
        tally.seconds = monotonic() - began
        tally.cpu_s = process_time() - spent
        for link in list(self._links.values()):
            self._forget(link)
        self._epoll.close()
        return tally

    def _waiting(self) -> bool:
        return any(link.waits for link in self._links.values())

    def _open(self) -> None:
        link = Link(self.port)
        self._links[link.sock.fileno()] = link
        self._epoll.register(link.sock.fileno(), select.EPOLLOUT)

    def _connect(self, link: Link) -> None:
        if link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._forget(link)  # refused: the server is gone, and nothing was asked
            return
        link.connected = True
        self._epoll.modify(link.sock.fileno(), select.EPOLLIN)
        self._send(link)

    def _send(self, link: Link) -> None:
        link.data, link.waits = b"", False
        link.sent_at = perf_counter()
        try:
            sent = link.sock.send(self.request)
            if sent < len(self.request):
                link.sock.setblocking(True)
                link.sock.sendall(self.request[sent:])
                link.sock.setblocking(False)
        except OSError:  # the server hung up before the request was whole
            self._forget(link)
            self._open()
            return
        link.waits = True

    def _receive(self, link: Link, tally: Tally) -> bool:
        """Read; whether the answer is whole now."""
        try:
            data = link.sock.recv(262_144)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            tally.dropped += link.waits
            self._forget(link)
            self._open()
            return False
        link.data += data
        if not link.waits or not link.whole():
            return False
        tally.latency_s.append(perf_counter() - link.sent_at)
        tally.statuses[link.data[9:12].decode("latin-1")] += 1
        link.waits = False
        return True

    def _next(self, link: Link, again: bool) -> None:
        if not again:
            self._forget(link)
        elif CLOSE.search(link.data, 0, link.data.find(b"\r\n\r\n") + 2):
            self._forget(link)
            self._open()
        else:
            self._send(link)

    def _forget(self, link: Link) -> None:
        number = link.sock.fileno()
        if self._links.pop(number, None) is not None:
            self._epoll.unregister(number)
        link.sock.close()


def post(path: str, body: bytes, content_type: str, *headers: str) -> bytes:
    """The bytes of one POST request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
