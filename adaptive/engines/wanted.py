"""A network that is to be opened, before it is known what will run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from adaptive.candidate import Candidate
from adaptive.engines.engine import OpenEngine, open_engine, open_through

#: Opens one network's file, given the threads inside an operator.
Maker = Callable[[Path, int], OpenEngine]


@dataclass(frozen=True)
class Wanted:
    """One network to open: a candidate's own, or with `through` its segment without a head."""

    key: str
    folder: Path
    candidate: Candidate
    through: bool = False

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return self.folder / str(self._entry.file)

    @property
    def network(self) -> str:
        """The ONNX file's SHA-256."""
        return str(self._entry.sha256)

    @property
    def _entry(self) -> Any:
        return self.candidate.through if self.through else self.candidate

    def open(self, threads: int, make: Maker) -> OpenEngine:
        """Open it with `make` and hold it against its manifest entry."""
        opener = open_through if self.through else open_engine
        return opener(self.path, self.candidate, threads, make)
