"""What a board is and what state it is in, on simulated boards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from boards import BOARDS, TX2_MODES, Board

from adaptive import InputError
from adaptive.jetson.board import board_lines, board_profile
from adaptive.jetson.clocks import clocks
from adaptive.jetson.mode import (
    PowerMode,
    check_modes,
    mode_of,
    parse_modes,
    parse_query,
    power_mode,
)
from adaptive.jetson.release import parse_release
from adaptive.jetson.state import BoardState
from adaptive.jetson.sysfs import Sysfs
from adaptive.jetson.thermal import events, limits, temperatures


@pytest.mark.parametrize(
    ("line", "l4t", "jetpack"),
    [
        # github.com/ArduCAM/MIPI_Camera/issues/108
        (
            "# R32 (release), REVISION: 5.1, GCID: 26202423, BOARD: t186ref, EABI: aarch64, "
            "DATE: Fri Feb 19 16:50:29 UTC 2021",
            "32.5.1",
            "4.5.1",
        ),
        # By specification from here on.
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref", "32.7.1", "4.6.1"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "36.4.3", "6.2"),
        ("# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic", "39.2.0", "7.2"),
        ("# R99 (release), REVISION: 1, GCID: 1, BOARD: generic", "99.1.0", None),
    ],
)
def test_releases(line: str, l4t: str, jetpack: str | None) -> None:
    found = parse_release(line + "\n# KERNEL_VARIANT: oot\n")
    assert found == ({"l4t": l4t} if jetpack is None else {"l4t": l4t, "jetpack": jetpack})
    assert parse_release("something else") == {}


def test_the_modes_of_a_tx2() -> None:
    names, default = parse_modes(TX2_MODES)
    assert names == {0: "MAXN", 1: "MAXQ", 2: "MAXP_CORE_ALL", 3: "MAXP_CORE_ARM"}
    assert default == 3


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        # github.com/anduril/jetpack-nixos/pull/460
        ("NV Power Mode: MAXN\n0\n", PowerMode(0, "MAXN")),
        # By specification: a fan mode and a reminder in front, as older versions print.
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n2\n", PowerMode(2, "MODE_15W")),
        ("NVPM VERB: Current mode: NV Power Mode: 25W\n1\nNVPM VERB: PARAM", PowerMode(1, "25W")),
        ("nvpmodel: command not found", None),
    ],
)
def test_what_nvpmodel_prints(text: str, mode: PowerMode | None) -> None:
    assert parse_query(text) == mode


def test_the_mode_is_the_one_that_was_set_last_or_the_default(tmp_path: Path) -> None:
    board = Board(tmp_path, "tx2")
    assert str(power_mode(board.sysfs)) == "MAXN (mode 0)"
    board.write("var/lib/nvpmodel/status", "pmode:0001 fmode:quiet")  # by specification
    assert power_mode(board.sysfs) == PowerMode(1, "MAXQ")
    board.set_mode(7)
    assert str(power_mode(board.sysfs)) == "mode 7"
    (tmp_path / "var/lib/nvpmodel/status").unlink()
    assert power_mode(board.sysfs) == PowerMode(3, "MAXP_CORE_ARM")
    assert power_mode(Sysfs(tmp_path / "nowhere")) is None


def test_clocks_of_cores_and_gpu(tmp_path: Path) -> None:
    found = clocks(Board(tmp_path, "tx2").sysfs)
    assert found["online"] == "0-5"
    assert found["cpu"][0] == {
        "cores": "0 3 4 5",
        "mhz": 345.6,
        "max_mhz": 2035.2,
        "limit_mhz": 2035.2,
        "governor": "schedutil",
    }
    assert found["gpu"] == {"mhz": 114.8, "max_mhz": 1300.5, "governor": "nvhost_podgov"}


def test_temperatures_leave_out_what_cannot_be_read(tmp_path: Path) -> None:
    found = temperatures(Board(tmp_path, "orin").sysfs)
    assert found == {"cpu-thermal": 53.062, "gpu-thermal": 47.812, "tj-thermal": 53.062}


def test_only_what_slows_the_machine_counts_as_throttling(tmp_path: Path) -> None:
    board = Board(tmp_path, "orin")
    assert limits(board.sysfs) == ()
    board.slow("hot-surface-alert")
    assert limits(board.sysfs) == ()
    board.slow("cpu-throttle-alert")
    board.slow("devfreq-17000000.gpu", 4)
    assert limits(board.sysfs) == ("devfreq-17000000.gpu", "cpu-throttle-alert")
    tx2 = Board(tmp_path / "tx2", "tx2")
    tx2.slow("pwm-fan", 3)
    assert limits(tx2.sysfs) == ()
    assert limits(Board(tmp_path / "xavier", "xavier").sysfs) is None


def test_events_are_counted_by_cause(tmp_path: Path) -> None:
    orin = Board(tmp_path / "orin", "orin")
    assert events(orin.sysfs) == {"oc1_event_cnt": 0, "oc2_event_cnt": 0, "oc3_event_cnt": 27}
    assert events(Board(tmp_path / "pc", "pc").sysfs) == {"core_throttle_count": 9}


def test_slowed_meanwhile_is_seen_although_it_is_over(tmp_path: Path) -> None:
    board = Board(tmp_path, "orin")
    before = BoardState.read(board.sysfs)
    assert BoardState.read(board.sysfs).slowed_since(before) == ()
    board.write("sys/class/hwmon/hwmon3/oc3_event_cnt", 29)
    assert BoardState.read(board.sysfs).slowed_since(before) == ("oc3_event_cnt",)
    assert BoardState().slowed_since(BoardState()) is None


def test_a_profile_carries_the_state_before_and_after(tmp_path: Path) -> None:
    board = Board(tmp_path, "tx2")
    before = BoardState.read(board.sysfs)
    board.write("sys/class/thermal/thermal_zone2/temp", 71500)
    board.slow("gpu-throttle-alert")
    profile = board_profile(2, before, board.sysfs)
    assert profile["model"] == "NVIDIA Jetson TX2 Developer Kit"
    assert (profile["l4t"], profile["jetpack"]) == ("32.7.1", "4.6.1")
    assert profile["mode"] == {"number": 0, "name": "MAXN"}
    assert profile["temperatures_c"]["GPU-therm"] == 35
    assert profile["temperatures_after_c"]["GPU-therm"] == 71.5
    assert profile["throttled"] is True
    assert profile["throttled_by"] == ["gpu-throttle-alert"]
    assert profile["threads"] == 2
    assert mode_of(json.loads(json.dumps(profile))) == PowerMode(0, "MAXN")


@pytest.mark.parametrize("kind", sorted(BOARDS))
def test_every_board_is_told_in_lines(kind: str, tmp_path: Path) -> None:
    profile = board_profile(sysfs=Board(tmp_path, kind).sysfs)
    lines = dict(board_lines(profile))
    assert lines["model"]
    assert all(isinstance(text, str) and text for text in lines.values())
    if kind == "tx2":
        assert lines["power mode"] == "MAXN (mode 0)"
        assert lines["cores 1 2"] == "345.6 MHz, at most 2035.2, governor schedutil"
        assert lines["temperatures"].startswith("BCPU-therm 37.5 °C, ")
        assert lines["throttled"] == "no"
    if kind == "pc":
        assert lines["model"] == "Some Desktop"
        assert "power mode" not in lines


def test_a_machine_that_tells_nothing_still_has_a_profile(tmp_path: Path) -> None:
    profile = board_profile(sysfs=Sysfs(tmp_path))
    assert set(profile) >= {"model", "machine", "processor", "cores", "system", "python", "threads"}
    assert "mode" not in profile
    assert "throttled" not in profile


@pytest.mark.parametrize(
    "board",
    [None, {}, {"mode": None}, {"mode": "MAXN"}, {"mode": {"number": "0"}}, {"model": None}],
)
def test_profiles_of_older_versions_tell_no_mode(board: object) -> None:
    assert mode_of(board) is None


def profile(model: str | None, number: int | None) -> dict[str, object]:
    return {
        "model": model,
        **({} if number is None else {"mode": {"number": number, "name": None}}),
    }


def test_times_of_one_mode_are_taken_on_any_machine() -> None:
    tx2 = profile("TX2", 0)
    check_modes([("X.csv", tx2), ("Y.csv", tx2)], profile("TX2", 0))
    check_modes([("X.csv", tx2)], profile("PC", None))
    check_modes([("X.csv", tx2)], profile(None, None))
    check_modes([("X.csv", tx2)], profile("Orin", 2))  # another board's modes are others
    check_modes([("X.csv", profile("PC", None)), ("Y.csv", None)], profile("TX2", 0))


def test_times_of_another_mode_are_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"X\.csv .* mode 0, but this TX2 is in mode 1: .* -m 0"):
        check_modes([("X.csv", profile("TX2", 0))], profile("TX2", 1))
    with pytest.raises(InputError, match=r"X\.csv .* in mode 0 on TX2, those in Y\.csv in mode 1"):
        check_modes([("X.csv", profile("TX2", 0)), ("Y.csv", profile("TX2", 1))])
    with pytest.raises(InputError, match="--any-power-mode"):
        check_modes([("X.csv", profile("TX2", 0)), ("Y.csv", profile("Orin", 0))])


def test_files_that_are_no_text_or_number_are_none(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "word").write_text("auto\n")
    (tmp_path / "number").write_text("40 ms\n")
    sysfs = Sysfs(tmp_path)
    assert sysfs.text("bytes") is None
    assert sysfs.number("word") is None
    assert sysfs.number("number") == 40
    assert sysfs.text("missing") is None
    assert sysfs.number("") is None
    assert sysfs.cell("word") is None
    for number in (10, 2, 1):
        (tmp_path / f"hwmon{number}").mkdir()
    assert sysfs.find("hwmon*") == ["hwmon1", "hwmon2", "hwmon10"]
