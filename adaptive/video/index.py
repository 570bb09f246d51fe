"""An index of what was seen: which objects look alike, what they may be, where and when.

A folder of two files: `index.sqlite` with classes, clusters, sightings and times, and
`centroids.f16`, an array with a row of 16-bit features a centroid. A row is written before what
names it, and what belongs together is one transaction: whenever the process that writes is killed,
the index can be read and gone on with.
"""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.checks import a_path, chosen, finite, whole
from adaptive.errors import BundleError, InputError
from adaptive.files import Fields, check_format
from adaptive.opencv import cv2

FORMAT = 1
DATABASE, CENTROIDS = "index.sqlite", "centroids.f16"

#: Kinds of clips.
CLIP, CAMERA = "clip", "camera"

#: Ways to objects.
MOVING, BOXES = "moving", "boxes"

SCHEMA = """
CREATE TABLE about (settings TEXT NOT NULL);
CREATE TABLE clip (
    id INTEGER PRIMARY KEY, camera TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    path TEXT NOT NULL, print TEXT NOT NULL, start_s REAL NOT NULL, until_s REAL NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL,
    frames INTEGER NOT NULL, looked INTEGER NOT NULL, objects INTEGER NOT NULL,
    done INTEGER NOT NULL
);
CREATE TABLE picture (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE centroid (
    id INTEGER PRIMARY KEY, picture INTEGER NOT NULL,
    x1 INTEGER NOT NULL, y1 INTEGER NOT NULL, x2 INTEGER NOT NULL, y2 INTEGER NOT NULL
);
CREATE TABLE cluster (
    id INTEGER PRIMARY KEY, class INTEGER NOT NULL, centroid INTEGER NOT NULL,
    used INTEGER NOT NULL
);
CREATE TABLE sighting (
    id INTEGER NOT NULL, cluster INTEGER NOT NULL, clip INTEGER NOT NULL,
    last_frame INTEGER NOT NULL, from_s REAL NOT NULL, to_s REAL NOT NULL, runs BLOB NOT NULL,
    PRIMARY KEY (cluster, id)
) WITHOUT ROWID;
CREATE INDEX cluster_class ON cluster (class);
CREATE INDEX cluster_centroid ON cluster (centroid);
CREATE INDEX centroid_picture ON centroid (picture);
CREATE INDEX sighting_id ON sighting (id);
CREATE INDEX sighting_clip ON sighting (clip, last_frame);
"""

#: A run of frames in which an object of a cluster was seen. A row of `sighting` holds, as bytes,
#: those of one cluster that one transaction added.
RUN = np.dtype(
    [("first", "<i8"), ("last", "<i8"), ("from_s", "<f8"), ("to_s", "<f8"), ("box", "<i4", (4,))]
)


@dataclass(frozen=True)
class IndexSettings:
    """How an index is made; all that goes into one index is made alike.

    Parameters
    ----------
    labels : class names, in the order of the networks' outputs
    candidates : whose likeliest classes an object is filed under
    prints : of each candidate, the SHA-256 of its network
    width : numbers of an object's features
    objects : "moving", found before a learnt background and asked about one by one; or "boxes" of
        detectors
    k : classes of an object that each candidate names, at most
    least : score from which a detector's box is an object; 0 for "moving"
    threshold : largest distance of an object from its cluster's centroid
    gate : between frames, as `FrameGate.parse` reads it; "" looks at all frames
    every : of the frames that the gate lets through, detectors look at each so-many-th; those
        between show what the last one did

    Raises
    ------
    InputError
        when one of them is not what it is to be.
    """

    labels: Tuple[str, ...]
    candidates: Tuple[str, ...]
    prints: Tuple[str, ...]
    width: int
    objects: str = BOXES
    k: int = 2
    least: float = 0.1
    threshold: float = 0.1
    gate: str = "difference:25:0.01:1"
    every: int = 1

    def __post_init__(self) -> None:
        if not self.labels or not self.candidates or len(self.candidates) != len(self.prints):
            raise InputError("an index needs classes, and candidates with their networks' SHA-256")
        chosen(self.objects, "objects", (MOVING, BOXES))
        whole(self.width, "width", 1)
        whole(self.k, "k", 1)
        if whole(self.every, "every", 1) > 1 and self.objects == MOVING:
            raise InputError(
                f"every {self.every} is for detectors; what moves is told from all frames"
            )
        if not 0 <= finite(self.least, "least") <= 1:
            raise InputError(f"least {self.least} is no score between 0 and 1")
        if finite(self.threshold, "threshold") < 0:
            raise InputError(f"threshold {self.threshold} is no distance >= 0")

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values, with the format's number."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Dict[str, Any], where: str) -> IndexSettings:
        """As `to_json` wrote it.

        Raises
        ------
        BundleError
            when it is of a newer format, or not what it is to be.
        """
        fields = Fields(values, where)
        check_format(fields, FORMAT)
        return cls(
            fields.texts("labels"),
            fields.texts("candidates"),
            fields.texts("prints"),
            fields.get("width", int),
            fields.get("objects", str),
            fields.get("k", int),
            fields.get("least", float),
            fields.get("threshold", float),
            fields.get("gate", str),
            fields.get("every", int, default=1),
        )

    def differs(self, other: IndexSettings) -> str | None:
        """The first thing in which two settings differ, in words; None where they do not."""
        long = {"labels": "other classes", "prints": "other networks' files"}
        for name in self.__dataclass_fields__:
            own, its = getattr(self, name), getattr(other, name)
            if own != its:
                return long.get(name, f"{name} {own!r} and not {its!r}")
        return None


