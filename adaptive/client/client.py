"""Ask a server for answers: the same calls as a router's, over HTTP.

from adaptive import Client

with Client("http://board.local:8080") as client:
    print(client.classify("photo.jpg").label)
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import ssl
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Mapping, NamedTuple
from urllib.parse import quote

from PIL import Image
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from adaptive.checks import number, shown, stream_name, whole
from adaptive.client.connections import Connections, sendable
from adaptive.errors import BusyError, DeadlineError, ImageError, InputError, ServiceError
from adaptive.images.decode import ImageLike, decode, open_image
from adaptive.limits import PREFERENCES
from adaptive.prediction import Prediction, Reused

#: Longest wait between two attempts, seconds, unless the server asks for a longer one.
LONGEST_WAIT_S = 8.0

#: First wait between two attempts where the server asks for none; it doubles with each.
FIRST_WAIT_S = 0.1

#: Shortest deadline that a server takes, seconds.
SHORTEST_DEADLINE_S = 1e-3

#: Longest deadline that a server takes, a day.
LONGEST_DEADLINE_MS = 86_400_000.0

#: Longest time for one attempt, seconds.
LONGEST_TIMEOUT_S = LONGEST_DEADLINE_MS / 1e3


#: What an image is sent as.
_BYTES = {"Content-Type": "application/octet-stream"}


class Client:
    """A server's answers, over connections that are kept open.

    Several threads may use one client at the same time; each request has a connection to itself.

    Parameters
    ----------
    url : of the server; a path in it is put before every request's
    timeout_s : how long to connect, send a request and read its whole answer may take together,
        a day at most; each attempt has as long
    retries : how often a request is sent again that the server had no room for (503). Before
        that the client waits as long as `Retry-After` says, or 0.1 s, 0.2 s, 0.4 s and so on,
        and a little more or less by chance, so that many clients do not all come back at once.
        It gives up when it would have to wait longer than `timeout_s`.
    api_key : sent as a bearer key
    ssl_context : for https, where the system's certificates do not do

    Raises
    ------
    InputError
        when the address is none, or a number cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        retries: int = 4,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        timeout_s = number(timeout_s, "timeout_s")
        if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
            raise InputError(
                f"timeout_s {timeout_s} is not above 0 and up to {LONGEST_TIMEOUT_S:.0f}, a day"
            )
        if not isinstance(url, str):
            raise InputError(f"the address {shown(url)} is no text; http://HOST:PORT is one")
        if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
            raise InputError(f"ssl_context {shown(ssl_context)} is no ssl.SSLContext")
        if api_key is not None and not isinstance(api_key, str):
            raise InputError(f"api_key {shown(api_key)} is no text")
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.retries = whole(retries, "retries")
        self._server = Connections(url, api_key, ssl_context)
        Image.preinit()  # imports the formats, which the first array's deadline need not pay for

    def classify(
        self,
        image: ImageLike,
        *,
        explain: bool = False,
        deadline_ms: float | None = None,
        prefer: str | None = None,
        request_id: str | None = None,
        stream: str | None = None,
    ) -> Prediction:
        """Answer one image.

        Parameters
        ----------
        image : encoded bytes, a path, or an ndarray (height, width, 3), uint8, RGB, which is
            sent as PNG, without loss
        explain : also features, the premodel's votes, and why, as one sentence; `explanation`
            stays None, for what a server tells of it in JSON is not read back
        deadline_ms : milliseconds within which the answer is wanted, waiting and all attempts
            included; the server is told what is left
        prefer : "fast", "balanced" or "accurate"
        request_id : what the server's log shall call this request
        stream : name of the camera whose frame this is: where nothing changed since its last
            computed frame, that one's answer comes back, and `reused` says so. Send the frames
            of one camera one after the other.

        Raises
        ------
        ImageError
            when the image cannot be read, or the server says so.
        BusyError
            when the server still has no room after all attempts.
        DeadlineError
            when the deadline has passed.
        ServiceError
            when the server cannot be reached, or fails.
        InputError
            when the server refuses the request for another reason.
        """
        headers = {**_BYTES}
        if deadline_ms is not None:
            deadline_ms = number(deadline_ms, "deadline_ms")
            if not 0 < deadline_ms < math.inf:
                raise InputError(f"deadline_ms {deadline_ms:g} is not a number above 0")
        if prefer is not None:
            if prefer not in PREFERENCES:
                raise InputError(f"prefer {prefer!r} is not one of {list(PREFERENCES)}")
            headers["X-Prefer"] = prefer
        if request_id is not None:
            headers["X-Request-Id"] = sendable("request_id", request_id)
        if stream is not None:
            headers["X-Stream"] = stream_name(stream, "stream")
        deadline = None
        if deadline_ms is not None:
            deadline = _Deadline(deadline_ms, monotonic() + deadline_ms / 1e3)
        path = "/v1/classify?explain=1" if explain else "/v1/classify"
        response = self._image(path, image, headers, deadline)
        return _prediction(self._value(response), self.url)

    def identify(self, image: ImageLike, *, learn: bool = False) -> dict[str, Any]:
        """Who is on an image, where the server has a store of identities.

        Parameters
        ----------
        image : as of `classify`
        learn : update those who are found, and add others as "unknown-N"

        Returns
        -------
        "people": for each its "box" in pixels, "name" or None, "known" (whether a person gave
        the name), "by" and "path" (networks), "distance" and "new"; and the image's "size"

        Raises
        ------
        ImageError
            when the image cannot be read, or the server says so.
        InputError
            when the server has no store, or this client may not ask it.
        BusyError, ServiceError
            as in `classify`.
        """
        path = f"/v1/identify?learn={int(learn)}"
        return self._value(self._image(path, image))

    def identities(self) -> dict[str, Any]:
        """All "names" of the server's store, with how many embeddings each has taken in."""
        return self._value(self._ask("GET", "/v1/identities"))

    def add_identity(self, name: str, image: ImageLike) -> int:
        """Add a name by an image of that person, or one more image of a known one.

        Returns
        -------
        How many embeddings the name has taken in.
        """
        answer = self._value(self._ask("POST", _named(name), _encoded(image), _BYTES))
        return int(answer["embeddings"])

    def rename_identity(self, old: str, new: str) -> None:
        """Give a name, such as unknown-7, another one."""
        self._change({"rename": old, "to": new})

    def merge_identity(self, name: str, into: str) -> None:
        """Two names are one person; the first goes."""
        self._change({"merge": name, "into": into})

    def forget_identity(self, name: str) -> None:
        """Delete all that the server's store has of a name."""
        self._value(self._ask("DELETE", _named(name)))

    def bundle(self) -> dict[str, Any]:
        """What the server serves: candidates, policy, certificate, board."""
        return self._value(self._ask("GET", "/v1/bundle"))

    def reload(self) -> None:
        """Have the server read its bundle again, and change over when the new one is warm.

        That takes a while; `timeout_s` should allow for it.

        Raises
        ------
        InputError
            when the server may not do it for this client, or cannot, and serves the old one on.
        BusyError, ServiceError
            as in `classify`.
        """
        self._value(self._ask("POST", "/v2/repository/models/adaptive/load"))

    def ready(self) -> bool:
        """Whether the server answers at full speed; False as well when it cannot be reached."""
        try:
            return self._once("GET", "/readyz", b"", {}).status == 200
        except ServiceError:
            return False

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._server.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def _change(self, change: Mapping[str, str]) -> None:
        headers = {"Content-Type": "application/json"}
        body = json.dumps(change).encode()
        self._value(self._ask("POST", "/v1/identities", body, headers))

    def _image(
        self,
        path: str,
        image: ImageLike,
        headers: Mapping[str, str] = _BYTES,
        deadline: _Deadline | None = None,
    ) -> _Response:
        """Send an image; ImageError where it cannot be read, or the server says so."""
        response = self._ask("POST", path, _encoded(image), headers, deadline)
        if response.status in (400, 413):
            name = f"{image}: " if isinstance(image, (str, os.PathLike)) else ""
            raise ImageError(f"{name}{response.sentence()}")
        return response

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        deadline: _Deadline | None = None,
    ) -> _Response:
        """Send a request, and again while the server has no room for it."""
        attempt = 0
        while True:
            sent = {**(headers or {})}
            if deadline is not None:
                left_s = deadline.end - monotonic()
                if left_s < SHORTEST_DEADLINE_S:
                    raise DeadlineError(f"{deadline} passed before {self.url} was asked")
                sent["X-Deadline-Ms"] = f"{min(left_s * 1e3, LONGEST_DEADLINE_MS):.3f}"
            response = self._once(method, path, body, sent, deadline)
            if response.status != 503:
                return response
            wait_s = response.wait_s(attempt)
            if attempt == self.retries or wait_s > self.timeout_s:
                raise BusyError(response.sentence(), wait_s)
            if deadline is not None and monotonic() + wait_s >= deadline.end:
                raise DeadlineError(f"{self.url} has no room before {deadline}")
            sleep(wait_s)
            attempt += 1

    def _once(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        deadline: _Deadline | None = None,
    ) -> _Response:
        """Send a request; over a new connection where a kept one turns out to be closed."""
        end = monotonic() + self.timeout_s
        late = ServiceError(f"{self.url} did not answer within {self.timeout_s:g} s")
        if deadline is not None and deadline.end < end:
            end = deadline.end
            late = DeadlineError(f"{self.url} did not answer before {deadline}")
        raw = self._server.ask(method, path, body, headers, end, late)
        return _Response(raw.status, raw.headers.get("Retry-After", ""), raw.body)

    def _value(self, response: _Response) -> dict[str, Any]:
        """The JSON object of a good answer, or the error that a bad one stands for."""
        if response.status == 504:
            raise DeadlineError(response.sentence())
        if response.status in (401, 403):
            raise InputError(f"{self.url} refuses this client: {response.sentence()}")
        if 400 <= response.status < 500:
            raise InputError(f"{self.url} refuses the request: {response.sentence()}")
        if response.status != 200:
            raise ServiceError(f"{self.url} failed: {response.sentence()}")
        value = response.json()
        if not isinstance(value, dict):
            raise ServiceError(f"{self.url} answers, but not as `adaptive serve` does")
        return value


