"""The k nearest rows of a table, exactly: ties at the k-th distance go to the lower row number.

All coordinates are whole numbers on the grid of `scaling`, so every comparison here is between
exact numbers; see there.
"""

from __future__ import annotations

import functools
import logging
from typing import Protocol

import numpy as np

#: up to so many rows, comparing them all is fast; above, a tree pays where it works at all
BRUTE_ROWS = 10_000

#: with more features a tree visits most of its leaves
TREE_FEATURES = 10

#: up to so many neighbours, taking the smallest k times beats partitioning
FEW = 16

#: of one image's distances one in so many tells how far to look
STRIDE = 8

#: distances held at a time, 16 MB
BLOCK = 1 << 21

logger = logging.getLogger("adaptive.premodel")


class NeighbourSearch(Protocol):
    """A table that can be asked for the nearest rows."""

    def nearest(self, queries: np.ndarray, k: int) -> np.ndarray:
        """The k nearest rows of each query, sorted by distance, then by row number.

        Parameters
        ----------
        queries : ndarray of shape (n, features), float64, on the grid
        k : at most the number of rows

        Returns
        -------
        ndarray of shape (n, k), int64
        """


class BruteForce:
    """Compare with every row, by one matrix product.

    Rows are ranked by |a|^2 / 2 - ab, half the squared distance less a constant of the query.
    Half steps up to 512 * 2**43 are exact in float64.

    Parameters
    ----------
    table : ndarray of shape (rows, features), whole numbers
    """

    def __init__(self, table: np.ndarray) -> None:
        points = table.astype(np.float64)
        half = np.einsum("ij,ij->i", points, points) / 2
        self._columns = np.ascontiguousarray(np.vstack([points.T, half]))

    def nearest(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See `NeighbourSearch`; memory is bounded whatever the number of queries."""
        signed = np.empty((len(queries), queries.shape[1] + 1))
        np.negative(queries, out=signed[:, :-1])
        signed[:, -1] = 1.0
        select = _smallest_few if k <= FEW else _smallest_many
        step = max(1, BLOCK // self._columns.shape[1])
        if len(signed) <= step:
            return select(signed @ self._columns, k)
        near = np.empty((len(signed), k), np.int64)
        for start in range(0, len(signed), step):
            near[start : start + step] = select(signed[start : start + step] @ self._columns, k)
        return near


class KDTree:
    """A k-d tree, for many rows of few features; needs scipy.

    The tree's own sums of squares are whole numbers too, hence exact, but which of several rows
    at the k-th distance it returns is not stated: it is asked for one more, and where that one
    is as near as the k-th, for everything up to there.

    Parameters
    ----------
    table : ndarray of shape (rows, features), whole numbers; more rows than k will ever be
    """

    def __init__(self, table: np.ndarray) -> None:
        from scipy.spatial import cKDTree  # 0.15 s: only where it earns it

        self._points = table.astype(np.float64)
        self._tree = cKDTree(self._points)

    def nearest(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See `NeighbourSearch`."""
        near = np.empty((len(queries), k), np.int64)
        asked = min(k + 1, len(self._points))
        step = max(1, BLOCK // (asked * queries.shape[1]))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            rows = np.asarray(self._tree.query(block, k=asked)[1]).reshape(len(block), asked)
            squares = ((self._points[rows] - block[:, None, :]) ** 2).sum(axis=2)
            order = np.lexsort((rows, squares), axis=1)
            near[start : start + step] = np.take_along_axis(rows, order[:, :k], axis=1)
            if asked > k:
                squares = np.take_along_axis(squares, order, axis=1)
                for tied in np.flatnonzero(squares[:, k - 1] == squares[:, k]):
                    near[start + tied] = self._within(block[tied], squares[tied, k], k)
        return near

    def _within(self, query: np.ndarray, square: float, k: int) -> np.ndarray:
        radius = float(np.sqrt(square)) * (1 + 1e-9)
        rows = np.sort(np.asarray(self._tree.query_ball_point(query, radius), np.int64))
        squares = ((self._points[rows] - query) ** 2).sum(axis=1)
        return rows[np.argsort(squares, kind="stable")[:k]]


def search_for(table: np.ndarray) -> NeighbourSearch:
    """The fastest exact search for a table; one that will be slow is logged, once."""
    rows, features = table.shape
    if rows <= BRUTE_ROWS:
        return BruteForce(table)
    if features > TREE_FEATURES:
        _warn_once(
            f"a premodel of more than {BRUTE_ROWS:,} rows and {TREE_FEATURES} features compares "
            "each image with every row, which is slow; use fewer of either"
        )
        return BruteForce(table)
    try:
        return KDTree(table)
    except ImportError:
        _warn_once(
            f"a premodel of more than {BRUTE_ROWS:,} rows compares each image with every row, "
            "which is slow, because scipy is not installed"
        )
        return BruteForce(table)


@functools.lru_cache(maxsize=None)
def _warn_once(sentence: str) -> None:
    logger.warning(sentence)


def _smallest_few(ranks: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k smallest in each row; `argmin` prefers the first. Overwrites `ranks`."""
    near = np.empty((len(ranks), k), np.int64)
    if len(ranks) == 1:  # one live image: the same without the cost of indexing in two dimensions
        line, found = ranks[0], near[0]
        for position in range(k):
            found[position] = smallest = line.argmin()
            line[smallest] = np.inf
        return near
    every = np.arange(len(ranks))
    for position in range(k):
        near[:, position] = smallest = ranks.argmin(axis=1)
        ranks[every, smallest] = np.inf
    return near


def _at_least(line: np.ndarray, k: int) -> np.ndarray:
    """Positions, rising, of the k smallest and of whatever else is as small as the last of them.

    There may be more. Every STRIDE-th number tells about how far the k smallest reach, and what
    is beyond that need not be looked at again; only where that was too near all are partitioned.
    """
    sample = line[::STRIDE].copy()
    rank = 2 * k // STRIDE + 8
    if rank < len(sample):
        sample.partition(rank)
        few: np.ndarray = (line <= sample[rank]).nonzero()[0]
        if len(few) >= k:
            return few
    most = line[np.argpartition(line, k - 1)[:k]].max()
    return np.flatnonzero(line <= most)


def _smallest_many(ranks: np.ndarray, k: int) -> np.ndarray:
    """The same as `_smallest_few`, for any k."""
    if len(ranks) == 1:  # one live image: the same without the cost of indexing in two dimensions
        line = ranks[0]
        few = _at_least(line, k)
        return np.asarray(few[line[few].argsort(kind="stable")[:k]][np.newaxis])
    near = np.argpartition(ranks, k - 1, axis=1)[:, :k]
    last = np.take_along_axis(ranks, near, axis=1).max(axis=1)
    within = np.count_nonzero(ranks <= last[:, None], axis=1)
    for row in np.flatnonzero(within > k):
        columns = np.flatnonzero(ranks[row] <= last[row])
        near[row] = columns[np.argsort(ranks[row, columns], kind="stable")[:k]]
    near.sort(axis=1)
    order = np.argsort(np.take_along_axis(ranks, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def condensed_rows(rows: int, features: int) -> np.ndarray | None:
    """Which rows of a table to keep, ascending; None where no fast search needs fewer.

    The same ones for the same numbers.
    """
    if rows <= BRUTE_ROWS or features <= TREE_FEATURES:
        return None
    return np.sort(np.random.default_rng(0).permutation(rows)[:BRUTE_ROWS])
