"""Simulated boards: trees of the files in which Linux tells about a Jetson or a PC.

Each tree is put together from what is known of real ones; where a value or a name was seen on a
board, its origin stands beside it. What is only known from documents is marked "by
specification". Nothing here was read from a board by us.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from adaptive.jetson.sysfs import Sysfs

#: /etc/nv_tegra_release under L4T 32.7.1, by specification: its form is that of
#: github.com/ArduCAM/MIPI_Camera/issues/108 (32.5.1).
TX2_RELEASE = (
    "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref, EABI: aarch64, "
    "DATE: Sat Feb 19 17:07:00 UTC 2022"
)

#: Modes of a TX2, github.com/hoony9x/hoony9x.com, _posts/2017-07-03-nvpmodel-nvidia-jetson-tx2.md
#: (an nvpmodel.conf of 2017-08-18, without its lists of parameters).
TX2_MODES = """\
# MAXN is the NONE power model to release all constraints
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_1 1
GPU MAX_FREQ -1
EMC MAX_FREQ 0

< POWER_MODEL ID=1 NAME=MAXQ >
CPU_ONLINE CORE_1 0
GPU MAX_FREQ 850000000
EMC MAX_FREQ 1331200000

< POWER_MODEL ID=2 NAME=MAXP_CORE_ALL >
CPU_ONLINE CORE_1 1
GPU MAX_FREQ 1120000000
EMC MAX_FREQ 1600000000

< POWER_MODEL ID=3 NAME=MAXP_CORE_ARM >
CPU_ONLINE CORE_1 0
GPU MAX_FREQ 1120000000
EMC MAX_FREQ 1600000000

# mandatory section to configure the default mode
< PM_CONFIG DEFAULT=3 >
"""

_TX2_CHIP = "sys/bus/i2c/drivers/ina3221x"


def _tx2() -> dict[str, str | bytes]:
    """A TX2 under JetPack 4.6."""
    files: dict[str, str | bytes] = {
        # By specification; the device tree's strings end in a NUL byte.
        "proc/device-tree/model": b"NVIDIA Jetson TX2 Developer Kit\0",
        "etc/nv_tegra_release": TX2_RELEASE,
        "etc/nvpmodel.conf": TX2_MODES,
        # The file and its form: github.com/almond-bot/axol/pull/107.
        "var/lib/nvpmodel/status": "pmode:0000\n",
        "sys/devices/system/cpu/online": "0-5\n",
    }
    # Rails and channels: github.com/energymon/energymon, jetson/JetsonPowerRails.md, from
    # NVIDIA's Developer Guide 32.6.1. Power: github.com/DataDog/datadog-agent,
    # pkg/collector/corechecks/nvidia/jetson/jetson_test.go, the sample of a TX2. Folder and file
    # names: hoony9x.com, _posts/2017-07-07-power-monitoring-nvidia-jetson-tx2.md.
    rails = {
        "0-0040/iio:device0": [("VDD_SYS_GPU", 152), ("VDD_SYS_SOC", 687), ("VDD_4V0_WIFI", 0)],
        "0-0041/iio:device1": [("VDD_IN", 3056), ("VDD_SYS_CPU", 152), ("VDD_SYS_DDR", 883)],
    }
    for chip, channels in rails.items():
        for channel, (name, power) in enumerate(channels):
            folder = f"{_TX2_CHIP}/{chip}"
            files[f"{folder}/rail_name_{channel}"] = f"{name}\n"
            files[f"{folder}/in_power{channel}_input"] = f"{power}\n"
            # By specification: 19 V, and the driver's own property of the device tree.
            files[f"{folder}/in_voltage{channel}_input"] = "19104\n"
            files[f"{folder}/in_current{channel}_input"] = f"{round(power / 19.104)}\n"
            node = f"{_TX2_CHIP}/{chip.split('/')[0]}/of_node/channel@{channel}"
            files[f"{node}/ti,rail-name"] = f"{name}\0"
            files[f"{node}/ti,shunt-resistor-mohm"] = (10).to_bytes(4, "big")
    # By specification: A57 and Denver cores, GPU "gp10b".
    for policy, cores in (("policy0", "0 3 4 5"), ("policy1", "1 2")):
        folder = f"sys/devices/system/cpu/cpufreq/{policy}"
        files[f"{folder}/affected_cpus"] = cores
        files[f"{folder}/scaling_cur_freq"] = "345600"
        files[f"{folder}/scaling_max_freq"] = "2035200"
        files[f"{folder}/cpuinfo_max_freq"] = "2035200"
        files[f"{folder}/scaling_governor"] = "schedutil"
    for name, value in (("cur_freq", "114750000"), ("max_freq", "1300500000")):
        files[f"sys/class/devfreq/17000000.gp10b/{name}"] = value
    files["sys/class/devfreq/17000000.gp10b/governor"] = "nvhost_podgov"
    # Zones as tegrastats calls them, temperatures from DataDog's sample.
    zones = {"BCPU-therm": 37500, "MCPU-therm": 37500, "GPU-therm": 35000, "PMIC-Die": 100000}
    for number, (name, value) in enumerate(zones.items()):
        files[f"sys/class/thermal/thermal_zone{number}/type"] = name
        files[f"sys/class/thermal/thermal_zone{number}/temp"] = str(value)
    # By specification; "bcpu-throttle-alert cooling state: 0 -> 1" is a line of L4T's kernel.
    for number, name in enumerate(("pwm-fan", "bcpu-throttle-alert", "gpu-throttle-alert")):
        files[f"sys/class/thermal/cooling_device{number}/type"] = name
        files[f"sys/class/thermal/cooling_device{number}/cur_state"] = "0"
    return files


def _hwmon(chips: Mapping[str, list[tuple[str, int, int]]]) -> dict[str, str | bytes]:
    """INA3221 monitors as the kernel's driver shows them (Documentation/hwmon/ina3221.rst)."""
    files: dict[str, str | bytes] = {"sys/class/hwmon/hwmon0/name": "pwmfan"}
    for chip, channels in chips.items():
        folder = f"sys/class/hwmon/{chip}"
        files[f"{folder}/name"] = "ina3221"
        for number, (label, voltage, current) in enumerate(channels, 1):
            files[f"{folder}/in{number}_label"] = label
            files[f"{folder}/in{number}_input"] = str(voltage)
            files[f"{folder}/curr{number}_input"] = str(current)
            files[f"{folder}/shunt{number}_resistor"] = "2000"
        files[f"{folder}/in7_label"] = "sum of shunt voltages"
        files[f"{folder}/in7_input"] = "3"
    return files


