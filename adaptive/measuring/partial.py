"""The rows of a profile that is under way, on disk as they come."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.errors import InputError, TableError
from adaptive.files import read_json, write_json
from adaptive.measuring.parallel import fill_times
from adaptive.outcomes.table import Outcomes, OutcomeTable, check_table_name, probabilities_folder


class Partial:
    """The rows of a profile that is under way, on disk as they come.

    A row counts when its line in `rows.jsonl` is whole; the probabilities, which are written
    before it, are cut back to as many rows when a run is resumed.
    """

    def __init__(
        self, output: Path, fingerprint: Mapping[str, Any], bundle: Bundle, keep: bool
    ) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".profiling")
        self._names = [c.name for c in bundle.candidates] if keep else []
        self._all = bundle.candidates
        self._classes = len(bundle.labels)
        #: where each image stands in the table; as the rows came where nothing is said
        self.order: Mapping[str, int] = {}
        self.seen: set[str] = set()
        self.left_out: dict[str, str] = {}
        check_table_name(output)
        settings = self.folder / "settings.json"
        if settings.exists():
            before = read_json(settings, "the stopped run's settings")
            if before != dict(fingerprint):
                both = {**before, **fingerprint}
                changed = [k for k in both if before.get(k) != fingerprint.get(k)]
                raise InputError(
                    f"{self.folder.name} holds a stopped run with other {', '.join(changed)}; "
                    "remove that folder to start again"
                )
        else:
            self.folder.mkdir(exist_ok=True)
            write_json(settings, dict(fingerprint))
        self._recover()

    def __enter__(self) -> Partial:
        self._rows = open(self.folder / "rows.jsonl", "a", encoding="utf-8")
        self._probabilities = {
            name: open(self.folder / f"{name}.f16", "ab", buffering=0) for name in self._names
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        for file in self._probabilities.values():
            file.close()

    def append(self, row: Mapping[str, Any], answers: Mapping[str, np.ndarray]) -> None:
        """Record one image."""
        for name, file in self._probabilities.items():
            file.write(answers[name].astype(np.float16).tobytes())
        self._line(row)

    def skip(self, name: str, why: str) -> None:
        """Record that one image cannot be read."""
        self._line({"image": name, "left_out": why})

    def require_rows(self) -> None:
        """Raise InputError, and remove the partial files, when no image could be read."""
        if all("left_out" in row for row in self._read_rows()):
            shutil.rmtree(self.folder)
            raise InputError("none of the images can be read")

    def finish(self, meta: Mapping[str, Any], mj: Mapping[str, float]) -> None:
        """Put the table in place and remove the partial files.

        mj : what an image costs by candidate, where it is known; every row gets the same
        """
        rows, places, meta = self._ordered(meta)
        timed = np.array([[r["decode:ms"], r["features:ms"]] for r in rows])
        outcomes = {}
        for candidate in self._all:
            own = [r[candidate.name] for r in rows]
            columns = {part: np.array([r[part] for r in own], np.float64) for part in own[0]}
            spent = mj.get(candidate.name)
            outcomes[candidate.name] = Outcomes(
                columns["top1"].astype(bool),
                columns["top5"].astype(bool),
                columns["confidence"],
                columns["ms"],
                None if spent is None else np.full(len(rows), spent),
                candidate.after,
                columns.get("through"),
                columns.get("scale"),
                columns.get("normalise"),
            )
        table = OutcomeTable(
            tuple(r["image"] for r in rows),
            np.array([r["label"] for r in rows], np.int64),
            tuple(meta["features"]),
            np.array([r["features"] for r in rows], np.float64),
            outcomes,
            timed[:, 0],
            timed[:, 1],
            meta=meta,
        )
        target = probabilities_folder(self.output)
        if target.exists():
            shutil.rmtree(target)
        if self._names:
            aside = self.folder / "probabilities"
            aside.mkdir(exist_ok=True)
            for name in self._names:
                values = np.fromfile(self.folder / f"{name}.f16", np.float16)
                np.save(aside / f"{name}.npy", values.reshape(len(rows), self._classes)[places])
            os.replace(aside, target)
        table.write(self.output)
        shutil.rmtree(self.folder)

    def _ordered(
        self, meta: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], np.ndarray, Mapping[str, Any]]:
        """The rows in the images' order, all with times; where each was, and what is said of it."""
        rows = [row for row in self._read_rows() if "left_out" not in row]
        wanted = [self.order.get(row["image"], place) for place, row in enumerate(rows)]
        places = np.argsort(np.array(wanted), kind="stable")
        ordered, timed = fill_times([rows[place] for place in places])
        if timed < len(rows):
            origin = {"of": "some of the images", "images": timed, "same_images": False}
            meta = {**meta, "times": origin}
        return ordered, places, meta

    def _line(self, row: Mapping[str, Any]) -> None:
        self._rows.write(json.dumps(row, allow_nan=False) + "\n")
        self._rows.flush()

    def _read_rows(self) -> Sequence[dict[str, Any]]:
        path = self.folder / "rows.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _recover(self) -> None:
        """Drop a line and probabilities that were cut off, and learn what is done."""
        path = self.folder / "rows.jsonl"
        if path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with open(path, "r+b") as file:
                    file.truncate(whole)
        try:
            rows = self._read_rows()
            self.seen = {r["image"] for r in rows}
            self.left_out = {r["image"]: r["left_out"] for r in rows if "left_out" in r}
        except (ValueError, TypeError, KeyError) as exc:
            raise self._damaged(path) from exc
        size = (len(rows) - len(self.left_out)) * self._classes * 2
        for name in self._names:
            with open(self.folder / f"{name}.f16", "ab") as file:
                # Cut back only: making it longer would fill in probabilities of zero.
                if file.tell() < size:
                    raise self._damaged(Path(file.name))
                file.truncate(size)

    def _damaged(self, path: Path) -> TableError:
        return TableError(f"{path} is damaged; remove {self.folder} to start again")
