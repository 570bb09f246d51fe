"""One client's connection: waitress's channel, made to drain, to linger and to speak JSON."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

#: How long a refused request's remaining bytes are read and thrown away, seconds. A socket
#: closed over unread bytes resets the connection, and the client may lose the refusal.
LINGER_S = 5.0


class RequestTimeout(Error):  # type: ignore[misc]
    """A request that did not arrive whole in time."""

    code = 408
    reason = "Request Timeout"


class Answer(WSGITask):  # type: ignore[misc]
    """An answer of the application: one write where waitress makes two, last one on draining."""

    wrote_header: bool

    def build_response_header(self) -> bytes:
        """Announce the end of the connection while the server drains, unless more is queued."""
        if self.channel.server.draining and len(self.channel.requests) <= 1:
            self.set_close_on_finish()
        head: bytes = super().build_response_header()
        return head

    def write(self, data: bytes) -> None:
        """Write part of the body; a whole one goes out together with the header."""
        if self.wrote_header or not self.complete or len(data) != self.content_length or not data:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data if self.has_body else head)


class Refusal(ErrorTask):  # type: ignore[misc]
    """An answer to what never became a request: `{"error": sentence}`, then the end."""

    def execute(self) -> None:
        """Write the answer; the channel then discards what the client still sends."""
        error = self.request.error
        self.status = f"{error.code} {error.reason}"
        body = json.dumps({"error": self._sentence(error)}).encode() + b"\n"
        self.response_headers.append(("Content-Type", "application/json"))
        self.content_length = len(body)
        self.set_close_on_finish()
        self.channel.linger = True
        self.write(body)

    def _sentence(self, error: Any) -> str:
        limits = self.channel.adj
        if error.code == 413:
            return (
                f"the body is longer than the {limits.max_request_body_size - 1} bytes "
                "that are allowed"
            )
        if error.code == 431:
            return (
                f"the request's header is longer than the {limits.max_request_header_size} "
                "bytes that are allowed"
            )
        if error.code in (400, 501):
            return f"this is not a request that the server understands: {error.body}"
        return str(error.body)


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection as the server's loop sees it.

    Attributes
    ----------
    started : when the first bytes of the unfinished request came
    linger : close only after the client has stopped sending, or after LINGER_S
    """

    request: Any
    requests: list[Any]
    will_close: bool

    task_class = Answer
    error_task_class = Refusal
    started = 0.0
    linger = False
    lingering_since: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # waitress 3.0.0, the last one for Python 3.8, forgets a client that hung up before it
        # was looked at, and then spins on it; as connected, it is read from, and closed.
        self.connected = True

    @property
    def idle(self) -> bool:
        """Nothing was asked that is not answered."""
        return not (self.requests or self.request is not None or self.total_outbufs_len)

    def received(self, data: bytes) -> bool:
        """Take bytes in, and note when a request began."""
        if self.request is None:
            self.started = time.time()
        return bool(super().received(data))

    def send_continue(self) -> None:
        """Say "100 Continue", unless the request is complete or refused already."""
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def time_out(self) -> None:
        """Answer the unfinished request with 408."""
        with self.requests_lock:
            request, self.request = self.request, None
            if request is None or self.requests or self.will_close or self.close_when_flushed:
                return
            if not request.headers_finished:
                request.parse_header(b"GET / HTTP/1.0\r\n")
            request.error = RequestTimeout("the request did not arrive whole in time")
            self.requests.append(request)
            self.server.add_task(self)

    def readable(self) -> bool:
        """Whether the loop should read."""
        return self.lingering_since is not None or bool(super().readable())

    def handle_read(self) -> None:
        """Read what came; while lingering, throw it away."""
        if self.lingering_since is None:
            super().handle_read()
            return
        with contextlib.suppress(OSError):
            if self.recv(self.adj.recv_bytes):
                return
        self.handle_close()

    def handle_close(self) -> None:
        """Close, after lingering where there is something to wait for."""
        if self.linger and self.lingering_since is None and self.will_close and self.connected:
            self.linger, self.will_close = False, False
            self.lingering_since = time.time()
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()
