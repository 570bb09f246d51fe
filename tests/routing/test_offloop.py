"""Answering from an event loop: it goes on, and deadlines, cancelling and closing are kept."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import numpy as np
import pytest

from adaptive import Cascade, InputError, Limits, Model, Router

LABELS = ("bright", "dark")
IMAGE = np.full((30, 40, 3), 10, np.uint8)


class Gate:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        self.asked += 1
        self.entered.set()
        assert self.open.wait(30)
        return np.tile([0.1, 0.9], (len(images), 1))


@pytest.fixture
def gate() -> Gate:
    return Gate()


def held(gate: Gate, workers: int) -> Router:
    return Router.of({"slow": gate}, LABELS, check=False, workers=workers)


async def until(event: threading.Event) -> None:
    """Wait for an event without blocking the loop."""
    await asyncio.get_running_loop().run_in_executor(None, event.wait, 30)


def test_the_loop_goes_on_while_a_candidate_runs(gate: Gate) -> None:
    async def main() -> list[str]:
        order = []
        async with held(gate, 1) as router:
            task = asyncio.ensure_future(router.aclassify(IMAGE))
            await until(gate.entered)
            order.append("the loop")
            gate.open.set()
            order.append((await task).label)
        return order

    assert asyncio.run(main()) == ["the loop", "dark"]


def test_answers_and_errors_are_those_of_classify() -> None:
    async def main() -> None:
        async with Router.load() as router:
            wanted = router.classify(IMAGE)
            got = await router.aclassify(IMAGE, explain=True, request_id="one")
            assert (got.label, got.path, got.score) == (wanted.label, wanted.path, wanted.score)
            assert got.explanation is not None
            batch = await router.aclassify_batch([IMAGE, IMAGE])
            assert [a.label for a in batch] == [wanted.label] * 2
            with pytest.raises(InputError, match="is not a JPEG"):
                await router.aclassify(b"nothing of the kind")

    asyncio.run(main())


def test_no_more_calls_run_at_a_time_than_there_are_workers(gate: Gate) -> None:
    async def main() -> int:
        async with held(gate, 2) as router:
            tasks = [asyncio.ensure_future(router.aclassify(IMAGE)) for _ in range(6)]
            await until(gate.entered)
            await asyncio.sleep(0.05)
            asked = gate.asked
            gate.open.set()
            await asyncio.gather(*tasks)
        return asked

    assert 1 <= asyncio.run(main()) <= 2
    assert gate.asked == 6


def test_what_is_cancelled_before_it_begins_is_not_run(gate: Gate) -> None:
    async def main() -> None:
        async with held(gate, 1) as router:
            first = asyncio.ensure_future(router.aclassify(IMAGE))
            await until(gate.entered)
            second = asyncio.ensure_future(router.aclassify(IMAGE))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.open.set()
            assert (await first).label == "dark"

    asyncio.run(main())
    assert gate.asked == 1


def test_what_is_cancelled_while_it_runs_ends_unheard(gate: Gate) -> None:
    async def main() -> None:
        async with held(gate, 1) as router:
            task = asyncio.ensure_future(router.aclassify(IMAGE))
            await until(gate.entered)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open.set()

    asyncio.run(main())
    assert gate.asked == 1


def test_closing_waits_for_what_was_asked_and_refuses_more(gate: Gate) -> None:
    closed: list[int] = []
    model = Model(gate, close=lambda: closed.append(gate.asked))

    async def main() -> str | None:
        router = Router.of({"slow": model}, LABELS, check=False, workers=1)
        tasks = [asyncio.ensure_future(router.aclassify(IMAGE)) for _ in range(3)]
        await until(gate.entered)
        closing = asyncio.ensure_future(router.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()
        assert closed == []
        gate.open.set()
        await closing
        with pytest.raises(InputError, match="the router is closed; make another one"):
            await router.aclassify(IMAGE)
        return (await asyncio.gather(*tasks))[-1].label

    assert asyncio.run(main()) == "dark"
    assert closed == [3]


def test_the_wait_for_a_thread_is_taken_off_a_deadline(gate: Gate) -> None:
    """The second image's 60 ms are over when a thread is free: nothing is run for it."""
    policy = Cascade(("slow",), upper_ms=(40.0,), costs_ms=(10.0,))

    async def main() -> tuple[bool, bool]:
        router = Router.of({"slow": gate}, LABELS, policy=policy, check=False, workers=1)
        async with router:
            first = asyncio.ensure_future(router.aclassify(IMAGE, Limits(remaining_ms=60_000)))
            await until(gate.entered)
            second = asyncio.ensure_future(router.aclassify(IMAGE, Limits(remaining_ms=60)))
            await asyncio.sleep(0.08)
            gate.open.set()
            return (await first).abstained, (await second).abstained

    assert asyncio.run(main()) == (False, True)
    assert gate.asked == 1


def test_a_call_sees_the_variables_of_its_context() -> None:
    asked: ContextVar[str] = ContextVar("asked", default="nobody")
    seen: list[str] = []

    def looks(images: list[np.ndarray]) -> np.ndarray:
        seen.append(asked.get())
        return np.full((len(images), 2), 0.5)

    async def one(router: Router, name: str) -> None:
        asked.set(name)
        await router.aclassify(IMAGE)

    async def main() -> None:
        async with Router.of({"f": looks}, LABELS, check=False, workers=1) as router:
            await asyncio.gather(one(router, "a"), one(router, "b"))

    asyncio.run(main())
    assert sorted(seen) == ["a", "b"]


def test_a_router_that_no_loop_asks_starts_no_thread() -> None:
    before = set(threading.enumerate())  # of which some may end meanwhile
    with Router.of({"f": lambda x: np.full((len(x), 2), 0.5)}, LABELS) as router:
        router.classify(IMAGE)
        assert set(threading.enumerate()) <= before
