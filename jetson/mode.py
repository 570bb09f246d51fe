"""The power mode that nvpmodel has set, and tables whose times come from another one."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from adaptive.errors import InputError
from adaptive.jetson.sysfs import Sysfs

#: Where nvpmodel keeps the mode that it has set, "pmode:0002", and what the modes are called.
STATUS = "var/lib/nvpmodel/status"
CONFIG = "etc/nvpmodel.conf"

_STATUS = re.compile(r"pmode:(\d+)")
_MODEL = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", re.M)
_DEFAULT = re.compile(r"^<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>", re.M)
_QUERY = re.compile(r"NV Power Mode:\s*(\S+)\s+(\d+)\b")


@dataclass(frozen=True)
class PowerMode:
    """A mode of nvpmodel by number, with its name where the board's configuration gives one.

    The same number is another mode on another board: 0 is MAXN on a TX2 and 15W on an Orin Nano.
    """

    number: int
    name: str | None = None

    def __str__(self) -> str:
        return f"mode {self.number}" if self.name is None else f"{self.name} (mode {self.number})"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"number": self.number, "name": self.name}


def parse_modes(config: str) -> tuple[dict[int, str], int | None]:
    """The modes of an nvpmodel.conf by number, and the number of the default."""
    default = _DEFAULT.search(config)
    names = {int(number): name for number, name in _MODEL.findall(config)}
    return names, None if default is None else int(default[1])


def parse_query(text: str) -> PowerMode | None:
    """The mode in what `nvpmodel -q` prints, or None."""
    found = _QUERY.search(text)
    return None if found is None else PowerMode(int(found[2]), found[1])


def power_mode(sysfs: Sysfs) -> PowerMode | None:
    """The mode that is set, from files alone; None where there is no nvpmodel.

    It is the one that nvpmodel set last, and the configuration's default where it set none.
    """
    names, number = parse_modes(sysfs.text(CONFIG) or "")
    status = _STATUS.search(sysfs.text(STATUS) or "")
    if status is not None:
        number = int(status[1])
    return None if number is None else PowerMode(number, names.get(number))


def ask_nvpmodel() -> PowerMode | None:
    """The mode that the program nvpmodel tells, for a container that does not see the files."""
    program = shutil.which("nvpmodel")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return parse_query(done.stdout)


def mode_of(board: object) -> PowerMode | None:
    """The mode in a board profile as it was written; None where it tells none."""
    values = board.get("mode") if isinstance(board, Mapping) else None
    if not isinstance(values, Mapping) or not isinstance(values.get("number"), int):
        return None
    name = values.get("name")
    return PowerMode(values["number"], name if isinstance(name, str) else None)


def check_modes(
    measured: Sequence[tuple[str, Mapping[str, Any] | None]],
    here: Mapping[str, Any] | None = None,
) -> None:
    """Refuse times that were measured in different power modes.

    Parameters
    ----------
    measured : for each table of times its name, and the board profile that it carries
    here : this machine's; it counts only where it is the same model of board, so that a table
        from a board can be tuned on any other machine

    Raises
    ------
    InputError
        when two tables tell different modes, or one tells another than this board is in.
    """
    told = [(name, _model(board), mode_of(board)) for name, board in measured]
    known = [(name, model, mode) for name, model, mode in told if mode is not None]
    for name, model, mode in known[1:]:
        first, other, before = known[0]
        if (mode.number, model) != (before.number, other):
            raise InputError(
                f"the times in {first} were measured in {before}{_on(other)}, those in {name} in "
                f"{mode}{_on(model)}; measure both in one mode, or give --any-power-mode"
            )
    now, own = mode_of(here), _model(here)
    for name, model, mode in known:
        if now is not None and model is not None and model == own and mode.number != now.number:
            raise InputError(
                f"the times in {name} were measured in {mode}, but this {model} is in {now}: set "
                f"it with nvpmodel -m {mode.number}, measure again (adaptive profile, with "
                "--latency-only for the times alone), or give --any-power-mode"
            )


def _model(board: Mapping[str, Any] | None) -> str | None:
    model = (board or {}).get("model")
    return model if isinstance(model, str) else None


def _on(model: str | None) -> str:
    return "" if model is None else f" on {model}"
