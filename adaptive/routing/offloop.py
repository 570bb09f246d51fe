"""Answering from an event loop, which goes on meanwhile."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Callable, Iterable, TypeVar

import numpy as np

from adaptive.errors import InputError
from adaptive.limits import UNLIMITED, Limits

if TYPE_CHECKING:
    from adaptive.images.decode import ImageLike
    from adaptive.prediction import Prediction

Answer = TypeVar("Answer")
Self = TypeVar("Self", bound="OffLoop")


class OffLoop:
    """What a router does for an event loop: its verbs, run in threads of its own.

    A cancelled call that has not begun is taken away. One that has begun runs to its end in its
    thread, and its answer is dropped.

    Parameters
    ----------
    workers : calls that run at a time; one for each core when None
    """

    def __init__(self, workers: int | None) -> None:
        self._workers = workers or os.cpu_count() or 1
        self._pool: ThreadPoolExecutor | None = None
        self._ended = False
        self._opening = threading.Lock()

    def classify(
        self,
        image: ImageLike,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Prediction:
        """Answer one image."""
        raise NotImplementedError

    def classify_batch(
        self,
        images: Iterable[ImageLike],
        limits: Limits = UNLIMITED,
        batch: int = 32,
        regroup: bool = True,
    ) -> list[Prediction]:
        """Answer several images."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open."""
        raise NotImplementedError

    async def aclassify(
        self,
        image: ImageLike,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Prediction:
        """`classify` for an event loop, which goes on meanwhile.

        A deadline counts from this call: what the image waits for a thread is taken off it.
        """
        return await self._off(
            lambda waited: self.classify(image, after(limits, waited), explain, request_id)
        )

    async def aclassify_batch(
        self,
        images: Iterable[ImageLike],
        limits: Limits = UNLIMITED,
        batch: int = 32,
        regroup: bool = True,
    ) -> list[Prediction]:
        """`classify_batch` for an event loop; the images are iterated over in a thread."""
        return await self._off(lambda _: self.classify_batch(images, limits, batch, regroup))

    async def aclose(self) -> None:
        """`close` for an event loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _end_calls(self) -> None:
        """Take no more calls, and wait for those that were taken."""
        with self._opening:
            self._ended, pool = True, self._pool
        if pool is not None:
            pool.shutdown(wait=True)

    async def _off(self, call: Callable[[float], Answer]) -> Answer:
        """What `call` returns, which is told how many ms it waited for a thread."""
        came, context = perf_counter(), copy_context()

        def begun() -> Answer:
            return call((perf_counter() - came) * 1e3)

        future: Future[Answer] = self._threads_open().submit(context.run, begun)
        return await asyncio.wrap_future(future)

    def _threads_open(self) -> ThreadPoolExecutor:
        with self._opening:
            if self._ended:
                raise InputError("the router is closed; make another one")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, "adaptive-router")
            return self._pool


def after(limits: Limits, waited_ms: float) -> Limits:
    """What is left of limits after a wait."""
    if limits is UNLIMITED or np.all(np.asarray(limits.remaining_ms) == math.inf):
        return limits
    return replace(limits, remaining_ms=np.maximum(limits.remaining_ms - waited_ms, 0.0))
