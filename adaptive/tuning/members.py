"""What the candidates said about the tuning images, small enough to try many policies quickly.

Of a thousand classes only the few that some candidate finds likely can win an average, so only
those are kept for the search. The chosen policy is replayed on the whole probabilities.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from adaptive.intervals import front
from adaptive.policy.signals import COMBINATIONS, PAIRED, SIGNALS
from adaptive.table import OutcomeTable

#: Classes kept for each image.
CLASSES = 24

#: Candidates that are tried one after the other, at most; any number may be tried alone.
PATHED = 12


@dataclass
class Members:
    """Candidates' answers on n images, over the likeliest classes of each image.

    Attributes
    ----------
    names : candidates
    label : ndarray (n,), position of the label among the kept classes, or -1 when it is not
    probabilities : candidate -> ndarray (n, kept), float32; None where the table holds none
    confidence, top1, top5 : candidate -> ndarray (n,)
    cost : candidate -> mean cost of asking it first; exits include what they come after
    path_cost : mean cost of asking these candidates one after the other; the sum of `cost` when
        left out, which is right where none continues another
    orders, learned : what the search has sorted and learned already
    """

    names: tuple[str, ...]
    label: np.ndarray
    probabilities: dict[str, np.ndarray] | None
    confidence: dict[str, np.ndarray]
    top1: dict[str, np.ndarray]
    cost: dict[str, float]
    path_cost: Callable[[tuple[str, ...]], float] | None = field(default=None, repr=False)
    orders: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)
    learned: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False)
    _signals: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)
    _costs: dict[tuple[str, ...], float] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        cost: dict[str, float],
        path_cost: Callable[[tuple[str, ...]], float] | None = None,
    ) -> Members:
        """Read the members of a table; costs are in the objective's unit."""
        names = table.candidates
        confidence = {n: table.of(n).confidence for n in names}
        top1 = {n: table.top1(n) for n in names}
        if not all(n in table.probabilities for n in names):
            return cls(names, table.label, None, confidence, top1, cost, path_cost)
        kept = min(CLASSES, table.probabilities[names[0]].shape[1])
        label = np.full(len(table), -1)
        small = {n: np.empty((len(table), kept), np.float32) for n in names}
        signals = {(n, s): np.empty(len(table)) for n in names for s in SIGNALS}
        for start in range(0, len(table), 2048):
            rows = np.arange(start, min(start + 2048, len(table)))
            whole = {n: table.probabilities_of(n, rows).astype(np.float32) for n in names}
            highest = np.max(np.stack(list(whole.values())), axis=0)
            classes = np.argpartition(highest, -kept, axis=1)[:, -kept:]
            classes.sort(axis=1)
            for n in names:
                small[n][rows] = np.take_along_axis(whole[n], classes, axis=1)
                # The entropy of an undecided answer is in the classes that are not kept.
                for signal, measure in SIGNALS.items():
                    signals[n, signal][rows] = measure(whole[n])
            hit = classes == table.label[rows][:, np.newaxis]
            label[rows] = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
        found: dict[tuple[object, ...], np.ndarray] = {
            ("score", (n,), None, (), signal): values for (n, signal), values in signals.items()
        }
        return cls(names, label, small, confidence, top1, cost, path_cost, _signals=found)

    def steps(self, path: tuple[str, ...]) -> tuple[float, ...]:
        """What each candidate of a path costs once those before it have run."""
        if self.path_cost is None:
            return tuple(self.cost[name] for name in path)
        for end in range(1, len(path) + 1):
            if path[:end] not in self._costs:
                self._costs[path[:end]] = self.path_cost(path[:end])
        whole = [0.0, *(self._costs[path[:end]] for end in range(1, len(path) + 1))]
        return tuple(after - before for before, after in zip(whole, whole[1:]))

    def answer(
        self, path: Sequence[str], combine: str | None, weights: Sequence[float] | None
    ) -> np.ndarray | None:
        """Probabilities after `path` ran, (n, kept); None where only confidences are known."""
        if self.probabilities is None:
            return None
        if combine is None or len(path) == 1:
            return self.probabilities[path[-1]]
        key = ("answer", tuple(path), combine, tuple(weights or ()))
        if key not in self._signals:
            chosen = np.ones(len(path)) if weights is None else np.asarray(weights, float)
            self._signals[key] = COMBINATIONS[combine](
                [self.probabilities[n] for n in path], chosen
            )
        return self._signals[key]

    def right(
        self, path: Sequence[str], combine: str | None, weights: Sequence[float] | None
    ) -> np.ndarray:
        """Whether the answer after `path` is right, bool (n,)."""
        if combine is None or len(path) == 1:
            return self.top1[path[-1]]
        key = ("right", tuple(path), combine, tuple(weights or ()))
        if key not in self._signals:
            answer = self.answer(path, combine, weights)
            assert answer is not None
            self._signals[key] = answer.argmax(axis=1) == self.label
        return self._signals[key]

    def score(
        self,
        path: Sequence[str],
        combine: str | None,
        weights: Sequence[float] | None,
        signal: str,
    ) -> np.ndarray:
        """The deferral signal after `path` ran, (n,)."""
        if signal in PAIRED:
            return self._paired(path, signal)
        if combine is None or len(path) == 1:
            path, combine, weights = path[-1:], None, None
            if signal == "top":
                return self.confidence[path[0]]
        answer = self.answer(path, combine, weights)
        if answer is None:
            return self.confidence[path[-1]]
        key = ("score", tuple(path), combine, tuple(weights or ()), signal)
        if key not in self._signals:
            self._signals[key] = SIGNALS[signal](answer).astype(np.float64)
        return self._signals[key]

    def _paired(self, path: Sequence[str], signal: str) -> np.ndarray:
        """A signal of the last two that ran; of the first alone, it is held against itself."""
        if self.probabilities is None or len(path) == 1:
            return self.confidence[path[-1]]
        key = ("paired", tuple(path[-2:]), signal)
        if key not in self._signals:
            before, last = (self.probabilities[n] for n in path[-2:])
            self._signals[key] = PAIRED[signal](before, last).astype(np.float64)
        return self._signals[key]


def ordered(members: Members, length: int) -> Iterator[tuple[str, ...]]:
    """Paths of rising cost that begin on the front; later members may be dominated.

    Of more than PATHED candidates only the most promising are on paths: their number grows with
    the third power.
    """
    cost = [members.cost[n] for n in members.names]
    top1 = [float(members.top1[n].mean()) for n in members.names]
    starts = {members.names[i] for i in front(cost, top1)}
    by_cost = sorted(members.names, key=lambda n: members.cost[n])
    if len(by_cost) > PATHED:
        by_cost = _promising(by_cost, dict(zip(members.names, top1)))
    for path in itertools.combinations(by_cost, length):
        if path[0] in starts:
            yield path


def _promising(by_cost: list[str], top1: dict[str, float]) -> list[str]:
    """The PATHED candidates that are least below the best of those that cost no more.

    Where more than that many are best at their cost, these, evenly spread from the cheapest to
    the dearest.
    """
    best = np.maximum.accumulate([top1[name] for name in by_cost])
    short = {name: level - top1[name] for name, level in zip(by_cost, best.tolist())}
    leading = [name for name in by_cost if short[name] == 0]
    if len(leading) > PATHED:
        return [leading[i] for i in np.linspace(0, len(leading) - 1, PATHED).round().astype(int)]
    kept = set(sorted(by_cost, key=short.__getitem__)[:PATHED])
    return [name for name in by_cost if name in kept]
