"""The body of a request, read and unpacked within one limit."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from adaptive.serving.answers import too_large
from adaptive.serving.compression import CODINGS, TooLong, decompress


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """The body as it was sent.

    Raises
    ------
    RequestEntityTooLarge
        when it is longer than `limit` bytes; if its length was announced, nothing is read.
    BadRequest
        when it ends before its announced length.
    """
    announced = environ.get("CONTENT_LENGTH")
    try:
        length = int(announced) if announced else None
    except ValueError:
        raise BadRequest(f"Content-Length {announced!r} is not a number") from None
    if length is not None and not 0 <= length <= limit:
        raise too_large(limit)
    if length is None and not environ.get("wsgi.input_terminated"):
        return b""  # PEP 3333: without a length there is no body, and no end to read to
    stream = environ["wsgi.input"]
    data: bytes = stream.read(limit + 1 if length is None else length)
    while length is None and len(data) <= limit and (more := stream.read(limit + 1 - len(data))):
        data += more
    if len(data) > limit:
        raise too_large(limit)
    if length is not None and len(data) < length:
        raise BadRequest(f"the body ended after {len(data)} of {length} bytes")
    return data


def read_unpacked(environ: dict[str, Any], limit: int) -> bytes:
    """The body without its Content-Encoding, which may be gzip or deflate.

    Raises
    ------
    RequestEntityTooLarge
        when it is longer than `limit` bytes, packed or unpacked.
    UnsupportedMediaType
        when it is packed in another way.
    BadRequest, InputError
        when it is cut off or damaged.
    """
    coding = coding_of(environ)
    if coding is None:
        return read_body(environ, limit)
    if coding not in CODINGS:
        raise UnsupportedMediaType(
            f"Content-Encoding {coding[:50]!r} is not supported; {list(CODINGS)} are"
        )
    try:
        return decompress(read_body(environ, limit), coding, limit)
    except TooLong:
        raise too_large(limit) from None


def coding_of(environ: dict[str, Any]) -> str | None:
    """The Content-Encoding of a request's body; None where it has none."""
    coding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    return None if coding in ("", "identity") else {"x-gzip": "gzip"}.get(coding, coding)
