"""A router on a simulated board whose files change under it."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Mapping

import numpy as np
import pytest
from boards import Board

from adaptive import Bundle, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.jetson.board import board_profile
from adaptive.jetson.sysfs import Sysfs
from adaptive.jetson.watch import ENOUGH, QUIET_S, BoardWatch, watching
from adaptive.limits import Limits
from adaptive.monitoring.decisions import Outcome
from adaptive.policy.cascade import Cascade

EXPECTED = {"small": 2.0, "large": 20.0, "net@1": 1.0, "net@2": 3.0}
CHAINS = {
    "small": ("small",),
    "large": ("large",),
    "net@1": ("net@1",),
    "net@2": ("net@1", "net@2"),
}


class Watched:
    """A watch with a clock that is set by hand, and what it rescaled."""

    def __init__(self, board: Board, measured: Mapping[str, Any] | None = None) -> None:
        self.now = 0.0
        self.calls: list[dict[str, float]] = []
        self.watch = BoardWatch(
            EXPECTED,
            CHAINS,
            board_profile(sysfs=board.sysfs) if measured is None else measured,
            lambda factors: self.calls.append(dict(factors)),
            board.sysfs,
            clock=lambda: self.now,
        )

    def poll(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.watch.poll()

    def ran(self, count: int = ENOUGH, together: int = 1, **ms: float) -> None:
        """So many decisions; each candidate took `ms`, its share of a run on images together."""
        values = np.array([1.0, 0.0])
        for _ in range(count):
            outcomes = {name: Outcome(values, took, together=together) for name, took in ms.items()}
            self.watch.observe(SimpleNamespace(outcomes=outcomes))  # type: ignore[arg-type]


@pytest.fixture
def tx2(tmp_path: Path) -> Board:
    return Board(tmp_path, "tx2")


def test_nothing_happens_while_nothing_changes(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    it = Watched(tx2)
    for _ in range(5):
        it.ran(small=9.0, large=90.0)  # a busy machine is no change of the board
        it.poll()
    assert it.calls == []
    assert it.watch.status() == {
        "mode": {"number": 0, "name": "MAXN"},
        "measured_in": {"number": 0, "name": "MAXN"},
        "slowed_by": [],
        "warnings": [],
        "factors": {},
    }
    assert caplog.records == []


def test_another_power_mode_is_told_and_times_are_rescaled(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    it = Watched(tx2)
    it.ran(small=2.0, large=20.0)
    tx2.set_mode(1)
    it.poll()
    assert it.calls == []  # what ran before the change says nothing about after
    assert it.watch.status()["warnings"] == [
        "the power mode is MAXQ (mode 1), and the times were measured in MAXN (mode 0)"
    ]
    assert "times are rescaled by what the candidates take now" in caplog.text
    it.ran(ENOUGH - 1, small=3.0)
    it.poll()
    assert it.calls == []
    it.ran(1, small=3.0)
    it.ran(large=50.0)
    it.poll()
    # Of net@1 and net@2 nothing ran: they get what the others come to.
    assert it.calls == [{"small": 1.5, "large": 2.5, "net@1": 2.0, "net@2": 2.0}]
    assert it.watch.factors["large"] == 2.5


def test_an_exits_factor_is_that_of_what_runs_for_it(tx2: Board) -> None:
    it = Watched(tx2)
    tx2.set_mode(1)
    it.poll()
    it.ran(**{"net@1": 2.0, "net@2": 9.0})
    it.poll()
    (factors,) = it.calls
    assert factors["net@1"] == 2
    assert factors["net@2"] == pytest.approx(11 / 4)


def test_shares_of_batches_do_not_pass_for_times_of_single_images(tx2: Board) -> None:
    it = Watched(tx2)
    tx2.set_mode(1)  # twice as slow, in truth
    it.poll()
    # A batch of eight took 8 ms where one image takes 4 ms now, and took 2 ms before.
    it.ran(50, together=8, small=1.0)
    it.poll()
    assert it.calls == []
    it.ran(small=4.0, large=40.0)
    it.ran(50, together=8, small=1.0)
    it.poll()
    assert it.calls == [dict.fromkeys(EXPECTED, 2.0)]


def test_share_of_a_batch_that_is_more_than_a_single_run_was_shows_a_slower_board(
    tx2: Board,
) -> None:
    it = Watched(tx2)
    tx2.set_mode(1)
    it.poll()
    it.ran(ENOUGH - 1, together=4, small=3.0)
    it.poll()
    assert it.calls == []
    it.ran(1, together=4, small=3.0)
    it.ran(together=4, large=5.0)  # which shows nothing of the large one
    it.poll()
    assert it.calls == [dict.fromkeys(EXPECTED, 1.5)]


def test_the_old_times_come_back_with_the_old_mode(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    it = Watched(tx2)
    tx2.set_mode(1)
    it.poll()
    it.ran(small=4.0)
    it.poll()
    tx2.set_mode(0)
    with caplog.at_level(logging.INFO):
        it.poll()
    assert it.calls[-1] == {}
    assert it.watch.factors == {}
    assert "again as it was" in caplog.text


def test_small_changes_are_left_alone(tx2: Board) -> None:
    it = Watched(tx2)
    tx2.set_mode(1)
    it.poll()
    it.ran(small=2.04, large=20.4)
    it.poll()
    assert it.calls == []
    it.ran(50, small=4.0, large=40.0)
    it.poll()
    it.ran(50, small=4.1, large=41.0)
    it.poll()
    assert len(it.calls) == 1


def test_throttling_is_told_once_although_it_comes_and_goes(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    it = Watched(tx2)
    tx2.slow("gpu-throttle-alert")
    it.poll()
    it.ran(large=30.0)
    it.poll()
    assert it.calls == [dict.fromkeys(EXPECTED, 1.5)]
    for state in (0, 1, 0, 1, 0):
        tx2.slow("gpu-throttle-alert", state)
        it.poll()
    assert it.watch.status()["slowed_by"] == ["gpu-throttle-alert"]
    told = [r for r in caplog.records if "heat or current slows the board" in r.getMessage()]
    assert len(told) == 1
    it.poll(QUIET_S)
    assert it.watch.status()["slowed_by"] == []
    assert it.calls[-1] == {}


def test_over_current_events_count_while_they_rise(tmp_path: Path) -> None:
    board = Board(tmp_path, "orin")
    it = Watched(board)
    it.poll()
    assert it.watch.status()["warnings"] == []  # 27 events before nobody counts
    board.write("sys/class/hwmon/hwmon3/oc3_event_cnt", 28)
    it.poll()
    assert it.watch.status()["slowed_by"] == ["oc3_event_cnt"]
    it.poll(QUIET_S)
    assert it.watch.status()["slowed_by"] == []


def test_a_fan_and_a_hot_surface_are_no_throttling(tx2: Board) -> None:
    it = Watched(tx2)
    tx2.slow("pwm-fan", 4)
    it.poll()
    assert it.watch.status()["warnings"] == []


def test_times_of_another_machine_are_told_and_rescaled_from_the_start(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    it = Watched(tx2, {"model": None, "machine": "sparc", "mode": {"number": 3, "name": None}})
    it.poll()
    assert "the times were measured on sparc, and this is NVIDIA Jetson TX2" in caplog.text
    assert it.watch.status()["measured_in"] == {"number": 0, "name": "MAXN"}
    it.ran(small=20.0)
    it.poll()
    assert it.calls == [dict.fromkeys(EXPECTED, 10.0)]


def test_a_bundle_that_tells_no_board_is_taken_as_of_this_one(tx2: Board) -> None:
    it = Watched(tx2, {})
    it.poll()
    assert it.watch.status()["warnings"] == []
    tx2.set_mode(2)
    it.poll()
    assert len(it.watch.status()["warnings"]) == 1


def test_without_a_way_to_rescale_it_is_only_told(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    watch = BoardWatch(EXPECTED, sysfs=tx2.sysfs)
    tx2.set_mode(1)
    watch.poll()
    assert "deadlines and budgets may not be kept" in caplog.text
    assert watch.factors == {}


def test_it_looks_by_itself_and_stops_with_the_block(tx2: Board) -> None:
    looked = threading.Event()

    class Telling(BoardWatch):
        def poll(self) -> None:
            super().poll()
            looked.set()

    with Telling(EXPECTED, sysfs=tx2.sysfs, interval_s=0.001) as watch:
        assert looked.wait(30)
    assert watch._thread is not None
    assert not watch._thread.is_alive()


def test_a_look_that_fails_is_logged_once_and_looked_again(
    tx2: Board, caplog: pytest.LogCaptureFixture
) -> None:
    many = threading.Event()
    calls = []

    class Failing(BoardWatch):
        def poll(self) -> None:
            calls.append(1)
            if len(calls) > 3:
                many.set()
            raise RuntimeError("a bug")

    with Failing(EXPECTED, sysfs=tx2.sysfs, interval_s=0.001):
        assert many.wait(30)
    assert caplog.text.count("could not be looked at") == 1


@pytest.fixture
def deadline_bundle(tiny_candidates: Path, tmp_path: Path, tx2: Board) -> Path:
    """A bundle with times of the simulated board, and a policy that keeps deadlines."""
    output = tmp_path / "bundle"
    policy = Cascade(
        ("cheap", "strong"), thresholds=(1.0,), upper_ms=(1.0, 10.0), costs_ms=(0.5, 5.0)
    )
    write_bundle(
        output,
        Bundle.read(tiny_candidates),
        policy,
        times={"cheap": 0.5, "strong": 5.0},
        board=board_profile(sysfs=tx2.sysfs),
        names=["cheap", "strong"],
    )
    return output


def test_a_slower_board_makes_the_router_start_less(deadline_bundle: Path, tx2: Board) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    with Router.load(deadline_bundle) as router:
        router.warm_up()
        roomy = Limits(remaining_ms=60_000.0)
        assert router.classify(image, roomy).path == ("cheap", "strong")
        router.rescale({"cheap": 1.0, "strong": 20_000.0})
        assert router.policy.upper_ms == (1.0, 200_000.0)
        assert router.policy.costs_ms == (0.5, 100_000.0)
        assert router.classify(image, roomy).path == ("cheap",)
        router.rescale({})
        assert router.policy.upper_ms == (1.0, 10.0)
        assert router.classify(image, roomy).path == ("cheap", "strong")


def test_a_router_is_watched_and_its_status_says_so(deadline_bundle: Path, tx2: Board) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    # Far above what any machine takes, so that the times are seen to differ.
    manifest = deadline_bundle / "manifest.json"
    values = json.loads(manifest.read_text())
    for entry in values["candidates"]:
        entry["ms"] *= 1000
    manifest.write_text(json.dumps(values))
    with Router.load(deadline_bundle) as router:
        assert router.status()["board"] is None
        # Looked at by hand below, so that the test does not wait for the thread.
        with watching(router, tx2.sysfs, interval_s=3600) as watch:
            assert watch is not None
            assert router.status()["board"]["warnings"] == []
            tx2.set_mode(1)
            watch.poll()
            # The thread's own first look may come in between, and start the times anew.
            for _ in range(10):
                for _ in range(ENOUGH):
                    router.classify(image)
                watch.poll()
                if watch.factors:
                    break
            status = json.loads(json.dumps(router.status()["board"]))
            assert status["mode"]["name"] == "MAXQ"
            assert set(status["factors"]) == {"cheap", "strong"}
            factor = watch.factors["strong"]
            assert router.policy.upper_ms[1] == pytest.approx(10.0 * factor)  # type: ignore[index]


def test_a_machine_that_tells_nothing_is_not_watched(deadline_bundle: Path, tmp_path: Path) -> None:
    manifest = deadline_bundle / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["board"]
    manifest.write_text(json.dumps(values))
    with Router.load(deadline_bundle) as router:
        with watching(router, Sysfs(tmp_path / "nowhere")) as watch:
            assert watch is None
        assert router.status()["board"] is None
    shutil.rmtree(deadline_bundle)
