"""One number an image: the same lines of arithmetic for many images and for a single one.

A column is an array (n,) of float64 for many images, and a Python number for a single one. Sums,
products and comparisons are Python's operators in both cases. What has no operator stands here
twice, in `Many` and in `One`, and whoever computes on columns is handed one of the two.

Both give the same bits. Floats add and multiply as float64 arrays do; sums are taken one after the
other (`dot`), never by a reduction, whose order depends on its length; and logarithms and
exponentials are numpy's in both, since the last bit of the C library's may be another.
"""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple, Union

import numpy as np

#: float, int or bool of one image, or an ndarray (n,) of them. Checked types would call for a
#: function each where an operator does.
Column = Any

#: So many weights are written out at most; compiling more takes longer than it saves.
_WRITTEN = 1000

#: Several columns, one after the other.
Columns = List[Column]


class Many:
    """Arithmetic on columns of several images.

    Parameters
    ----------
    count : number of images
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def all(self, value: Union[int, bool]) -> Column:
        """The same for every image; a whole number is a candidate's position."""
        return np.full(self.count, value, np.bool_ if isinstance(value, bool) else np.intp)

    def of(self, values: Any) -> Column:
        """A column of what may be another type of number, or one number for all."""
        return np.asarray(values, np.float64)

    def first(self, column: Column) -> Any:
        """The first image's."""
        return column[0]

    def pick(self, where: Column, this: Column, that: Column) -> Column:
        """This where it holds, that elsewhere."""
        return np.where(where, this, that)

    def at(self, values: Sequence[int], places: Column) -> Column:
        """The value at each image's place."""
        return np.array(values)[places]

    def least(self, this: Column, that: Column) -> Column:
        """The smaller one."""
        return np.minimum(this, that)

    def most(self, this: Column, that: Column) -> Column:
        """The larger one."""
        return np.maximum(this, that)

    def log(self, column: Column) -> Column:
        """Natural logarithm."""
        return np.log(column)

    def logs(self, columns: Columns) -> Columns:
        """Natural logarithms of several columns."""
        return [np.log(column) for column in columns]

    def exps(self, columns: Columns) -> Columns:
        """Exponentials of several columns."""
        return [np.exp(column) for column in columns]

    def rint(self, column: Column) -> Column:
        """The nearest whole number, of two as near the even one; never -0."""
        return np.rint(column) + 0.0

    def draw(self, draws: np.random.Generator) -> Column:
        """A draw from 0..1 for every image."""
        return draws.random(self.count)


class One:
    """Arithmetic on plain numbers, those of a single image."""

    def all(self, value: Union[int, bool]) -> Column:
        """The value itself."""
        return value

    def of(self, values: Any) -> Column:
        """A float of what may be another type of number, or an array that holds one."""
        return values.item() if isinstance(values, np.ndarray) else float(values)

    def first(self, column: Column) -> Any:
        """The number itself."""
        return column

    def pick(self, where: Column, this: Column, that: Column) -> Column:
        """This where it holds, else that."""
        return this if where else that

    def at(self, values: Sequence[int], places: Column) -> Column:
        """The value at the place."""
        return values[places]

    def least(self, this: Column, that: Column) -> Column:
        """The smaller one."""
        return this if this < that else that

    def most(self, this: Column, that: Column) -> Column:
        """The larger one."""
        return this if this > that else that

    def log(self, column: Column) -> Column:
        """Natural logarithm."""
        return float(np.log(column))

    def logs(self, columns: Columns) -> Columns:
        """Natural logarithms of several numbers; from four on one call is quicker."""
        if len(columns) < 4:
            return [float(np.log(column)) for column in columns]
        return np.log(np.array(columns)).tolist()  # type: ignore[no-any-return]

    def exps(self, columns: Columns) -> Columns:
        """Exponentials of several numbers."""
        if len(columns) < 4:
            return [float(np.exp(column)) for column in columns]
        return np.exp(np.array(columns)).tolist()  # type: ignore[no-any-return]

    def rint(self, column: Column) -> Column:
        """The nearest whole number, of two as near the even one."""
        return float(round(column))

    def draw(self, draws: np.random.Generator) -> Column:
        """A draw from 0..1."""
        return draws.random()


#: There is but one of the kind.
ONE = One()


def dot(weights: Sequence[float], columns: Sequence[Column]) -> Column:
    """The sum of weight times column, added up from the first to the last."""
    terms = [weight * column for weight, column in zip(weights, columns)] or [0.0]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def sums(rows: Sequence[Sequence[float]]) -> Callable[..., Sequence[Column]]:
    """A function from columns, an argument each, to the `dot` of every row with them.

    The sums are written out as Python and compiled, which on plain numbers takes a third of the
    time of a loop. Rows that are long, or many, are added up in the loop.

    rows : finite numbers; one that is shorter goes without the last columns
    """
    width = max(map(len, rows), default=0)
    if width * len(rows) > _WRITTEN:
        return lambda *columns: [dot(row, columns) for row in rows]
    names = [f"c{place}" for place in range(width)]
    written = [
        " + ".join(f"{float(w)!r} * {name}" for w, name in zip(row, names)) or "0.0" for row in rows
    ]
    source = f"lambda {', '.join(names)}: ({''.join(f'{row}, ' for row in written)})"
    return eval(source, {"__builtins__": {}})  # type: ignore[no-any-return]  # numbers, no names


def leading(columns: Sequence[Column], math: Union[Many, One]) -> Tuple[Column, Column]:
    """Which column is the highest, of equals the first, and how high it is."""
    place, most = math.all(0), columns[0]
    for number, column in enumerate(columns[1:], 1):
        above = column > most
        place, most = math.pick(above, number, place), math.pick(above, column, most)
    return place, most


def columns_of(matrix: np.ndarray) -> Columns:
    """The columns of an array (n, m), each contiguous."""
    return list(np.ascontiguousarray(np.asarray(matrix, np.float64).T))
