"""Which features are worth computing: the papers' selection, and one that knows what they cost.

How good a set of features is, is the mean over candidates of the area under the ROC curve of
"this candidate is right", where an image's score is the mean outcome of its 50 nearest
neighbours among the images of the other four of five parts, over three ways to make the parts;
in points, 100 times the area, so 50 is chance and 100 the oracle.

Why this and not the accuracy of the choice: accuracy is decided by a few votes and by thresholds
that `tune` sets anew later, it moves by whole points from one seed to the next, and where one
candidate is best most of the time it is flat. The area asks what policies need, whether images
are ranked, and uses every image for every candidate. Neighbours stand in for every classifier,
since they need no fitting: distances are sums over features.

The scores are of the images that the selection looked at, so the best of many is too high: see
it as an order, and judge the premodel on other images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.features.cost import cost_ms
from adaptive.premodel.calibration import parts_of
from adaptive.premodel.scaling import Scaling
from adaptive.premodel.scoring import mean_area

#: of two features whose |Pearson r| is above, one goes; Taylor et al. 2018, section 3.3
CORRELATED = 0.75

#: at most so many images are looked at, drawn with the seed
MOST_ROWS = 2500

NEIGHBOURS = 50
FOLDS = 5
REPEATS = 3

#: points that a step of the cost-aware selection must be worth
LEAST_GAIN = 0.1


@dataclass(frozen=True)
class SelectionStep:
    """One step of a selection.

    Attributes
    ----------
    action : "drop" (correlated), "start", "remove", "add" or "stop"
    feature : which one, or None for "start" and "stop"
    score : points of the features that are left
    ms : what these cost, where it is known
    why : in words
    """

    action: str
    feature: str | None
    score: float | None
    ms: float | None
    why: str

    def __str__(self) -> str:
        score = "" if self.score is None else f"{self.score:6.2f} points"
        cost = "" if self.ms is None else f", {self.ms:.3f} ms"
        return f"{self.action:6} {self.feature or '':26} {score}{cost}  {self.why}".rstrip()


@dataclass(frozen=True)
class Selection:
    """The features that were chosen, and how.

    Attributes
    ----------
    features : in the order in which they were given
    steps : the path
    rows : images that were looked at
    evaluations : sets of features that were scored
    ms_per_point : the exchange rate, for the cost-aware one
    """

    features: tuple[str, ...]
    steps: tuple[SelectionStep, ...] = field(repr=False)
    rows: int
    evaluations: int
    ms_per_point: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "features": list(self.features)}


class SubsetEvaluation:
    """Scores sets of features on the same images, parts and neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, features), finite; every column varies
    outcomes : ndarray of shape (n, candidates), 0 or 1
    seed : of the images, where there are more than MOST_ROWS, and of the parts
    """

    def __init__(self, X: np.ndarray, outcomes: np.ndarray, seed: int = 0) -> None:
        if len(X) < 4 * FOLDS:
            raise InputError(
                f"{len(X)} images are too few to select features; at least {4 * FOLDS} are needed"
            )
        rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:MOST_ROWS])
        # single precision is enough to rank neighbours for a score
        points = Scaling.fit("standard", X[rows]).grid(X[rows])
        spread = points.std(axis=0)
        if not (spread > 0).all():
            raise InputError("a feature has the same value on all images that were drawn")
        self._points = (points / spread).astype(np.float32)
        self._outcomes = outcomes[rows].astype(np.float32)
        ways = [parts_of(len(rows), FOLDS, seed + repeat) for repeat in range(REPEATS)]
        self._parts = [
            (np.flatnonzero(part != p), np.flatnonzero(part == p))
            for part in ways
            for p in range(FOLDS)
        ]
        self.rows = len(rows)
        self.known: dict[tuple[int, ...], float] = {}

    def score(self, columns: Sequence[int]) -> float:
        """Points, 0 to 100, of a set of features; 50 for none."""
        key = tuple(sorted(columns))
        if not key:
            return 50.0
        if key not in self.known:
            self.known[key] = 100 * float(np.mean([self._area(key, *part) for part in self._parts]))
        return self.known[key]

    def _area(self, columns: tuple[int, ...], seen: np.ndarray, held: np.ndarray) -> float:
        points = self._points[:, columns]
        table, asked = points[seen], points[held]
        ranks = asked @ table.T
        ranks *= -2
        ranks += np.einsum("ij,ij->i", table, table)
        k = min(NEIGHBOURS, len(seen) // 4)
        near = np.argpartition(ranks, k - 1, axis=1)[:, :k]
        chances = self._outcomes[seen].take(near, axis=0).mean(axis=1)
        return mean_area(chances, self._outcomes[held])


def drop_correlated(
    X: np.ndarray, names: Sequence[str], limit: float = CORRELATED
) -> list[tuple[str, str, float]]:
    """Features to leave out so that no two are left with |Pearson r| above `limit`.

    Taylor et al. 2018 (doi 10.1145/3211332.3211336) keep one of each such pair and do not say
    which. Here the pair with the highest |r| comes first, and of it the one goes that has the
    higher mean |r| with all that are left (Kuhn and Johnson 2013, "Applied Predictive Modeling",
    section 3.5; `findCorrelation` of R's caret); of equals the later column.

    Returns
    -------
    list of (feature that goes, the one that it is like, r), in this order
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.nan_to_num(np.atleast_2d(np.corrcoef(X, rowvar=False)))
    size = np.abs(r)
    np.fill_diagonal(size, 0)
    left = list(range(len(names)))
    gone = []
    while len(left) > 1:
        within = size[np.ix_(left, left)]
        first, second = np.unravel_index(int(within.argmax()), within.shape)
        if within[first, second] <= limit:
            break
        mean = within.mean(axis=1)
        first, second = min(first, second), max(first, second)
        loser, other = (first, second) if mean[first] > mean[second] + 1e-12 else (second, first)
        gone.append((names[left[loser]], names[left[other]], float(r[left[loser], left[other]])))
        del left[loser]
    return gone


def select(
    X: np.ndarray,
    outcomes: np.ndarray,
    names: Sequence[str],
    seed: int = 0,
    progress: Callable[[SelectionStep | None], None] = lambda step: None,
    feature_ms: Mapping[str, float] | None = None,
) -> Selection:
    """The papers' selection: drop correlated features, then remove greedily.

    Taylor et al. 2018 and Marco et al. 2020 (doi 10.1145/3371154): after `drop_correlated`, the
    feature without which the score is highest goes, again and again, until the score drops.

    Parameters
    ----------
    X, outcomes : as for `SubsetEvaluation`
    names : of the columns of X
    seed : of images and parts
    progress : called with None after each evaluation and with each `SelectionStep`
    feature_ms : only to tell what the sets cost

    Raises
    ------
    InputError
        for too few images.
    """
    path = _Path(X, outcomes, names, seed, progress, feature_ms)
    for gone, like, r in drop_correlated(X, names):
        path.left.remove(names.index(gone))
        path.note("drop", gone, None, f"r = {r:.2f} with {like}")
    score = path.score(path.left)
    path.note("start", None, score, f"{len(path.left)} features")
    while len(path.left) > 1:
        scores = {column: path.score([c for c in path.left if c != column]) for column in path.left}
        # of equally dispensable ones the last goes
        gone_column = max(reversed(path.left), key=lambda column: scores[column])
        if scores[gone_column] < score:
            path.note("stop", None, score, "removing any other lowers the score")
            break
        path.left.remove(gone_column)
        gain, score = scores[gone_column] - score, scores[gone_column]
        path.note("remove", names[gone_column], score, f"{gain:+.2f}")
    return path.done()


def select_by_cost(
    X: np.ndarray,
    outcomes: np.ndarray,
    names: Sequence[str],
    feature_ms: Mapping[str, float],
    ms_per_point: float,
    seed: int = 0,
    progress: Callable[[SelectionStep | None], None] = lambda step: None,
) -> Selection:
    """The set with the most points after its milliseconds are paid for.

    Worth is points - milliseconds / `ms_per_point`. From no feature, the one is added or removed
    that raises the worth most, until none raises it by LEAST_GAIN (sequential floating selection,
    Pudil et al. 1994, doi 10.1016/0167-8655(94)90127-9, with a price). What a set costs is
    `cost_ms`, so the second hue is free once the first one is paid for. If no feature is worth
    its time, the single one with the most worth is chosen, and the steps say so.

    Parameters
    ----------
    feature_ms : measured milliseconds of every feature, from the outcome table
    ms_per_point : milliseconds that one point of mean area is worth
    others : as in `select`

    Raises
    ------
    InputError
        for a feature without a time, a rate that is not above 0, or too few images.
    """
    missing = [name for name in names if name not in feature_ms]
    if missing:
        raise InputError(
            f"the times of {missing} are not known; profile again to measure each feature, or use "
            "--features auto"
        )
    if not 0 < ms_per_point < float("inf"):
        raise InputError(f"{ms_per_point} ms a point is not a finite number above 0")
    path = _Path(X, outcomes, names, seed, progress, feature_ms, ms_per_point)

    def worth(columns: Sequence[int]) -> float:
        return path.score(columns) - path.ms(columns) / ms_per_point

    path.left = []
    best = worth(path.left)
    path.note("start", None, best, "no feature: chance")
    while True:
        moves = [[*path.left, c] for c in range(len(names)) if c not in path.left]
        if len(path.left) > 1:
            moves += [[c for c in path.left if c != gone] for gone in path.left]
        if not moves:
            break
        worths = [worth(move) for move in moves]
        place = int(np.argmax(worths))
        forced = not path.left and worths[place] < best + LEAST_GAIN
        if worths[place] < best + LEAST_GAIN and not forced:
            path.note("stop", None, path.score(path.left), "no step is worth its time")
            break
        move = moves[place]
        added = len(move) > len(path.left)
        (changed,) = set(move) ^ set(path.left)
        why = f"worth {worths[place] - best:+.2f} points after its time"
        if forced:
            why += "; no feature pays for its time, and a premodel needs one"
        path.left, best = move, worths[place]
        path.note("add" if added else "remove", names[changed], path.score(move), why)
    return path.done()


class _Path:
    """What both selections keep: the features that are left, and the steps so far."""

    def __init__(
        self,
        X: np.ndarray,
        outcomes: np.ndarray,
        names: Sequence[str],
        seed: int,
        progress: Callable[[SelectionStep | None], None],
        feature_ms: Mapping[str, float] | None,
        ms_per_point: float | None = None,
    ) -> None:
        self.names = names
        self.left = list(range(len(names)))
        self.steps: list[SelectionStep] = []
        self._evaluation = SubsetEvaluation(X, outcomes, seed)
        self._progress = progress
        known = feature_ms is not None and all(name in feature_ms for name in names)
        self._feature_ms = feature_ms if known else None
        self._ms_per_point = ms_per_point

    def score(self, columns: Sequence[int]) -> float:
        points = self._evaluation.score(columns)
        self._progress(None)
        return points

    def ms(self, columns: Sequence[int]) -> float:
        assert self._feature_ms is not None
        return cost_ms([self.names[c] for c in columns], self.names, self._feature_ms)

    def note(self, action: str, feature: str | None, score: float | None, why: str) -> None:
        ms = None if self._feature_ms is None else self.ms(self.left)
        self.steps.append(SelectionStep(action, feature, score, ms, why))
        self._progress(self.steps[-1])

    def done(self) -> Selection:
        return Selection(
            tuple(self.names[column] for column in sorted(self.left)),
            tuple(self.steps),
            self._evaluation.rows,
            len(self._evaluation.known),
            self._ms_per_point,
        )
