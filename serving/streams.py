"""The header by which a request says which camera its frame is of."""

from __future__ import annotations

import hashlib
from typing import Any, Mapping

from adaptive.checks import stream_name
from adaptive.serving.protocols import StreamKey

STREAM = "X-Stream"


def stream_from(environ: Mapping[str, Any]) -> StreamKey | None:
    """The stream that a request names, None where it names none.

    It belongs to the bearer key that the request came with, of which only a hash is kept; others
    have one of their own under the same name.

    Raises
    ------
    InputError
        when that is no name.
    """
    name = environ.get("HTTP_X_STREAM")
    if name is None:
        return None
    name = stream_name(name.strip(), STREAM)
    _, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    owner = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
    return StreamKey(owner, name)
