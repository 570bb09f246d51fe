"""Signs of life of requests that are worked on, so that one that hangs can be told from a long one.

A request of 32 images rightly takes 32 times as long as one image. So a thread that works on a
request says before each piece of work how many images that is, and is given as much longer.
"""

from __future__ import annotations

import threading
from time import perf_counter

#: By thread that works on a request: since when it is at its piece of work, and how many images
#: that is.
_at: dict[int, tuple[float, float]] = {}


def begin() -> None:
    """This thread begins to work on a request."""
    _at[threading.get_ident()] = (perf_counter(), 1)


def end() -> None:
    """Its request is answered."""
    _at.pop(threading.get_ident(), None)


def expect(images: float) -> None:
    """This thread begins work on so many images; of no consequence where it has no request.

    Infinity for what may take as long as it likes, as opening networks may.
    """
    own = threading.get_ident()
    if own in _at:
        _at[own] = (perf_counter(), images)


def stalled(each_s: float) -> bool:
    """Whether a piece of work has taken longer than `each_s` seconds for each of its images."""
    now = perf_counter()
    return any(now - since > each_s * images for since, images in list(_at.values()))
