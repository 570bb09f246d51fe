"""Writing an index of video: one process at a time, in transactions, within a limit of disk."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

from adaptive.errors import InputError
from adaptive.files import writing
from adaptive.video.clusters import Cluster, Clusters
from adaptive.video.index import (
    CAMERA,
    CENTROIDS,
    CLIP,
    DATABASE,
    RUN,
    SCHEMA,
    Clip,
    IndexSettings,
    connect,
    read_clips,
    read_settings,
    translated,
)
from adaptive.video.seen import SeenFrame, SeenObject, encoded_picture

#: Down to which share of its limit an index is cut.
CUT_TO = 0.9


class _Run:
    """Frames one after the other in which an object of a cluster was seen; none yet at first."""

    def __init__(self, cluster: int, frame: int, time_s: float, box: np.ndarray) -> None:
        self.cluster = cluster
        self.first, self.last = frame, frame - 1
        self.from_s = self.to_s = time_s
        self.box = box

    def after(self) -> _Run:
        """The same object after what is written of it."""
        return _Run(self.cluster, self.last + 1, self.to_s, self.box)


class _New:
    """What a transaction adds."""

    def __init__(self) -> None:
        self.pictures: List[Tuple[int, bytes]] = []
        self.centroids: List[Tuple[int, np.ndarray, Tuple[int, ...]]] = []
        self.clusters: List[Tuple[int, int, int, int]] = []
        self.used: Dict[int, int] = {}
        self.runs: List[_Run] = []


class IndexWriter:
    """Adds what was seen to an index, which is made where there is none.

    Use it in a `with` statement. What was committed stays, whenever the process ends.

    Parameters
    ----------
    folder : of the index
    settings : how it is made; another index's are refused
    limit_mb : disk that the index may take, megabytes; the oldest sightings leave first
    per_class, most : as for `Clusters`

    Raises
    ------
    InputError
        when another process writes to it, or it was made otherwise.
    """

    def __init__(
        self,
        folder: Path,
        settings: IndexSettings,
        limit_mb: float | None = None,
        **clusters: int,
    ) -> None:
        if limit_mb is not None and not limit_mb >= 1:
            raise InputError(f"limit_mb {limit_mb} is not a number of megabytes >= 1")
        self.folder = folder
        self.settings = settings
        self.limit_mb = limit_mb
        self._clusters = Clusters(settings.width, settings.threshold, **clusters)
        self._open: Dict[int, List[_Run]] = {}
        self._next: Dict[str, int] = {}
        self._free: List[int] = []
        self._used = 0
        self._failed = False

    def __enter__(self) -> IndexWriter:
        if not (self.folder / DATABASE).exists():
            _make(self.folder, self.settings)
        self._lock = open(self.folder / "writing.lock", "a")
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise InputError(
                    f"another process writes to {self.folder}; wait for it, or index elsewhere"
                ) from exc
            self._base = connect(self.folder, write=True)
            try:
                self._read()
            except BaseException:
                self._base.close()
                raise
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._lock.close()

    def clips(self) -> List[Clip]:
        """All clips that are in it."""
        with translated(self.folder):
            return read_clips(self._base)

    def begin(
        self,
        camera: str,
        name: str,
        kind: str,
        path: str,
        print: str,
        start_s: float,
        size: Tuple[int, int],
    ) -> Clip:
        """Open a clip for adding: a new one, or one that stopped half-way.

        size : (height, width) of its frames

        Raises
        ------
        InputError
            when the camera has another clip of that name, or an earlier `add` failed.
        """
        self._check()
        for clip in self.clips():
            if kind == CLIP and (clip.camera, clip.name) == (camera, name):
                if clip.print != print:
                    raise InputError(
                        f"{self.folder} has another clip {name!r} of {camera!r}; rename this one, "
                        "or say with --name which camera it is of"
                    )
                self._reopen(clip)
                return clip
        self._open = {}
        with translated(self.folder):
            if kind == CAMERA:  # earlier runs have ended, however they did
                self._base.execute(
                    "UPDATE clip SET done = 1 WHERE kind = ? AND camera = ?", (CAMERA, camera)
                )
            self._base.execute(
                "INSERT INTO clip (camera, name, kind, path, print, start_s, until_s, width, "
                "height, frames, looked, objects, done) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, 0, 0, "
                "0, 0)",
                (camera, name, kind, path, print, start_s, size[1], size[0]),
            )
            return self.clips()[-1]

    def add(
        self,
        clip: Clip,
        frames: Sequence[SeenFrame],
        until_frame: int,
        until_s: float,
        done: bool = False,
    ) -> None:
        """Add frames that were looked at, as one transaction.

        Parameters
        ----------
        frames : in their order, after those that are in the index
        until_frame, until_s : up to where the last one's objects stay what they are: frames that
            the gate did not let through show the same
        done : whether the clip is whole now

        Raises
        ------
        OSError
            when the disk is full; nothing of these frames is filed then.
        InputError
            when an earlier call failed: what is remembered is not what was written.
        """
        self._check()
        new = _New()
        self._open = {n: [run.after() for run in runs] for n, runs in self._open.items()}
        new.runs += [run for runs in self._open.values() for run in runs]
        with translated(self.folder), writing(self.folder / DATABASE):
            self._base.execute("BEGIN IMMEDIATE")
            try:
                for frame in frames:
                    self._hold(frame.number - 1, frame.time_s)
                    self._see(frame, new)
                self._hold(until_frame, until_s)
                self._store(clip, new)
                self._base.execute(
                    "UPDATE clip SET until_s = ?, frames = ?, looked = looked + ?, objects = "
                    "objects + ?, done = ? WHERE id = ?",
                    (
                        until_s,
                        until_frame,
                        len(frames),
                        sum(len(frame.objects) for frame in frames),
                        done,
                        clip.id,
                    ),
                )
                self._base.execute("COMMIT")
            except BaseException:
                self._failed = True
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
            if self.limit_mb is not None:
                self._shorten(self.limit_mb * 1e6)

    def size(self) -> int:
        """Bytes of disk that hold something."""
        pages, free, page = (
            self._base.execute(f"PRAGMA {what}").fetchone()[0]
            for what in ("page_count", "freelist_count", "page_size")
        )
        rows = self._next["centroid"] - len(self._free)
        return int((pages - free) * page + rows * 2 * self.settings.width)

    def _check(self) -> None:
        if self._failed:
            raise InputError(f"writing to {self.folder} failed; open it again to go on")

    def _read(self) -> None:
        """Take up where the last writer stopped."""
        there = read_settings(self._base, self.folder)
        what = there.differs(self.settings)
        if what is not None:
            raise InputError(
                f"{self.folder} was made with other settings ({what}); index into a new folder, "
                "or with the settings of this one"
            )
        with translated(self.folder):
            for table in ("picture", "centroid", "cluster", "sighting"):
                row = self._base.execute(f"SELECT coalesce(max(id), -1) + 1 FROM {table}")
                self._next[table] = int(row.fetchone()[0])
            rows = self._base.execute("SELECT id FROM centroid").fetchall()
            taken = {row[0] for row in rows}
            clusters = [
                Cluster(*row)
                for row in self._base.execute(
                    "SELECT id, class, centroid, used FROM cluster ORDER BY used, id"
                )
            ]
        self._free = [row for row in range(self._next["centroid"]) if row not in taken][::-1]
        path = self.folder / CENTROIDS
        have = path.stat().st_size // (2 * self.settings.width) if path.exists() else 0
        if have < self._next["centroid"]:
            raise InputError(
                f"{path} has {have} rows and {self._next['centroid']} are needed; it is cut off, "
                "index into a new folder"
            )
        kept: Dict[int, List[Cluster]] = {}
        for cluster in clusters[-self._clusters.most :]:
            kept.setdefault(cluster.kind, []).append(cluster)
        joinable = [c for of in kept.values() for c in of[-self._clusters.per_class :]]
        for cluster in sorted(joinable, key=lambda c: (c.used, c.number)):
            self._clusters.add(cluster, self._features(cluster.centroid))
        self._used = clusters[-1].used + 1 if clusters else 0

    def _features(self, row: int) -> np.ndarray:
        width = self.settings.width
        found = np.fromfile(self.folder / CENTROIDS, np.float16, width, offset=2 * width * row)
        return np.asarray(found.astype(np.float32))

    def _reopen(self, clip: Clip) -> None:
        """Sightings that were going on when the clip stopped go on."""
        self._open = {}
        with translated(self.folder):
            rows = self._base.execute(
                "SELECT cluster, runs FROM sighting WHERE clip = ? AND last_frame = ? ORDER BY id",
                (clip.id, clip.frames),
            ).fetchall()
        for cluster, runs in rows:
            for found in np.frombuffer(runs, RUN):
                if found["last"] == clip.frames:
                    box = found["box"].astype(np.int64)
                    run = _Run(cluster, clip.frames + 1, float(found["to_s"]), box)
                    run.last = clip.frames
                    self._open.setdefault(cluster, []).append(run)

    def _hold(self, frame: int, time_s: float) -> None:
        """What is being seen is seen up to there."""
        for runs in self._open.values():
            for run in runs:
                run.last, run.to_s = frame, time_s

    def _see(self, frame: SeenFrame, new: _New) -> None:
        """File a frame's objects."""
        before, self._open = self._open, {}
        shown: Dict[int, Tuple[int, float]] = {}  # pictures of this frame, with their scale
        for seen in frame.objects:
            row: int | None = None
            for kind in seen.kinds:
                cluster = self._clusters.nearest(kind, seen.features)
                if cluster is None:
                    if row is None:
                        row = self._row()
                        if id(seen.picture) not in shown:
                            jpeg, scale = encoded_picture(seen.picture)
                            shown[id(seen.picture)] = self._take("picture"), scale
                            new.pictures.append((shown[id(seen.picture)][0], jpeg))
                        picture, scale = shown[id(seen.picture)]
                        inside = np.rint(seen.inside * scale).astype(np.int64).tolist()
                        new.centroids.append((row, seen.features, (picture, *inside)))
                    cluster = Cluster(self._take("cluster"), kind, row, self._used)
                    self._clusters.add(cluster, seen.features)
                    new.clusters.append((cluster.number, kind, row, self._used))
                cluster.used = new.used[cluster.number] = self._used
                self._sight(frame, cluster.number, seen, before, new)
            self._used += 1

    def _row(self) -> int:
        """A row of the array that nothing names."""
        return self._free.pop() if self._free else self._take("centroid")

    def _take(self, table: str) -> int:
        number = self._next[table]
        self._next[table] += 1
        return number

    def _sight(
        self,
        frame: SeenFrame,
        cluster: int,
        seen: SeenObject,
        before: Dict[int, List[_Run]],
        new: _New,
    ) -> None:
        """A run goes on where it was seen at that place in the frame before, or begins."""
        runs = before.get(cluster, [])
        run = next((r for r in runs if _overlap(r.box, seen.box)), None)
        if run is not None:
            runs.remove(run)
            low, high = np.minimum(run.box, seen.box)[:2], np.maximum(run.box, seen.box)[2:]
            run.box = np.concatenate([low, high])
        else:
            run = _Run(cluster, frame.number, frame.time_s, seen.box)
            new.runs.append(run)
        run.last, run.to_s = frame.number, frame.time_s
        self._open.setdefault(cluster, []).append(run)

    def _store(self, clip: Clip, new: _New) -> None:
        """Write the array's rows first, then what names them."""
        size = 2 * self.settings.width
        if new.centroids:
            with open(self.folder / CENTROIDS, "r+b") as array:
                for row, features, _ in new.centroids:
                    array.seek(row * size)
                    array.write(features.astype(np.float16).tobytes())
                array.flush()
                os.fsync(array.fileno())
        self._base.executemany("INSERT INTO picture VALUES (?, ?)", new.pictures)
        self._base.executemany(
            "INSERT INTO centroid VALUES (?, ?, ?, ?, ?, ?)",
            [(row, *shown) for row, _, shown in new.centroids],
        )
        self._base.executemany("INSERT INTO cluster VALUES (?, ?, ?, ?)", new.clusters)
        self._base.executemany(
            "UPDATE cluster SET used = ? WHERE id = ?", [(u, c) for c, u in new.used.items()]
        )
        of: Dict[int, List[_Run]] = {}
        for run in new.runs:
            if run.last >= run.first:
                of.setdefault(run.cluster, []).append(run)
        for cluster, runs in of.items():
            packed = np.array(
                [(r.first, r.last, r.from_s, r.to_s, tuple(r.box.tolist())) for r in runs], RUN
            )
            self._base.execute(
                "INSERT INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._take("sighting"),
                    cluster,
                    clip.id,
                    int(packed["last"].max()),
                    float(packed["from_s"].min()),
                    float(packed["to_s"].max()),
                    packed.tobytes(),
                ),
            )

    def _shorten(self, limit: float) -> None:
        """Let the oldest sightings go, and clusters of which none is left."""
        while self.size() > limit:
            total = self._base.execute("SELECT count(*) FROM sighting").fetchone()[0]
            going = max(1, int(total * (1 - CUT_TO)))
            self._base.execute("BEGIN IMMEDIATE")
            try:
                rows = self._base.execute(
                    "SELECT id FROM sighting ORDER BY id LIMIT ?", (going,)
                ).fetchall()
                self._base.executemany("DELETE FROM sighting WHERE id = ?", rows)
                empty = self._base.execute(
                    "SELECT id FROM cluster WHERE id NOT IN (SELECT cluster FROM sighting)"
                ).fetchall()
                self._base.executemany("DELETE FROM cluster WHERE id = ?", empty)
                unnamed = self._base.execute(
                    "SELECT id FROM centroid WHERE id NOT IN (SELECT centroid FROM cluster)"
                ).fetchall()
                self._base.executemany("DELETE FROM centroid WHERE id = ?", unnamed)
                self._base.execute(
                    "DELETE FROM picture WHERE id NOT IN (SELECT picture FROM centroid)"
                )
                self._base.execute(
                    "DELETE FROM clip WHERE kind = 'camera' AND done AND id NOT IN "
                    "(SELECT clip FROM sighting)"
                )
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
            self._clusters.forget(row[0] for row in empty)
            for row in empty:
                self._open.pop(row[0], None)
            self._free += [row[0] for row in unnamed]
            if not rows:
                return


def _make(folder: Path, settings: IndexSettings) -> None:
    """Make an empty index, whole or not at all."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is no index; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with translated(folder), writing(folder, aside):
            aside.chmod(0o755)
            base = sqlite3.connect(str(aside / DATABASE), isolation_level=None)
            base.execute("PRAGMA journal_mode = WAL")
            base.executescript(SCHEMA)
            base.execute("INSERT INTO about VALUES (?)", (json.dumps(settings.to_json()),))
            base.close()
            (aside / CENTROIDS).write_bytes(b"")
        try:
            os.replace(aside, folder)
        except OSError:
            if not (folder / DATABASE).exists():  # else another process made it just now
                raise
    finally:
        if aside.exists():
            shutil.rmtree(aside)


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((np.maximum(first[:2], second[:2]) < np.minimum(first[2:], second[2:])).all())
