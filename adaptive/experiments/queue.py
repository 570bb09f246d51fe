"""Shards over a queue: Dramatiq on Redis, with messages that hold a name and nothing else.

The queue only delivers. A worker that is killed stops its heartbeat, and its message goes back;
a message that is lost with Redis is sent again by the coordinator, who looks into the store.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import time
from types import FrameType
from typing import Any, Callable

from adaptive.errors import InputError, MissingExtra
from adaptive.experiments.engine import ShardEngine, Unreachable
from adaptive.experiments.shard import TIMES, Shard, slug
from adaptive.experiments.store import Store, StoreError
from adaptive.experiments.work import Stopped, Work

log = logging.getLogger("adaptive.experiments")

#: Name of the queue. Redis keeps what waits and what runs in the hash "dramatiq:adaptive.msgs".
QUEUE = "adaptive"

#: Name of the actor in a message.
ACTOR = "shard"

#: Seconds without a heartbeat after which a worker counts as dead.
HEARTBEAT_S = 60.0

#: Seconds that a worker that is told to stop goes on with its shard.
GRACE_S = 25.0

#: Dramatiq looks after dead workers with this many of a million commands: with every one. By its
#: default it is one in a thousand, and a quiet queue never gives a dead worker's message back.
_ALWAYS = 1_000_000


#: Seconds between two looks whether a worker's queue answers.
LOOK_S = 5.0


def shown(url: str) -> str:
    """A queue's address as it may stand in a log: without its password."""
    return re.sub(r"(://[^/@]*:)[^@]*@", r"\1***@", url)


def refused(error: Exception) -> bool:
    """Whether Redis answers, and with something that waiting does not mend."""
    import redis

    return isinstance(error, (redis.AuthenticationError, redis.ResponseError))


def refusal(url: str, error: Exception) -> InputError:
    """What is said of a Redis that refuses."""
    return InputError(
        f"the queue {shown(url)} refuses: {error}; a password stands in the address, "
        "redis://:PASSWORD@HOST:6379/0"
    )


def times_queue(board: str) -> str:
    """The queue of shards whose times are to be measured on one kind of machine."""
    return f"{QUEUE}-times-{slug(board)}"


def open_broker(url: str, heartbeat_s: float = HEARTBEAT_S) -> Any:
    """Dramatiq's broker at a Redis URL.

    Raises
    ------
    MissingExtra
        when Dramatiq is not installed.
    InputError
        when the URL is none.
    """
    # A worker holds one message, that which it runs: the next one is for whoever is free.
    os.environ.setdefault("dramatiq_queue_prefetch", "1")
    try:
        from dramatiq.brokers.redis import RedisBroker as broker_class
        from dramatiq.middleware import Retries
    except ImportError:
        raise MissingExtra(f"the queue {url}", "dramatiq[redis]", "fleet") from None
    retries = Retries(max_retries=3, min_backoff=1000, max_backoff=30_000)
    try:
        made: Any = broker_class
        return made(
            url=url,
            middleware=[retries],
            maintenance_chance=_ALWAYS,
            heartbeat_timeout=round(heartbeat_s * 1000),
        )
    except ValueError as exc:
        raise InputError(f"queue {shown(url)!r} is no address of a Redis: {exc}") from exc


