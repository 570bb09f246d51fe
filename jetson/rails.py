"""Power rails of a Jetson: its INA3221 monitors, in sysfs.

Two drivers tell them. JetPack 4 (TX1, TX2, Nano, Xavier): the `iio` driver of L4T, with
`rail_name_N` and `in_powerN_input` in mW. JetPack 5 and later (Xavier, Orin): the kernel's
`hwmon` driver, with `inN_label`, `inN_input` in mV and `currN_input` in mA. Each chip has three
channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from adaptive.errors import InputError
from adaptive.jetson.sysfs import Sysfs

#: A step of the chip's shunt voltage, microvolts (Texas Instruments SBOS576, "INA3221"). The
#: bus voltage, in steps of 8 mV, is finer.
SHUNT_STEP_UV = 40

#: The rails that together are a module's input, by NVIDIA's documents: what else is listed lies
#: behind them. The first line all of whose rails are there counts.
WHOLE: tuple[tuple[str, ...], ...] = (
    ("VDD_IN",),  # TX1, TX2, TX2 NX, Xavier NX, Orin NX, Orin Nano
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


@dataclass(frozen=True)
class Rail:
    """One channel of an INA3221.

    Attributes
    ----------
    voltage, current : files with mV and mA
    power : file with mW; their product where there is none
    shunt_uohm : resistance of the shunt, microohms; None where it is not told
    """

    name: str
    voltage: str
    current: str
    power: str | None = None
    shunt_uohm: int | None = None

    def read(self, sysfs: Sysfs) -> float | None:
        """mW now, or None when the channel cannot be read."""
        if self.power is not None:
            return sysfs.number(self.power)
        voltage, current = sysfs.number(self.voltage), sysfs.number(self.current)
        return None if voltage is None or current is None else voltage * current / 1e3

    def step_mw(self, sysfs: Sysfs) -> float | None:
        """Smallest difference between two readings; None where the shunt is not known."""
        voltage = sysfs.number(self.voltage)
        if not self.shunt_uohm or voltage is None:
            return None
        return SHUNT_STEP_UV / self.shunt_uohm * voltage


def find_rails(sysfs: Sysfs) -> dict[str, Rail]:
    """Every rail of this machine that is named, in the order of its chips and channels."""
    found: dict[str, Rail] = {}
    for chip in sysfs.find("sys/bus/i2c/drivers/ina3221x/*/iio*"):
        for channel in range(3):
            name = sysfs.text(f"{chip}/rail_name_{channel}")
            if name is None:
                continue
            files = [f"{chip}/in_{kind}{channel}_input" for kind in ("voltage", "current", "power")]
            shunt = _shunt(sysfs, chip, name)
            found.setdefault(name, Rail(name, files[0], files[1], files[2], shunt))
    for chip in sysfs.find("sys/class/hwmon/hwmon*"):
        if sysfs.text(f"{chip}/name") != "ina3221":
            continue
        # Labels go on with in7, the sum of the shunt voltages, which is no rail.
        for channel in (1, 2, 3):
            name = sysfs.text(f"{chip}/in{channel}_label")
            if name is not None and name != "NC":
                shunt = sysfs.number(f"{chip}/shunt{channel}_resistor")
                files = [f"{chip}/{kind}{channel}_input" for kind in ("in", "curr")]
                found.setdefault(name, Rail(name, files[0], files[1], None, shunt))
    return found


def _shunt(sysfs: Sysfs, chip: str, rail: str) -> int | None:
    """The resistance that L4T's driver takes from the device tree, in microohms."""
    for channel in sysfs.find(f"{chip.rsplit('/', 1)[0]}/of_node/channel@*"):
        if sysfs.text(f"{channel}/ti,rail-name") == rail:
            milliohms = sysfs.cell(f"{channel}/ti,shunt-resistor-mohm")
            return None if milliohms is None else milliohms * 1000
    return None


class Rails:
    """The meter made of some rails.

    Parameters
    ----------
    chosen : the rails whose power is added up
    """

    name = "INA3221"
    counts = False
    #: The chip averages for a few ms, and asking it over I2C takes about one a register: asking
    #: more often than this would be a load of its own.
    interval_s = 0.02

    def __init__(self, sysfs: Sysfs, chosen: Sequence[Rail], covers: str) -> None:
        self._sysfs = sysfs
        self._chosen = tuple(chosen)
        self.rails = tuple(rail.name for rail in chosen)
        self.covers = covers
        steps = [rail.step_mw(sysfs) for rail in chosen]
        known = [step for step in steps if step is not None]
        self.step: float | None = round(sum(known), 3) if len(known) == len(steps) else None

    @classmethod
    def open(cls, sysfs: Sysfs, rails: Sequence[str] = ()) -> Rails:
        """The whole module's rails, or the named ones.

        Raises
        ------
        InputError
            when there are none, or cannot be read, or which of them make up the whole is not
            known.
        """
        there = find_rails(sysfs)
        if not there:
            raise InputError("no INA3221 in /sys")
        names, covers = choose_rails(tuple(there), rails)
        chosen = [there[name] for name in names]
        for rail in chosen:
            if rail.read(sysfs) is None:
                files = rail.power or f"{rail.voltage} and {rail.current}"
                raise InputError(
                    f"the INA3221's rail {rail.name} cannot be read: make /{files} readable "
                    "(chmod a+r)"
                )
        return cls(sysfs, chosen, covers)

    def read(self) -> float:
        """mW now, the rails added up."""
        total = 0.0
        for rail in self._chosen:
            power = rail.read(self._sysfs)
            if power is None:
                raise OSError(f"rail {rail.name} did not answer")
            total += power
        return total

    def close(self) -> None:
        """Nothing to stop."""


def choose_rails(there: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Which of the rails that are there are added up, and what that covers.

    Raises
    ------
    InputError
        for a rail that is not there; or when none is wanted by name and these rails are not
        those of a board that is known.
    """
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise InputError(f"there are no rails {unknown}; there are {list(there)}")
    if wanted:
        return tuple(dict.fromkeys(wanted)), "the rails that were named"
    for whole in WHOLE:
        if set(whole) <= set(there):
            return whole, "the module's input"
    raise InputError(
        f"which of the rails {list(there)} make up the whole module is not known; name them with "
        "--rails, and none that lies behind another"
    )
