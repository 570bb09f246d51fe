"""The step machine that carries images through a policy, without I/O, clock or networks.

    walk = Walk(policy, count, chances, limits)
    while step := walk.wanted:
        output = <run step.candidate on the images step.rows>
        walk.feed(step, output, limits)
    walk.routes

The live loop, batches that are gathered anew at exits, and replay over an outcome table all drive
this one machine, so what is measured is what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, FrozenSet, NamedTuple, Sequence, cast

import numpy as np

from adaptive.checks import shown
from adaptive.columns import ONE, Column
from adaptive.errors import InputError
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.base import Policy
from adaptive.policy.change import ABSENT, Change
from adaptive.policy.history import Conclusion, History, Output, Single
from adaptive.policy.spending import STOP

if TYPE_CHECKING:
    from adaptive.policy.on_columns import OnColumns

#: Which image a walk of one is about, and whether it is answered: making arrays takes time.
_ALONE = np.zeros(1, np.intp)
_YES, _NO = np.ones(1, np.bool_), np.zeros(1, np.bool_)
for _constant in (_ALONE, _YES, _NO):
    _constant.flags.writeable = False

#: Who cannot be reached, as long as everybody can.
_NOBODY: FrozenSet[int] = frozenset()

#: Of one image on which nothing ran.
_NOTHING = Conclusion(None, True, False)


@dataclass(eq=False)
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


@dataclass(eq=False)
class Route:
    """Images that are finished by the same path.

    Attributes
    ----------
    rows : ndarray (n,), which images
    history : what ran for them and what it said; nothing where the policy abstained before
    probabilities : ndarray (n, classes), of the answer; None where they are the last output's
    abstained : ndarray (n,), bool, which of them get no answer: none ran, or the policy finds
        what they said too unsure
    calibrated : whether the answer's score is a probability that was fitted
    """

    rows: np.ndarray
    history: History
    probabilities: np.ndarray | None
    abstained: np.ndarray
    calibrated: bool

    @property
    def path(self) -> tuple[int, ...]:
        """Positions of the candidates that ran, in order."""
        return self.history.path

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What each of them said."""
        return self.history.outputs


