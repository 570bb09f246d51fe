"""One router for many: threads of your own, or an event loop that goes on meanwhile."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from adaptive import Limits, Router

# The embedded default; Router.load("my-bundle") and Router.of(...) are used alike.
images = [np.full((120, 160, 3), grey, np.uint8) for grey in range(40, 240, 20)]


def in_threads() -> None:
    """Several threads may call one router; each network is then run on one thread."""
    with Router.load() as router, ThreadPoolExecutor(4) as pool:
        for answer in pool.map(router.classify, images):
            print(answer.label, answer.path)


async def in_a_loop() -> None:
    """Awaited calls run in threads of the router's own, one for each core or `workers`."""
    async with Router.load(workers=2) as router:
        answers = await asyncio.gather(*(router.aclassify(image) for image in images))
        print([answer.label for answer in answers])

        # A deadline counts from the call, so that waiting for a thread is part of it.
        answer = await router.aclassify(images[0], Limits(remaining_ms=2000))
        print(answer.label, answer.ms["total"] < 2000)

        # Who is no longer wanted is cancelled: what has not begun is not run.
        waiting = [asyncio.ensure_future(router.aclassify(image)) for image in images]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        print(all(isinstance(one, asyncio.CancelledError) for one in ended))


in_threads()
asyncio.run(in_a_loop())
