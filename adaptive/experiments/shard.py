"""A shard: some images, the candidates to run on them, and the key that its result lies under.

The key is the hash of what the shard reads, so a result that exists was made of the same images
by the same networks, and the same shard twice is harmless.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError

FORMAT = 1

#: What a shard may find: what candidates say, or what they take.
OUTCOMES, TIMES = "outcomes", "times"


@dataclass(frozen=True)
class Shard:
    """What one message asks for.

    Attributes
    ----------
    kind : "outcomes" or "times"
    candidates : key of the candidates, which lie in the store
    root : folder or URL of the images
    images : names below it, labels, and what tells that an image's file changed
    measure : features, threads, engine, and whether probabilities are kept
    board : the model of the machine that may run it; None for any. Times are of one machine
    """

    kind: str
    candidates: str
    root: str
    images: tuple[str, ...]
    labels: tuple[int, ...]
    stamps: tuple[str, ...]
    measure: Mapping[str, Any] = field(default_factory=dict)
    board: str | None = None

    @property
    def key(self) -> str:
        """The hash of what it reads; where the images lie does not count."""
        read = {**self.to_json(), "root": None}
        return hash_of(read)

    def __len__(self) -> int:
        return len(self.images)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "candidates": self.candidates,
            "root": self.root,
            "images": list(self.images),
            "labels": list(self.labels),
            "stamps": list(self.stamps),
            "measure": dict(self.measure),
            "board": self.board,
        }

    @classmethod
    def from_bytes(cls, content: bytes) -> Shard:
        """Read what `to_bytes` gave."""
        try:
            read = json.loads(content)
            if read["format"] != FORMAT:
                raise InputError(f"a shard of format {read['format']!r} is not {FORMAT}")
            return cls(
                read["kind"],
                read["candidates"],
                read["root"],
                tuple(read["images"]),
                tuple(read["labels"]),
                tuple(read["stamps"]),
                read["measure"],
                read["board"],
            )
        except (ValueError, KeyError, TypeError) as exc:
            if isinstance(exc, InputError):
                raise
            raise InputError(f"this is no shard: {exc!r}") from exc

    def to_bytes(self) -> bytes:
        """The shard as its object in the store."""
        return json.dumps(self.to_json(), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Result:
    """What a shard found.

    Attributes
    ----------
    arrays : by name, first axis the images that could be read; see docs/experiments.md
    images : their names
    left_out : by image, why it could not be read
    unusable : by candidate, why it does not run
    origin : runtime and machine, for the record
    """

    arrays: Mapping[str, np.ndarray]
    images: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The result as its object in the store: arrays and JSON in a ZIP file, and no pickle."""
        told = {
            "format": FORMAT,
            "images": list(self.images),
            "left_out": dict(self.left_out),
            "unusable": dict(self.unusable),
            "origin": dict(self.origin),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
            _add(file, "result.json", json.dumps(told, ensure_ascii=False).encode())
            for name, values in self.arrays.items():
                own = io.BytesIO()
                np.save(own, values, allow_pickle=False)
                _add(file, f"{name}.npy", own.getvalue())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Result:
        """Read what `to_bytes` gave.

        Raises
        ------
        InputError
            when it is damaged.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as file:
                told = json.loads(file.read("result.json"))
                arrays = {
                    name[: -len(".npy")]: np.load(io.BytesIO(file.read(name)), allow_pickle=False)
                    for name in file.namelist()
                    if name.endswith(".npy")
                }
            if told["format"] != FORMAT:
                raise InputError(f"a result of format {told['format']!r} is not {FORMAT}")
            return cls(
                arrays,
                tuple(told["images"]),
                told["left_out"],
                told["unusable"],
                told["origin"],
            )
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, OSError) as exc:
            if isinstance(exc, InputError):
                raise
            raise InputError(f"this is no result of a shard: {exc!r}") from exc


def hash_of(value: object) -> str:
    """SHA-256 of plain JSON values, as 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def slug(text: str) -> str:
    """A text as part of a queue's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def pieces(count: int, size: int) -> Sequence[slice]:
    """`count` images in shards of `size`."""
    return [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    """An entry of a fixed date, so that the same result is the same bytes."""
    file.writestr(zipfile.ZipInfo(name), content)
