"""Who is on an image, over HTTP: a store of identities that requests ask, and change.

Embeddings of persons are personal data. Nothing here keeps an image, counts by name, or writes a
name to a log; a change is in the store's file before its request is answered.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import numpy as np

from adaptive.errors import AdaptiveError, BusyError, InputError
from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.serving.keys import stamp
from adaptive.video.identified import Embedder, embeddings_of, identify
from adaptive.video.identity import IdentityStore, editing, is_unknown

log = logging.getLogger("adaptive.serving")

#: Finds faces or persons: an image to the parts of it that show one, surest first.
Parts = Callable[[np.ndarray], List[Tuple[np.ndarray, Tuple[int, int, int, int]]]]


class Identities:
    """A store of identities, with the networks whose embeddings it has, and what finds people.

    The file is read again when somebody else has changed it, so that who is forgotten by
    `adaptive identify forget` is not known here either. Several threads may ask at a time; changes
    are made one after the other.

    Parameters
    ----------
    path : of the store
    embedders : its networks, open, cheap first
    parts : finds people
    max_pixels : a larger image is refused before it is decoded

    Raises
    ------
    InputError
        when there is no store, or its embeddings are of other networks.
    BundleError
        when the file is none.
    """

    def __init__(
        self,
        path: Path,
        embedders: Sequence[Embedder],
        parts: Parts,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.path = path
        self.max_pixels = max_pixels
        self._embedders = tuple(embedders)
        self._parts = parts
        self._lock = threading.Lock()
        self._stamp: object = None
        self._store = IdentityStore.read(path)
        self._store.check_networks([embedder.network for embedder in embedders])

    def __repr__(self) -> str:
        return f"Identities({len(self._store)} names)"

    def describe(self) -> dict[str, Any]:
        """Names, networks, thresholds, and what is promised of them, as JSON values."""
        store = self._current()
        return {
            "names": store.names(),
            "networks": [network.name for network in store.networks],
            "thresholds": store.thresholds,
            "promise": store.certificate.get("claim"),
        }

    def identify(self, image: bytes, learn: bool = False) -> dict[str, Any]:
        """Who is on an image, and where, as JSON values.

        Parameters
        ----------
        learn : update those who are found, and add others as "unknown-N"

        Raises
        ------
        ImageError
            when the image cannot be read.
        BusyError
            when the store cannot be read, or changed, just now.
        """
        pixels = self._decoded(image)
        cut = self._parts(pixels)
        found = []
        with ExitStack() as stack:
            store = stack.enter_context(self._editing()) if learn and cut else self._current()
            for crop, box in cut:
                answer = identify(store, self._embedders, crop, learn=learn)
                known = answer.name is not None and not is_unknown(answer.name)
                found.append({"box": list(box), "known": known, **answer.to_json()})
        return {"people": found, "size": [pixels.shape[1], pixels.shape[0]]}

    def add(self, name: str, image: bytes) -> int:
        """Add a name by the surest person of an image, or one more image of a known one.

        Returns
        -------
        How many embeddings the name has taken in.

        Raises
        ------
        InputError
            when the image shows nobody, or nobody may be called so.
        ImageError, BusyError
            as of `identify`.
        """
        cut = self._parts(self._decoded(image))
        if not cut:
            raise InputError("the image shows nobody, so nothing was added")
        embeddings = dict(embeddings_of(self._embedders, cut[0][0]))
        with self._editing() as store:
            if name in store:
                store.update(name, embeddings)
            else:
                store.add(name, embeddings)
            return store.names()[name]

    def knows(self, name: str) -> bool:
        """Whether the store has a name."""
        return name in self._current()

    def rename(self, old: str, new: str) -> int:
        """Give a name another one; how many embeddings it has taken in."""
        with self._editing() as store:
            store.rename(old, new)
            return store.names()[new]

    def merge(self, name: str, into: str) -> int:
        """Two names are one, and the first goes; how many embeddings the other has then."""
        with self._editing() as store:
            store.merge(name, into)
            return store.names()[into]

    def forget(self, name: str) -> None:
        """Delete all that there is of a name, in the file and here."""
        with self._editing() as store:
            store.forget(name)

    def _decoded(self, image: bytes) -> np.ndarray:
        """All pixels of an image: a face is a small part of it."""
        return decode(image, self.max_pixels, self.max_pixels)

    def _current(self) -> IdentityStore:
        """The store as it is in its file now; nobody changes what was handed out."""
        try:
            now = stamp(self.path)
            if now != self._stamp:
                self._store, self._stamp = IdentityStore.read(self.path), now
                self._store.check_networks([embedder.network for embedder in self._embedders])
        except (OSError, AdaptiveError) as exc:
            self._stamp = None
            log.error("the store of identities cannot be read: %s", exc)
            raise BusyError("the store of identities cannot be read just now") from exc
        return self._store

    @contextmanager
    def _editing(self) -> Iterator[IdentityStore]:
        """The store to change; it is written when the block ends well."""
        with self._lock, ExitStack() as stack:
            self._current()  # which says so where it cannot be read
            try:
                store = stack.enter_context(editing(self.path))
            except AdaptiveError as exc:
                log.warning("the store of identities cannot be changed: %s", exc)
                raise BusyError("the store of identities is being changed; ask again") from exc
            yield store
