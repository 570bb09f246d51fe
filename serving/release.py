"""Which version of the package answers."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version


@lru_cache(maxsize=None)
def release() -> str:
    """The version of this package; "0" where it is not installed."""
    try:
        return version("adaptive-serving")
    except PackageNotFoundError:
        return "0"
