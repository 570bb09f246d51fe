"""Memory that is free: how the C library hands it back to the system."""

from __future__ import annotations

import ctypes
import os

#: Blocks of at least so many bytes are mapped by themselves, and are gone when they are freed.
LARGE_BLOCK = 8 << 20

#: Names of settings in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: What says the same in the environment.
_SAID = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def trim() -> None:
    """Hand memory that is free back to the system, where the C library can (glibc).

    It keeps what lies between pieces that are in use, for later. After networks were opened or
    closed that is tens of megabytes, and more with every bundle that takes another's place.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def keep_little() -> bool:
    """Have the C library hand large blocks back as soon as they are freed, where it can (glibc).

    From blocks that are freed it learns to keep ever larger ones, up to 32 MB, for later; after
    one large image that can be a gigabyte. It is said for the whole process, so it is for a
    server to say, unless the environment has said how malloc is to work.

    Returns
    -------
    Whether the library took it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SAID):
        return False
    # of the heap's end twice a block may stay, as glibc has it when it learns by itself
    mapped = mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BLOCK))
