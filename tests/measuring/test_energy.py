"""Energies from simulated time: tasks, clock and sensor of one world, so every number is exact."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive import Bundle, InputError
from adaptive.jetson.sampler import Trace
from adaptive.measuring.energy import IMAGES, TOLERANCE, Energies, Idle, figure, measure
from adaptive.measuring.profiling import Profiler
from adaptive.outcomes.labelled import list_images
from adaptive.outcomes.table import OutcomeTable

COLOURS = ("blue", "green", "red")


class World:
    """A machine that draws `idle_mw`, and more while a task runs; its sensor has steps and noise.

    It is the meter, the sampler and the clock at once.
    """

    name, rails, covers, interval_s = "simulated", ("A", "B"), "everything", 0.02

    def __init__(
        self,
        idle_mw: float = 3000.0,
        step: float | None = 38.0,
        noise_mw: float = 60.0,
        rate_hz: float = 50.0,
        drift_mw: float = 0.0,
    ) -> None:
        self.now = 100.0
        self.idle_mw = idle_mw
        self.step = step
        self.counts = False
        self.noise_mw = noise_mw
        self.rate_hz = rate_hz
        self.drift_mw = drift_mw
        self.failures = 0
        self.busy: list[tuple[float, float, float]] = []

    def task(self, seconds: float, rise_mw: float) -> Callable[[], object]:
        def run() -> None:
            self.busy.append((self.now, self.now + seconds, rise_mw))
            self.now += seconds

        return run

    def read(self) -> float:
        raise AssertionError("the sampler reads")

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to stop."""

    def trace(self) -> Trace:
        seconds = np.arange(100.0, self.now + 1 / self.rate_hz, 1 / self.rate_hz)
        begins = np.array([begin for begin, _, _ in self.busy] or [np.inf])
        power = np.full(len(seconds), self.idle_mw)
        power += self.drift_mw * (seconds - 100) / (self.now - 100)
        last = np.searchsorted(begins, seconds, "right") - 1
        for row, which in enumerate(last.tolist()):
            if which >= 0 and seconds[row] < self.busy[which][1]:
                power[row] += self.busy[which][2]
        power += np.random.default_rng(0).normal(0, self.noise_mw, len(power))
        if self.step:
            power = np.round(power / self.step) * self.step
        return Trace(seconds, power, False, self.step)

    def measure(self, seconds: float = 10.0, **tasks: Callable[[], object]) -> Energies:
        def wait(some: float) -> None:
            self.now += some

        return measure(tasks, self, seconds, self, lambda: self.now, wait)  # type: ignore[arg-type]


def test_an_images_energy_is_the_rise_over_idle_times_its_time() -> None:
    world = World()
    found = world.measure(small=world.task(0.004, 1500), large=world.task(0.031, 4200))
    small, large = found.figures["small"], found.figures["large"]
    assert small.mj == pytest.approx(1500 * 0.004, abs=2 * small.error_mj)
    assert large.mj == pytest.approx(4200 * 0.031, abs=2 * large.error_mj)
    assert small.runs == 2500
    assert large.power_mw == pytest.approx(7200, rel=0.01)
    assert found.idle_mw == pytest.approx(3000, rel=0.02)
    assert found.rate_hz == pytest.approx(50)
    assert found.refusals == []
    assert found.mj == {"small": small.mj, "large": large.mj}


def test_a_figure_has_no_more_digits_than_its_error_leaves() -> None:
    world = World()
    small = world.measure(small=world.task(0.004, 1500)).figures["small"]
    assert small.mj is not None
    digits = 1 - math.floor(math.log10(small.error_mj))
    assert small.mj == round(small.mj, digits)
    assert small.error_mj == round(small.error_mj, digits)


def test_a_figure_finer_than_the_sensor_is_refused_with_what_it_would_take() -> None:
    world = World()
    found = world.measure(faint=world.task(0.001, 40))
    refused = found.figures["faint"].refused
    assert found.figures["faint"].mj is None
    assert refused is not None
    assert "finer than the sensor allows in 10 s (10,000 runs) at 50 readings a second" in refused
    assert "a step of 38 mW" in refused
    seconds = float(refused.rsplit("--energy-seconds ", 1)[1])
    assert 10 < seconds < 10_000
    assert found.mj == {}
    assert found.refusals == [f"faint:mj, because {refused}"]
    # "About": it goes by a rise that is itself in doubt. Half as long again is enough.
    again = World()
    assert again.measure(1.5 * seconds, faint=again.task(0.001, 40)).refusals == []


def test_a_sensor_that_stands_still_cannot_be_helped_by_a_longer_block() -> None:
    world = World(noise_mw=0.0, step=100.0)
    refused = world.measure(faint=world.task(0.001, 130)).figures["faint"].refused
    assert refused is not None
    assert "no longer block would help: the run raises the power by" in refused


def test_a_load_that_is_not_seen_at_all_is_refused() -> None:
    world = World()
    assert "no longer block would help" in str(
        world.measure(nothing=world.task(0.001, -500)).figures["nothing"].refused
    )


def test_a_block_with_too_few_readings_is_refused_and_told_how_long() -> None:
    world = World(rate_hz=2.0)
    refused = world.measure(1.0, a=world.task(0.01, 5000)).figures["a"].refused
    assert refused == (
        "its block held 2 readings of the sensor, at least 20 are needed; at 2 a second give "
        "--energy-seconds 12"
    )


