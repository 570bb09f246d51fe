"""Which batch runs next, for images that stop at different depths.

Images are admitted a batch at a time, as a cohort, and go through the policy by the machine of
`adaptive.policy.walk`. A cohort of which many stop early would leave a few to go on alone; here
those are queued by the segment that they need next, and a new batch is made of whoever waits for
it, of any cohort. What an image is answered depends on its own outputs alone, so the answers are
the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import islice
from time import perf_counter
from typing import Iterable, Iterator, Sequence

import numpy as np

from adaptive.errors import UnreachableError
from adaptive.limits import Limits
from adaptive.policy.base import Policy
from adaptive.policy.walk import Step, Walk
from adaptive.routing.account import Account
from adaptive.routing.judging import JudgedImage
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks, said
from adaptive.segments import Run


class Cohort:
    """Photos that were admitted together, on their way.

    Attributes
    ----------
    photos : as they are now
    features : ndarray (n, d), of the photos; None where the policy goes by none
    unfinished : how many of them are not finished
    """

    def __init__(self, judged: JudgedImage, policy: Policy, account: Account) -> None:
        self.photos = list(judged.photos)
        self.features = judged.features
        self.account = account
        left = _each(account.left(self.photos), len(self.photos))
        self.walk = Walk(policy, len(self.photos), judged.chances, left)
        self.unfinished = len(self.photos)
        self._routes = 0

    def finished(self) -> list[int]:
        """The rows of the photos that have finished since the last call."""
        routes = self.walk.routes[self._routes :]
        self._routes += len(routes)
        rows = [row for route in routes for row in route.rows.tolist()]
        self.unfinished -= len(rows)
        return rows


class Queued:
    """Photos of one cohort that wait for the same run.

    Attributes
    ----------
    held : whether their states are their own, and no views into a batch that ran
    """

    def __init__(self, cohort: Cohort, step: Step, held: bool = False) -> None:
        self.cohort = cohort
        self.step = step
        self.held = held

    @property
    def photos(self) -> list[Photo]:
        """As they are now."""
        return [self.cohort.photos[row] for row in self.step.rows.tolist()]

    def update(self, photos: Iterable[Photo]) -> None:
        """Put these in the place of the photos that wait, one for each."""
        for row, photo in zip(self.step.rows.tolist(), photos):
            self.cohort.photos[row] = photo

    def split(self, count: int) -> tuple[Queued, Queued]:
        """The first `count` of them, and the others."""
        first, rest = self.cohort.walk.split(self.step, count)
        return Queued(self.cohort, first, self.held), Queued(self.cohort, rest, self.held)

    def hold(self) -> None:
        """Let go of the batches in which they ran, since they are here to stay."""
        if not self.held:
            self.update([photo.holding_own() for photo in self.photos])
            self.held = True


class Scheduler:
    """Makes batches of the photos of several cohorts, and runs them.

    Parameters
    ----------
    policy, networks : decide, and run
    batch : photos that a segment runs on at most, and wherever so many wait exactly
    cohorts : so many are on their way at most; the oldest is then driven to its end with whoever
        waits for the same segments. Before one is admitted, fewer than `batch` photos wait for
        each segment, and only they have states and pixels.
    forget : let go of the pixels of photos that are finished
    """

    def __init__(
        self, policy: Policy, networks: Networks, batch: int, cohorts: int, forget: bool = True
    ) -> None:
        self._policy = policy
        self._networks = networks
        self._batch = batch
        self._most = cohorts
        self._forget = forget
        self._cohorts: deque[Cohort] = deque()
        self._queues: dict[Run, deque[Queued]] = {}

    def make_room(self) -> Iterator[Cohort]:
        """Run until one more cohort may be admitted; gives those that are done, oldest first."""
        while self._run_one(self._batch):
            pass
        yield from self._done()
        while len(self._cohorts) >= self._most:
            self._run(min(self._queues_of(self._cohorts[0]), key=self._stage))
            yield from self._done()
        for queue in self._queues.values():
            for queued in queue:
                queued.hold()

    def admit(self, judged: JudgedImage, account: Account) -> None:
        """Admit at most `batch` photos, which have been judged."""
        try:
            cohort = Cohort(judged, self._policy, account)
        except BaseException:
            account.close(judged.photos)
            raise
        self._cohorts.append(cohort)
        for step in cohort.walk.waiting:
            self._enqueue(Queued(cohort, step))
        self._finish(cohort)

    def drain(self) -> Iterator[Cohort]:
        """Run everything to its end; gives the cohorts, oldest first."""
        while self._run_one(1):
            yield from self._done()
        yield from self._done()

    def close(self) -> None:
        """Settle the accounts of cohorts that something kept from being finished."""
        for cohort in self._cohorts:
            cohort.account.close(cohort.photos)
        self._cohorts.clear()

    def _run_one(self, least: int) -> bool:
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
        return min(queued.step.candidate for queued in self._queues[run]), depth

    def _run(self, run: Run) -> None:
        taken = self._dequeue(run)
        photos = [photo for queued in taken for photo in queued.photos]
        began = perf_counter()
        try:
            if run.segment in self._networks.remote:
                left = (q.cohort.account.left(q.photos, q.step.rows) for q in taken)
                advanced = iter(self._networks.advance_within([run], photos, left))
            else:
                advanced = iter(self._networks.advance([run], photos))
        except UnreachableError:
            self._lose(run, taken, (perf_counter() - began) * 1e3 / len(photos))
            return
        for queued in taken:
            queued.update(islice(advanced, len(queued.step.rows)))
            queued.held = False
            self._enqueue(queued)
            self._finish(queued.cohort)

    def _lose(self, run: Run, taken: Sequence[Queued], spent_ms: float) -> None:
        """Let photos go on without a candidate that cannot be reached."""
        for queued in taken:
            cohort, step = queued.cohort, queued.step
            queued.update([photo.having_spent(run.step, spent_ms) for photo in queued.photos])
            left = cohort.account.left(queued.photos, step.rows)
            left = _each(left, len(step.rows), self._ahead_ms(cohort, step))
            for further in cohort.walk.lose(step, left):
                self._enqueue(Queued(cohort, further, queued.held))
            self._finish(cohort)

    def _dequeue(self, run: Run) -> list[Queued]:
        queue, taken, room = self._queues[run], [], self._batch
        while queue and room:
            queued = queue.popleft()
            if len(queued.step.rows) > room:
                queued, rest = queued.split(room)
                queue.appendleft(rest)
            taken.append(queued)
            room -= len(queued.step.rows)
        if not queue:
            del self._queues[run]
        return taken

    def _enqueue(self, queued: Queued) -> None:
        """Queue photos for what they need next; where their candidate has answered, go on."""
        cohort, step, photos = queued.cohort, queued.step, queued.photos
        name = self._policy.candidates[step.candidate]
        # Photos of one step have taken the same path, so the same has run for all of them.
        needed = self._networks.needed(name, photos[0])
        if needed:
            self._queues.setdefault(needed[0], deque()).append(queued)
            return
        left = _each(
            cohort.account.left(photos, step.rows), len(photos), self._ahead_ms(cohort, step)
        )
        for further in cohort.walk.feed(step, said(name, photos), left):
            self._enqueue(Queued(cohort, further))

    def _ahead_ms(self, cohort: Cohort, step: Step) -> float:
        """What the other photos of a cohort may still take for what they wait for."""
        upper = self._policy.upper_ms
        if upper is None:
            return 0.0
        others = (other for other in cohort.walk.waiting if other is not step)
        return sum(len(other.rows) * upper[other.candidate] for other in others)

    def _finish(self, cohort: Cohort) -> None:
        for row in cohort.finished():
            if self._forget:
                cohort.photos[row] = cohort.photos[row].finished()

    def _queues_of(self, cohort: Cohort) -> list[Run]:
        return [r for r, q in self._queues.items() if any(w.cohort is cohort for w in q)]

    def _done(self) -> Iterator[Cohort]:
        while self._cohorts and not self._cohorts[0].unfinished:
            cohort = self._cohorts.popleft()
            cohort.account.close(cohort.photos)
            yield cohort


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


def _count(queue: deque[Queued]) -> int:
    return sum(len(queued.step.rows) for queued in queue)
