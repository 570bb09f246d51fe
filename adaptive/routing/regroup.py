"""Batches for images that stop at different depths: all that wait for one segment run together.

Images are let in a batch at a time and walk through the policy by the machine of
`adaptive.policy.walk`. A batch in which many stop early would leave a few to go on alone; here
those wait until others, of any batch, need the same segment, and a new batch is gathered from them.
What an image is answered depends on its own outputs alone, so the answers are the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import islice
from typing import Iterable, Iterator, Sequence

import numpy as np

from adaptive.limits import Limits
from adaptive.policy.base import Policy
from adaptive.policy.walk import Step, Walk
from adaptive.routing.account import Account
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks, said
from adaptive.segments import Run


class Group:
    """Photos that were let in together, on their way.

    Attributes
    ----------
    photos : as they are now
    left : how many of them are not finished
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        policy: Policy,
        chances: np.ndarray | None,
        account: Account,
    ) -> None:
        self.photos = list(photos)
        self.account = account
        left = _each(account.left(photos), len(photos))
        self.walk = Walk(policy, len(photos), chances, left)
        self.left = len(photos)
        self._routes = 0

    def finished(self) -> list[int]:
        """The rows of the photos that have finished since the last call."""
        routes = self.walk.routes()[self._routes :]
        self._routes += len(routes)
        rows = [row for route in routes for row in route.rows.tolist()]
        self.left -= len(rows)
        return rows


class Waiting:
    """Photos of one group that wait for the same run.

    Attributes
    ----------
    held : whether their states are their own, and no views into a batch that ran
    """

    def __init__(self, group: Group, step: Step, held: bool = False) -> None:
        self.group = group
        self.step = step
        self.held = held

    @property
    def photos(self) -> list[Photo]:
        """As they are now."""
        return [self.group.photos[row] for row in self.step.rows.tolist()]

    def take(self, photos: Iterable[Photo]) -> None:
        """Put these in the place of the photos that wait, one for each."""
        for row, photo in zip(self.step.rows.tolist(), photos):
            self.group.photos[row] = photo

    def split(self, count: int) -> tuple[Waiting, Waiting]:
        """The first `count` of them, and the others."""
        first, rest = self.group.walk.split(self.step, count)
        return Waiting(self.group, first, self.held), Waiting(self.group, rest, self.held)

    def hold(self) -> None:
        """Let go of the batches in which they ran, since they are here to stay."""
        if not self.held:
            self.take([photo.holding_own() for photo in self.photos])
            self.held = True