class _Changed(NamedTuple):
    """Choices for some images that limits changed, or the absence of candidates."""

    rows: np.ndarray
    wanted: np.ndarray
    given: np.ndarray
    path: tuple[int, ...]
    limits: Limits
    absent: FrozenSet[int]


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
        self._absent = _NOBODY
        self._kind: Callable[..., History] = History
        self._own: tuple[Any, ...] = ()  # what its histories share
        self._alone = count == 1 and policy.on_numbers
        if self._alone:
            numbers = None if chances is None else chances[0].tolist()
            self._kind, self._own = Single, (numbers, {})
            first = cast("OnColumns", policy).first
            wanted = first(numbers, ONE, limits) if start is None else int(start[0])
            begun = Single((), (), chances, None, *self._own)
            self._send(_ALONE, wanted, begun, limits, _NOTHING)
        else:
            wanted = policy.start(chances, count, limits) if start is None else start
            nothing = Conclusion(None, np.ones(count, bool), False)
            self._send(np.arange(count), wanted, History((), (), chances), limits, nothing)

    @property
    def wanted(self) -> Step | None:
        """The next step to run, or None when every image is finished."""
        return self._waiting[-1] if self._waiting else None

    @property
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
        chances = self.chances
        if chances is not None and not self._alone:
            chances = chances[step.rows]
        history = self._kind(path, outputs, chances, None, *self._own)
        said = self.policy.conclude(history)
        if said.probabilities is not None:
            history = self._kind(path, outputs, chances, said.probabilities, *self._own)
        self._send(step.rows, self.policy.next(history, limits), history, limits, said)
        return tuple(self._waiting[before:])

    def lose(self, step: Step, limits: Limits = UNLIMITED) -> Sequence[Step]:
        """Go on as though `step.candidate`, which cannot be reached, were not there.

        Returns
        -------
        The steps that the images of `step` wait for now; what is not in them has finished.
        """
        self._waiting.remove(step)
        before = len(self._waiting)
        self._absent |= {step.candidate}
        count, chances = len(step.rows), self.chances
        if chances is not None and not self._alone:
            chances = chances[step.rows]
        history = self._kind(step.path, step.outputs, chances, None, *self._own)
        if step.path:
            said = self.policy.conclude(history)
            if said.probabilities is not None:
                kept = said.probabilities
                history = self._kind(step.path, step.outputs, chances, kept, *self._own)
        elif self._alone:
            said = _NOTHING
        else:
            said = Conclusion(None, np.ones(count, bool), False)
        wanted = step.candidate if self._alone else np.full(count, step.candidate)
        self._send(step.rows, wanted, history, limits, said)
        return tuple(self._waiting[before:])

    @property
    def routes(self) -> Sequence[Route]:
        """How the images that are finished got there; every image is on exactly one route."""
        return tuple(self._finished)

    @property
    def changed(self) -> bool:
        """Whether limits, or an absence, changed a choice for any of the images."""
        return bool(self._changed)

    def limited(self, row: int) -> bool:
        """Whether anything changed a choice for one image, or a preference may have."""
        return self.preference != 0 or any(row in changed.rows for changed in self._changed)

    def wanted_start(self, row: int) -> int:
        """What the policy chose as the start of one image, which has finished, before limits."""
        for changed in self._changed:
            if not changed.path and row in changed.rows:
                return int(changed.wanted[np.flatnonzero(changed.rows == row)[0]])
        route = next(route for route in self._finished if row in route.rows)
        return route.path[0] if route.path else STOP

    def changes(self, row: int) -> tuple[Change, ...]:
        """What was changed of the policy's choices for one image, in order."""
        found = []
        for changed in self._changed:
            for position in np.flatnonzero(changed.rows == row).tolist():
                wanted = int(changed.wanted[position])
                left = changed.limits.rows(slice(position, position + 1))
                short = self._short(changed, wanted, left)
                given = int(changed.given[position])
                alike = given != STOP or all(
                    set(short) <= set(self._short(changed, other, left))
                    for other in range(len(self.policy.candidates))
                )
                instead = None if given == STOP else given
                found.append(Change(changed.path, wanted, instead, short, alike))
        return tuple(found)

    def _short(self, changed: _Changed, candidate: int, left: Limits) -> tuple[str, ...]:
        """What did not suffice for a candidate when a choice was changed."""
        if candidate in changed.absent:
            return (ABSENT,)
        return self.policy.short_of(candidate, changed.path, left)

    def _send(
        self,
        rows: np.ndarray,
        wanted: Column,
        history: History,
        limits: Limits,
        said: Conclusion,
    ) -> None:
        """Send images where the policy wants them, as far as the limits can pay for it."""
        if not self._alone:
            _check_choice(self.policy, wanted, len(rows), history.path)
        given = wanted
        if limits is not UNLIMITED or self._absent:
            given = self._possible(wanted, history, limits)
            self._note(rows, wanted, given, history.path, limits)
        if self._alone:
            if given != STOP:
                self._waiting.append(Step(given, rows, history.path, history.outputs))
                return
            values, abstained, calibrated = said
            values = None if values is None else values[np.newaxis]
            self._finished.append(
                Route(rows, history, values, _YES if abstained else _NO, calibrated)
            )
            return
        for candidate in (given if len(rows) == 1 else np.unique(given)).tolist():
            own, seen, concluded = rows, history, said
            if len(rows) > 1:
                chosen = given == candidate
                own, seen, concluded = rows[chosen], history.rows(chosen), said.rows(chosen)
            if candidate != STOP:
                self._waiting.append(Step(candidate, own, seen.path, seen.outputs))
                continue
            self._finished.append(Route(own, seen, *concluded))

    def _possible(self, wanted: Column, history: History, limits: Limits) -> Column:
        """What the policy wants, as far as it can be reached and the limits can pay for it."""
        given = self._present(wanted, history, limits) if self._absent else wanted
        if limits is not UNLIMITED:
            given = self.policy.affordable(given, history.path, limits)
            if self._absent and not history.path:
                given = self._affordable(given, limits)
        return given

    def _present(self, wanted: Column, history: History, limits: Limits) -> Column:
        """What the policy wants where it wants one that cannot be reached."""
        if not self._alone:
            given = np.array(wanted)
            for lost in self._absent.intersection(given.tolist()):
                own = np.flatnonzero(wanted == lost)
                given[own] = self._around(lost, history.rows(own), len(own), limits)
            return given
        if wanted not in self._absent:
            return wanted
        found = self._around(int(wanted), history, 1, limits)
        return found if history.path else int(found[0])

    def _around(self, lost: int, history: History, count: int, limits: Limits) -> Column:
        if not history.path:
            return self.policy.without(self._absent, history.chances, count, limits)
        return self.policy.further(lost, self._absent, history, limits)

    def _affordable(self, given: Column, limits: Limits) -> Column:
        """As a start, the latest that can be reached and fits where limits chose another."""
        found = np.atleast_1d(given)
        lost = np.isin(found, list(self._absent))
        if not lost.any():
            return given
        found = np.where(lost, STOP, found)
        for candidate in range(len(self.policy.candidates)):
            if candidate not in self._absent:
                choice = np.full(len(found), candidate)
                fits = self.policy.affordable(choice, (), limits) == candidate
                found[lost & fits] = candidate
        return int(found[0]) if self._alone else found

    def _note(
        self, rows: np.ndarray, wanted: Column, given: Column, path: tuple[int, ...], limits: Limits
    ) -> None:
        """Remember which choices were changed."""
        over = np.atleast_1d(given != wanted) if given is not wanted else np.zeros(1, bool)
        if over.any():
            before, after = np.atleast_1d(wanted)[over], np.atleast_1d(given)[over]
            left = limits.rows(over)
            self._changed.append(_Changed(rows[over], before, after, path, left, self._absent))


def _check_choice(policy: Policy, wanted: Any, count: int, path: tuple[int, ...]) -> None:
    """Refuse what no policy may want: another position would be run, or none for ever.

    Raises
    ------
    InputError
        when it is no position of a candidate that has not run, or STOP, for each image.
    """
    whole = isinstance(wanted, np.ndarray) and wanted.dtype.kind in "iu"
    if whole and wanted.shape == (count,):
        found = set(wanted.tolist()) if count > 1 else {wanted.item()}
        if found <= {STOP, *range(len(policy.candidates))}.difference(path):
            return
    raise InputError(
        f"the {policy.kind} policy wants {shown(wanted)} after "
        f"{[policy.candidates[p] for p in path]}; an array of {count} whole numbers is needed, "
        f"each the position of a candidate that has not run, among {len(policy.candidates)}, or "
        f"STOP ({STOP})"
    )


def _part(step: Step, own: slice) -> Step:
    chosen = np.arange(len(step.rows))[own]
    outputs = tuple(output.rows(chosen) for output in step.outputs)
    return Step(step.candidate, step.rows[own], step.path, outputs)
