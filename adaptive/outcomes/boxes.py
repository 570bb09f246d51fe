"""What detectors found in the images of an outcome table, held against the true boxes.

`X.boxes/NAME.npy` holds a candidate's boxes, image after image, each with its flags of COCO's
matching, and `X.boxes/offsets/NAME.npy` the row at which each image begins, with the end;
`X.boxes/true/boxes.npy` and `offsets.npy` the same of the true boxes. So the average precision of
any mix of candidates is one sum, see `adaptive.tasks.average_precision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import TableError
from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import MOST, SIZES, Matches, Truth, match

#: One box that a candidate found: corners, score, class, and a bit for each overlap by size.
FOUND = np.dtype(
    [
        ("box", "<f4", (4,)),
        ("score", "<f4"),
        ("class", "<i4"),
        ("hits", "<u2", (len(SIZES),)),
        ("ignored", "<u2", (len(SIZES),)),
    ]
)

#: One true box.
TRUE = np.dtype([("box", "<f8", (4,)), ("class", "<i4"), ("crowd", "?"), ("area", "<f8")])


@dataclass(frozen=True, eq=False)
class TableBoxes:
    """The boxes of a table's images.

    Attributes
    ----------
    true : what each image really holds
    found : by candidate, what it found in each image, within a class surest first
    matches : by candidate, the same held against the true boxes
    """

    true: Tuple[TrueBoxes, ...]
    found: Mapping[str, Tuple[Detections, ...]]
    matches: Mapping[str, Matches]

    def __len__(self) -> int:
        return len(self.true)

    @classmethod
    def of(cls, true: Sequence[TrueBoxes], found: Mapping[str, Sequence[Detections]]) -> TableBoxes:
        """Hold each candidate's boxes against the true ones."""
        ordered = {name: tuple(map(_ordered, own)) for name, own in found.items()}
        matches = {name: match(true, own) for name, own in ordered.items()}
        return cls(tuple(true), ordered, matches)

    @property
    def truth(self) -> Truth:
        """The true boxes, as far as counting needs them."""
        return Truth.of(self.true)

    def ranking(self, names: Sequence[str], maps: Mapping[str, Any] | None = None) -> Ranking:
        """The boxes of some candidates, ranked for the average precision of any mix of them.

        maps : by candidate, the ScoreMap that its scores go through; None leaves them as they are
        """
        own = [self.matches[n] if maps is None else maps[n].matches(self.matches[n]) for n in names]
        return Ranking(self.truth, own)

    def select(self, rows: NDArray[np.int64]) -> TableBoxes:
        """Those of some of the images, by rising row numbers."""
        true = tuple(self.true[row] for row in rows.tolist())
        found = {n: tuple(own[row] for row in rows.tolist()) for n, own in self.found.items()}
        matches = {name: own.of_images(rows) for name, own in self.matches.items()}
        return TableBoxes(true, found, matches)

    def write(self, folder: Path) -> None:
        """Write them into a folder that is not there yet."""
        (folder / "offsets").mkdir(parents=True)
        (folder / "true").mkdir()
        for name, own in self.found.items():
            rows = np.zeros(sum(map(len, own)), FOUND)
            matches = self.matches[name]
            rows["box"] = np.concatenate([np.empty((0, 4)), *(one.boxes for one in own)])
            rows["score"], rows["class"] = matches.scores, matches.classes
            rows["hits"], rows["ignored"] = matches.hits.T, matches.ignored.T
            np.save(folder / f"{name}.npy", rows)
            np.save(folder / "offsets" / f"{name}.npy", _offsets(own))
        true = np.zeros(sum(map(len, self.true)), TRUE)
        true["box"] = np.concatenate([np.empty((0, 4)), *(one.boxes for one in self.true)])
        for field in ("class", "crowd", "area"):
            parts = [getattr(one, "classes" if field == "class" else field) for one in self.true]
            true[field] = np.concatenate([np.empty(0, true.dtype[field]), *parts])
        np.save(folder / "true" / "boxes.npy", true)
        np.save(folder / "true" / "offsets.npy", _offsets(self.true))

    @classmethod
    def read(cls, folder: Path, names: Sequence[str], images: int) -> TableBoxes:
        """Read what was written for so many images.

        Raises
        ------
        TableError
            when a file is missing or holds something else.
        """
        rows = _load(folder / "true" / "boxes.npy", TRUE)
        starts = _load_offsets(folder / "true" / "offsets.npy", images, len(rows))
        true = tuple(
            TrueBoxes.of(part["box"], part["class"], part["crowd"], part["area"])
            for part in _parts(rows, starts)
        )
        found: Dict[str, Tuple[Detections, ...]] = {}
        matches: Dict[str, Matches] = {}
        for name in names:
            rows = _load(folder / f"{name}.npy", FOUND)
            starts = _load_offsets(folder / "offsets" / f"{name}.npy", images, len(rows))
            parts = _parts(rows, starts)
            found[name] = tuple(Detections.of(p["box"], p["score"], p["class"]) for p in parts)
            matches[name] = Matches(
                images,
                np.repeat(np.arange(images), np.diff(starts)),
                rows["class"].astype(np.int64),
                np.ascontiguousarray(rows["score"]),
                np.concatenate([np.empty(0, np.int64), *(_rank(p["class"]) for p in parts)]),
                np.ascontiguousarray(rows["hits"].T),
                np.ascontiguousarray(rows["ignored"].T),
            )
        return cls(true, found, matches)


def boxes_folder(path: Path) -> Path:
    """Where the boxes of the table at `path` lie."""
    return path.with_suffix(".boxes")


def _ordered(found: Detections) -> Detections:
    """Boxes class by class, surest first; those that no rule counts are left out."""
    order = np.lexsort((-found.scores, found.classes))
    return found.only(order[_rank(found.classes[order]) < MOST])


def _rank(classes: NDArray[Any]) -> NDArray[np.int64]:
    """How many boxes of its class stand before each; classes rise."""
    first: NDArray[np.int64] = np.searchsorted(classes, classes)
    return np.arange(len(classes)) - first


def _offsets(parts: Sequence[Any]) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return ends


def _parts(rows: NDArray[Any], starts: NDArray[np.int64]) -> List[NDArray[Any]]:
    return [rows[begin:end] for begin, end in zip(starts, starts[1:])]


def _load(file: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    try:
        # Not np.load, which would also open an archive of arrays. It refuses pickles.
        values = np.lib.format.open_memmap(file, mode="r")
    except Exception as exc:  # a damaged header fails in too many ways to list
        why = str(exc).split("\n", 1)[0]
        raise TableError(f"{file} is no array of boxes: {why}") from exc
    if values.dtype != kind or values.ndim != 1:
        raise TableError(f"{file} holds {values.dtype} of shape {values.shape}, which are no boxes")
    return np.array(values)


def _load_offsets(file: Path, images: int, boxes: int) -> NDArray[np.int64]:
    values = _load(file, np.dtype(np.int64))
    rises = len(values) == images + 1 and (np.diff(values) >= 0).all()
    if not rises or values[0] != 0 or values[-1] != boxes:
        raise TableError(
            f"{file} must rise from 0 to {boxes}, in {images + 1} numbers; it has {len(values)}"
        )
    return values
