"""The step machine that carries images through a policy, without I/O, clock or networks.

    walk = Walk(policy, count, chances, limits)
    while step := walk.wanted():
        output = <run step.candidate on the images step.rows>
        walk.feed(step, output, limits)
    walk.routes()

The live loop, batches that are regrouped at exits, and replay over an outcome table all drive
this one machine, so what is measured is what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

import numpy as np

from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.base import STOP, History, Output, Policy
from adaptive.policy.change import Change


@dataclass(frozen=True, eq=False)
class Step:
    """One candidate to run, on images that share the same path so far.

    Attributes
    ----------
    candidate : position in the policy's order
    rows : ndarray (n,), which images
    path, outputs : what ran for them before
    """

    candidate: int
    rows: np.ndarray
    path: tuple[int, ...] = ()
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True)
class Route:
    """Images that are finished by the same path.

    Attributes
    ----------
    rows : ndarray (n,), which images
    path : positions of the candidates that ran, in order; empty when it abstained before
    outputs : what each of them said
    probabilities : ndarray (n, classes), of the answer; None where they are the last output's
    history : the same path and outputs as the policy was shown them
    abstained : ndarray (n,), bool, which of them get no answer: none ran, or the policy finds
        what they said too unsure
    """

    rows: np.ndarray
    path: tuple[int, ...]
    outputs: tuple[Output, ...]
    probabilities: np.ndarray | None
    history: History
    abstained: np.ndarray


class _Changed(NamedTuple):
    """Choices for some images that limits changed."""

    rows: np.ndarray
    wanted: np.ndarray
    given: np.ndarray
    path: tuple[int, ...]
    limits: Limits


class Walk:
    """The images' way through a policy. See the module's text for how it is driven.

    Parameters
    ----------
    policy : decides
    count : number of images
    chances : ndarray (count, m), the premodel's numbers for them; None without a premodel
    limits : what is left for each image when its first candidate is chosen
    start : the policy's choice of a start, ndarray (count,), where it has been asked already

    Attributes
    ----------
    preference : of the request, which is the same from its beginning to its end
    """

    def __init__(
        self,
        policy: Policy,
        count: int,
        chances: np.ndarray | None = None,
        limits: Limits = UNLIMITED,
        start: np.ndarray | None = None,
    ) -> None:
        self.policy = policy
        self.chances = chances
        self.preference = limits.preference
        self._changed: list[_Changed] = []
        self._waiting: list[Step] = []
        self._finished: list[Route] = []
        rows = np.arange(count)
        wanted = policy.start(chances, count, limits) if start is None else start
        choice = self._allowed(wanted, rows, (), limits)
        self._send(rows, choice, History((), (), chances))

    def wanted(self) -> Step | None:
        """The next step to run, or None when every image is finished."""
        return self._waiting[-1] if self._waiting else None

    def waiting(self) -> Sequence[Step]:
        """All steps that could be run now, for a driver that merges them."""
        return tuple(self._waiting)

    def split(self, step: Step, count: int) -> tuple[Step, Step]:
        """Divide a waiting step after its first `count` images; both parts wait in its place."""
        first, rest = (_part(step, own) for own in (slice(0, count), slice(count, None)))
        position = self._waiting.index(step)
        self._waiting[position : position + 1] = [rest, first]
        return first, rest

    def feed(self, step: Step, output: Output, limits: Limits = UNLIMITED) -> Sequence[Step]:
        """Take in what `step.candidate` said about `step.rows`, and let the policy go on.

        Returns
        -------
        The steps that these images wait for now; what is not in them has finished.
        """
        self._waiting.remove(step) if self._waiting[-1] is not step else self._waiting.pop()
        before = len(self._waiting)
        path = (*step.path, step.candidate)
        outputs = (*step.outputs, output)
        chances = self.chances if self.chances is None else self.chances[step.rows]
        history = History(path, outputs, chances)
        choice = self.policy.next(history, limits)
        self._send(step.rows, self._allowed(choice, step.rows, path, limits), history)
        return tuple(self._waiting[before:])

    def routes(self) -> Sequence[Route]:
        """How the images that are finished got there; every image is on exactly one route."""
        return tuple(self._finished)

    def limited(self, row: int) -> bool:
        """Whether limits changed a choice for one image, or a preference may have."""
        return self.preference != 0 or any(row in changed.rows for changed in self._changed)

    def wanted_start(self, row: int) -> int:
        """What the policy chose as the start of one image, which has finished, before limits."""
        for changed in self._changed:
            if not changed.path and row in changed.rows:
                return int(changed.wanted[np.flatnonzero(changed.rows == row)[0]])
        route = next(route for route in self._finished if row in route.rows)
        return route.path[0] if route.path else STOP

    def changes(self, row: int) -> tuple[Change, ...]:
        """What limits changed of the policy's choices for one image, in order."""
        found = []
        for changed in self._changed:
            for position in np.flatnonzero(changed.rows == row).tolist():
                wanted = int(changed.wanted[position])
                left = changed.limits.rows(slice(position, position + 1))
                short = self.policy.short_of(wanted, changed.path, left)
                given = int(changed.given[position])
                alike = given != STOP or all(
                    set(short) <= set(self.policy.short_of(other, changed.path, left))
                    for other in range(len(self.policy.candidates))
                )
                instead = None if given == STOP else given
                found.append(Change(changed.path, wanted, instead, short, alike))
        return tuple(found)

    def _allowed(
        self, wanted: np.ndarray, rows: np.ndarray, path: tuple[int, ...], limits: Limits
    ) -> np.ndarray:
        """The policy's choice, with what the limits cannot pay for taken out and noted."""
        given = self.policy.affordable(wanted, path, limits)
        if given is not wanted:
            over = given != wanted
            if over.any():
                self._changed.append(
                    _Changed(rows[over], wanted[over], given[over], path, limits.rows(over))
                )
        return given

    def _send(self, rows: np.ndarray, choice: np.ndarray, history: History) -> None:
        if len(rows) == 1:
            self._put(int(choice[0]), rows, history)
            return
        for candidate in np.unique(choice):
            chosen = choice == candidate
            self._put(int(candidate), rows[chosen], history.rows(chosen))

    def _put(self, candidate: int, rows: np.ndarray, history: History) -> None:
        if candidate != STOP:
            self._waiting.append(Step(candidate, rows, history.path, history.outputs))
            return
        self._finished.append(self._route(rows, history))

    def _route(self, rows: np.ndarray, history: History) -> Route:
        if not history.path:
            return Route(rows, (), (), None, history, np.ones(len(rows), bool))
        combined = self.policy.answer(history)
        unsure = np.zeros(len(rows), bool)
        if self.policy.abstain_below is not None:
            score = history.outputs[-1].confidence if combined is None else combined.max(axis=1)
            unsure = score < self.policy.abstain_below
        return Route(rows, history.path, history.outputs, combined, history, unsure)


def _part(step: Step, own: slice) -> Step:
    chosen = np.arange(len(step.rows))[own]
    outputs = tuple(output.rows(chosen) for output in step.outputs)
    return Step(step.candidate, step.rows[own], step.path, outputs)
