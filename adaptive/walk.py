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
from typing import Sequence

import numpy as np

from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.base import STOP, History, Output, Policy


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


class Walk:
    """The images' way through a policy. See the module's text for how it is driven.

    Parameters
    ----------
    policy : decides
    count : number of images
    chances : ndarray (count, m), the premodel's numbers for them; None without a premodel
    limits : what is left for each image when its first candidate is chosen
    """

    def __init__(
        self,
        policy: Policy,
        count: int,
        chances: np.ndarray | None = None,
        limits: Limits = UNLIMITED,
    ) -> None:
        self.policy = policy
        self.chances = chances
        self._waiting: list[Step] = []
        self._finished: list[Route] = []
        rows = np.arange(count)
        choice = policy.affordable(policy.start(chances, count, limits), (), limits)
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
        self._send(step.rows, self.policy.affordable(choice, path, limits), history)
        return tuple(self._waiting[before:])

    def routes(self) -> Sequence[Route]:
        """How the images that are finished got there; every image is on exactly one route."""
        return tuple(self._finished)

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
