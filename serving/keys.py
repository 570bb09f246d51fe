"""Bearer keys from a file, which may change while the server runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from pathlib import Path
from time import monotonic

from adaptive.errors import InputError

log = logging.getLogger("adaptive.serving")

#: A shorter key can be guessed.
SHORTEST = 16

#: Seconds between two looks at the file.
INTERVAL_S = 1.0


class Keys:
    """The keys of a file, one a line; empty lines and those that begin with # do not count.

    The file is read again when it has changed, at most once a second: write the new keys into
    it beside the old ones, give them out, and take the old ones away. A file that is gone, or
    cannot be read, or has a key that is refused leaves the last keys in force; one without keys
    lets nobody in.

    Parameters
    ----------
    path : the file

    Raises
    ------
    InputError
        when it cannot be read, holds no key, or one of fewer than 16 characters or of others
        than a request can carry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._looked = monotonic()
        self._problem = ""
        try:
            self._stamp = stamp(path)
            self._digests = _read(path)
        except OSError as exc:
            raise InputError(f"the keys {path} cannot be read: {exc.strerror or exc}") from exc
        if not self._digests:
            raise InputError(f"{path} holds no key; write one a line, of {SHORTEST} characters up")

    def __repr__(self) -> str:
        return f"Keys({str(self.path)!r}, {len(self._digests)} keys)"

    def allow(self, authorization: str | None) -> bool:
        """Whether a request's Authorization is "Bearer KEY" with one of the keys.

        Every key is compared, and each in a time that does not depend on where they differ.
        """
        if monotonic() - self._looked > INTERVAL_S:
            self._look()
        scheme, _, key = (authorization or "").partition(" ")
        presented = _digest(key.strip())
        known = False
        for digest in self._digests:
            known |= hmac.compare_digest(digest, presented)
        return known and scheme.lower() == "bearer"

    def _look(self) -> None:
        with self._lock:
            if monotonic() - self._looked <= INTERVAL_S:
                return
            self._looked = monotonic()
            try:
                now = stamp(self.path)
                if now == self._stamp:
                    return
                self._digests = _read(self.path)
                self._stamp, self._problem = now, ""
            except (OSError, InputError) as error:
                problem = str(error)
                if isinstance(error, OSError):
                    problem = f"{self.path}: {error.strerror or error}"
                if problem != self._problem:
                    self._problem = problem
                    log.error("the keys cannot be read, and the last ones stay: %s", problem)
                return
        log.warning("the keys have changed: there are %d now", len(self._digests))


def _read(path: Path) -> tuple[bytes, ...]:
    keys = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        key = line.decode("ascii", "replace")
        if not key.isascii() or not key.isprintable():
            raise InputError(
                f"line {number} of {path} holds a key that no request can carry; use printable "
                "ASCII characters"
            )
        if len(key) < SHORTEST:
            raise InputError(f"{path} holds a key of fewer than {SHORTEST} characters")
        keys.append(key)
    return tuple(dict.fromkeys(_digest(key) for key in keys))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def stamp(path: Path) -> tuple[int, int, int]:
    """What differs once a file has changed."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
