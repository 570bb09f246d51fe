"""Times measured on the board in place of those from elsewhere: bundles, tables, policies."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from boards import Board
from outcome_tables import chain, table_of

from adaptive import Bundle, InputError, Router, TableError
from adaptive.bundle.bundle import write_bundle
from adaptive.intervals import fewest
from adaptive.jetson.board import board_profile
from adaptive.jetson.rails import Rails
from adaptive.measuring.profiling import Profiler
from adaptive.measuring.times import (
    Times,
    check_rewritable,
    make_up,
    measure_times,
    rewrite_times,
    with_times,
)
from adaptive.outcomes.labelled import list_images
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.premodel import ByPremodel
from adaptive.policy.times import rescaled, retimed

COLOURS = ("blue", "green", "red")


@pytest.fixture
def bundle(tiny_candidates: Path, tmp_path: Path) -> Path:
    """A bundle from another board, with deadlines, a certificate, energies, and exits."""
    output = tmp_path / "bundle"
    policy = Cascade(
        ("cheap", "net@1", "net@2"),
        thresholds=(0.9, 0.8),
        upper_ms=(9000.0, 9000.0, 9000.0),
        costs_ms=(8000.0, 8000.0, 8000.0),
        costs_mj=(1.0, 1.0, 1.0),
    )
    write_bundle(
        output,
        Bundle.read(tiny_candidates),
        policy,
        {"format": 1, "claim": "a claim", "board": {"model": "Elsewhere"}},
        times=dict.fromkeys(("cheap", "strong", "net@1", "net@2"), 8000.0),
        board={"model": "Elsewhere", "mode": {"number": 0, "name": "MAXN"}},
        energies={"cheap": 3.0},
    )
    return output


@pytest.fixture(scope="module")
def times(tiny_candidates: Path) -> Times:
    found, left_out = measure_times(Bundle.read(tiny_candidates), count=100)
    assert left_out == []
    return found


@pytest.fixture
def adaptive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    from adaptive.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adaptive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_bundle_gets_this_machines_times_and_nothing_else_changes(
    bundle: Path, times: Times
) -> None:
    before, old = contents(bundle), Bundle.read(bundle)
    notes = rewrite_times(old, times)
    after, new = contents(bundle), Bundle.read(bundle)
    assert {name for name in before if before[name] != after[name]} == {
        "manifest.json", "policy.json",
    }  # fmt: skip
    assert set(before) == set(after)
    for candidate in new.candidates:
        assert candidate.ms == round(times.mean_ms(candidate.name), 5)
        assert candidate.mj is None
    assert new.board == times.board
    assert new.policy == replace(
        old.policy,
        costs_ms=tuple(times.asked_ms(n) for n in old.policy.candidates),
        upper_ms=tuple(times.upper_ms(n) for n in old.policy.candidates),
        costs_mj=None,
    )
    # An exit that is asked first pays for what it continues from.
    assert times.asked_ms("net@2") == pytest.approx(times.mean_ms("net@1") + times.mean_ms("net@2"))
    assert notes == [
        "the energies of ['cheap'] were another board's and are left out",
        "the certificate stays: it speaks of answers, which times do not change; the times and "
        "the board that it mentions are those it was made with",
    ]
    with Router.load(bundle) as router:
        assert router.describe()["board"] == times.board


def test_a_bundle_that_cannot_be_replaced_stays_as_it_was(
    bundle: Path, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = contents(bundle), Bundle.read(bundle)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adaptive.measuring.times.write_json", fails)
    with pytest.raises(OSError, match="No space left"):
        rewrite_times(read, times)
    assert contents(bundle) == before
    assert os.listdir(bundle.parent) == [bundle.name]


def test_energies_of_the_same_board_stay(bundle: Path, times: Times) -> None:
    read = Bundle.read(bundle)
    same = Times(replace(times.table, meta={**times.meta, "board": dict(read.board)}))
    notes = rewrite_times(read, same)
    assert Bundle.read(bundle).candidate("cheap").mj == 3.0
    assert len(notes) == 1


def test_a_folder_of_candidates_gets_times_too(
    tiny_candidates: Path, tmp_path: Path, times: Times
) -> None:
    folder = Path(shutil.copytree(tiny_candidates, tmp_path / "candidates"))
    assert rewrite_times(Bundle.read(folder), times) == []
    assert Bundle.read(folder).candidate("strong").ms == round(times.mean_ms("strong"), 5)
    assert not (folder / "policy.json").exists()


def test_deadlines_need_enough_images(bundle: Path) -> None:
    assert fewest() == 99
    with pytest.raises(InputError, match="at least 99 images, not 98"):
        check_rewritable(Bundle.read(bundle), 98)
    check_rewritable(Bundle.read(bundle), 99)


def test_upper_times_are_the_conformal_quantile() -> None:
    table = table_of(99)
    times = Times(table)
    assert times.upper_ms("big") == table.ms("big").max()
    assert Times(table_of(250)).upper_ms("big") == np.sort(table_of(250).ms("big"))[248]
    with pytest.raises(InputError, match="98 images are too few"):
        Times(table_of(98)).upper_ms("big")


def test_times_are_written_and_read_back(times: Times, tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    times.write(path)
    again = Times.read(path)
    assert again.table.images == times.table.images
    assert again.meta["images"] == {"made_up": True, "size": [24, 18], "count": 100}
    for name in times.table.candidates:
        assert again.mean_ms(name) == pytest.approx(times.mean_ms(name), abs=1e-5)
        assert again.table.of(name).after == times.table.of(name).after
    assert "cheap:top1" not in path.read_text().splitlines()[0]
    with pytest.raises(TableError, match="no outcome table"):
        OutcomeTable.read(path)


def test_an_outcome_table_is_no_times(tiny_table_path: Path) -> None:
    with pytest.raises(TableError, match="does not belong to times but to an outcome table"):
        Times.read(tiny_table_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 9}, "format 9"),
        ({"candidates": [{"name": "other"}]}, "other:ms"),
        ({"candidates": 3}, "'candidates' is int 3"),
        ({"features": [1]}, "'features' holds 1"),
    ],
)
def test_damaged_times_are_refused(
    change: dict[str, Any], says: str, times: Times, tmp_path: Path
) -> None:
    path = tmp_path / "times.csv"
    times.write(path)
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **change}))
    with pytest.raises(TableError, match=says):
        Times.read(path)


def test_made_up_images_have_the_size_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    (name,) = make_up(tmp_path, 1, (64, 48))
    with Image.open(tmp_path / name) as image:
        assert image.size == (64, 48)
        assert image.format == "JPEG"


def test_a_table_takes_each_images_own_times_where_they_were_measured(
    tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    own, left_out = measure_times(Bundle.read(tiny_candidates), tiny_images, 90)
    assert left_out == []
    timed = with_times(tiny_table, own)
    assert timed.meta["times"]["same_images"] is True
    for image in ("003.png", "077.png"):
        here, there = timed.images.index(image), own.table.images.index(image)
        assert timed.of("strong").ms[here] == own.table.of("strong").ms[there]
    np.testing.assert_array_equal(timed.of("strong").quality, tiny_table.of("strong").quality)
    np.testing.assert_array_equal(
        timed.probabilities_of("cheap"), tiny_table.probabilities_of("cheap")
    )


def test_a_table_of_other_images_takes_the_times_as_often_as_each_other(
    times: Times, tiny_table: OutcomeTable
) -> None:
    timed = with_times(tiny_table.select(np.arange(50)), times)
    assert timed.meta["times"] == {"of": "times", "images": 100, "same_images": False}
    assert set(timed.of("strong").ms) <= set(times.table.of("strong").ms)
    assert len(set(timed.of("strong").ms)) > 40
    assert timed.meta["board"] == times.board
    whole = with_times(table_of(400), Times(table_of(100, seed=1)))
    source = table_of(100, seed=1)
    for name in whole.candidates:
        np.testing.assert_allclose(
            np.sort(whole.of(name).ms), np.repeat(np.sort(source.of(name).ms), 4)
        )


def test_features_that_the_table_lacks_are_not_charged() -> None:
    measured = table_of(60, seed=1)
    table = table_of(60)
    fewer = replace(table, features=("f", "h"), X=table.X[:, [0, 2]])
    timed = with_times(fewer, Times(measured))
    np.testing.assert_allclose(timed.features_ms, measured.features_ms / 2)
    assert timed.feature_ms == {"f": 0.1, "h": 0.1}


def test_times_of_other_networks_or_without_a_candidate_are_refused(
    times: Times, tiny_table: OutcomeTable
) -> None:
    other = json.loads(json.dumps(dict(times.meta)))
    other["candidates"][0]["sha256"] = "0" * 64
    with pytest.raises(InputError, match=r"t\.csv was measured with another 'cheap'"):
        with_times(tiny_table, Times(replace(times.table, meta=other)), "t.csv")
    with pytest.raises(InputError, match=r"has no times of \['small'"):
        with_times(table_of(20), times)
    with pytest.raises(InputError, match=r"without the features \['other'\]"):
        with_times(replace(table_of(20), features=("f", "g", "other")), Times(table_of(20)))


def utility() -> ByPremodel:
    premodel = chain()
    return ByPremodel(
        tuple(premodel.candidates),
        premodel,
        upper_ms=(5.0,) * 5,
        costs_ms=(1.0, 2.0, 3.0, 4.0, 5.0),
        rule="utility",
        price=0.1,
    )


def test_a_policy_that_weighs_times_keeps_those_it_was_tuned_with() -> None:
    policy = utility()
    assert policy.weighs_times
    ten = dict.fromkeys(policy.candidates, 10.0)
    assert retimed(policy, ten, ten).costs_ms == policy.costs_ms
    assert retimed(policy, ten, ten).upper_ms == (10.0,) * 5
    assert rescaled(policy, ten).costs_ms == policy.costs_ms
    assert rescaled(policy, ten).upper_ms == (50.0,) * 5


def test_rescaling_multiplies_what_is_known() -> None:
    policy = Cascade(("a", "b"), thresholds=(0.5,), costs_ms=(1.0, 4.0))
    assert rescaled(policy, {"b": 2.0}).costs_ms == (1.0, 8.0)
    assert rescaled(policy, {"b": 2.0}).upper_ms is None
    assert rescaled(policy, {}) == policy
    bare = Cascade(("a", "b"), thresholds=(0.5,))
    assert retimed(bare, {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}) == bare


def test_a_slower_board_changes_no_answer(tiny_table: OutcomeTable) -> None:
    """What a certificate speaks of does not depend on times, as long as no limit is set."""
    from adaptive.evaluation.replay import replay

    policies = [
        Cascade(("cheap", "strong"), thresholds=(0.5,), costs_ms=(1.0, 4.0), upper_ms=(2.0, 9.0))
    ]
    table = table_of(60)
    for policy, outcomes in (*((p, tiny_table) for p in policies), (utility(), table)):
        slower = rescaled(policy, {n: 1.5 + i for i, n in enumerate(policy.candidates)})
        one, other = replay(policy, outcomes), replay(slower, outcomes)
        np.testing.assert_array_equal(one.candidate, other.candidate)


def test_the_command_replaces_times_and_writes_them(
    bundle: Path, tmp_path: Path, adaptive: Callable[..., tuple[int, str, str]]
) -> None:
    output = tmp_path / "times.csv"
    code, out, _ = adaptive("profile", bundle, "--latency-only", "--limit", 99, "-o", output)
    assert code == 0
    assert f"{output}: times on 99 images" in out
    assert "times replaced by those of this machine" in out
    assert ", before 8000" in out
    assert "note: the certificate stays" in out
    assert Bundle.read(bundle).candidate("cheap").ms == round(
        Times.read(output).mean_ms("cheap"), 5
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--latency-only"], "needs the BUNDLEs"),
        (["B", "--latency-only", "--limit", 50], "at least 99 images, not 50"),
        (["B", "--latency-only", "--labels", "l.csv"], "takes neither --labels"),
        (["B", "--latency-only", "--size", "big"], "not WIDTHxHEIGHT"),
        (["B", "--latency-only", "--size", "9x9", "--images", "."], "leave it or --images out"),
        (["B", "B", "--latency-only", "-o", "t.csv"], "can hold the times of one bundle"),
        (["B", "--latency-only", "-o", "t.txt"], "must be called NAME.csv"),
        (["B", "--latency-only", "--images", "none"], "no folder of images"),
        (["B"], "needs --candidates, --images and -o"),
        (["--candidates", "B"], "needs --candidates, --images and -o"),
        (["B", "--latency-only", "--rails", "A"], "give --energy too"),
    ],
)
def test_what_does_not_go_together_is_refused_and_changes_nothing(
    arguments: list[object],
    says: str,
    bundle: Path,
    adaptive: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(bundle.parent)
    before = contents(bundle)
    code, _, err = adaptive("profile", *(bundle.name if a == "B" else a for a in arguments))
    assert code == 2
    assert says in err
    assert contents(bundle) == before


def test_energy_without_a_sensor_is_refused_before_anything_is_measured(
    bundle: Path,
    adaptive: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(rails: object) -> None:
        raise InputError("no power can be measured here: no INA3221 in /sys")

    monkeypatch.setattr("adaptive.cli.profile.open_meter", none)
    before = contents(bundle)
    code, out, err = adaptive("profile", bundle, "--latency-only", "--energy")
    assert (code, out) == (2, "")
    assert "no power can be measured here" in err
    assert contents(bundle) == before


def test_energies_that_the_sensor_cannot_tell_are_listed(
    tiny_candidates: Path,
    tiny_images: Path,
    tmp_path: Path,
    adaptive: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole way with a real thread that reads: a board that always draws the same."""
    board = Board(tmp_path / "board", "tx2")
    closed = []

    class Steady(Rails):
        def close(self) -> None:
            closed.append(self.rails)

    monkeypatch.setattr(
        "adaptive.cli.profile.open_meter", lambda rails: Steady.open(board.sysfs, rails)
    )
    output = tmp_path / "x.csv"
    code, out, err = adaptive(
        *("profile", "--candidates", tiny_candidates, "--images", tiny_images),
        *("--labels", tiny_images / "labels.csv", "--limit", 5, "-o", output),
        *("--energy", "--energy-seconds", 0.5, "--rails", "VDD_IN,VDD_SYS_DDR"),
    )
    assert code == 1
    assert f"{output}: 5 images, 4 candidates" in out
    for name in ("cheap", "strong", "net@1", "net@2"):
        assert f"left out: {name}:mj, because " in err
    assert closed == [("VDD_IN", "VDD_SYS_DDR")]
    energy = OutcomeTable.read(output).meta["energy"]
    assert energy["idle_mw"] == pytest.approx(3056 + 883, rel=0.01)
    assert energy["candidates"]["cheap"]["power_mw"] == pytest.approx(3056 + 883)
    assert energy["meter"]["step_mw"] == pytest.approx(2 * 76.416)


