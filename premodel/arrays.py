"""Arrays on disk, as `.npy` without pickle, checked against what they must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptive.errors import BundleError
from adaptive.files import inside

MAGIC = b"\x93NUMPY"


def write_array(folder: Path, name: str, values: np.ndarray, dtype: str) -> None:
    """Write `values` to `folder/name` as `dtype`, with the byte order that it states."""
    np.save(folder / name, np.ascontiguousarray(values, np.dtype(dtype)), allow_pickle=False)


def read_array(folder: Path, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read `folder/name`, which must hold exactly this type and shape.

    Raises
    ------
    BundleError
        when it is missing, a link, no array, of another type or shape, or cut short.
    """
    path = inside(folder, name, "premodel file")
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as a .npy file does")
        # mapped first: a header that promises more than the file holds allocates nothing
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError, MemoryError) as exc:
        raise BundleError(f"premodel file {path} is not a plain array: {exc}") from exc
    if values.dtype != np.dtype(dtype) or values.shape != shape:
        raise BundleError(
            f"premodel file {path} holds {values.dtype} of shape {values.shape}; "
            f"{np.dtype(dtype)} of shape {shape} is needed"
        )
    return np.array(values, np.dtype(dtype).newbyteorder("="), order="C")
