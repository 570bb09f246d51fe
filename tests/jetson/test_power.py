"""Rails, RAPL and the choice between them, on simulated boards."""

from __future__ import annotations

from pathlib import Path

import pytest
from boards import Board

from adaptive import InputError
from adaptive.jetson.meter import describe, open_meter
from adaptive.jetson.rails import Rails, choose_rails, find_rails
from adaptive.jetson.rapl import Rapl
from adaptive.jetson.sysfs import Sysfs


@pytest.mark.parametrize(
    ("kind", "rails", "power"),
    [
        ("tx2", ("VDD_IN",), 3056),
        # 19 V times the currents, and 5.016 V times 950 mA.
        ("orin", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 19 * (169 + 232) + 5.016 * 950),
        ("xavier", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), 19 * (16 + 49 + 33 + 78)),
    ],
)
def test_a_board_is_measured_at_its_input(
    kind: str, rails: tuple[str, ...], power: float, tmp_path: Path
) -> None:
    meter = Rails.open(Board(tmp_path, kind).sysfs)
    assert meter.rails == rails
    assert meter.read() == pytest.approx(power)
    assert meter.covers == "the module's input"


def test_every_rail_is_found_and_what_is_not_connected_is_none(tmp_path: Path) -> None:
    assert list(find_rails(Board(tmp_path / "tx2", "tx2").sysfs)) == [
        "VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR",
    ]  # fmt: skip
    assert list(find_rails(Board(tmp_path / "orin", "orin").sysfs)) == [
        "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO",
    ]  # fmt: skip
    assert find_rails(Board(tmp_path / "pc", "pc").sysfs) == {}


def test_a_step_is_the_chips_over_the_shunt(tmp_path: Path) -> None:
    # 40 uV over 10 mohm are 4 mA, at 19.104 V 76.4 mW: TX2s print 153, 536 and 3140 mW, which
    # are 2, 7 and 41 such steps.
    tx2 = Board(tmp_path / "tx2", "tx2")
    assert Rails.open(tx2.sysfs).step == pytest.approx(76.416)
    # 40 uV over 2 mohm are 20 mA, for each of the three rails.
    orin = Board(tmp_path / "orin", "orin")
    assert Rails.open(orin.sysfs).step == pytest.approx(20 * (19 + 19 + 5.016))
    for node in tx2.root.glob("sys/bus/i2c/drivers/ina3221x/*/of_node/*/ti,shunt*"):
        node.unlink()
    assert Rails.open(tx2.sysfs).step is None


def test_rails_by_name(tmp_path: Path) -> None:
    sysfs = Board(tmp_path, "tx2").sysfs
    assert Rails.open(sysfs, ["VDD_SYS_GPU", "VDD_SYS_CPU"]).read() == 152 + 152
    with pytest.raises(InputError, match=r"no rails \['GPU'\]; there are \['VDD_SYS_GPU', "):
        Rails.open(sysfs, ["GPU"])


def test_rails_that_are_not_known_to_be_the_whole_are_not_added_up() -> None:
    with pytest.raises(InputError, match=r"\['VDD_GPU', 'VIN'\] make up .* --rails"):
        choose_rails(["VDD_GPU", "VIN"], [])


def test_a_rail_that_may_not_be_read_is_named_with_what_mends_it(tmp_path: Path) -> None:
    board = Board(tmp_path, "orin")
    (tmp_path / "sys/class/hwmon/hwmon1/curr2_input").unlink()
    with pytest.raises(InputError, match=r"VDD_CPU_CV cannot be read: make .*curr2_input readable"):
        Rails.open(board.sysfs)


def test_a_rail_that_stops_answering_is_an_error_of_the_reading(tmp_path: Path) -> None:
    board = Board(tmp_path, "tx2")
    meter = Rails.open(board.sysfs)
    board.draw("Resource temporarily unavailable")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="VDD_IN did not answer"):
        meter.read()
    board.draw(4000)
    assert meter.read() == 4000


def test_rapl_adds_packages_and_memory_and_wraps(tmp_path: Path) -> None:
    board = Board(tmp_path, "pc")
    meter = Rapl.open(board.sysfs)
    assert meter.rails == ("package-0", "package-0 dram")
    assert meter.counts
    assert meter.read() == 0
    zone = "sys/class/powercap/intel-rapl:0"
    board.write(f"{zone}/energy_uj", 262143328850)  # 850 uJ more, its highest value
    board.write(f"{zone}:1/energy_uj", 1500)
    assert meter.read() == pytest.approx(1.350)
    board.write(f"{zone}/energy_uj", 999)  # it began again: one to 0, and 999 more
    assert meter.read() == pytest.approx(2.350)


def test_rapl_that_only_root_may_read_says_so(tmp_path: Path) -> None:
    board = Board(tmp_path, "pc")
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    with pytest.raises(InputError, match=r"intel-rapl:0/energy_uj cannot be read .* run as root"):
        Rapl.open(board.sysfs)


def test_rapl_zones_by_name(tmp_path: Path) -> None:
    assert Rapl.open(Board(tmp_path, "pc").sysfs, ["package-0 core"]).rails == ("package-0 core",)


def test_the_best_meter_is_opened_and_described(tmp_path: Path) -> None:
    tx2 = open_meter(Board(tmp_path / "tx2", "tx2").sysfs)
    assert describe(tx2) == {
        "sensor": "INA3221",
        "rails": ["VDD_IN"],
        "covers": "the module's input",
        "step_mw": pytest.approx(76.416),
        "interval_s": 0.02,
    }
    assert open_meter(Board(tmp_path / "pc", "pc").sysfs).name == "RAPL"


def test_without_any_sensor_the_sentence_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no power can be measured here: no INA3221 .* no RAPL"):
        open_meter(Sysfs(tmp_path))
