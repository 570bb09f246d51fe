"""A whole request to a WSGI application, and the application's answer to bytes."""

from __future__ import annotations

import logging
import sys
from email.utils import formatdate
from time import time
from typing import Any, Callable, Iterable, List, Tuple

from adaptive.serving.connection import Connection, Refusal, Request

log = logging.getLogger("adaptive.serving")

Headers = List[Tuple[str, str]]
Application = Callable[[Any, Any], Iterable[bytes]]

#: Headers that belong to the connection, which is not the application's.
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)

#: What a request that fails inside the application is answered.
BUG = Refusal(500, "the server failed on this request; its log says why")


class Gateway:
    """Asks a WSGI application (PEP 3333).

    The answer is gathered whole before it is sent, so an application must not stream without end.

    Parameters
    ----------
    app : the application
    name, port : where the server listens
    secure : whether it speaks TLS
    """

    def __init__(self, app: Application, name: str, port: int, secure: bool = False) -> None:
        self.app = app
        self._dated = (0, "")
        self._base = {
            "SERVER_NAME": name,
            "SERVER_PORT": str(port),
            "SERVER_SOFTWARE": "adaptive",
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if secure else "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }

    def answer(
        self, connection: Connection, request: Request, last: Callable[[Connection], bool]
    ) -> tuple[bytes, bool]:
        """The answer to a request, as bytes, and whether the connection ends with it.

        Parameters
        ----------
        last : whether the connection shall end, asked when the application is done
        """
        reply = _Reply()
        close = request.connection_close
        try:
            body = self._ask(self._environ(connection, request), reply)
            close = close or last(connection)
            head = self._head(request, reply, body, close)
        except Exception:
            log.exception("%s %s failed in the application", request.command, request.path)
            return BUG.encoded(close), close
        return (head if request.command == "HEAD" else head + body), close

    def _environ(self, connection: Connection, request: Request) -> dict[str, Any]:
        environ = self._base.copy()
        for name, value in request.headers.items():
            environ["HTTP_" + name] = value
        for name in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            if name in request.headers:
                environ[name] = environ.pop("HTTP_" + name)
        address = connection.address
        environ["REMOTE_ADDR"] = address[0]
        environ["REMOTE_PORT"] = str(address[1])
        environ["REQUEST_METHOD"] = request.command
        environ["SERVER_PROTOCOL"] = "HTTP/1.0" if request.version != "1.1" else "HTTP/1.1"
        environ["PATH_INFO"] = request.path
        environ["QUERY_STRING"] = request.query
        environ["REQUEST_URI"] = request.request_uri
        environ["wsgi.input"] = request.get_body_stream()
        environ["adaptive.arrived"] = request.arrived
        return environ

    def _ask(self, environ: dict[str, Any], reply: _Reply) -> bytes:
        parts = self.app(environ, reply.start)
        try:
            body = reply.written + b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        return body

    def _head(self, request: Request, reply: _Reply, body: bytes, close: bool) -> bytes:
        if not reply.status:
            raise ValueError("the application did not call start_response")
        has_body = not (reply.status.startswith(("1", "204", "304")))
        lines = [f"HTTP/1.1 {reply.status}"]
        lengthy = dated = False
        for name, value in reply.headers:
            lowered = name.lower()
            if lowered in HOP_BY_HOP:
                raise ValueError(f"the header {name} is not the application's to set")
            lengthy = lengthy or lowered == "content-length"
            dated = dated or lowered == "date"
            lines.append(f"{name}: {value}")
        if has_body and not lengthy:
            lines.append(f"Content-Length: {len(body)}")
        lines.append("Server: adaptive")
        if not dated:
            lines.append(f"Date: {self._date()}")
        if close:
            lines.append("Connection: close")
        elif request.version != "1.1":
            lines.append("Connection: keep-alive")
        text = "\r\n".join(lines)
        if not text.count("\n") == text.count("\r") == len(lines) - 1:
            raise ValueError("a header of the answer holds a line break")
        return (text + "\r\n\r\n").encode("latin-1")

    def _date(self) -> str:
        now = int(time())
        if self._dated[0] != now:
            self._dated = (now, formatdate(now, usegmt=True))
        return self._dated[1]


class _Reply:
    """What an application says by start_response."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: Headers = []
        self.written = b""

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """PEP 3333's start_response; nothing has been sent when it is called again."""
        if self.status and exc_info is None:
            raise ValueError("start_response was called twice")
        self.status, self.headers = status, headers
        return self._write

    def _write(self, data: bytes) -> None:
        self.written += data
