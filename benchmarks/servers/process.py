"""A server in processes of its own, on one core, watched through /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from time import monotonic, sleep
from typing import Mapping, Sequence

#: In the environment of every process that belongs to a server, whatever session it is in.
MARK = "SERVING_BENCHMARK"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def pinned(core: int | None) -> None:
    """Keep this process, and what it starts, on one core; None leaves it as it is."""
    if core is not None:
        os.sched_setaffinity(0, {core})


class Process:
    """A command, with all processes that it starts.

    Parameters
    ----------
    command : listens at `port`
    port : is tried until it takes connections
    core : all of it runs there
    environment : added to this process's own
    folder : where it runs
    log : what it prints on standard error is written there
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        core: int | None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.port = port
        self.mark = f"{os.getpid()}-{port}"
        with open(os.devnull if log is None else log, "ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                preexec_fn=lambda: pinned(core),
                env={**os.environ, **(environment or {}), MARK: self.mark},
                cwd=folder,
            )

    def alive(self) -> list[int]:
        """Its processes that live: those of its session, and those that have its mark."""
        found, own = [], f"{MARK}={self.mark}".encode()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    fields = _fields(int(entry))
                    if fields[0] != "Z" and (
                        int(fields[3]) == self.process.pid
                        or own in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                    ):
                        found.append(int(entry))
        return found

    def cpu_s(self) -> float:
        """What all threads that live have spent on a processor."""
        spent_ns = 0
        for pid in self.alive():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(OSError):
                        line = Path(f"/proc/{pid}/task/{task}/schedstat").read_text()
                        spent_ns += int(line.split()[0])
        return spent_ns / 1e9

    def total_mb(self, file: str, key: str) -> float:
        """One line of a /proc file, added up over the processes; MB of a million bytes."""
        kibibytes = 0
        for pid in self.alive():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                    if line.startswith(key + ":"):
                        kibibytes += int(line.split()[1])
        return kibibytes * 1024 / 1e6

    def pss_mb(self) -> float:
        """Proportional set size: memory, with what is shared divided among those who share it.

        Libraries that other processes have open too count the less, so it grows when those end.
        """
        return self.total_mb("smaps_rollup", "Pss")

    def own_mb(self) -> float:
        """Memory that is no file's: what a leak would be seen in."""
        return self.total_mb("smaps_rollup", "Pss_Anon")

    def rss_mb(self) -> float:
        """Resident set size: what is shared counts whole, so the memory is never more."""
        return self.total_mb("smaps_rollup", "Rss")

    def forget_peak(self) -> None:
        """Have the peak of memory begin anew."""
        for pid in self.alive():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def counts(self) -> dict[str, int]:
        """Threads and open files."""
        return {
            name: sum(len(os.listdir(f"/proc/{pid}/{kind}")) for pid in self.alive())
            for name, kind in (("threads", "task"), ("files", "fd"))
        }

    def stop(self, patience_s: float = 30.0) -> dict[str, object]:
        """SIGTERM: exit code (None where it had to be killed), seconds, processes left over."""
        began = monotonic()
        self.terminate()
        return self.ended(began, patience_s)

    def terminate(self) -> None:
        """Send SIGTERM to the process that was started."""
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGTERM)

    def ended(self, began: float, patience_s: float = 30.0) -> dict[str, object]:
        """Wait for the end, then say what `stop` says, and end what is left."""
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(max(0.1, began + patience_s - monotonic()))
        seconds = monotonic() - began
        sleep(0.3)
        left = len(self.alive())
        self.kill()
        return {"exit": code, "exit_s": round(seconds, 2), "left": left}

    def kill(self) -> None:
        """End all of it at once."""
        for pid in self.alive():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


def _fields(pid: int) -> list[str]:
    """/proc/PID/stat behind the program's name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