def read_key(path: Path) -> str:
    """The first key of a file that has one a line, as the server's own file of keys.

    Raises
    ------
    InputError
        when it cannot be read, or holds no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise InputError(f"the key file {path} cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"the key file {path} is not text in UTF-8") from exc
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            return line.strip()
    raise InputError(f"{path} holds no key")


def _named(name: str) -> str:
    """The path of a name in the server's store."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{shown(name)} is no name of a person")
    try:
        return f"/v1/identities/{quote(name, safe='')}"
    except UnicodeEncodeError as exc:
        raise InputError(f"{name!a} is no name; it has half a letter in it") from exc


class _Response(NamedTuple):
    """What a server sent back."""

    status: int
    retry_after: str
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def sentence(self) -> str:
        """What the server says is wrong."""
        value = self.json()
        error = value.get("error") if isinstance(value, dict) else None
        return error if isinstance(error, str) else f"HTTP status {self.status}"

    def wait_s(self, attempt: int) -> float:
        """How long to wait before a request is sent again, seconds."""
        try:
            asked_s = Retry().parse_retry_after(self.retry_after)
        except InvalidHeader:
            asked_s = 0.0
        if asked_s > 0 or self.retry_after == "0":  # a date that is past tells of a wrong clock
            return asked_s * random.uniform(1.0, 1.25) + FIRST_WAIT_S * random.random()
        doubled: float = FIRST_WAIT_S * 2**attempt
        return min(doubled, LONGEST_WAIT_S) * random.uniform(0.5, 1.5)


