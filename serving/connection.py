"""One client's connection: what it sends becomes requests, what it is answered goes out.

waitress takes the bytes of a request apart (`waitress.parser`), which is where a server is
attacked first. The sockets are read and written here, since its own loop looks at every
connection for each event, and hands each request from thread to thread.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from http import HTTPStatus
from time import monotonic, perf_counter
from typing import Any, Callable, NamedTuple

from waitress.parser import HTTPRequestParser

#: How long a refused request's remaining bytes are read and thrown away, seconds. A socket
#: closed over unread bytes resets the connection, and the client may lose the refusal.
LINGER_S = 5.0

#: Bytes that are read at a time.
BLOCK = 65_536


class Refusal(NamedTuple):
    """An answer to what never reaches the application: `{"error": sentence}`."""

    status: int
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()

    def parts(self) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
        """Status, headers and body."""
        body = json.dumps({"error": self.sentence}).encode() + b"\n"
        plain = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
        return f"{self.status} {HTTPStatus(self.status).phrase}", (*plain, *self.headers), body

    def encoded(self, close: bool) -> bytes:
        """The whole answer as it goes over the wire."""
        status, headers, body = self.parts()
        if close:
            headers = (*headers, ("Connection", "close"))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


class Request(HTTPRequestParser):  # type: ignore[misc]
    """A request that arrives, or has arrived.

    Attributes
    ----------
    arrived : when it was whole, or refused, by `perf_counter`
    refusal : why it is not for the application, or None
    unread : whether the client may still be sending it
    admitted : whether its header has been looked at
    """

    headers: dict[str, str]
    arrived = 0.0
    refusal: Refusal | None = None
    unread = False
    admitted = False

    def refused(self, refusal: Refusal, unread: bool) -> Request:
        """The same, not for the application."""
        self.arrived = perf_counter()
        self.refusal, self.unread = refusal, unread
        return self


class Connection:
    """A client's connection, without blocking. One thread at a time may use it.

    Parameters
    ----------
    sock : connected, not blocking; with TLS the handshake may still be to come
    address : the client's
    limits : waitress's Adjustments, for the parser
    gate : looks at a request's method, path and headers before its body is read, and may refuse
        it

    Attributes
    ----------
    closed : whether the socket is gone
    pending : bytes that are still to be sent
    started : when the first bytes of the unfinished request came, by `monotonic`, or None
    active : when something last came or went
    at_work : whether a request is being answered or waits for that
    lingering : whether it is only read to its end
    shaking : whether the TLS handshake is not over
    surplus : what came after the last whole request
    expired : set by another thread that has shut the socket down for reading
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Any,
        limits: Any,
        gate: Callable[[Connection, Request], Refusal | None],
    ) -> None:
        self.sock = sock
        self.address = address
        self.number = sock.fileno()
        self.closed = False
        self.pending: bytes | memoryview = b""
        self.started: float | None = None
        self.active = monotonic()
        self.at_work = False
        self.lingering = False
        self.expired = False
        self._limits = limits
        self._gate = gate
        self._request: Request | None = None
        self.surplus = b""
        self._closing = False
        self._tls = isinstance(sock, ssl.SSLSocket)
        self.shaking = self._tls
        self._wants_write = False

    @property
    def wants_write(self) -> bool:
        """Whether the socket is to be watched for room to write, and not for bytes to read."""
        return bool(self.pending) or self._wants_write

    @property
    def between(self) -> bool:
        """Whether nothing was asked that is not answered."""
        return not (self.at_work or self.started is not None or self.pending)

    def turn(self) -> Request | None:
        """Do what the socket is ready for; a request, where one is whole now.

        Afterwards the connection is `closed`, or to be watched again, unless there is a request.
        """
        try:
            return self._turn()
        except OSError:  # the client is gone, or speaks no TLS
            self.close()
            return None

    def reply(self, data: bytes, close: bool) -> Request | None:
        """Send an answer, and go on; the next request, where one has come in whole already."""
        self.at_work = False
        self.active = monotonic()
        self._closing = close
        self.pending = data
        try:
            return self._next() if self._flush() else None
        except OSError:
            self.close()
            return None

    def refuse(self, refusal: Refusal, unread: bool, close: bool = False) -> Request | None:
        """Send a refusal; with `unread` as the last answer, while the client may still send."""
        self.lingering = unread
        return self.reply(refusal.encoded(unread or close), unread or close)

    def expire(self, gone: bool = False) -> None:
        """Wake whoever watches the socket, from another thread; `gone` gives up on its output.

        What the client has sent already can still be read.
        """
        self.expired = True
        how = socket.SHUT_RDWR if gone else socket.SHUT_RD
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which would forget its keys.
            socket.socket.shutdown(self.sock, how)

    def close(self) -> None:
        """Close the socket."""
        self._drop()
        self.pending = b""
        self.closed = True
        self.sock.close()

    def _turn(self) -> Request | None:
        self._wants_write = False
        if self.shaking and not self._shake():
            return None
        if self.pending:
            return self._next() if self._flush() else None
        if self.lingering:
            self._read_away()
            return None
        return self._receive()

    def _receive(self) -> Request | None:
        """Read until a request is whole or nothing more is there."""
        while True:
            data = self._read()
            if data:
                self.active = monotonic()
                whole = self._feed(data)
                if whole is not None or self.pending or self.closed or self.lingering:
                    return whole
                if self._tls and self.sock.pending():  # type: ignore[attr-defined]
                    continue
            if self.expired and self.started is not None:
                return self._refused(Refusal(408, "the request did not arrive whole in time"))
            if data == b"" or self.expired:
                self.close()
            return None

    def _next(self) -> Request | None:
        """Go on after an answer."""
        if self._closing:
            self._end()
            return None
        if self.surplus:
            surplus, self.surplus = self.surplus, b""
            whole = self._feed(surplus)
            if whole is not None or self.pending or self.closed or self.lingering:
                return whole
        if self._tls and self.sock.pending():  # type: ignore[attr-defined]
            return self._receive()
        return None

    def _feed(self, data: bytes) -> Request | None:
        while True:
            request = self._request
            if request is None:
                request = self._request = Request(self._limits)
                self.started = monotonic()
            try:
                taken = request.received(data)
            except ValueError:  # a number or an address that the parser did not foresee
                return self._refused(Refusal(400, "this is not a request that HTTP knows"))
            if request.completed:
                break
            if request.headers_finished and not request.admitted:
                request.admitted = True
                refusal = self._gate(self, request)
                if request.chunked and "CONTENT_LENGTH" in request.headers:
                    # Who reads it otherwise than we do could be made to see two requests.
                    refusal = Refusal(400, "a request has a Content-Length or is chunked, not both")
                if refusal is not None:
                    return self._refused(refusal)
                if request.expect_continue and len(data) == taken:
                    self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if taken >= len(data):
                return None
            data = data[taken:]
        self._request, self.started = None, None
        self.surplus = data[taken:]
        if request.empty:  # blank lines between requests
            return self._feed(self.surplus) if self.surplus else None
        self.at_work = True
        if request.error is not None:
            self.surplus = b""
            return request.refused(self._refusal(request.error), True)
        refusal = None if request.admitted else self._gate(self, request)
        if refusal is not None:
            return request.refused(refusal, False)
        request.arrived = perf_counter()
        return request

    def _refused(self, refusal: Refusal) -> Request:
        """Give up on the unfinished request."""
        request = self._request
        assert request is not None
        self._drop()
        self.at_work = True
        return request.refused(refusal, True)

    def _refusal(self, error: Any) -> Refusal:
        limits = self._limits
        if error.code == 413:
            allowed = limits.max_request_body_size - 1
            return Refusal(413, f"the body is longer than the {allowed} bytes that are allowed")
        if error.code == 431:
            allowed = limits.max_request_header_size
            return Refusal(
                431, f"the request's header is longer than the {allowed} bytes that are allowed"
            )
        return Refusal(
            error.code, f"this is not a request that the server understands: {error.body}"
        )

    def _shake(self) -> bool:
        """Go on with the TLS handshake; whether it is done."""
        try:
            self.sock.do_handshake()  # type: ignore[attr-defined]
        except ssl.SSLWantReadError:
            if self.expired:
                self.close()
            return False
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return False
        self.shaking = False
        return True

    def _read(self) -> bytes | None:
        """What has come: nothing at the end, None where there is only nothing yet."""
        try:
            return self.sock.recv(BLOCK)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def _flush(self) -> bool:
        """Send what the socket takes; whether that was all."""
        while self.pending:
            try:
                sent = self.sock.send(self.pending)
            except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if self.expired:
                    self.close()
                return False
            if sent == len(self.pending):
                break
            self.pending = memoryview(self.pending)[sent:]
            self.active = monotonic()
        self.pending = b""
        return True

    def _end(self) -> None:
        if not self.lingering:
            self.close()
            return
        self.active = monotonic()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        self._read_away()

    def _read_away(self) -> None:
        for _ in range(16):  # then others have their turn
            data = self._read()
            if data is None and not self.expired:
                return
            if not data:
                self.close()
                return

    def _drop(self) -> None:
        """Forget the unfinished request, and its temporary file."""
        request, self._request, self.started = self._request, None, None
        self.surplus = b""
        if request is not None:
            request.close()
