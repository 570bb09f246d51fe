"""What the candidates said about the tuning images, small enough to try many policies quickly.

Of a thousand classes only the few that some candidate finds likely can win an average. Those are
kept for the search, and of the others some that are drawn and stand for all of them, so that
probabilities add up. The chosen policy is replayed on the whole probabilities.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from adaptive.intervals import front
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.exponents import Exponents, logarithms
from adaptive.policy.following import Following, fit_following
from adaptive.policy.likelihood import Fitted, fit_exponents
from adaptive.policy.signals import PAIRED, SIGNALS

#: Classes kept for each image, those that some candidate finds likeliest.
CLASSES = 24

#: Of the others so many are drawn, and stand for all of them.
DRAWN = 40

#: Exponents are fitted on at most so many images; more change them hardly.
FITTED = 4000

#: Parts of the images in cross-validation.
FOLDS = 10

#: What is foreseen of an image is what at most so many candidates, the most accurate, come to.
POOLED = 8

#: Candidates that are tried one after the other, at most; any number may be tried alone.
PATHED = 12


@dataclass
class Members:
    """Candidates' answers on n images, over some classes of each image.

    What several candidates come to is by exponents that are fitted to these images
    (`policy.likelihood`), and of each image by those that are fitted without its part: what is
    judged in cross-validation was not fitted to what it is judged on.

    Attributes
    ----------
    names : candidates
    label : ndarray (n,), column of the label among the image's classes
    logs : candidate -> ndarray (n, columns), float32, logarithms of its probabilities; None
        where the table holds none
    confidence, quality : candidate -> ndarray (n,)
    cost : candidate -> mean cost of asking it first; exits include what they come after
    path_cost : mean cost of asking these candidates one after the other; the sum of `cost` when
        left out, which is right where none continues another
    copies : ndarray (n, columns), how many classes each column stands for; one each when left out
    seed : of the parts in cross-validation
    orders, learned : what the search has sorted and learned already
    merged : from a path to what its merged answers are worth; None where the last one answers
    common, traits, place : where exponents follow the image: the members whose do not, the
        traits (n, t) that they follow, and where these stand among the premodel's `width`
    """

    names: tuple[str, ...]
    label: np.ndarray
    logs: dict[str, np.ndarray] | None
    confidence: dict[str, np.ndarray]
    quality: dict[str, np.ndarray]
    cost: dict[str, float]
    path_cost: Callable[[tuple[str, ...]], float] | None = field(default=None, repr=False)
    copies: np.ndarray | None = field(default=None, repr=False)
    seed: int = 0
    orders: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)
    learned: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False)
    common: Members | None = field(default=None, repr=False)
    traits: np.ndarray | None = field(default=None, repr=False)
    place: int = 0
    width: int = 0
    judge: Members | None = field(default=None, repr=False)
    merged: Callable[[Sequence[str]], np.ndarray] | None = field(default=None, repr=False)
    _signals: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)
    _costs: dict[tuple[str, ...], float] = field(default_factory=dict, repr=False)
    _fitted: dict[tuple[str, ...], Fitted | Following] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        cost: dict[str, float],
        path_cost: Callable[[tuple[str, ...]], float] | None = None,
        seed: int = 0,
    ) -> Members:
        """Read the members of a table; costs are in the objective's unit."""
        names = table.candidates
        confidence = {n: table.of(n).confidence for n in names}
        quality = {n: table.quality(n) for n in names}
        # Averages are answers of their own, whose quality only labels of classes tell.
        known = table.of_classes and all(n in table.probabilities for n in names)
        if not known:
            merged = None if table.merged is None else table.path_quality
            return cls(
                names, table.label, None, confidence, quality, cost, path_cost, seed=seed,
                merged=merged,
            )  # fmt: skip
        classes = table.probabilities[names[0]].shape[1]
        columns = min(CLASSES + DRAWN, classes)
        label = np.empty(len(table), np.intp)
        copies = np.ones((len(table), columns), np.float32)
        logs = {n: np.empty((len(table), columns), np.float32) for n in names}
        generator = np.random.default_rng(seed)
        for rows in _blocks(len(table)):
            whole = {n: logarithms(table.probabilities_of(n, rows)) for n in names}
            chosen = np.broadcast_to(np.arange(classes), (len(rows), classes))
            if columns < classes:
                highest = np.max(np.stack(list(whole.values())), axis=0)
                chosen, copies[rows] = _drawn(highest, table.label[rows], generator)
            for n in names:
                logs[n][rows] = np.take_along_axis(whole[n], chosen, axis=1)
            label[rows] = (chosen == table.label[rows][:, np.newaxis]).argmax(axis=1)
        found = cls(
            names, label, logs, confidence, quality, cost, path_cost,
            copies if columns < classes else None, seed,
        )  # fmt: skip
        found._measure(table)
        return found

    def _measure(self, table: OutcomeTable) -> None:
        """Each candidate's own signals, on all classes: entropy is in those that nobody keeps."""
        for name in self.names:
            fitted = self.exponents((name,))
            assert fitted is not None
            sharpness = fitted.each(self.fold).astype(np.float32)
            found = {signal: np.empty(len(self)) for signal in SIGNALS}
            for rows in _blocks(len(self)):
                whole = logarithms(table.probabilities_of(name, rows))
                values = _normalised(whole * sharpness[rows], None)
                for signal, measure in SIGNALS.items():
                    found[signal][rows] = measure(values)
            for signal, scores in found.items():
                self._signals["score", (name,), signal] = scores

    def following(self, traits: np.ndarray, chosen: slice) -> Members:
        """The same answers, with exponents that follow the chosen traits, (n, t) in all."""
        place, stop, _ = chosen.indices(traits.shape[1])
        return Members(
            self.names, self.label, self.logs, self.confidence, self.quality, self.cost,
            self.path_cost, self.copies, self.seed, common=self, traits=traits[:, place:stop],
            place=place, width=traits.shape[1],
        )  # fmt: skip

    def judged_by(self, judge: Members) -> Members:
        """The same answers, with what is foreseen of them by another's exponents."""
        known = {key: each for key, each in self._signals.items() if key[0] != "foreseen"}
        return replace(
            self, judge=judge, learned={}, orders=self.orders, _signals=known, _fitted=self._fitted
        )

    @cached_property
    def fold(self) -> np.ndarray:
        """The part of each image in cross-validation, (n,)."""
        return np.asarray(np.random.default_rng(self.seed).permutation(len(self)) % FOLDS)

    def steps(self, path: tuple[str, ...]) -> tuple[float, ...]:
        """What each candidate of a path costs once those before it have run."""
        if self.path_cost is None:
            return tuple(self.cost[name] for name in path)
        for end in range(1, len(path) + 1):
            if path[:end] not in self._costs:
                self._costs[path[:end]] = self.path_cost(path[:end])
        whole = [0.0, *(self._costs[path[:end]] for end in range(1, len(path) + 1))]
        return tuple(after - before for before, after in zip(whole, whole[1:]))

    def exponents(self, names: tuple[str, ...]) -> Fitted | Following | None:
        """The exponents of a set of candidates; None where only confidences are known."""
        if self.logs is None:
            return None
        if names not in self._fitted:
            rows: Any = slice(None)
            if len(self) > FITTED:
                rows = np.linspace(0, len(self) - 1, FITTED).astype(np.intp)
            logs = np.stack([self.logs[name][rows] for name in names])
            copies = None if self.copies is None else self.copies[rows]
            label, fold = self.label[rows], self.fold[rows]
            if self.common is None or self.traits is None:
                self._fitted[names] = fit_exponents(
                    logs, label, copies, fold, start=self._alone(names)
                )
            else:
                common = self.common.exponents(names)
                assert isinstance(common, Fitted)
                self._fitted[names] = fit_following(
                    logs, label, self.traits[rows], common, copies, fold, self.traits
                )
        return self._fitted[names]

    def _alone(self, names: tuple[str, ...]) -> list[float]:
        """Each candidate's exponent where it answers alone, to begin with."""
        if len(names) == 1:
            return []
        found = [self.exponents((name,)) for name in names]
        return [float(one.weights[0]) for one in found if one is not None]

    def likelihood(self, names: tuple[str, ...]) -> np.ndarray:
        """Logarithm of what each image's label is given by a set, cross-fitted, (n,)."""
        answer = self.answer(names, True)
        assert answer is not None
        return np.asarray(np.log(np.maximum(answer[np.arange(len(self)), self.label], 1e-12)))

    def served(self, path: tuple[str, ...], average: bool, alone: bool) -> tuple[Exponents, ...]:
        """The exponents of every set that a policy with these candidates may have run.

        average : whether what ran is averaged, or the last of it answers
        alone : whether no more than one candidate ever runs
        """
        if self.logs is None:
            return ()
        found = []
        for length in range(1, 2 if alone else len(path) + 1):
            for chosen in itertools.combinations(range(len(path)), length):
                asked = chosen if average else chosen[-1:]
                fitted = self.exponents(tuple(path[position] for position in asked))
                assert fitted is not None
                known = dict(zip(asked, fitted.weights.round(6).tolist()))
                slopes: tuple[tuple[float, ...], ...] = ()
                if isinstance(fitted, Following):
                    whole = np.zeros((len(path), self.width))
                    end = self.place + fitted.slopes.shape[1]
                    whole[list(asked), self.place : end] = fitted.slopes.round(6)
                    slopes = tuple(map(tuple, whole[list(chosen)].tolist()))
                found.append(Exponents(chosen, tuple(known.get(p, 0.0) for p in chosen), slopes))
        return tuple(found)

    def answer(self, path: Sequence[str], average: bool) -> np.ndarray | None:
        """Probabilities after `path` ran, (n, columns); None where only confidences are known."""
        if self.logs is None:
            return None
        own = tuple(path) if average else tuple(path[-1:])
        key = ("answer", own)
        if key in self._signals:
            return self._signals[key]
        fitted = self.exponents(own)
        assert fitted is not None
        weights = fitted.each(self.fold).astype(np.float32)
        joint = weights[:, :1] * self.logs[own[0]]
        for place, name in enumerate(own[1:], 1):
            joint += weights[:, place : place + 1] * self.logs[name]
        found = _normalised(joint, self.copies)
        if len(own) < 3:  # of three only who is right is looked at, and that once
            self._signals[key] = found
        return found

    def right(self, path: Sequence[str], average: bool) -> np.ndarray:
        """What the answer after `path` is worth, (n,); bool where it is right or wrong."""
        if not average or len(path) == 1:
            return self._worth(path)
        key = ("right", tuple(path))
        if key not in self._signals:
            self.foreseen(path, average)
        return self._signals[key]

    def _worth(self, path: Sequence[str]) -> np.ndarray:
        """What the last one's answer is worth, or the merged one of all where they are merged."""
        return self.quality[path[-1]] if self.merged is None else self.merged(path)

    def foreseen(self, path: Sequence[str], average: bool) -> np.ndarray:
        """The chance that the answer after `path` is right, by all candidates together, (n,).

        What all of them come to knows more of an image than its label tells of one answer: the
        label says right or wrong, where this says how likely it was. So means of it over the
        images scatter far less (Rao and Blackwell), and differ by what the exponents are
        wrong about.
        """
        if self.logs is None:
            return self._worth(path).astype(np.float32)
        own = tuple(path) if average else tuple(path[-1:])
        key = ("foreseen", own)
        if key not in self._signals:
            answer = self.logs[own[0]] if len(own) == 1 else self.answer(own, True)
            assert answer is not None
            self._answered(own, answer.argmax(axis=1))
        return self._signals[key]

    def _answered(self, path: tuple[str, ...], answer: np.ndarray) -> None:
        self._signals["right", path] = answer == self.label
        self._signals["foreseen", path] = self._pool[np.arange(len(self)), answer]

    @cached_property
    def _pool(self) -> np.ndarray:
        """What the best candidates come to together, (n, columns)."""
        if self.judge is not None:
            return self.judge._pool
        best = sorted(self.names, key=lambda n: -float(self.quality[n].mean()))[:POOLED]
        found = self.answer(tuple(n for n in self.names if n in best), True)
        assert found is not None
        return found

    def score(self, path: Sequence[str], average: bool, signal: str) -> np.ndarray:
        """The deferral signal after `path` ran, (n,)."""
        if self.logs is None:
            return self.confidence[path[-1]]
        if signal in PAIRED:
            return self._paired(path, signal)
        own = tuple(path) if average else tuple(path[-1:])
        key = ("score", own, signal)
        if key not in self._signals:
            answer = self.answer(own, average)
            assert answer is not None
            self._signals[key] = SIGNALS[signal](answer).astype(np.float64)
        return self._signals[key]

    def _paired(self, path: Sequence[str], signal: str) -> np.ndarray:
        """A signal of the last two that ran; of the first alone, it is held against itself."""
        if len(path) == 1:
            return self.score(path, False, "top")
        key = ("paired", tuple(path[-2:]), signal)
        if key not in self._signals:
            before, last = (self.answer((name,), False) for name in path[-2:])
            assert before is not None
            assert last is not None
            self._signals[key] = PAIRED[signal](before, last).astype(np.float64)
        return self._signals[key]


