"""Connections to one server, which are kept open between requests."""

from __future__ import annotations

import contextlib
import socket
import ssl
from http.client import HTTPException
from time import monotonic
from typing import Mapping, NamedTuple
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, Timeout
from urllib3.exceptions import ClosedPoolError, HTTPError, SSLError, TimeoutError

from adaptive.client.exchange import KeptConnectionLost, check_length, make_pool
from adaptive.errors import InputError, ServiceError


class Raw(NamedTuple):
    """What a server sent back, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """Connections to one server. Several threads may use them at the same time.

    Answers that point elsewhere are not followed, and certificates are checked.

    Parameters
    ----------
    url : of the server; a path in it is put before every request's
    api_key : sent as a bearer key
    context : for https, where the system's certificates do not do

    Raises
    ------
    InputError
        when the address is none.
    """

    def __init__(
        self, url: str, api_key: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._pool, self._path = _open(url, context)
        self._headers = {}
        if api_key is not None:
            self._headers["Authorization"] = sendable("the API key", f"Bearer {api_key}")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        end: float,
        late: ServiceError,
        longest: int | None = None,
    ) -> Raw:
        """Send a request; over a new connection where a kept one turns out to be closed.

        Parameters
        ----------
        end : when the whole answer must be there, on the monotonic clock
        late : what is raised where it is not
        longest : bytes of the longest answer that is read; LONGEST_ANSWER where it is None

        Raises
        ------
        ServiceError
            when the server cannot be reached or does not speak HTTP, or its answer is too long.
        """
        while True:
            left_s = end - monotonic()
            if left_s <= 0:
                raise late
            try:
                raw = self._pool.urlopen(
                    *(method, self._path + path, body or None, {**self._headers, **headers}),
                    retries=False,
                    redirect=False,
                    timeout=Timeout(total=left_s),
                    preload_content=False,
                    enforce_content_length=True,
                )
                with contextlib.closing(raw):  # a connection is only kept that was read empty
                    check_length(raw.length_remaining or 0, longest)
                    parts, count = [], 0
                    for part in raw.stream(decode_content=False):
                        parts.append(part)
                        count += len(part)
                        check_length(count, longest)
                return Raw(raw.status, raw.headers, b"".join(parts))
            except KeptConnectionLost:
                continue
            except ClosedPoolError as error:
                raise InputError("this client is closed") from error
            except (HTTPError, OSError, HTTPException) as error:
                cause = error.args[-1] if error.args else error
                if isinstance(error, TimeoutError) or isinstance(cause, socket.timeout):
                    raise late from error
                if isinstance(cause, OSError) or isinstance(error, SSLError):
                    why = getattr(cause, "strerror", None) or cause
                    raise ServiceError(f"{self.url} cannot be reached: {why}") from error
                raise ServiceError(f"{self.url} does not speak HTTP: {cause}") from error

    def close(self) -> None:
        """Close the connections; it cannot be asked afterwards."""
        self._pool.close()


def _open(url: str, context: ssl.SSLContext | None) -> tuple[HTTPConnectionPool, str]:
    """Connections to the server of an address, none of them made yet, and the path in it."""
    if " " in url or not url.isprintable():
        raise InputError(
            f"{url!r} is no address of a server: it holds spaces or control characters"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as exc:
        raise InputError(f"{url!r} is no address of a server: {exc}") from exc
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError(f"{url!r} is no address of a server, as http://board.local:8080 is")
    if parts.username is not None:
        raise InputError("a server's address holds no user or password; give api_key")
    path = sendable("url", parts.path.rstrip("/"))
    if parts.scheme == "http":
        return make_pool(host, 80 if port is None else port, None), path
    context = ssl.create_default_context() if context is None else context
    return make_pool(host, 443 if port is None else port, context), path


def sendable(what: str, text: str) -> str:
    """A text that may stand in a request's header."""
    if not (text.isascii() and text.isprintable()):
        raise InputError(f"{what} has characters that a request's header cannot carry")
    return text