def test_a_board_that_was_slowed_while_it_was_profiled_is_told(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board(tmp_path / "board", "tx2")
    board.slow("bcpu-throttle-alert")
    images = list_images(tiny_images, COLOURS, tiny_images / "labels.csv", limit=2)
    profiler = Profiler(Bundle.read(tiny_candidates), sysfs=board.sysfs)
    profiler.profile(images, tmp_path / "x.csv")
    profiler.close()
    assert "slowed meanwhile (bcpu-throttle-alert)" in caplog.text
    assert OutcomeTable.read(tmp_path / "x.csv").meta["board"]["throttled"] is True


def test_tuning_takes_the_boards_times(
    times: Times,
    tiny_table_path: Path,
    tmp_path: Path,
    adaptive: Callable[..., tuple[int, str, str]],
) -> None:
    slow = replace(
        times.table,
        outcomes={n: replace(o, ms=o.ms + 500.0) for n, o in times.table.outcomes.items()},
    )
    Times(slow).write(tmp_path / "board.csv")
    common = ("tune", tiny_table_path, "--kind", "fixed", "--split", "0.8,0.1,0.1")
    code, _, err = adaptive(
        *common, "-o", tmp_path / "p.json", "--times", tmp_path / "board.csv", "--budget-ms", 100
    )
    assert code == 2
    assert "no fixed policy has a mean cost of at most 100" in err
    code, _, _ = adaptive(*common, "-o", tmp_path / "p.json", "--budget-ms", 5000)
    assert code == 0
    assert "costs_ms" in (tmp_path / "p.json").read_text()


def stamped(path: Path, board: dict[str, object]) -> Path:
    """A copy of a table's JSON that tells another board."""
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "board": board}))
    return path


