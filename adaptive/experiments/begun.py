"""Runs that the front end starts: the command that a person would give, as a process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from adaptive.errors import BusyError, InputError
from adaptive.experiments.declared import DeclarationError, declared
from adaptive.experiments.store import StoreError
from adaptive.files import written_aside

#: Runs at the same time; the next is refused.
MOST = 4

#: Bytes of an experiment file.
LONGEST = 200_000


class Begun:
    """Keeps experiment files in a folder, and runs them.

    Parameters
    ----------
    folder : of the files; paths in them are relative to it
    store : URL or folder, as for `adaptive experiment run`
    queue : where its shards go; None for this machine's cores
    """

    def __init__(self, folder: Path, store: str, queue: str | None) -> None:
        self.folder = folder.resolve()
        self._store = store
        self._queue = queue
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def check(self, text: str) -> list[dict[str, Any]]:
        """All that is wrong with a file, each with its line."""
        try:
            declared(_short(text), self.folder)
        except DeclarationError as error:
            return [{"line": p.line, "words": p.words} for p in error.problems]
        return []

    def begin(self, text: str) -> str:
        """Write the file and run it; the experiment's name.

        Raises
        ------
        InputError
            when something is wrong with the file.
        BusyError
            when it runs already, or too many do.
        StoreError
            when the file cannot be written.
        """
        experiment = declared(_short(text), self.folder, "the experiment")
        with self._lock:
            running = [n for n, p in self._processes.items() if p.poll() is None]
            if experiment.name in running:
                raise BusyError(f"{experiment.name} runs already")
            if len(running) >= MOST:
                raise BusyError(f"{len(running)} experiments run already, which is the most")
            file = self.folder / f"{experiment.name}.toml"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with written_aside(file) as aside:
                    aside.write_text(text, encoding="utf-8")
            except OSError as exc:
                raise StoreError(f"{file} cannot be written: {exc.strerror or exc}") from exc
            line = [sys.executable, "-m", "adaptive.cli", "experiment", "run", str(file)]
            line += ["--store", self._store]
            line += ["--queue", self._queue] if self._queue else []
            with open(self.folder / f"{experiment.name}.log", "wb") as log:
                self._processes[experiment.name] = subprocess.Popen(
                    line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        return experiment.name

    def states(self) -> dict[str, str]:
        """By name, what became of the runs begun here: "running", or why one ended."""
        found = {}
        for name, process in self._processes.items():
            code = process.poll()
            if code is None:
                found[name] = "running"
            elif code not in (0, 1):
                found[name] = self._last(name) or f"ended with {code}"
        return found

    def close(self) -> None:
        """Stop what runs; it goes on from there when it is run again."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _last(self, name: str) -> str:
        """The sentence with which a run ended."""
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        said = [line for line in text.splitlines() if line.startswith("adaptive: ")]
        return said[-1][len("adaptive: ") :] if said else ""


def _short(text: str) -> str:
    if len(text) > LONGEST:
        raise InputError(f"an experiment file has at most {LONGEST} letters, not {len(text)}")
    return text
