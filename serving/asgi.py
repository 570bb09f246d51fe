"""A WSGI application (PEP 3333) as an ASGI 3 application, with admission, for any ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
import threading
from functools import partial
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import IO, Any, Callable, Dict, Iterable, List, Tuple
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import RequestEntityTooLarge

from adaptive.errors import BusyError
from adaptive.routing import progress
from adaptive.serving.admission import Admissions
from adaptive.serving.answers import Answer, refusal, too_large
from adaptive.serving.memory import trim

log = logging.getLogger("adaptive.serving")

Application = Callable[[Any, Any], Iterable[bytes]]
Environ = Dict[str, Any]

#: Status, headers and body.
Response = Tuple[int, List[Tuple[bytes, bytes]], bytes]

#: A body beyond this lies in a temporary file, bytes.
IN_MEMORY = 524_288

#: How long a refused request's remaining bytes are read and thrown away, seconds; and where none
#: come. A socket closed over unread bytes resets the connection, and the answer may be lost.
LINGER_S, QUIET_S = 5.0, 1.0

#: A request that is worked on for longer has hung, seconds; a network that is this slow on one
#: image serves nobody. Loading networks may take longer.
HUNG_S = 60.0

#: How long `close` waits for requests that are worked on, seconds.
CLOSE_S = 1.0


class Adapter:
    """Answers ASGI requests with a WSGI application, in threads of its own.

    A body is gathered before the application sees it, so that clients that send slowly hold no
    thread; and so is the response, so an application must not stream without end.

    Parameters
    ----------
    app : the WSGI application
    admissions : the places among which requests are admitted
    max_body_bytes : a longer body is refused while it arrives
    gate : looks at a request before its body is read, and may refuse it
    refused : is told of every request that the application does not see; what it returns goes
        along with the response
    """

    def __init__(
        self,
        app: Application,
        admissions: Admissions,
        max_body_bytes: int,
        gate: Callable[[Environ], Answer | None] = lambda _: None,
        refused: Callable[[Environ, Answer], tuple[tuple[str, str], ...]] = lambda *_: (),
    ) -> None:
        self.app = app
        self.admissions = admissions
        self.max_body_bytes = max_body_bytes
        self.refused = refused
        self._gate = gate
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._said_hung = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"this application speaks HTTP alone, and no {scope['type']}")
        environ = environ_of(scope)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):  # an end has gone
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as body:
                environ["wsgi.input"] = body
                status, headers, data, unread = await self._response(scope, environ, receive)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": data, "more_body": unread})
            if unread:
                await _read_away(receive)
                await send({"type": "http.response.body"})

    async def _response(self, scope: Any, environ: Environ, receive: Any) -> tuple[Any, ...]:
        """The response, and whether some of the body is left unread."""
        length = environ.get("CONTENT_LENGTH", "0")
        unread = length.strip("0") != "" or "HTTP_TRANSFER_ENCODING" in environ
        answer = self._gate(environ)
        if answer is None:
            try:
                self._bound(int(length) if length.isdigit() else 0)  # others are the application's
                await self._gather(receive, environ["wsgi.input"])
                unread = False
                environ["adaptive.arrived"] = scope.get("adaptive.arrived") or perf_counter()
                return (*await self._admit(environ), unread)
            except (BusyError, RequestEntityTooLarge) as error:
                answer = refusal(error, environ)
        more = self.refused(environ, answer)
        return (*_complete(answer, *more, *((("Connection", "close"),) * unread)), unread)

    def hung(self) -> bool:
        """Whether an image is worked on for so long that it will hardly end."""
        hung = progress.stalled(HUNG_S)
        if hung and not self._said_hung:
            log.error("a request is worked on for more than %g s", HUNG_S)
        self._said_hung = hung
        return hung

    def close(self) -> None:
        """End the threads; one that is busy for longer is left behind."""
        workers, self._workers = self._workers, []
        for _ in workers:
            self._jobs.put(None)
        until = monotonic() + CLOSE_S
        for worker in workers:
            worker.join(max(0.0, until - monotonic()))

    def _bound(self, length: int) -> None:
        if length > self.max_body_bytes:
            raise too_large(self.max_body_bytes)

    async def _gather(self, receive: Any, body: IO[bytes]) -> None:
        """Have the whole body in a file."""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionError("the client has left")
            body.write(message.get("body", b""))
            self._bound(body.tell())
            more = message.get("more_body", False)
        body.seek(0)

    async def _admit(self, environ: Environ) -> Response:
        """The application's response, once there is a place."""
        if not self._workers:
            for number in range(self.admissions.places):
                # A daemon: a network that hangs must not keep the process.
                worker = threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
                worker.start()
                self._workers.append(worker)
        loop = asyncio.get_running_loop()
        response: asyncio.Future[Response] = loop.create_future()
        admission = self.admissions.of(environ)
        admission.acquire(partial(self._jobs.put, (admission, environ, loop, response)))
        return await response

    def _work(self) -> None:
        """What every thread does."""
        for admission, environ, loop, response in iter(self._jobs.get, None):
            began = perf_counter()
            if admission is self.admissions.images:
                progress.begin()
            try:
                found = respond(self.app, environ)
            except Exception as error:
                found = _complete(refusal(error, environ))
            progress.end()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, response, found)
            if admission is self.admissions.admin:
                trim()
            admission.release(perf_counter() - began)


def environ_of(scope: Any) -> Environ:
    """PEP 3333's environment of an ASGI request, but for its body."""
    path = scope.get("raw_path") or scope.get("path", "-").encode()
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    environ = {
        "REQUEST_METHOD": scope.get("method", "-"),
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": "HTTP/" + scope.get("http_version", "1.1"),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for name, value in scope.get("headers", ()):
        if b"_" not in name:  # which could pose as another's
            key, text = name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = "HTTP_" + key
            environ[key] = f"{environ[key]}, {text}" if key in environ else text
    return environ


def respond(app: Application, environ: Environ) -> Response:
    """What a WSGI application says, whole."""
    said: list[Any] = []
    written: list[bytes] = []

    def start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        if said and exc_info is None:
            raise ValueError("start_response was called twice")
        said[:] = int(status[:3]), _encoded(headers)  # nothing has been sent before
        return written.append

    parts = app(environ, start)
    try:
        written += parts
    finally:
        getattr(parts, "close", bool)()
    status, headers = said
    body = b"".join(written)
    if status not in (204, 304) and all(name != b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(body)).encode()))
    return status, headers, b"" if environ["REQUEST_METHOD"] == "HEAD" else body


def _complete(answer: Answer, *more: tuple[str, str]) -> Response:
    return answer.status, _encoded((*answer.pairs(), *more)), answer.body


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    found = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    for name, value in found:
        if b"\r" in value or b"\n" in value:
            raise ValueError(f"the header {name!r} of the response holds a line break")
    return found


async def _read_away(receive: Any) -> None:
    """Let a client that has been refused send what it must, for a while."""
    until = monotonic() + LINGER_S
    with contextlib.suppress(asyncio.TimeoutError):
        while monotonic() < until:
            if not (await asyncio.wait_for(receive(), QUIET_S)).get("more_body", False):
                return


def _settle(response: asyncio.Future[Response], found: Response) -> None:
    if not response.done():
        response.set_result(found)