def _xavier() -> dict[str, str | bytes]:
    """An AGX Xavier under JetPack 5."""
    # Rails: energymon's JetsonPowerRails.md. Powers are DataDog's sample of a Xavier (GPU 0,
    # CPU 311, SOC 932, CV 0, VDDRQ 621, SYS5V 1482 mW), at 19 V; shunts by specification.
    chips = {
        "hwmon3": [("GPU", 19000, 0), ("CPU", 19000, 16), ("SOC", 19000, 49)],
        "hwmon4": [("CV", 19000, 0), ("VDDRQ", 19000, 33), ("SYS5V", 19000, 78)],
    }
    return {
        "proc/device-tree/model": b"Jetson-AGX\0",
        "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref",
        # Modes 0 to 3 of a Xavier: github.com/rbonghi/jetson_stats, tests/nvpmodel.
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_10W >\n"
        "< POWER_MODEL ID=2 NAME=MODE_15W >\n< PM_CONFIG DEFAULT=2 >\n",
        **_hwmon(chips),
    }


def _orin() -> dict[str, str | bytes]:
    """An AGX Orin under JetPack 6; its model as in github.com/OE4T/meta-tegra/pull/1822."""
    # Rails and what lies behind VIN_SYS_5V0: energymon, jetson/energymon-jetson.c. The label NC
    # of channels that are not connected: NVIDIA, Developer Guide r34.1, "Jetson AGX Orin Series".
    # Powers near DataDog's r36 sample (3205, 4405, 4767 mW).
    chips = {
        "hwmon1": [
            ("VDD_GPU_SOC", 19000, 169),
            ("VDD_CPU_CV", 19000, 232),
            ("VIN_SYS_5V0", 5016, 950),
        ],
        "hwmon2": [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5016, 160), ("NC", 0, 0)],
    }
    files: dict[str, str | bytes] = {
        "proc/device-tree/model": b"NVIDIA Jetson AGX Orin Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
        "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_15W >\n"
        "< POWER_MODEL ID=2 NAME=MODE_30W >\n< PM_CONFIG DEFAULT=2 >\n",
        "var/lib/nvpmodel/status": "pmode:0000\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "305999999",
        "sys/class/devfreq/17000000.gpu/max_freq": "1300500000",
        "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov",
        **_hwmon(chips),
    }
    # Zones that are off fail when they are read (cv0-thermal): no `temp` here.
    zones = {"cpu-thermal": 53062, "gpu-thermal": 47812, "cv0-thermal": None, "tj-thermal": 53062}
    for number, (name, value) in enumerate(zones.items()):
        files[f"sys/class/thermal/thermal_zone{number}/type"] = name
        if value is not None:
            files[f"sys/class/thermal/thermal_zone{number}/temp"] = str(value)
    # The kernel's names of cooling devices (cpufreq_cooling.c, devfreq_cooling.c) and NVIDIA's
    # alerts, of which `hot-surface-alert` is a caution alone: nvpmodel_indicator.py of L4T.
    devices = ("cpufreq-cpu0", "devfreq-17000000.gpu", "cpu-throttle-alert", "hot-surface-alert")
    for number, name in enumerate(devices):
        files[f"sys/class/thermal/cooling_device{number}/type"] = name
        files[f"sys/class/thermal/cooling_device{number}/cur_state"] = "0"
    # Over-current counters: drivers/soc/tegra, "soctherm_oc" (tegra234-oc-event.c).
    files["sys/class/hwmon/hwmon3/name"] = "soctherm_oc"
    for number, count in ((1, 0), (2, 0), (3, 27)):
        files[f"sys/class/hwmon/hwmon3/oc{number}_event_cnt"] = str(count)
    return files


