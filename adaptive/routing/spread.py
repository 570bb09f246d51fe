"""The same work on many items, by several threads: for work that lets go of Python's lock."""

from __future__ import annotations

from typing import Callable, List, Sequence, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(run: Callable[[Item], Result], items: Sequence[Item], threads: int) -> List[Result]:
    """`run` of each item, in their order, by at most so many threads.

    Each thread takes one stretch of the items, since handing over single ones costs more than
    a small image does. Of several that fail the first one's error is raised.
    """
    count = min(threads, len(items))
    if count <= 1:
        return [run(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    edges = [len(items) * part // count for part in range(count + 1)]

    def stretch(part: int) -> list[Result]:
        return [run(item) for item in items[edges[part] : edges[part + 1]]]

    with ThreadPoolExecutor(count) as pool:
        return [result for part in pool.map(stretch, range(count)) for result in part]
