"""One stream's maps: what each layer last gave, position by position."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

import numpy as np

from adaptive.checks import finite, shown
from adaptive.engines.tiles.cut import Cut
from adaptive.engines.tiles.places import LEAST, MORE, ZERO
from adaptive.errors import InputError
from adaptive.files import read_json, write_json

#: What became of a frame.
FILLED, UPDATED, PLAIN, SAME = "filled", "updated", "plain", "same"


class Thresholds:
    """From which difference on a position of a map counts as changed.

    A position has changed where any of its channels differs from what is kept by more than the
    threshold times the deviation of that map's values in the stream's first frame. At 0 every
    difference counts, and the answer is the dense network's.

    Parameters
    ----------
    every : of all maps
    maps : of single maps by name, instead

    Raises
    ------
    InputError
        when one is no number of at least 0.
    """

    def __init__(self, every: float = 0.0, maps: Mapping[str, float] | None = None) -> None:
        if maps is not None and not isinstance(maps, Mapping):
            raise InputError(f"maps {shown(maps)} is no mapping from a map's name to its threshold")
        self.every = _least(every, "every")
        self.maps = {name: _least(value, f"of {name}") for name, value in (maps or {}).items()}

    def __repr__(self) -> str:
        return f"Thresholds({self.every:g}, {self.maps})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thresholds) and (self.every, self.maps) == (
            other.every,
            other.maps,
        )

    def __hash__(self) -> int:
        return hash((self.every, tuple(sorted(self.maps.items()))))

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        write_json(path, {"format": 1, "every": self.every, "maps": self.maps})

    @classmethod
    def read(cls, path: Path) -> Thresholds:
        """Read what `write` has written.

        Raises
        ------
        InputError
            when the file holds no thresholds.
        """
        held = read_json(path, "the thresholds of tiles")
        if not isinstance(held, dict) or held.get("format") != 1 or "every" not in held:
            raise InputError(f"{path} holds no thresholds of tiles of format 1")
        return cls(held["every"], held.get("maps"))

    def of(self, name: str) -> float:
        """A map's threshold."""
        return self.maps.get(name, self.every)


def _least(value: float, what: str) -> float:
    number = finite(value, f"the threshold {what}")
    if number < 0:
        raise InputError(f"the threshold {what} is {number:g}; at least 0 is allowed")
    return number


class TileState:
    """What a stream keeps of one network.

    Parameters
    ----------
    thresholds : from which difference on a position counts
    always : whether tiles run where they do not pay, too

    Attributes
    ----------
    frames : how many were answered
    counts : by what became of them
    what : became of the last frame
    pixels : positions of the input that counted as changed in the last frame, row by row
    shares : for each segment of the last frame, the share of its tiles that ran
    """

    def __init__(self, thresholds: Thresholds, always: bool = False) -> None:
        self.thresholds = thresholds
        self.always = always
        self.counts: Dict[str, int] = dict.fromkeys((FILLED, UPDATED, PLAIN, SAME), 0)
        self.shares: List[float] = []
        self.what = ""
        self.pixels = np.zeros(0, np.intp)
        self.reset()

    def count(self, what: str) -> None:
        """Note what became of a frame."""
        self.what = what
        self.counts[what] += 1

    @property
    def frames(self) -> int:
        """How many frames were answered."""
        return sum(self.counts.values())

    @property
    def bytes(self) -> int:
        """Memory that the stream's maps take."""
        return sum(rows.nbytes for rows in self.rows.values()) + (
            0 if self.frame is None else self.frame.nbytes
        )

    def reset(self) -> None:
        """Forget all maps: the next frame is computed in full."""
        self.frame: np.ndarray | None = None
        self.rows: Dict[str, np.ndarray] = {}
        self.limits: Dict[str, float] = {}
        self.outputs: List[np.ndarray] = []
        self.valid = False
        self.wait = 0  # frames that are answered plainly before tiles are tried again
        self.patience = 0  # how many the next wait has
        self.good = 0  # frames in a row that paid; below 0, that did not
        self.profile: List[float] = []  # shares of the last update

    def begin(self, cut: Cut) -> None:
        """Make the maps, empty."""
        for name in (cut.source, *(name for s in cut.segments for name in s.outputs)):
            channels, height, width = cut.shapes[name]
            rows = np.zeros((height * width + MORE, channels), cut.types[name])
            if rows.dtype.kind == "f":
                rows[height * width + LEAST] = -np.inf
            rows[height * width + ZERO] = 0
            self.rows[name] = rows

    def measure(self, names: Sequence[str]) -> None:
        """Take each map's deviation from what it holds, for its limit."""
        for name in names:
            limit = self.thresholds.of(name)
            if limit:
                values = self.rows[name][:-MORE]
                step = max(1, len(values) // 512)  # 512 positions tell a deviation
                with np.errstate(invalid="ignore"):
                    limit *= float(values[::step].astype(np.float32).std())
            # a map with infinities has no deviation; there every difference counts
            self.limits[name] = limit if math.isfinite(limit) else 0.0
