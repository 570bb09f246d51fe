from __future__ import annotations

import platform
from pathlib import Path

import pytest

from adaptive.serving.memory import give_back


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("no VmRSS")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_free_is_given_back():
    # Smaller than what the C library maps by itself, and so many that most lies side by side.
    pieces = [bytearray(b"x" * 50_000) for _ in range(1600)]
    pinned = pieces[-1]  # above the rest, which therefore is kept
    del pieces
    before = resident_mb()
    give_back()
    assert before - resident_mb() > 40
    assert pinned[0] == ord("x")
