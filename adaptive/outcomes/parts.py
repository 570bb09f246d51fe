"""Three disjoint parts of a data set: tune, calibrate, test; the same in every command.

An image's part follows from its name and the seed alone, so commands that never meet agree on
it, and adding images moves none of the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError

PARTS = ("tune", "calibrate", "test")


@dataclass(frozen=True)
class Split:
    """Shares of the images that go to each part.

    Premodel and thresholds are learned on "tune", the promise is tested on "calibrate", and
    "test" only reports.
    """

    tune: float = 0.5
    calibrate: float = 0.3
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.tune, self.calibrate, self.test)
        if not all(0 <= s <= 1 for s in shares) or abs(sum(shares) - 1) > 1e-6 or self.tune == 0:
            raise InputError(
                f"a split is three shares >= 0 for tune, calibrate and test that sum to 1, the "
                f"first above 0, not {shares}"
            )

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Split:
        """Read "0.5,0.3,0.2", or "all" to tune on every image."""
        if text == "all":
            return cls(1.0, 0.0, 0.0, seed)
        try:
            shares = [float(cell) for cell in text.split(",")]
        except ValueError:
            shares = []
        if len(shares) != 3:
            raise InputError(f"--split {text!r} is neither 'all' nor three shares like 0.5,0.3,0.2")
        return cls(shares[0], shares[1], shares[2], seed)

    @classmethod
    def from_json(cls, values: Any) -> Split:
        """Read what `to_json` gave."""
        try:
            tune, calibrate, test = (float(values[part]) for part in PARTS)
            return cls(tune, calibrate, test, int(values["seed"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise InputError(f"{values!r} is no split of a data set") from exc

    def to_json(self) -> dict[str, float]:
        """As plain JSON values."""
        return {
            "tune": self.tune,
            "calibrate": self.calibrate,
            "test": self.test,
            "seed": self.seed,
        }

    def rows(self, images: Sequence[str], part: str) -> np.ndarray:
        """Row numbers of the images in one part."""
        if part not in PARTS:
            raise InputError(f"part {part!r} is not one of {list(PARTS)}")
        edges = np.cumsum([self.tune, self.calibrate])
        place = np.array([_place(name, self.seed) for name in images])
        found = np.searchsorted(edges - 1e-12, place, side="right")
        return np.flatnonzero(found == PARTS.index(part))


def taught_split(meta: Mapping[str, Any]) -> Split | None:
    """How images were divided whose first part taught how a table's boxes are read.

    meta : what is told of the table; None where no detector's reading was learnt from its images
    """
    return Split.from_json(meta["split"]) if meta.get("learnt") and meta.get("split") else None


def digest(images: Sequence[str]) -> str:
    """SHA-256 of a set of images by their names, to tell later whether it is the same set."""
    return hashlib.sha256("\0".join(sorted(images)).encode()).hexdigest()


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
