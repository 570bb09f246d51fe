"""The small files in which Linux tells about a machine, under a root that a test can replace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sysfs:
    """Files of one line below `root`: /sys, /proc, and a few of NVIDIA's in /etc and /var.

    Names are relative to the root, `sys/class/hwmon`. What is missing or may not be read is None:
    boards differ, and a sensor of a part that is switched off fails when it is read.
    """

    root: Path = Path("/")

    def text(self, name: str) -> str | None:
        """A file's text without surrounding space and NUL bytes; None where there is none."""
        try:
            return (self.root / name).read_text(encoding="utf-8").strip("\0 \t\r\n") or None
        except (OSError, UnicodeDecodeError):
            return None

    def number(self, name: str) -> int | None:
        """The whole number that a file begins with ("0 ms" is 0), or None."""
        words = (self.text(name) or "").split()
        try:
            return int(words[0]) if words else None
        except ValueError:
            return None

    def cell(self, name: str) -> int | None:
        """A number of the device tree: four bytes, the highest first; None where there is none."""
        try:
            data = (self.root / name).read_bytes()
        except OSError:
            return None
        return int.from_bytes(data, "big") if len(data) == 4 else None

    def find(self, pattern: str) -> list[str]:
        """Names that match a pattern such as `sys/class/hwmon/hwmon*`, hwmon2 before hwmon10."""
        found = [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]
        return sorted(found, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