class Clip(NamedTuple):
    """A clip, or one run of a camera.

    camera : whose it is
    kind : "clip" or "camera"
    path : of the file, or the camera's address
    print : of the file, to know it again
    start_s : what is added to its own times: seconds since 1970, or 0 where nobody said
    until_s : up to where it is in the index, its own time
    frames : up to which it is in the index
    looked : of these, how many the gate let through
    objects : that were found in those
    done : whether it is whole
    """

    id: int
    camera: str
    name: str
    kind: str
    path: str
    print: str
    start_s: float
    until_s: float
    width: int
    height: int
    frames: int
    looked: int
    objects: int
    done: bool


class Sightings(NamedTuple):
    """Runs of frames in which an object of a cluster was seen; arrays, one entry a run.

    boxes : ndarray (n, 4): around all that was seen of it, pixels of the frame
    """

    clusters: np.ndarray
    clips: np.ndarray
    first_frames: np.ndarray
    last_frames: np.ndarray
    from_s: np.ndarray
    to_s: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.clusters)


class VideoIndex:
    """What was seen, for reading; another process may write to it meanwhile.

    Use it in a `with` statement.

    Parameters
    ----------
    folder : of an index

    Raises
    ------
    InputError
        when there is no index, or it is of a newer format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = a_path(folder, "an index")
        self._base = connect(self.folder)
        try:
            self.settings = read_settings(self._base, self.folder)
        except BaseException:
            self._base.close()
            raise

    def __enter__(self) -> VideoIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its files."""
        self._base.close()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever is written meanwhile."""
        with translated(self.folder):
            self._base.execute("BEGIN")
            try:
                yield
            finally:
                self._base.rollback()

    def clips(self) -> List[Clip]:
        """All clips, in the order in which they came."""
        with translated(self.folder):
            return read_clips(self._base)

    def classes(self) -> Dict[int, int]:
        """By class, how many clusters are filed under it."""
        with translated(self.folder):
            rows = self._base.execute("SELECT class, count(*) FROM cluster GROUP BY class")
            return dict(rows.fetchall())

    def clusters(
        self,
        kinds: Sequence[int],
        clips: Sequence[int] | None = None,
        from_s: float = -math.inf,
        to_s: float = math.inf,
    ) -> List[Tuple[int, int]]:
        """(cluster, centroid) of these classes of which something was seen in these clips then.

        from_s, to_s : with each clip's `start_s`
        """
        where, values = _range(clips, from_s, to_s)
        found: Dict[int, int] = {}
        with translated(self.folder):
            for kind in kinds:
                rows = self._base.execute(
                    "SELECT id, centroid FROM cluster WHERE class = ? AND EXISTS (SELECT 1 FROM "
                    "sighting JOIN clip ON clip.id = sighting.clip "
                    f"WHERE sighting.cluster = cluster.id{where}) ORDER BY id",
                    (kind, *values),
                )
                found.update(rows.fetchall())
        return sorted(found.items())

    def pictures(self, centroids: Sequence[int]) -> List[Tuple[int, List[int], np.ndarray]]:
        """Which pictures show these centroids: (picture, centroids, boxes (k, 4) of those)."""
        found: Dict[int, List[Tuple[int, ...]]] = {}
        with translated(self.folder):
            for centroid in centroids:
                row = self._base.execute(
                    "SELECT picture, id, x1, y1, x2, y2 FROM centroid WHERE id = ?", (centroid,)
                ).fetchone()
                found.setdefault(row[0], []).append(row[1:])
        return [
            (picture, [row[0] for row in rows], np.array([row[1:] for row in rows], np.int64))
            for picture, rows in sorted(found.items())
        ]

    def picture(self, number: int) -> np.ndarray:
        """A picture of `pictures`, ndarray (height, width, 3), uint8, RGB.

        Raises
        ------
        InputError
            when it is damaged.
        """
        with translated(self.folder):
            row = self._base.execute("SELECT jpeg FROM picture WHERE id = ?", (number,)).fetchone()
        pixels = None
        if row is not None:
            pixels = cv2.imdecode(np.frombuffer(row[0], np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise InputError(f"{self.folder}: picture {number} is damaged")
        return np.ascontiguousarray(pixels[..., ::-1])

    def sightings(
        self,
        clusters: Sequence[int],
        clips: Sequence[int] | None = None,
        from_s: float = -math.inf,
        to_s: float = math.inf,
    ) -> Sightings:
        """What was seen of clusters, by clip and time."""
        where, values = _range(clips, from_s, to_s)
        parts: List[np.ndarray] = [np.empty(0, RUN)]
        about: List[Tuple[int, int, float]] = [(0, 0, 0.0)]
        with translated(self.folder):
            starts = {clip.id: clip.start_s for clip in read_clips(self._base)}
            for cluster in clusters:
                for clip, runs in self._base.execute(
                    "SELECT clip, runs FROM sighting JOIN clip ON clip.id = sighting.clip "
                    f"WHERE cluster = ?{where}",
                    (cluster, *values),
                ):
                    parts.append(np.frombuffer(runs, RUN))
                    about.append((cluster, clip, starts[clip]))
        found = np.concatenate(parts)
        counts = [len(part) for part in parts]
        own, of, start_s = (np.repeat(np.array(column), counts) for column in zip(*about))
        keep = (found["to_s"] + start_s > from_s) & (found["from_s"] + start_s < to_s)
        found, own, of = found[keep], own[keep], of[keep]
        order = np.lexsort((found["last"], found["first"], of))
        found, boxes = found[order], found["box"][order].astype(np.int64)
        frames, times = (found["first"], found["last"]), (found["from_s"], found["to_s"])
        return Sightings(own[order], of[order], *frames, *times, boxes)


def _range(
    clips: Sequence[int] | None, from_s: float, to_s: float
) -> Tuple[str, Tuple[float, ...]]:
    """More of a WHERE: sightings of these clips in this time."""
    where, values = "", []
    if clips is not None:
        where += f" AND sighting.clip IN ({', '.join(str(int(clip)) for clip in clips)})"
    if from_s > -math.inf:
        where += " AND sighting.to_s + clip.start_s > ?"
        values.append(from_s)
    if to_s < math.inf:
        where += " AND sighting.from_s + clip.start_s < ?"
        values.append(to_s)
    return where, tuple(values)


def connect(folder: Path, write: bool = False) -> sqlite3.Connection:
    """An index's database, open.

    Raises
    ------
    InputError
        when there is none.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise InputError(
            f"{folder} is no index of video; `adaptive video index CLIP -o {folder}` makes one"
        )
    with translated(folder):
        if write:
            return sqlite3.connect(str(path), timeout=30.0, isolation_level=None)
        address = path.resolve().as_uri()
        base = sqlite3.connect(f"{address}?mode=ro", timeout=30.0, isolation_level=None, uri=True)
        try:
            base.execute("SELECT count(*) FROM about").fetchone()
        except sqlite3.OperationalError as exc:
            base.close()
            if "unable to open" not in str(exc):
                raise
            # a folder that may not be written to, and nobody writes: the file is all there is
            base = sqlite3.connect(f"{address}?mode=ro&immutable=1", isolation_level=None, uri=True)
        return base


def read_settings(base: sqlite3.Connection, folder: Path) -> IndexSettings:
    """What an index was made with.

    Raises
    ------
    BundleError
        when it is of a newer format, or damaged.
    """
    with translated(folder):
        row = base.execute("SELECT settings FROM about").fetchone()
    try:
        values = json.loads(row[0])
    except (TypeError, ValueError) as exc:
        raise BundleError(f"{folder / DATABASE} does not say how it was made: {exc}") from exc
    return IndexSettings.from_json(values, str(folder / DATABASE))


def read_clips(base: sqlite3.Connection) -> List[Clip]:
    """All clips of a database."""
    names = ", ".join(Clip._fields)
    rows = base.execute(f"SELECT {names} FROM clip ORDER BY id").fetchall()
    return [Clip._make((*row[:-1], bool(row[-1]))) for row in rows]


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Have SQLite's errors say which index it is, and what is the matter."""
    try:
        yield
    except sqlite3.Error as exc:
        said = str(exc)
        if "disk is full" in said or "disk I/O" in said:
            raise OSError(28, f"there is no room ({said})", str(folder)) from exc
        raise InputError(f"{folder / DATABASE} cannot be read as an index: {said}") from exc
