"""NVIDIA's `tegrastats`: its lines, and a meter made of them where sysfs may not be read."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from adaptive.errors import InputError
from adaptive.jetson.rails import choose_rails
from adaptive.jetson.sysfs import Sysfs

#: Milliseconds between two lines that are asked for.
INTERVAL_MS = 100

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?")
#: "EMC_FREQ 4%@1600", "GR3D_FREQ 0%", "GR3D_FREQ 0%@[305,305]", "GR3D_FREQ @[1000,1000]"
_LOAD = re.compile(r"\b(EMC|GR3D)_FREQ (?:(\d+)%)?(?:@(?:\[([\d,]+)\]|(\d+)))?")
#: "PLL@37.5C", "tj@48.875C", "cpu@52.968C/52.968C"; a sensor that is off tells -256C.
_TEMPERATURE = re.compile(r"([A-Za-z]\w*)@(-?[\d.]+)C\b")
#: "VDD_IN 3056/3056", "GPU 0/311", "VDD_GPU_SOC 3205mW/3205mW", "VDD_IN 1mW/1mW/1mW".
_POWER = re.compile(
    r"(?<!\S)(?!I?RAM |SWAP )([A-Z]\w*) (\d+)(?:mW)?/(\d+)(?:mW)?(?:/\d+(?:mW)?)?(?!\S)"
)


@dataclass(frozen=True)
class Stats:
    """One line of tegrastats.

    Attributes
    ----------
    ram_mb, swap_mb : used and there; None where the line does not tell
    cores : for each core its load in % and its clock in MHz; None for a core that is off
    gpu_percent, emc_percent : loads of GPU and memory controller
    gpu_mhz, emc_mhz : clocks, of a GPU with several the highest
    temperatures_c : by sensor; those that are off are left out
    power_mw, average_mw : by rail, now and since tegrastats was started
    """

    ram_mb: tuple[int, int] | None = None
    swap_mb: tuple[int, int] | None = None
    cores: tuple[tuple[int, int | None] | None, ...] = ()
    gpu_percent: int | None = None
    gpu_mhz: int | None = None
    emc_percent: int | None = None
    emc_mhz: int | None = None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    power_mw: Mapping[str, int] = field(default_factory=dict)
    average_mw: Mapping[str, int] = field(default_factory=dict)


def parse_line(line: str) -> Stats:
    """Read one line, of any board and version; what it does not tell is None or empty.

    Raises
    ------
    InputError
        when it tells of no memory, which every line of tegrastats does.
    """
    ram = _pair(_RAM.search(line))
    if ram is None:
        raise InputError(f"{line[:80]!r} is no line of tegrastats: it tells of no RAM")
    loads: dict[str, tuple[int | None, int | None]] = {}
    for name, percent, several, one in _LOAD.findall(line):
        clock = max(map(int, several.split(","))) if several else int(one) if one else None
        loads[name] = (int(percent) if percent else None, clock)
    gpu, memory = loads.get("GR3D", (None, None)), loads.get("EMC", (None, None))
    cores = _CPU.search(line)
    rails = _POWER.findall(line)
    return Stats(
        ram,
        _pair(_SWAP.search(line)),
        () if cores is None else tuple(_core(text) for text in cores[1].split(",")),
        *gpu,
        *memory,
        {n: float(v) for n, v in _TEMPERATURE.findall(line) if float(v) > -200},
        {name: int(now) for name, now, _ in rails},
        {name: int(average) for name, _, average in rails},
    )


def _pair(found: re.Match[str] | None) -> tuple[int, int] | None:
    return None if found is None else (int(found[1]), int(found[2]))


def _core(text: str) -> tuple[int, int | None] | None:
    found = _CORE.fullmatch(text.strip())
    if found is None:
        return None
    return int(found[1]), int(found[2]) if found[2] else None


class Tegrastats:
    """The meter that reads the lines of a running tegrastats.

    Parameters
    ----------
    program : that is run
    rails : names of the rails that are added up; those of the whole module when left out

    Raises
    ------
    InputError
        when the program cannot be run, or its lines tell of no such rails.
    """

    name = "tegrastats"
    counts = False
    step: float | None = None
    interval_s = INTERVAL_MS / 1e3

    def __init__(self, program: str, rails: Sequence[str] = ()) -> None:
        command = [program, "--interval", str(INTERVAL_MS)]
        try:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError as exc:
            raise InputError(f"{program} cannot be run: {exc.strerror}") from exc
        self._power: Mapping[str, int] = {}
        self._first = threading.Event()
        self._reader = threading.Thread(target=self._follow, name="tegrastats", daemon=True)
        self._reader.start()
        try:
            self._first.wait(10)
            if not self._power:
                raise InputError(f"{program} tells of no power rails")
            self.rails, self.covers = choose_rails(tuple(self._power), rails)
        except InputError:
            self.close()
            raise

    @classmethod
    def open(cls, sysfs: Sysfs, rails: Sequence[str] = ()) -> Tegrastats:
        """The program of this machine.

        Raises
        ------
        InputError
            when there is none.
        """
        program = shutil.which("tegrastats")
        if program is None:
            raise InputError("no tegrastats")
        return cls(program, rails)

    def read(self) -> float:
        """mW of the last line, the rails added up."""
        if self._process.poll() is not None:
            raise OSError("tegrastats has ended")
        power = self._power
        return float(sum(power[name] for name in self.rails))

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _follow(self) -> None:
        for line in self._process.stdout or ():
            try:
                power = parse_line(line).power_mw
            except InputError:
                continue
            # A line without the rails of the one before is cut off.
            if set(self._power) <= set(power):
                self._power = power
            if power:
                self._first.set()
        self._first.set()
