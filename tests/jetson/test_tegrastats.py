"""Lines of tegrastats as boards have printed them, each with where it was published."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from adaptive import InputError
from adaptive.jetson.sysfs import Sysfs
from adaptive.jetson.tegrastats import Stats, Tegrastats, parse_line

# github.com/FindHao/tx-utils/issues/3, 2019-09-05, a TX2.
TX2 = (
    "RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345,25%@345,3%@345,1%@345,1%@345] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@42.5C MCPU@42.5C PMIC@100C Tboard@40C GPU@41C BCPU@42.5C "
    "thermal@41.9C Tdiode@41.25C VDD_SYS_GPU 153/158 VDD_SYS_SOC 536/547 VDD_4V0_WIFI 633/527 "
    "VDD_IN 3140/3208 VDD_SYS_CPU 536/590 VDD_SYS_DDR 557/601"
)

# The next five: github.com/DataDog/datadog-agent (Apache 2.0),
# pkg/collector/corechecks/nvidia/jetson/jetson_test.go.
TX2_CORES_OFF = (
    "RAM 2344/7852MB (lfb 1154x4MB) SWAP 0/3926MB (cached 0MB) CPU "
    "[1%@345,off,off,1%@345,0%@345,2%@345] EMC_FREQ 4%@1600 GR3D_FREQ 0%@624 APE 150 PLL@37.5C "
    "MCPU@37.5C PMIC@100C Tboard@32C GPU@35C BCPU@37.5C thermal@36.5C Tdiode@34.25C VDD_SYS_GPU "
    "152/152 VDD_SYS_SOC 687/687 VDD_4V0_WIFI 0/0 VDD_IN 3056/3056 VDD_SYS_CPU 152/152 "
    "VDD_SYS_DDR 883/883"
)
NANO = (
    "RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) CPU "
    "[16%@204,9%@204,0%@204,0%@204] EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@34C CPU@36.5C "
    "PMIC@100C GPU@36C AO@39.5C thermal@36.25C POM_5V_IN 1022/1022 POM_5V_GPU 0/0 POM_5V_CPU "
    "204/204"
)
XAVIER = (
    "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU "
    "[2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 "
    "MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C "
    "Tboard@37C GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482"
)
ORIN_NX = (
    "RAM 6334/15388MB (lfb 1770x4MB) SWAP 491/7694MB (cached 0MB) CPU "
    "[6%@729,9%@729,5%@729,16%@729,off,off,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@611 VIC_FREQ "
    "729 APE 174 CV0@45.812C CPU@47.937C SOC2@46.093C SOC0@46.968C CV1@46.406C GPU@45.875C "
    "tj@48.875C SOC1@48.875C CV2@45.75C VDD_IN 5299mW/5299mW VDD_CPU_GPU_CV 773mW/773mW VDD_SOC "
    "1424mW/1424mW"
)
ORIN_R36 = (
    "RAM 29114/30697MB (lfb 3x4MB)    SWAP 4915/15348MB (cached 1MB) CPU "
    "[3%@729,4%@729,0%@729,1%@729,0%@2201,100%@2201,1%@2201,0%@2201,100%@2201,0%@2201,0%@2201,"
    "0%@2201] EMC_FREQ 1%@2133 GR3D_FREQ 0%@[305,305] NVENC      off  NVDEC    off NVJPG off "
    "NVJPG1    off         VIC        off          OFA           off          NVDLA0    off       "
    "NVDLA1     off          PVA0_FREQ off         APE           174        cpu@53.062C "
    "soc2@48.25C soc0@48.843C  gpu@47.812C tj@53.062C soc1@48.968C    VDD_GPU_SOC 3205mW/3205mW "
    "VDD_CPU_CV 4405mW/4405mW VIN_SYS_5V0 4767mW/4767mW"
)

# github.com/rbonghi/jetson_stats, jtop/tests/test_06_tegra_parse.py: an AGX Orin under JetPack
# 7.2, with a date in front and three numbers a rail.
ORIN_R39 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201,14%@2201,"
    "30%@2201,18%@2201,10%@2201,10%@2201,33%@2201,7%@2201,5%@2201,27%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off VIC off OFA off "
    "NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C "
    "soc0@49.531C/49.531C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV "
    "3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
)

# github.com/martinkersner/gtop/pull/7, 2019-06-17, an AGX Xavier under JetPack 4.2.
XAVIER_R32 = (
    "RAM 14700/15692MB (lfb 3x2MB) SWAP 898/8192MB (cached 23MB) CPU [0%@1190,0%@1190,0%@1190,"
    "0%@1190,0%@1190,0%@1190,0%@1190,0%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@30C GPU@30.5C "
    "Tboard@31C Tdiode@32C AUX@30.5C CPU@31.5C thermal@30.8C PMIC@100C GPU 463/463 CPU 618/618 "
    "SOC 2936/2936 CV 0/0 VDDRQ 309/309 SYS5V 3306/3306"
)

ALL = [TX2, TX2_CORES_OFF, NANO, XAVIER, ORIN_NX, ORIN_R36, ORIN_R39, XAVIER_R32]


def test_a_tx2_line_is_read_whole() -> None:
    assert parse_line(TX2) == Stats(
        ram_mb=(2020, 7852),
        cores=((9, 345), (21, 345), (25, 345), (3, 345), (1, 345), (1, 345)),
        gpu_percent=0,
        emc_percent=0,
        temperatures_c={
            "PLL": 42.5, "MCPU": 42.5, "PMIC": 100.0, "Tboard": 40.0, "GPU": 41.0, "BCPU": 42.5,
            "thermal": 41.9, "Tdiode": 41.25,
        },
        power_mw={
            "VDD_SYS_GPU": 153, "VDD_SYS_SOC": 536, "VDD_4V0_WIFI": 633, "VDD_IN": 3140,
            "VDD_SYS_CPU": 536, "VDD_SYS_DDR": 557,
        },
        average_mw={
            "VDD_SYS_GPU": 158, "VDD_SYS_SOC": 547, "VDD_4V0_WIFI": 527, "VDD_IN": 3208,
            "VDD_SYS_CPU": 590, "VDD_SYS_DDR": 601,
        },
    )  # fmt: skip


def test_cores_that_are_off_and_clocks() -> None:
    found = parse_line(TX2_CORES_OFF)
    assert found.cores == ((1, 345), None, None, (1, 345), (0, 345), (2, 345))
    assert (found.gpu_mhz, found.emc_percent, found.emc_mhz) == (624, 4, 1600)
    assert found.swap_mb == (0, 3926)


def test_nano_names_its_rails_otherwise_and_iram_is_none() -> None:
    found = parse_line(NANO)
    assert found.power_mw == {"POM_5V_IN": 1022, "POM_5V_GPU": 0, "POM_5V_CPU": 204}


@pytest.mark.parametrize("line", [XAVIER, XAVIER_R32])
def test_xavier_has_rails_called_as_its_sensors(line: str) -> None:
    found = parse_line(line)
    assert list(found.power_mw) == ["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"]
    assert found.temperatures_c["GPU"] in (37.5, 30.5)
    assert found.power_mw["SYS5V"] in (1482, 3306)


def test_orin_writes_units_and_lists_of_clocks() -> None:
    nx, agx = parse_line(ORIN_NX), parse_line(ORIN_R36)
    assert nx.power_mw == {"VDD_IN": 5299, "VDD_CPU_GPU_CV": 773, "VDD_SOC": 1424}
    assert nx.temperatures_c["tj"] == 48.875
    assert agx.power_mw == {"VDD_GPU_SOC": 3205, "VDD_CPU_CV": 4405, "VIN_SYS_5V0": 4767}
    assert (agx.gpu_percent, agx.gpu_mhz) == (0, 305)
    assert len(agx.cores) == 12


def test_a_date_three_numbers_a_rail_and_two_a_sensor() -> None:
    found = parse_line(ORIN_R39)
    assert (found.gpu_percent, found.gpu_mhz) == (12, 1300)
    assert found.power_mw == {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500}
    assert found.temperatures_c == {"cpu": 52.968, "soc2": 48.406, "soc0": 49.531, "gpu": 47.625}


def test_a_gpu_without_a_load_and_a_sensor_that_is_off() -> None:
    # By specification: Thor prints no load (jetson_stats' tests), a sensor that is off -256.
    found = parse_line("RAM 4722/7844MB GR3D_FREQ @[1000,1000,1000] CV0@-256C tj@47.3C")
    assert (found.gpu_percent, found.gpu_mhz) == (None, 1000)
    assert found.temperatures_c == {"tj": 47.3}


@pytest.mark.parametrize("line", ALL, ids=range(len(ALL)))
def test_a_line_that_is_cut_off_is_read_as_far_as_it_goes_or_refused(line: str) -> None:
    whole = parse_line(line)
    for end in range(len(line)):
        try:
            part = parse_line(line[:end])
        except InputError:
            continue
        assert set(part.power_mw) <= set(whole.power_mw)
        assert part.ram_mb == whole.ram_mb


@pytest.mark.parametrize("line", ["", "hello", "VDD_IN 3056/3056", "RAM x/yMB"])
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="no line of tegrastats"):
        parse_line(line)


def program(folder: Path, *lines: str, then: str = "time.sleep(60)") -> str:
    """A program that prints what tegrastats prints, and says how it was called."""
    path = folder / "tegrastats"
    path.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        f"open({str(folder / 'called')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"for line in {list(lines)!r}:\n    print(line, flush=True)\n{then}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_the_meter_adds_up_the_rails_of_the_module(tmp_path: Path) -> None:
    meter = Tegrastats(program(tmp_path, ORIN_R36[:60], ORIN_R36))
    try:
        assert meter.rails == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
        assert meter.read() == 3205 + 4405 + 4767
        assert (tmp_path / "called").read_text() == "--interval 100"
    finally:
        meter.close()
    with pytest.raises(OSError, match="ended"):
        meter.read()


def test_the_meter_takes_rails_by_name_and_names_those_there_are(tmp_path: Path) -> None:
    meter = Tegrastats(program(tmp_path, TX2), ["VDD_SYS_GPU", "VDD_SYS_CPU"])
    try:
        assert meter.read() == 153 + 536
    finally:
        meter.close()
    with pytest.raises(InputError, match=r"no rails \['VDD'\]; there are \['VDD_SYS_GPU'"):
        Tegrastats(program(tmp_path, TX2), ["VDD"])


def test_a_program_that_tells_no_power_or_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no power rails"):
        Tegrastats(program(tmp_path, "permission denied", then=""))
    with pytest.raises(InputError, match="cannot be run"):
        Tegrastats(str(tmp_path / "missing"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="no tegrastats"):
        Tegrastats.open(Sysfs())
