"""Shards on this machine's cores: the engine that needs neither queue nor network."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from adaptive.experiments.coordinator import forgive
from adaptive.experiments.engine import ShardEngine, Unreachable
from adaptive.experiments.shard import Shard
from adaptive.experiments.store import FolderStore, Store, StoreError, open_store
from adaptive.experiments.work import Work

#: In a process: where the store is, the board, and whose process it is.
_told: tuple[str, str, int] | None = None

_work: Work | None = None


class LocalEngine(ShardEngine):
    """Processes of this machine, one shard each at a time.

    Parameters
    ----------
    store : a folder
    jobs : processes
    board : what this machine is called
    """

    def __init__(self, store: Store, jobs: int, board: str) -> None:
        self._told = (store.url, board)
        self._store = store
        self._folder = isinstance(store, FolderStore)
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[str, Future[str]] = {}
        self._known: set[str] = set()

    def submit(self, key: str, shard: Shard) -> None:
        """Run a shard when a process is free."""
        if key not in self._known:  # earlier runs that were killed here say nothing of it
            self._known.add(key)
            forgive(key, self._store)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, context, _begin, self._told)
        # Processes that are started here would otherwise die by a Ctrl-C before they ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._futures[key] = self._pool.submit(_perform, key)
        except BrokenProcessPool:
            self._drop()
            raise Unreachable("a process died") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def waiting(self) -> set[str]:
        """Keys of shards that are queued or run.

        Raises
        ------
        StoreError
            when store or images do not answer, or a disk has no room.
        """
        waiting = set()
        for key, future in list(self._futures.items()):
            if not future.done():
                waiting.add(key)
                continue
            del self._futures[key]
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BrokenProcessPool):
                self._drop()
                return set()
            if isinstance(error, OSError):
                raise StoreError(
                    f"shards cannot be run here: {error}; what is finished stays, and the same "
                    "command goes on from there"
                ) from error
            if error is not None:
                raise error
        return waiting

    def close(self) -> None:
        """End the processes; what is not begun is dropped, and what runs is finished.

        A second Ctrl-C meanwhile breaks that off.
        """
        if self._pool is not None:
            for future in self._futures.values():
                future.cancel()
            try:
                self._pool.shutdown(wait=True)
            except KeyboardInterrupt:
                for child in multiprocessing.active_children():
                    child.kill()
                raise
            finally:
                self._drop()

    def _drop(self) -> None:
        self._pool = None
        self._futures = {}


def _begin(url: str, board: str) -> None:
    global _told
    # Ctrl-C is the parent's to handle: shards that run are finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _told = (url, board, os.getppid())


def _perform(key: str) -> str:
    global _work
    if _work is None:  # made here and not above, so that its errors are a shard's
        assert _told is not None
        url, board, parent = _told
        # One that the parent left behind ends with its shard.
        _work = Work(open_store(url), board=board, stopping=lambda: os.getppid() != parent)
    return _work.perform(key)
