"""What the candidates said about the tuning images, small enough to try many policies quickly.

Of a thousand classes only the few that some candidate finds likely can win an average, so only
those are kept for the search. The chosen policy is replayed on the whole probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from adaptive.policy.signals import COMBINATIONS, SIGNALS
from adaptive.table import OutcomeTable

#: Classes kept for each image.
CLASSES = 24


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
    orders : what the search has sorted already
    """

    names: tuple[str, ...]
    label: np.ndarray
    probabilities: dict[str, np.ndarray] | None
    confidence: dict[str, np.ndarray]
    top1: dict[str, np.ndarray]
    cost: dict[str, float]
    orders: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)
    _signals: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, table: OutcomeTable, cost: dict[str, float]) -> Members:
        """Read the members of a table; `cost` is each candidate's, in the objective's unit."""
        names = table.candidates
        confidence = {n: table.of(n).confidence for n in names}
        top1 = {n: table.top1(n) for n in names}
        if not all(n in table.probabilities for n in names):
            return cls(names, table.label, None, confidence, top1, cost)
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
        return cls(names, label, small, confidence, top1, cost, _signals=found)

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
