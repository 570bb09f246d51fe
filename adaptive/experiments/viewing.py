"""What candidates said of single images, side by side, out of the results in the store."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from adaptive.errors import InputError
from adaptive.experiments.imagery import fetched
from adaptive.experiments.shard import Result
from adaptive.experiments.store import Store

#: Results that are kept in memory.
KEPT = 8

TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".bmp": "image/bmp",
         ".webp": "image/webp", ".gif": "image/gif"}  # fmt: skip


class Viewer:
    """Looks into results.

    Parameters
    ----------
    store : where they lie
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Result] = OrderedDict()
        self._labels: dict[str, list[str]] = {}

    def images(
        self, record: Mapping[str, Any], table: str, shard: int, missed: str | None
    ) -> dict[str, Any]:
        """The images of one shard, with every candidate's answer.

        Parameters
        ----------
        missed : only those images that this candidate was wrong on; "differ" for those on which
            some were right and some were not

        Raises
        ------
        InputError
            when there is no such table, shard or candidate.
        """
        told = _table(record, table)
        result = self._result(told, shard)
        labels = self._classes(told["candidates_key"])
        names = [n for n in told["candidates"] if f"{n}/top1" in result.arrays]
        right = {n: result.arrays[f"{n}/top1"] for n in names}
        every = np.stack(list(right.values()), axis=1)
        shown: Any = np.ones(len(result.images), bool)
        if missed == "differ":
            shown = every.any(axis=1) & ~every.all(axis=1)
        elif missed:
            if missed not in right:
                raise InputError(f"{missed!r} is none of the candidates {names}")
            shown = ~right[missed]
        found = []
        for row in np.flatnonzero(shown):
            answers = {}
            for name in names:
                values = result.arrays.get(f"{name}/probabilities")
                said = None if values is None else labels[int(values[row].argmax())]
                confidence = float(result.arrays[f"{name}/confidence"][row])
                answers[name] = {
                    "said": said,
                    "right": bool(right[name][row]),
                    "confidence": round(confidence, 4),
                }
            found.append(
                {
                    "index": int(row),
                    "image": result.images[row],
                    "label": labels[int(result.arrays["label"][row])],
                    "answers": answers,
                }
            )
        return {
            "shards": len(told["keys"]),
            "candidates": names,
            "of": len(result.images),
            "left_out": dict(result.left_out),
            "images": found,
        }

    def image(
        self, record: Mapping[str, Any], table: str, shard: int, index: int
    ) -> tuple[bytes, str]:
        """An image's file as it is, and its type."""
        told = _table(record, table)
        names = self._result(told, shard).images
        if not 0 <= index < len(names):
            raise InputError(f"shard {shard} has images 0 to {len(names) - 1}, not {index}")
        name = names[index]
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{name!r} leaves the folder of images")
        try:
            with fetched(told["root"], [name]) as folder:
                content = (folder / name).read_bytes()
        except OSError as exc:
            raise InputError(f"{name} cannot be read: {exc}") from exc
        return content, TYPES.get(Path(name).suffix.lower(), "application/octet-stream")

    def _result(self, told: Mapping[str, Any], shard: int) -> Result:
        if not 0 <= shard < len(told["keys"]):
            raise InputError(f"the table has shards 0 to {len(told['keys']) - 1}, not {shard}")
        key = told["keys"][shard]
        # Several threads ask: what one holds, another may put out.
        found = self._kept.get(key)
        if found is None:
            try:
                found = Result.from_bytes(self._store.get(f"results/{key}"))
            except KeyError:
                raise InputError(f"shard {shard} is not done") from None
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return found

    def _classes(self, key: str) -> list[str]:
        if key not in self._labels:
            manifest = json.loads(self._store.get(f"candidates/{key}/manifest.json"))
            content = self._store.get(f"candidates/{key}/{manifest['labels']}")
            self._labels[key] = content.decode("utf-8").splitlines()
        return self._labels[key]


def _table(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    for table in record["tables"]:
        if table["name"] == name:
            found: Mapping[str, Any] = table
            return found
    raise InputError(f"there is no table {name!r}; {[t['name'] for t in record['tables']]} are")