def _pc() -> dict[str, str | bytes]:
    """A PC with RAPL (Documentation/power/powercap/powercap.rst), by specification."""
    files: dict[str, str | bytes] = {
        "sys/class/dmi/id/product_name": "Some Desktop\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some Processor\n",
        "sys/class/thermal/cooling_device0/type": "Processor",
        "sys/class/thermal/cooling_device0/cur_state": "0",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5",
    }
    for zone, name, energy in (
        ("intel-rapl:0", "package-0", 262143328000),
        ("intel-rapl:0:0", "core", 5000),
        ("intel-rapl:0:1", "dram", 1000),
        ("intel-rapl:1", "psys", 7000),
    ):
        files[f"sys/class/powercap/{zone}/name"] = name
        files[f"sys/class/powercap/{zone}/energy_uj"] = str(energy)
        files[f"sys/class/powercap/{zone}/max_energy_range_uj"] = "262143328850"
    return files


BOARDS = {"tx2": _tx2, "xavier": _xavier, "orin": _orin, "pc": _pc}


class Board:
    """A simulated board below `root`, whose files can change."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.sysfs = Sysfs(root)
        for name, content in BOARDS[kind]().items():
            self.write(name, content)

    def write(self, name: str, content: str | bytes | int) -> None:
        """Let a file hold something else from now on, put there whole as a kernel's are."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + "~")
        aside.write_bytes(content if isinstance(content, bytes) else str(content).encode())
        aside.replace(path)

    def set_mode(self, number: int) -> None:
        """As `nvpmodel -m NUMBER` would."""
        self.write("var/lib/nvpmodel/status", f"pmode:{number:04}\n")

    def slow(self, device: str, state: int = 1) -> None:
        """Let one cooling device hold the clocks down, or let go with state 0."""
        for folder in self.root.glob("sys/class/thermal/cooling_device*"):
            if (folder / "type").read_text() == device:
                self.write((folder / "cur_state").relative_to(self.root).as_posix(), state)
                return
        raise ValueError(f"the board has no cooling device {device}")

    def draw(self, power_mw: int) -> None:
        """Let the TX2's module draw so much."""
        self.write(f"{_TX2_CHIP}/0-0041/iio:device1/in_power0_input", power_mw)