class QueueEngine(ShardEngine):
    """Sends shards to workers that listen on a queue.

    Parameters
    ----------
    url : redis://HOST:PORT/DB
    heartbeat_s : as the workers have it
    """

    def __init__(self, url: str, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.url = url
        self._broker = open_broker(url, heartbeat_s)
        self._queues = {QUEUE}

    def submit(self, key: str, shard: Shard) -> None:
        """Put a message with the shard's key into the queue."""
        import dramatiq
        import redis

        name = QUEUE
        if shard.kind == TIMES and shard.board is not None:
            name = times_queue(shard.board)
        self._queues.add(name)
        message: Any = dramatiq.Message(
            queue_name=name, actor_name=ACTOR, args=(key,), kwargs={}, options={}
        )
        try:
            self._broker.enqueue(message)
        except redis.AuthenticationError as exc:
            raise refusal(self.url, exc) from exc
        except redis.RedisError as exc:
            raise self._unreachable(exc) from exc

    def waiting(self) -> set[str]:
        """Keys in the queue's hashes: those that wait, that run, and that are tried again."""
        import redis

        found: set[str] = set()
        try:
            for queue in self._queues:
                for name in (queue, f"{queue}.DQ"):
                    messages = self._broker.client.hvals(f"{self._broker.namespace}:{name}.msgs")
                    found.update(str(json.loads(m)["args"][0]) for m in messages)
        except redis.RedisError as exc:
            if refused(exc):
                raise refusal(self.url, exc) from exc
            raise self._unreachable(exc) from exc
        return found

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"the queue {shown(self.url)} cannot be reached: {error}")

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()


def work_queue(
    url: str,
    store: Store,
    board: str | None = None,
    heartbeat_s: float = HEARTBEAT_S,
    grace_s: float = GRACE_S,
    say: Callable[[str], None] = print,
    listening: Callable[[], None] = lambda: None,
) -> None:
    """Run shards from a queue until SIGTERM or SIGINT.

    Told to stop, a worker goes on with its shard for `grace_s`, and then puts it back.

    Parameters
    ----------
    listening : called once messages are taken
    """
    deadline: list[float] = []

    def told(_signal: int, _frame: FrameType | None) -> None:
        deadline.append(time.monotonic() + grace_s)

    def stopping() -> bool:
        return bool(deadline) and time.monotonic() > deadline[0]

    work = Work(store, board=board, stopping=stopping)
    broker = open_broker(url, heartbeat_s)
    import dramatiq

    def perform(key: str) -> None:
        began = time.monotonic()
        try:
            came = work.perform(key)
        except Stopped:
            message: Any = dramatiq.Message(
                queue_name=own.queue_name, actor_name=ACTOR, args=(key,), kwargs={}, options={}
            )
            broker.enqueue(message)
            say(f"{key[:12]} is put back")
            return
        except (StoreError, OSError) as error:
            say(f"{key[:12]}: {error}; it is tried again")
            raise
        say(f"{key[:12]} {came} in {time.monotonic() - began:.2f} s")

    # Messages of both queues name one actor.
    own = dramatiq.Actor(
        perform, broker=broker, actor_name=ACTOR, queue_name=QUEUE, priority=0, options={}
    )
    broker.declare_actor(own)
    broker.declare_queue(times_queue(work.board))
    logging.getLogger("dramatiq").setLevel(logging.CRITICAL + 1)  # `_Watched` says it once
    previous = {s: signal.signal(s, told) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        queue = _Watched(broker.client, url, say)
        while not deadline and not queue.look(first=True):
            time.sleep(1.0)
        if deadline:
            return
        worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=200)
        worker.start()
        listening()
        looked = time.monotonic()
        while not deadline:  # no lock, which a signal's handler might find held
            time.sleep(0.2)
            if time.monotonic() > looked + LOOK_S:
                queue.look()
                looked = time.monotonic()
        worker.stop(timeout=round((grace_s + 30) * 1000))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        work.close()
        broker.close()


class _Watched:
    """Says once that a queue is gone, and once that it is back."""

    def __init__(self, client: Any, url: str, say: Callable[[str], None]) -> None:
        self._client = client
        self._url = url
        self._say = say
        self._there = True

    def look(self, first: bool = False) -> bool:
        """Whether the queue answers.

        Raises
        ------
        InputError
            when it refuses whoever asks, and this is the first time.
        """
        import redis

        try:
            self._client.ping()
        except redis.RedisError as exc:
            if first and refused(exc):
                raise refusal(self._url, exc) from exc
            if self._there:
                self._say(f"the queue {shown(self._url)} does not answer: {exc}; waiting for it")
            self._there = False
        else:
            if not self._there:
                self._say(f"the queue {shown(self._url)} is back")
            self._there = True
        return self._there
