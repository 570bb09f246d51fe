"""The expected gain of going on, learned from the deferral signal and the premodel's chances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, Sequence

import numpy as np

from adaptive.checks import shown, whole
from adaptive.columns import Column, Columns, Many, One, columns_of, sums
from adaptive.errors import InputError
from adaptive.files import Fields

#: Chances are kept this far from 0 and 1 before their log-odds are taken.
_EDGE = 0.02

#: What half a preference is worth, as a chance of being right.
_PREFERENCE = 0.1


#: Columns of `describe` that are the signal's own.
ALONE = 4


def describe(signal: np.ndarray, told: np.ndarray | None = None) -> np.ndarray:
    """What a gain is a linear function of, shape (n, ALONE + 2 m); see `described`.

    Parameters
    ----------
    signal : ndarray (n,), in 0..1
    told : ndarray (n, m), or None
    """
    own, count = np.asarray(signal, np.float64), len(signal)
    found = described(own, [] if told is None else columns_of(told), Many(count))
    columns = np.empty((count, len(found)))
    for place, column in enumerate(found):
        columns[:, place] = column
    return columns


def described(signal: Column, told: Columns, math: Many | One) -> Columns:
    """What a gain is a linear function of, as ALONE + 2 m columns.

    1, s, s^2 and log(s + 0.01) of the signal s, and each number that the premodel told, alone
    and times s: a network that is unsure is worth more help where another is expected to do
    well.

    told : `log_odds` of chances, or probabilities of conditions; none where the signal speaks
        alone
    """
    own = [1.0, signal, signal * signal, math.log(signal + 0.01)]
    return [*own, *told, *[number * signal for number in told]]


def log_odds(chances: np.ndarray) -> np.ndarray:
    """Logarithm of chance over counter-chance, of the same shape, kept from infinity."""
    return np.asarray(odds_of([chances], Many(len(chances)))[0])


def odds_of(chances: Columns, math: Many | One) -> Columns:
    """As `log_odds`, of columns."""
    kept = [math.least(math.most(chance, _EDGE), 1 - _EDGE) for chance in chances]
    return math.logs([own / (1 - own) for own in kept])


@dataclass(eq=False)
class Gain:
    """What going on promises after one path.

    Attributes
    ----------
    path : positions of the candidates that have run
    ways : what may be asked next, each a sequence of positions that ends in the answer
    coefficients : ndarray (len(ways), ALONE + 2 m), for `describe`: by how much a way raises the
        chance of a right answer, less what its cost is worth
    """

    path: tuple[int, ...]
    ways: tuple[tuple[int, ...], ...]
    coefficients: np.ndarray

    def __post_init__(self) -> None:
        self.path = _places(self.path)
        self.ways = tuple(map(_places, _listed(self.ways)))
        try:
            self.coefficients = np.asarray(self.coefficients, np.float64)
        except (TypeError, ValueError) as exc:
            raise InputError("coefficients are not an array of numbers, a row a way") from exc
        if self.coefficients.ndim != 2:
            raise InputError(
                f"coefficients have shape {self.coefficients.shape}; a row a way is needed"
            )
        if self.coefficients.shape[:1] != (len(self.ways),) or not len(self.ways):
            raise InputError(
                f"{len(self.ways)} ways need as many rows of coefficients, got an array of shape "
                f"{self.coefficients.shape}"
            )
        if not np.all(np.isfinite(self.coefficients)):
            raise InputError("a coefficient is not a finite number")
        last = max(self.path, default=-1)
        for way in self.ways:
            if not way or list(way) != sorted(set(way)) or way[0] <= last:
                raise InputError(f"after {list(self.path)} the way {list(way)} does not go forward")

    @cached_property
    def first(self) -> tuple[int, ...]:
        """The next candidate of each way."""
        return tuple(way[0] for way in self.ways)

    @cached_property
    def _sums(self) -> Callable[..., Sequence[Column]]:
        return sums(self.coefficients.tolist())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Gain)
            and (self.path, self.ways) == (other.path, other.ways)
            and np.array_equal(self.coefficients, other.coefficients)
        )

    def __hash__(self) -> int:
        return hash((self.path, self.ways, self.coefficients.tobytes()))

    @property
    def alone(self) -> bool:
        """Whether the signal decides alone, without the premodel."""
        return bool(self.coefficients.shape[1] == ALONE)

    def values(self, described: Columns) -> Sequence[Column]:
        """The gain of each way; see `described`."""
        return self._sums(*described)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "path": list(self.path),
            "ways": [list(way) for way in self.ways],
            "coefficients": self.coefficients.tolist(),
        }

    @classmethod
    def from_json(cls, values: object, where: str) -> Gain:
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            when something is missing or has another type.
        InputError
            for values that do not fit together.
        """
        fields = Fields(values, where)
        rows = [_numbers(row) for row in fields.get("coefficients", list)]
        ways = tuple(_positions(way) for way in fields.get("ways", list))
        path = _positions(fields.get("path", list))
        if len({len(row) for row in rows}) > 1:
            raise InputError(f"{where}: the rows of coefficients differ in length")
        return cls(path, ways, np.array(rows, np.float64))


def bar(preference: float) -> float:
    """What a gain must exceed: above 0 to be fast, below to be accurate; infinite at -1 and 1."""
    if abs(preference) == 1:
        return -np.inf if preference > 0 else np.inf
    return -_PREFERENCE * preference / (1 - abs(preference))


def paths_of(count: int) -> dict[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The ways that lead on from each path through two or three candidates in order."""
    if count == 2:
        return {(0,): ((1,),)}
    if count == 3:
        return {(0,): ((1,), (2,), (1, 2)), (0, 1): ((2,),), (1,): ((2,),)}
    raise InputError(f"gains are learned for two or three candidates, not for {count}")


def _places(values: object) -> tuple[int, ...]:
    return tuple(whole(value, "a position") for value in _listed(values))


def _listed(values: object) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise InputError(f"{shown(values)} is not a list of positions")
    return values


def _positions(values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
        raise InputError(f"{values!r} is not a list of positions")
    return tuple(values)


def _numbers(values: object) -> Sequence[float]:
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        raise InputError(f"{values!r} is not a list of numbers")
    return values
