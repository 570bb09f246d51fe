"""A client's connection: uvicorn's HTTP/1.1, with bounds on size and time, and errors in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
from time import monotonic, perf_counter
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adaptive.serving.answers import as_json
from adaptive.serving.asgi import LINGER_S, Adapter, environ_of

log = logging.getLogger("adaptive.serving")

#: Longest header of a request, and longest part of a body that is not data, bytes.
HEADER_BYTES = 65_536

#: Linux tells in whole ticks how long data has waited; with 250 a second one is 4 ms.
TICK_MS = 4

#: A request line that is right but for its method.
_METHOD = re.compile(rb"[A-Z]{1,32} [^ \r\n]+ HTTP/1\.[01]\r\n")

_NOT_HTTP = "this is not a request that the server understands: "
_TOO_LONG = (431, f"the request's header is longer than the {HEADER_BYTES} bytes that are allowed")


class Refused(Exception):
    """Raised in the parser's callbacks, with a status and a sentence."""


class Connection(HttpToolsProtocol):
    """One connection of a server whose application is an `Adapter`, in the event loop's thread."""

    def __init__(self, server: uvicorn.Server, link: socket.socket) -> None:
        super().__init__(server.config, server.server_state, {}, asyncio.get_running_loop())
        self.logger = log
        self._server, self._socket = server, link
        self._adapter: Adapter = server.config.app  # type: ignore[assignment]
        self._active = monotonic()  # when something last came or was answered
        self._arriving: float | None = None  # since when a request does
        self._unanswered = 0  # requests that are whole
        self._deaf = False  # whether what still comes is thrown away
        self._ended = False  # whether the client has sent its last byte
        self._no_data = 0  # bytes since the last ones of a body

    @property
    def idle(self) -> bool:
        """Whether nothing was asked that is not answered."""
        asked = self._unanswered or self._arriving is not None
        return not asked and not self.transport.get_write_buffer_size()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timer too, which uvicorn does not after a reset."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._deaf:
            return
        self._active = monotonic()
        self._unset_keepalive_if_required()
        self._no_data += len(data)
        try:
            self.parser.feed_data(data)
            if self._no_data > HEADER_BYTES:
                self._refuse(*_TOO_LONG)
        except httptools.HttpParserUpgrade:  # nothing else is spoken here
            self._deaf = True
            self._close_after(self.cycle)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Refused):
                self._refuse(*cause.args)
            elif isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD.match(data):
                self._refuse(501, _NOT_HTTP + "a method that HTTP does not know")
            elif isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
                cause, (httptools.HttpParserError, UnicodeError, AttributeError)
            ):  # which uvicorn raises where it cannot read an address
                log.error(
                    "the server failed on a connection, closes it, and goes on", exc_info=cause
                )
                self.transport.abort()
            else:
                self._refuse(400, _NOT_HTTP + str(error)[:200])

    def eof_received(self) -> bool:  # type: ignore[override]
        """Let a request that has come whole be answered after the client's last byte."""
        self._ended = True
        self.loop.call_soon(self._close_if_answered)  # after a request that has just begun
        return self.scheme == "http"

    def on_message_begin(self) -> None:
        """Note when a request begins."""
        super().on_message_begin()
        self._arriving = monotonic()

    def on_headers_complete(self) -> None:
        """Begin with a request, unless HTTP forbids what the parser lets pass."""
        version: str = self.parser.get_http_version()
        self._check_header(version)
        super().on_headers_complete()
        self._no_data = 0
        self.scope["headers"] = list(self.headers)  # what comes as a trailer is no header
        self.cycle.keep_alive = self.parser.should_keep_alive()
        if self._server.should_exit or not self.cycle.keep_alive:
            self._close_after(self.cycle)
        elif version == "1.0":
            self._say(self.cycle, b"keep-alive")

    def on_body(self, body: bytes) -> None:
        """Go on with a body."""
        super().on_body(body)
        self._no_data = 0

    def on_message_complete(self) -> None:
        """Note when a request was whole: when its last bytes came, not when they are looked at."""
        super().on_message_complete()
        self._arriving, self._no_data = None, 0
        self._unanswered += 1
        self.scope["adaptive.arrived"] = perf_counter() - self._late_s()  # type: ignore[typeddict-unknown-key]

    def on_response_complete(self) -> None:
        """Go on with what was sent meanwhile."""
        self._unanswered -= 1
        self._active = monotonic()
        if self._arriving is not None:
            self._arriving = self._active
        super().on_response_complete()
        if self._ended or self._deaf:
            self._close_if_answered()

    def shutdown(self) -> None:
        """Have the connection end with the response to the last request that has come."""
        self._active = monotonic()
        self._close_after(self.cycle)

    def check(self, keep_s: float, receive_s: float) -> None:
        """Close the connection where it is quiet, or a request arrives, for too long."""
        now = monotonic()
        if self.idle and now - self._active > keep_s:
            # The loop reads what is there already, a last request perhaps, and then the end.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)
        elif self._arriving and not self._unanswered and now - self._arriving > receive_s:
            self._refuse(408, "the request did not arrive whole in time")

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer in the application's place, as the last response."""
        cycle, self._deaf, self._arriving = self.cycle, True, None
        if cycle is not None and not cycle.response_complete and cycle.more_body:
            cycle.disconnected = True  # the application sees no request that is not whole
            cycle.message_event.set()
        if self._unanswered or self.transport.is_closing():
            return  # it ends with the responses to the requests before
        answer = as_json({"error": sentence}, status)
        headers = self._adapter.refused(environ_of(self.scope or {}), answer)
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(answer.encoded(*headers, ("Connection", "close")))
        if self._ended:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)
        self.flow.resume_reading()

    def _close_after(self, cycle: Any) -> None:
        """Have the connection end with the response to one request."""
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False
            self._say(cycle, b"close")  # which uvicorn leaves out before 0.35

    def _say(self, cycle: Any, connection: bytes) -> None:
        cycle.default_headers = [*cycle.default_headers, (b"connection", connection)]

    def _close_if_answered(self) -> None:
        if not self._unanswered:
            self.transport.close()

    def _late_s(self) -> float:
        """How long the request's last bytes had waited for the loop, as far as that can be told."""
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
            ms: int = struct.unpack_from("=I", told, 52)[0]  # tcpi_last_data_recv
        except (OSError, AttributeError, struct.error):  # another system's
            return 0.0
        return max(0, ms - TICK_MS) / 1e3

    def _check_header(self, version: str) -> None:
        if version not in ("1.0", "1.1"):
            raise Refused(505, f"HTTP/{version[:10]} is not spoken here; HTTP/1.1 and 1.0 are")
        if len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > HEADER_BYTES:
            raise Refused(*_TOO_LONG)
        codings = [v.lower() for n, v in self.headers if n == b"transfer-encoding"]
        if any(coding != b"chunked" for coding in codings):
            raise Refused(501, _NOT_HTTP + "a transfer coding other than chunked")
        if len(codings) > 1 or (codings and version == "1.0"):
            raise Refused(400, _NOT_HTTP + "chunked twice, or in HTTP/1.0")
        hosts = sum(n == b"host" for n, _ in self.headers)
        if hosts > 1 or (version == "1.1" and not hosts):
            raise Refused(400, _NOT_HTTP + f"{hosts} Host headers where there must be one")
