"""What edges and server send each other: arrays under names, in numpy's own file format.

Nothing is unpickled. Feature maps travel as float32, as float16, or in 8 bits with a scale and an
offset for every image and channel.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Mapping

import numpy as np

from adaptive.errors import InputError

#: How feature maps may travel.
KINDS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class PackedMaps:
    """Feature maps as they travel.

    Attributes
    ----------
    values : ndarray of shape (n, channels, height, width), float32, float16 or uint8
    scale, offset : ndarrays of shape (n, channels), float32, for uint8: a value is
        `values * scale + offset`; None otherwise
    """

    values: np.ndarray
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def unpack(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The maps of `rows` as float32."""
        values = self.values[rows].astype(np.float32)
        if self.scale is not None and self.offset is not None:
            values *= self.scale[rows][:, :, None, None]
            values += self.offset[rows][:, :, None, None]
        return values


def pack(maps: np.ndarray, kind: str) -> PackedMaps:
    """Feature maps of shape (n, channels, height, width), float32, as `kind` has them travel.

    In 8 bits a value is at most half a 255th of its channel's range off.
    """
    if kind not in KINDS:
        raise InputError(f"feature maps travel as {', '.join(KINDS)}, not as {kind!r}")
    if kind != "int8":
        return PackedMaps(maps.astype(kind))
    low = maps.min(axis=(2, 3))
    scale = ((maps.max(axis=(2, 3)) - low) / 255).astype(np.float32)
    scale[scale == 0] = 1.0  # a channel that is the same everywhere
    steps = (maps - low[:, :, None, None]) / scale[:, :, None, None]
    return PackedMaps(np.rint(steps).clip(0, 255).astype(np.uint8), scale, low.astype(np.float32))


@dataclass(frozen=True)
class Contribution:
    """What an edge hands over in a round, of all its images.

    Attributes
    ----------
    edge : its name
    round : from 1
    maps : its extractor's feature maps
    logits : ndarray of shape (n, classes), float32, its own classifier's
    labels : ndarray of shape (n,), int64
    """

    edge: str
    round: int
    maps: PackedMaps
    logits: np.ndarray
    labels: np.ndarray

    def to_bytes(self) -> bytes:
        arrays = {
            "edge": np.array(self.edge),
            "round": np.array(self.round),
            "maps": self.maps.values,
            "logits": self.logits,
            "labels": self.labels.astype(np.int64),
        }
        if self.maps.scale is not None and self.maps.offset is not None:
            arrays.update(scale=self.maps.scale, offset=self.maps.offset)
        return to_bytes(arrays)

    @classmethod
    def from_bytes(cls, data: bytes, classes: int) -> Contribution:
        """Read a contribution about `classes` classes.

        Raises
        ------
        InputError
            when it is none, or its arrays do not fit each other.
        """
        arrays = from_bytes(data)
        missing = {"edge", "round", "maps", "logits", "labels"} - set(arrays)
        if missing:
            raise InputError(f"a contribution lacks {sorted(missing)}")
        edge, number = arrays["edge"], arrays["round"]
        if edge.ndim or edge.dtype.kind != "U" or number.ndim or number.dtype.kind not in "iu":
            raise InputError("a contribution's edge is a text and its round a whole number")
        maps, logits, labels = arrays["maps"], arrays["logits"], arrays["labels"]
        count = len(labels) if labels.ndim == 1 else -1
        what = f"the contribution of edge {str(edge)!r}"
        if labels.dtype != np.int64 or count < 1:
            raise InputError(f"{what} has labels of {labels.dtype}, shape {labels.shape}")
        if labels.min() < 0 or labels.max() >= classes:
            raise InputError(
                f"{what} has labels from {labels.min()} to {labels.max()}; there are {classes} "
                "classes here"
            )
        if logits.shape != (count, classes) or logits.dtype != np.float32:
            raise InputError(
                f"{what} has logits of {logits.dtype}, shape {logits.shape}, for {count} labels "
                f"of {classes} classes"
            )
        packed = PackedMaps(maps, arrays.get("scale"), arrays.get("offset"))
        _check_maps(packed, count, what)
        if not np.isfinite(logits).all():
            raise InputError(f"{what} has logits that are no numbers")
        return cls(str(edge), int(number), packed, logits, labels)


def _check_maps(packed: PackedMaps, count: int, what: str) -> None:
    maps, parts = packed.values, (packed.scale, packed.offset)
    if maps.ndim != 4 or len(maps) != count or maps.dtype not in (np.float32, np.float16, np.uint8):
        raise InputError(
            f"{what} has feature maps of {maps.dtype}, shape {maps.shape}; {count} of shape "
            "(channels, height, width) are needed, of float32, float16 or uint8"
        )
    if maps.dtype == np.uint8:
        if any(p is None or p.shape != maps.shape[:2] or p.dtype != np.float32 for p in parts):
            raise InputError(f"{what} has 8-bit feature maps without a scale and offset a channel")
    elif any(p is not None for p in parts):
        raise InputError(f"{what} has a scale for feature maps of {maps.dtype}")
    finite = (p for p in (maps, *parts) if p is not None and p.dtype != np.uint8)
    if not all(np.isfinite(part).all() for part in finite):
        raise InputError(f"{what} has feature maps that are no numbers")


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as one message."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a message.

    Raises
    ------
    InputError
        when it is none, or one that would have to be unpickled.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("it is compressed, and may be larger than it looks")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as exc:  # whatever zipfile and numpy raise on noise
        raise InputError(f"a message of {len(data)} bytes holds no named arrays: {exc}") from exc
