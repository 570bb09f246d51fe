"""Bodies compressed with gzip or deflate, either way, and never more of one than is allowed."""

from __future__ import annotations

import zlib

from adaptive.errors import InputError

#: Codings of a body that are read and written, the preferred one first.
CODINGS = ("gzip", "deflate")

#: zlib's name for each: 15 bits of window, and 16 more say "in a gzip wrapper".
_WINDOW = {"gzip": 31, "deflate": 15}

#: How hard an answer is compressed, 1..9: answers are short, and a board's processor is slow.
LEVEL = 1


class TooLong(Exception):
    """More comes out of a compressed body than is allowed."""


def compress(data: bytes, coding: str) -> bytes:
    """`data` as "gzip" or "deflate" (that is zlib's format, RFC 1950)."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW[coding])
    return packer.compress(data) + packer.flush()


def decompress(data: bytes, coding: str, limit: int) -> bytes:
    """The `limit` bytes or fewer that `data` holds.

    Raises
    ------
    TooLong
        when there are more; no more than one byte beyond the limit was made of them.
    InputError
        when `data` is damaged, cut off, or has something behind its end.
    """
    unpacker = zlib.decompressobj(_WINDOW[coding])
    try:
        plain = unpacker.decompress(data, limit + 1)
    except zlib.error as exc:
        raise InputError(f"the body is not {coding}, as its Content-Encoding says") from exc
    if len(plain) > limit:
        raise TooLong
    if not unpacker.eof:
        raise InputError(f"the {coding} body is cut off")
    if unpacker.unused_data:  # a second gzip member too: a body may not be a thousand of them
        raise InputError(f"the {coding} body has {len(unpacker.unused_data)} bytes behind its end")
    return plain


def accepted(header: str) -> str | None:
    """The coding that an Accept-Encoding header names and likes best, or None."""
    weights: dict[str, float] = {}
    for item in header.lower().split(","):
        name, _, parameter = item.partition(";")
        key, _, value = parameter.partition("=")
        try:
            weights[name.strip()] = float(value) if key.strip() == "q" else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    best = max(CODINGS, key=lambda coding: weights.get(coding, 0.0))
    return best if weights.get(best, 0.0) > 0 else None
