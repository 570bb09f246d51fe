"""Memory that networks needed while they were opened, or until they were closed."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Hand memory that is free back to the system, where the C library can (glibc).

    It keeps what lies between pieces that are in use, for later. After networks were opened or
    closed that is tens of megabytes, and more with every bundle that takes another's place.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
