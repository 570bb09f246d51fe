"""Where a candidate that runs on another server is asked, and what identifies it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Sequence
from urllib.parse import urlsplit

from adaptive.errors import InputError

ENCODINGS = ("jpeg", "png")

#: Longest time that one request may be given, ms.
LONGEST_MS = 600_000.0

#: What a model's or tensor's name may be: it goes into a path.
_NAME = re.compile(r"[A-Za-z0-9._@:/-]{1,200}")


@dataclass(frozen=True)
class Remote:
    """A model on a server that speaks the Open Inference Protocol v2.

    Parameters
    ----------
    url : of the server, http or https, without user, query or fragment; a path in it is put
        before every request's
    model : its name there
    version : the one that is asked for; None takes what the server serves
    labels : SHA-256 of the class names that it must answer with, see `labels_hash`; None where
        the server does not tell them
    input, output : the tensors to use, where the model has several; None takes the only input,
        and the output called "probabilities" or else the first
    timeout_ms : how long one request may take, connecting included
    encoding : how images are packed for a model that reads encoded ones, "jpeg" or "png"
    quality : of JPEG, 1..100
    mj : millijoules that a request costs the board beyond what was measured, such as a modem's
    mj_per_byte : the same for each byte that is sent or received
    """

    url: str
    model: str
    version: str | None = None
    labels: str | None = None
    input: str | None = None
    output: str | None = None
    timeout_ms: float = 1000.0
    encoding: str = "jpeg"
    quality: int = 90
    mj: float | None = None
    mj_per_byte: float | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        for what, name in (("model", self.model), ("version", self.version)):
            if name is None:
                continue
            if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
                raise InputError(
                    f"remote {what} {name!r} is no name; letters, digits and ._@:/- are allowed"
                )
        if self.labels is not None and not re.fullmatch("[0-9a-f]{64}", self.labels):
            raise InputError(f"remote labels {self.labels!r} is no SHA-256 of 64 digits")
        if not (_finite(self.timeout_ms) and 0 < self.timeout_ms <= LONGEST_MS):
            raise InputError(
                f"remote timeout_ms {self.timeout_ms!r} is not above 0 and up to {LONGEST_MS:.0f}"
            )
        if self.encoding not in ENCODINGS:
            raise InputError(f"remote encoding {self.encoding!r} is not one of {list(ENCODINGS)}")
        whole = isinstance(self.quality, int) and not isinstance(self.quality, bool)
        if not whole or not 1 <= self.quality <= 100:
            raise InputError(f"remote quality {self.quality!r} is not a whole number in 1..100")
        for name, value in (("mj", self.mj), ("mj_per_byte", self.mj_per_byte)):
            if value is not None and not (_finite(value) and value >= 0):
                raise InputError(f"remote {name} {value!r} is not a finite number of at least 0")

    @property
    def identity(self) -> str:
        """What stands in for a file's SHA-256: it changes with what answers, not with where.

        Two machines may reach one model by different addresses.
        """
        told = [self.model, self.version, self.labels, self.input, self.output]
        packing = [self.encoding, self.quality]
        return hashlib.sha256(json.dumps(["remote", *told, *packing]).encode()).hexdigest()

    @property
    def place(self) -> str:
        """Model and server, for messages."""
        version = "" if self.version is None else f" version {self.version}"
        return f"model {self.model!r}{version} at {self.url}"

    def network_mj(self, sent: float, received: float) -> float:
        """What one request of so many bytes is said to cost, millijoules."""
        return (self.mj or 0.0) + (self.mj_per_byte or 0.0) * (sent + received)

    def to_json(self) -> dict[str, Any]:
        """What a manifest says; what is not stated is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


def labels_hash(labels: Sequence[str]) -> str:
    """SHA-256 of class names in their order, one a line."""
    return hashlib.sha256("".join(f"{label}\n" for label in labels).encode()).hexdigest()


def check_url(url: object) -> str:
    """Return a server's address if it may be asked.

    Raises
    ------
    InputError
        when it is no http or https address, or holds what one may not hold.
    """
    if not isinstance(url, str) or " " in url or not url.isprintable() or not url.isascii():
        raise InputError(f"{url!r} is no address of a server, as http://cloud.local:8080 is")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise InputError(f"{url!r} is no address of a server: {exc}") from exc
    if parts.scheme not in ("http", "https") or not host or "?" in url or "#" in url:
        raise InputError(
            f"{url!r} is no address of a server; http://HOST:PORT or https://HOST:PORT is, with a "
            "path or without, and without a query"
        )
    if parts.username is not None or parts.password is not None:
        raise InputError("a server's address holds no user or password; give --remote-keys FILE")
    return url


def origin(url: str) -> str:
    """Scheme, host and port of an address: who is asked, whatever the path."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