def test_tuning_refuses_times_of_another_power_mode_unless_told(
    tiny_table_path: Path,
    tmp_path: Path,
    adaptive: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for suffix in (".csv", ".json"):
        shutil.copyfile(tiny_table_path.with_suffix(suffix), tmp_path / f"x{suffix}")
    tx2 = Board(tmp_path / "board", "tx2")
    table = stamped(tmp_path / "x.csv", board_profile(sysfs=tx2.sysfs))
    command = ("tune", table, "-o", tmp_path / "p.json", "--kind", "fixed", "--budget-ms", 5000)
    command += ("--split", "0.8,0.1,0.1", "--force")
    # On this machine, which is no TX2, without fuss.
    assert adaptive(*command)[0] == 0
    monkeypatch.setattr("adaptive.cli.tune.board_profile", lambda: board_profile(sysfs=tx2.sysfs))
    assert adaptive(*command)[0] == 0
    tx2.set_mode(1)
    code, _, err = adaptive(*command)
    assert code == 2
    assert "measured in MAXN (mode 0), but this NVIDIA Jetson TX2 Developer Kit is in MAXQ" in err
    assert adaptive(*command, "--any-power-mode")[0] == 0


def test_a_stopped_profile_is_not_resumed_in_another_mode(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path / "board", "tx2")
    images = list_images(tiny_images, COLOURS, tiny_images / "labels.csv", limit=6)
    output = tmp_path / "x.csv"
    profiler = Profiler(Bundle.read(tiny_candidates), sysfs=board.sysfs)
    plain, ran = profiler.outcome, []

    def outcome(path: Path, label: int, timed: bool = True) -> Any:
        ran.append(path)
        if len(ran) == 3:
            board.set_mode(1)
        return plain(path, label, timed)

    monkeypatch.setattr(profiler, "outcome", outcome)
    with pytest.raises(InputError, match=r"changed from MAXN \(mode 0\) to MAXQ \(mode 1\)"):
        profiler.profile(images, output)
    with pytest.raises(InputError, match="holds a stopped run with other power mode"):
        profiler.profile(images, output)
    board.set_mode(0)
    assert profiler.profile(images, output) == []
    profiler.close()
    table = OutcomeTable.read(output)
    assert len(table) == 6
    assert len(ran) == 3 + 4  # the image during which it changed was done again
    assert table.meta["board"]["mode"] == {"number": 0, "name": "MAXN"}
    assert table.meta["board"]["temperatures_after_c"]["GPU-therm"] == 35
    assert table.meta["board"]["throttled"] is False


def test_the_board_command_prints_and_records(
    tmp_path: Path, adaptive: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "board.json"
    code, out, _ = adaptive("board", "--json", path)
    assert code == 0
    assert "machine:" in out
    assert "power:" in out
    recorded = json.loads(path.read_text())
    assert recorded["board"]["machine"] in out
    assert set(recorded) == {"board", "power"}
    assert adaptive("board", "--json", path)[0] == 2
    assert adaptive("board", "--json", path, "--force")[0] == 0