class _Deadline(NamedTuple):
    """How long a caller waits, and when that is over on the monotonic clock."""

    ms: float
    end: float

    def __str__(self) -> str:
        return f"the deadline of {self.ms:g} ms"


def _encoded(image: ImageLike) -> bytes:
    """An image as the bytes that are sent.

    Raises
    ------
    ImageError
        when it cannot be read.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        with open_image(image) as file:
            try:
                return file.read()
            except OSError as exc:
                raise ImageError(f"{image} cannot be read: {exc.strerror or exc}") from exc
    encoded = io.BytesIO()
    Image.fromarray(decode(image)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _prediction(value: Mapping[str, Any], url: str) -> Prediction:
    try:
        return Prediction(
            label=value["label"],
            index=value.get("index"),
            score=value["score"],
            top5=tuple((best["label"], best["score"]) for best in value["top5"]),
            candidate=value["candidate"],
            path=tuple(value["path"]),
            ms=dict(value["ms"]),
            calibrated=bool(value.get("calibrated", False)),
            features=value.get("features"),
            votes=value.get("votes"),
            reason=value.get("reason", ""),
            unreached=tuple(value.get("unreached", ())),
            reused=None if value.get("reused") is None else Reused(**value["reused"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ServiceError(f"{url} answers, but not with a prediction") from exc
