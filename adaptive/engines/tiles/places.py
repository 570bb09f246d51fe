"""Which rows of a map a tile reads, which it writes, and which tiles a change touches."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from adaptive.engines.tiles.cut import Access, Cut, TileSegment, side_of

#: Rows after a map's own: zeros, lowest numbers, and one that is written and never read.
ZERO, LEAST, ASIDE, MORE = 0, 1, 2, 3


class TileReading:
    """How a segment reads one map.

    Attributes
    ----------
    rows : ndarray (tiles, rows of the window): what each tile reads
    touched : ndarray (positions of the map, most): the tiles that read a position; the number of
        tiles where there are fewer
    shape : of what is gathered for a tile
    """

    def __init__(self, cut: Cut, segment: TileSegment, access: Access, side: int) -> None:
        channels, *whole = cut.shapes[access.base]
        inside = whole[0] * whole[1]
        view = cut.views.get(access.tensor)
        sides = cut.shapes[access.tensor][1:] if view is not None else (whole[0], whole[1])
        lines = [_lines(segment, access, side, axis) for axis in (0, 1)]
        down, across = lines
        outside = inside + (LEAST if access.least else ZERO)
        # (tiles down, tiles across, window down, window across)
        y, x = down[:, None, :, None], across[None, :, None, :]
        place = y * sides[1] + x
        right = (y >= 0) & (y < sides[0]) & (x >= 0) & (x < sides[1])
        if view is not None:
            place = view.source[np.where(right, place, 0)]
        place = np.where(right, place, outside)
        count = place.shape[0] * place.shape[1]
        self.base = access.base
        self.rows = np.ascontiguousarray(place.reshape(count, -1), np.intp)
        window = (down.shape[1], across.shape[1])
        if not segment.rows:
            self.shape: Tuple[int, ...] = (*window, channels)
        elif access.window.plain:
            self.shape = (channels,)
        else:
            self.shape = (window[0] * window[1], channels)
        self.touched = _touched(self.rows, inside)


def _lines(segment: TileSegment, access: Access, side: int, axis: int) -> np.ndarray:
    """Along one axis, what each tile looks at, (tiles, window); outside of the map too."""
    window = access.window
    tiles = np.arange(-(-segment.shape[axis] // side))
    first = tiles * side * window.stride[axis] - window.before[axis]
    if segment.rows:
        steps = np.arange(window.kernel[axis]) * window.dilation[axis]
    else:
        steps = np.arange(window.reach(side)[axis])
    return np.asarray(first[:, None] + steps)


def _touched(rows: np.ndarray, inside: int) -> np.ndarray:
    """For each position of a map, the tiles that read it."""
    count = len(rows)
    tiles = np.repeat(np.arange(count), rows.shape[1])
    flat = rows.ravel()
    pairs = np.unique(flat[flat < inside] * count + tiles[flat < inside])
    places, tiles = pairs // count, pairs % count
    many = np.bincount(places, minlength=inside)
    found = np.full((inside, max(int(many.max(initial=1)), 1)), count, np.intp)
    nth = np.arange(len(pairs)) - np.repeat(np.cumsum(many) - many, many)
    found[places, nth] = tiles
    return found


class Places:
    """Where a segment reads and writes.

    Attributes
    ----------
    count : of tiles
    readings : one for each access
    written : ndarray (tiles, rows): the rows that a tile gives
    whole : whether every one of them lies in the map
    """

    def __init__(self, cut: Cut, segment: TileSegment) -> None:
        side = 1 if segment.rows else side_of(segment.shape)
        self.side = side
        rows, columns = segment.shape
        y, x = (np.arange(-(-sides // side) * side).reshape(-1, side) for sides in segment.shape)
        down, across = y[:, None, :, None], x[None, :, None, :]
        place = np.where((down < rows) & (across < columns), down * columns + across, -1)
        place = np.where(place < 0, rows * columns + ASIDE, place)
        self.count = place.shape[0] * place.shape[1]
        self.written = np.ascontiguousarray(place.reshape(self.count, -1), np.intp)
        self.inside = rows * columns
        self.whole = bool((self.written < self.inside).all())
        self.readings: List[TileReading] = [
            TileReading(cut, segment, access, side) for access in segment.reads
        ]
