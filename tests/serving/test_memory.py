from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive.serving.memory import _SAID, keep_little, trim


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
    trim()
    assert before - resident_mb() > 40
    assert pinned[0] == ord("x")


#: Frees a block of 30 MB, so that glibc learns to keep such, and then some between small ones.
LARGE_BLOCKS = """
import resource, sys
from adaptive.serving.memory import keep_little
if sys.argv[1] == "little":
    assert keep_little()
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
taken = bytearray(b"x" * 30_000_000)
del taken
large, small = b"x" * 16_000_000, b"y" * 200_000
before = resident_mb()
blocks = [(bytearray(large), bytearray(small)) for _ in range(12)]
kept = [small for _, small in blocks]
del blocks
print(resident_mb() - before)
"""


def kept_mb(how: str) -> float:
    plain = {name: text for name, text in os.environ.items() if name not in _SAID}
    done = subprocess.run(
        [sys.executable, "-c", LARGE_BLOCKS, how],
        env=plain,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_blocks_are_handed_back_when_they_are_freed():
    assert kept_mb("much") > 100  # what the C library does by itself
    assert kept_mb("little") < 20


def test_what_the_environment_says_of_malloc_stays(monkeypatch: pytest.MonkeyPatch):
    for name in _SAID:
        with monkeypatch.context() as patched:
            patched.setenv(name, "1000000")
            assert not keep_little()


def test_a_c_library_that_cannot_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    for name in _SAID:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    trim()
    assert not keep_little()
