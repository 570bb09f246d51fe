"""Which candidates answer by themselves, and the engines that are open for that."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator

from adaptive.bundle.bundle import check_hash
from adaptive.engines.choose import Engines
from adaptive.engines.wanted import Wanted
from adaptive.errors import InputError
from adaptive.routing.running import Networks
from adaptive.segments import through_key


class NotLoaded(InputError):
    """A model of the bundle is asked by itself, and answers by itself only once it is loaded."""


class Loaded:
    """The candidates that are loaded. Several threads use it at the same time.

    A request holds a lease on its candidate while it runs it. A candidate that is unloaded gives
    no new ones, and its engines are closed once neither a lease nor another candidate needs them.

    Parameters
    ----------
    networks : whose engines are opened and closed
    opener : opens them, as it opened the first
    threads : inside one network
    kept : segments that are needed whatever is loaded
    names : candidates that are loaded from the start; their engines are open
    """

    def __init__(
        self,
        networks: Networks,
        opener: Engines,
        threads: int,
        kept: Iterable[str],
        names: Iterable[str],
    ) -> None:
        self._networks = networks
        self._opener = opener
        self._threads = threads
        self._kept = frozenset(kept)
        self._names = set(names)
        self._leases: Counter[str] = Counter()
        self._changing = threading.Lock()  # one load or unload at a time, which may take seconds
        self._lock = threading.Lock()  # for a moment, around names, leases and engines

    def __repr__(self) -> str:
        return f"Loaded({sorted(self.names)})"

    def __contains__(self, name: str) -> bool:
        """Whether a candidate answers by itself."""
        return name in self._names

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates that answer by themselves."""
        with self._lock:
            return tuple(self._names)

    @contextmanager
    def lease(self, name: str) -> Iterator[None]:
        """Keep a candidate's engines open while the block runs, even if it is unloaded then.

        Raises
        ------
        NotLoaded
            when it does not answer by itself.
        """
        with self._lock:
            if name not in self._names:
                raise NotLoaded(
                    f"model {name!r} is not loaded; POST /v2/repository/models/{name}/load loads it"
                )
            self._leases[name] += 1
        try:
            yield
        finally:
            self._release(name)

    def load(self, name: str, try_out: Callable[[str], object]) -> None:
        """Have a candidate answer by itself.

        Parameters
        ----------
        try_out : runs it once, before anybody else may

        Raises
        ------
        BundleError, EngineError
            when a file was altered since the bundle was read, or the runtime refuses it.
        """
        with self._changing:
            with self._lock:
                if name in self._names:
                    return
                self._leases[name] += 1  # what is still open of it stays open meanwhile
            try:
                opened = self._opener.open(self._missing(name), self._threads)
                with self._lock:
                    self._networks.engines.update(opened)
                try_out(name)
                with self._lock:
                    self._names.add(name)
            finally:
                self._release(name)

    def unload(self, name: str) -> None:
        """Have a candidate answer by itself no more; close what nobody needs then."""
        with self._changing:
            with self._lock:
                self._names.discard(name)
            self._close_unused()

    def _missing(self, name: str) -> list[Wanted]:
        """The networks that are to be opened for a candidate."""
        bundle, engines = self._networks.bundle, self._networks.engines
        missing = []
        for member in self._networks.chains[name]:
            headless = member != name and through_key(member) in engines
            if member not in engines and not headless:
                candidate = bundle.candidate(member)
                if candidate.remote is None:
                    path = bundle.folder / candidate.file
                    check_hash(path, candidate.file, candidate.sha256)
                missing.append(Wanted(member, bundle.folder, candidate))
        return missing

    def _release(self, name: str) -> None:
        with self._lock:
            self._leases[name] -= 1
            if self._leases[name] > 0:
                return
            del self._leases[name]
            if name in self._names:
                return
        self._close_unused()

    def _close_unused(self) -> None:
        engines, chains = self._networks.engines, self._networks.chains
        with self._lock:
            used = self._kept.union(*(chains[n] for n in (*self._names, *self._leases)))
            gone = engines.keys() - used
            unused = [engines.pop(member) for member in chains if member in gone]
        for engine in unused:
            engine.close()