def _blocks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, 2048):
        yield np.arange(start, min(start + 2048, count))


def _drawn(
    highest: np.ndarray, label: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Classes to keep of each image, (n, columns), rising, and how many each stands for.

    highest : ndarray (n, classes), logarithm of what the surest candidate gives each class
    """
    rows, classes = np.arange(len(highest)), highest.shape[1]
    likely = np.argpartition(highest, -CLASSES, axis=1)[:, -CLASSES:]
    order = generator.random(highest.shape, np.float32)
    np.put_along_axis(order, likely, 2.0, axis=1)
    missed = order[rows, label] < 2
    order[rows[missed], label[missed]] = -1  # the label is always there, and stands for itself
    drawn = np.argpartition(order, DRAWN, axis=1)[:, :DRAWN]
    each = np.where(missed, (classes - CLASSES - 1) / (DRAWN - 1), (classes - CLASSES) / DRAWN)
    stands = np.broadcast_to(each[:, np.newaxis], drawn.shape)
    stands = np.where(drawn == label[:, np.newaxis], 1.0, stands)
    chosen = np.concatenate([likely, drawn], axis=1)
    copies = np.concatenate([np.ones(likely.shape), stands], axis=1).astype(np.float32)
    sort = chosen.argsort(axis=1)
    return np.take_along_axis(chosen, sort, axis=1), np.take_along_axis(copies, sort, axis=1)


def _normalised(logs: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    """Probabilities of logarithms (n, columns), where a column stands for several classes."""
    logs = logs - logs.max(axis=1, keepdims=True)
    np.exp(logs, out=logs)
    total = logs.sum(axis=1) if copies is None else np.einsum("nc,nc->n", logs, copies)
    logs /= total[:, np.newaxis]
    return np.asarray(logs)


def ordered(members: Members, length: int) -> Iterator[tuple[str, ...]]:
    """Paths of rising cost that begin on the front; later members may be dominated.

    Of more than PATHED candidates only the most promising are on paths: their number grows with
    the third power.
    """
    cost = [members.cost[n] for n in members.names]
    quality = [float(members.quality[n].mean()) for n in members.names]
    starts = {members.names[i] for i in front(cost, quality)}
    by_cost = sorted(members.names, key=lambda n: members.cost[n])
    if len(by_cost) > PATHED:
        by_cost = _promising(by_cost, dict(zip(members.names, quality)))
    for path in itertools.combinations(by_cost, length):
        if path[0] in starts:
            yield path


def _promising(by_cost: list[str], quality: dict[str, float]) -> list[str]:
    """The PATHED candidates that are least below the best of those that cost no more.

    Where more than that many are best at their cost, these, evenly spread from the cheapest to
    the dearest.
    """
    best = np.maximum.accumulate([quality[name] for name in by_cost])
    short = {name: level - quality[name] for name, level in zip(by_cost, best.tolist())}
    leading = [name for name in by_cost if short[name] == 0]
    if len(leading) > PATHED:
        return [leading[i] for i in np.linspace(0, len(leading) - 1, PATHED).round().astype(int)]
    kept = set(sorted(by_cost, key=short.__getitem__)[:PATHED])
    return [name for name in by_cost if name in kept]