class Regroup:
    """Gathers waiting photos of several groups into batches.

    Parameters
    ----------
    policy, networks : decide, and run
    batch : photos that a segment runs on at most, and wherever so many wait exactly
    groups : so many are on their way at most; the oldest is then driven to its end with whoever
        waits for the same segments. Before a group is let in, fewer than `batch` photos wait
        for each segment, and only they have states and pixels.
    forget : let go of the pixels of photos that are finished
    """

    def __init__(
        self, policy: Policy, networks: Networks, batch: int, groups: int, forget: bool = True
    ) -> None:
        self._policy = policy
        self._networks = networks
        self._batch = batch
        self._most = groups
        self._forget = forget
        self._groups: deque[Group] = deque()
        self._queues: dict[Run, deque[Waiting]] = {}

    def room(self) -> Iterator[Group]:
        """Drive until one more group may come; gives those that are done, oldest first."""
        while self._turn(self._batch):
            pass
        yield from self._done()
        while len(self._groups) >= self._most:
            self._run(min(self._queues_of(self._groups[0]), key=self._stage))
            yield from self._done()
        for queue in self._queues.values():
            for waiting in queue:
                waiting.hold()

    def admit(self, photos: Sequence[Photo], chances: np.ndarray | None, account: Account) -> None:
        """Let in at most `batch` photos, with the premodel's numbers for them."""
        try:
            group = Group(photos, self._policy, chances, account)
        except BaseException:
            account.close(photos)
            raise
        self._groups.append(group)
        for step in group.walk.waiting():
            self._put(Waiting(group, step))
        self._finish(group)

    def drain(self) -> Iterator[Group]:
        """Drive everything to its end; gives the groups, oldest first."""
        while self._turn(1):
            yield from self._done()
        yield from self._done()

    def close(self) -> None:
        """Settle the accounts of groups that something kept from being finished."""
        for group in self._groups:
            group.account.close(group.photos)
        self._groups.clear()

    def _turn(self, least: int) -> bool:
        """Run one batch of at least so many photos; whether there was one."""
        ready = [run for run, queue in self._queues.items() if _count(queue) >= least]
        if not ready:
            return False
        # Full batches from the far end, which frees their memory first; leftovers from the near
        # end, since who goes on fills up the later ones.
        last = least == self._batch
        self._run(max(ready, key=self._stage) if last else min(ready, key=self._stage))
        return True

    def _stage(self, run: Run) -> tuple[int, int]:
        """How far from its end the furthest photo is that waits for a run."""
        depth = len(self._networks.chains[run.segment])
        return min(waiting.step.candidate for waiting in self._queues[run]), depth

    def _run(self, run: Run) -> None:
        taken = self._take(run)
        photos = [photo for waiting in taken for photo in waiting.photos]
        advanced = iter(self._networks.advance(run, photos))
        for waiting in taken:
            waiting.take(islice(advanced, len(waiting.step.rows)))
            waiting.held = False
            self._put(waiting)
            self._finish(waiting.group)

    def _take(self, run: Run) -> list[Waiting]:
        queue, taken, room = self._queues[run], [], self._batch
        while queue and room:
            waiting = queue.popleft()
            if len(waiting.step.rows) > room:
                waiting, rest = waiting.split(room)
                queue.appendleft(rest)
            taken.append(waiting)
            room -= len(waiting.step.rows)
        if not queue:
            del self._queues[run]
        return taken

    def _put(self, waiting: Waiting) -> None:
        """Queue photos for what they need next; where their candidate has answered, go on."""
        group, step, photos = waiting.group, waiting.step, waiting.photos
        name = self._policy.candidates[step.candidate]
        # Photos of one step have taken the same path, so the same has run for all of them.
        needed = self._networks.needed(name, photos[0])
        if needed:
            self._queues.setdefault(needed[0], deque()).append(waiting)
            return
        left = _each(
            group.account.left(photos, step.rows), len(photos), self._ahead_ms(group, step)
        )
        for further in group.walk.feed(step, said(name, photos), left):
            self._put(Waiting(group, further))

    def _ahead_ms(self, group: Group, step: Step) -> float:
        """What the other photos of a group may still take for what they wait for."""
        upper = self._policy.upper_ms
        if upper is None:
            return 0.0
        others = (other for other in group.walk.waiting() if other is not step)
        return sum(len(other.rows) * upper[other.candidate] for other in others)

    def _finish(self, group: Group) -> None:
        for row in group.finished():
            if self._forget:
                group.photos[row] = group.photos[row].finished()

    def _queues_of(self, group: Group) -> list[Run]:
        return [r for r, q in self._queues.items() if any(w.group is group for w in q)]

    def _done(self) -> Iterator[Group]:
        while self._groups and not self._groups[0].left:
            group = self._groups.popleft()
            group.account.close(group.photos)
            yield group


def _each(limits: Limits, count: int, ahead_ms: float = 0.0) -> Limits:
    """The limits that each of so many images is held to, where they are answered together.

    A policy knows how long a candidate takes on one image. They are all answered when the last of
    them is, so together they may take as long as the deadline leaves.
    """
    if count < 2 and not ahead_ms:
        return limits
    remaining_ms = (limits.remaining_ms - ahead_ms) / count
    if np.all(np.isposinf(remaining_ms)):
        return limits
    return replace(limits, remaining_ms=remaining_ms)


def _count(queue: deque[Waiting]) -> int:
    return sum(len(waiting.step.rows) for waiting in queue)