def test_idle_that_drifts_is_part_of_the_error() -> None:
    steady, drifting = World(noise_mw=20, step=None), World(noise_mw=20, step=None, drift_mw=800)
    one = steady.measure(a=steady.task(0.01, 5000)).figures["a"]
    other = drifting.measure(a=drifting.task(0.01, 5000))
    assert other.figures["a"].error_mj > 3 * one.error_mj
    assert other.idle_after_mw - other.idle_before_mw == pytest.approx(600, rel=0.2)


@settings(max_examples=40, deadline=None)
@given(
    rise=st.floats(50, 20000),
    per_run=st.floats(0.0005, 0.2),
    noise=st.floats(0, 400),
    step=st.sampled_from([None, 1.0, 40.0, 76.4, 500.0]),
)
def test_a_figure_that_is_kept_is_right_within_its_error(
    rise: float, per_run: float, noise: float, step: float | None
) -> None:
    world = World(noise_mw=noise, step=step)
    found = world.measure(4.0, a=world.task(per_run, rise)).figures["a"]
    if found.mj is None:
        assert found.refused
        return
    # The sensor's readings end up to one interval beside the block, hence the second term.
    edges = 2 / world.rate_hz / found.seconds * rise * per_run
    assert abs(found.mj - rise * per_run) <= 3 * found.error_mj + edges
    assert found.error_mj <= 1.2 * TOLERANCE * found.mj


def test_a_counter_of_energy_is_measured_by_its_differences() -> None:
    seconds = np.linspace(0, 30, 3001)
    power = np.where((seconds >= 5) & (seconds < 15), 25_000.0, 10_000.0)
    power += np.random.default_rng(1).normal(0, 200, len(power))
    energy = np.concatenate([[0], np.cumsum(power[1:] * 0.01)])
    trace = Trace(seconds, np.round(energy / 0.061) * 0.061, True, 0.061)
    idle = Idle.of(trace, (0, 5), (15, 20))
    found = figure(trace, idle, 5, 15, 2000)
    assert found.mj == pytest.approx(15_000 * 10 / 2000, rel=0.01)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_block_must_have_a_length(seconds: float) -> None:
    with pytest.raises(InputError, match="is not above 0"):
        World().measure(seconds)


def profiled(
    candidates: Path, images: Path, output: Path, world: World
) -> tuple[OutcomeTable, dict[str, int]]:
    """A table with energies that the world made up: each run takes 10 ms of its time."""
    runs: dict[str, int] = {}

    def energies(tasks: Any) -> Energies:
        def counted(name: str, rise: float) -> Callable[[], object]:
            load = world.task(0.01, rise)

            def run() -> None:
                runs[name] = runs.get(name, 0) + 1
                if runs[name] < 2 * IMAGES:
                    tasks[name]()  # really runs the network
                load()

            return run

        return world.measure(2.0, **{n: counted(n, 1000.0 * (i + 1)) for i, n in enumerate(tasks)})

    profiler = Profiler(Bundle.read(candidates))
    found = list_images(images, COLOURS, images / "labels.csv", limit=12)
    assert profiler.profile(found, output, False, energies) == []
    profiler.close()
    return OutcomeTable.read(output), runs


def test_the_table_holds_what_was_measured_and_how(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x.csv"
    table, runs = profiled(tiny_candidates, tiny_images, output, World(noise_mw=30, step=10))
    assert set(runs) == {"cheap", "strong", "net@1", "net@2"}
    meta = json.loads(output.with_suffix(".json").read_text())["energy"]
    assert meta["meter"]["rails"] == ["A", "B"]
    assert meta["meter"]["step_mw"] == 10
    assert meta["rate_hz"] == 50
    assert meta["block_seconds"] == 2
    for name, outcomes in table.outcomes.items():
        assert outcomes.mj is not None
        assert set(outcomes.mj) == {meta["candidates"][name]["mj"]}
        assert meta["candidates"][name]["error_mj"] > 0
    # One more watt a candidate, in the order of the tasks.
    assert table.of("net@2").mj[0] > table.of("cheap").mj[0]  # type: ignore[index]


def test_a_refused_figure_leaves_its_column_out(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    world = World(noise_mw=0, step=1500)
    table, _ = profiled(tiny_candidates, tiny_images, tmp_path / "x.csv", world)
    meta = table.meta["energy"]["candidates"]
    refused = {name for name, entry in meta.items() if "refused" in entry}
    assert refused
    assert {n for n, o in table.outcomes.items() if o.mj is None} == refused


def test_an_exits_task_runs_the_increment_alone(tiny_candidates: Path, tiny_images: Path) -> None:
    profiler = Profiler(Bundle.read(tiny_candidates))
    ran: list[str] = []
    for name, engine in profiler.networks.engines.items():
        plain = engine.run
        engine.run = lambda *inputs, name=name, plain=plain: ran.append(name) or plain(*inputs)  # type: ignore[method-assign]
    tasks = profiler.tasks([tiny_images / "000.png", tiny_images / "001.png"])
    ran.clear()
    for _ in range(3):
        tasks["net@2"]()
    assert ran == ["net@2"] * 3
    tasks["strong"]()
    assert ran[3:] == ["strong"]
    profiler.close()
