from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive import InputError
from adaptive.jetson.sampler import Sampler, Trace


class Counting:
    """A meter that draws 1, 2, 3, ... mW, and fails at every third reading."""

    name, rails, covers, counts, step, interval_s = "counting", ("a",), "all", False, None, 0.0

    def __init__(self, enough: int) -> None:
        self.calls = 0
        self.enough = enough
        self.done = threading.Event()

    def read(self) -> float:
        self.calls += 1
        if self.calls >= self.enough:
            self.done.set()
        if self.calls % 3 == 0:
            raise OSError("did not answer")
        return float(self.calls)

    def close(self) -> None:
        """Nothing to close."""


def trace(power: list[float], seconds: float = 1.0, **more: object) -> Trace:
    return Trace(np.arange(len(power)) * seconds, np.array(power, float), **more)  # type: ignore[arg-type]


def test_power_is_integrated_by_trapezoids() -> None:
    found = trace([1000, 3000, 3000, 0])
    np.testing.assert_allclose(found.energy_mj, [0, 2000, 5000, 6500])
    assert found.mean_mw(0, 3) == pytest.approx(6500 / 3)
    assert found.mean_mw(0.5, 1.5) == pytest.approx(1000 + 1500)
    assert found.rate_hz == pytest.approx(1)


def test_a_counter_is_taken_as_it_is() -> None:
    found = trace([5000, 5010, 5030], counts=True)
    np.testing.assert_allclose(found.energy_mj, [0, 10, 30])
    assert found.mean_mw(0, 2) == pytest.approx(15)


@given(
    st.lists(st.floats(0, 1e5), min_size=2, max_size=30),
    st.lists(st.floats(0.001, 1), min_size=30, max_size=30),
    st.floats(0, 1),
)
def test_energy_is_additive_and_within_the_readings(
    power: list[float], gaps: list[float], share: float
) -> None:
    seconds = np.cumsum(gaps)[: len(power)]
    found = Trace(seconds, np.array(power))
    begin, end = seconds[0], seconds[-1]
    middle = begin + (end - begin) * (0.01 + 0.98 * share)
    parts = found.mean_mw(begin, middle) * (middle - begin)
    parts += found.mean_mw(middle, end) * (end - middle)
    assert parts == pytest.approx(found.mean_mw(begin, end) * (end - begin), rel=1e-6, abs=1e-6)
    assert min(power) - 1e-6 <= found.mean_mw(begin, end) <= max(power) + 1e-6


def test_the_95_percent_error_holds_for_noisy_readings() -> None:
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        found = trace(list(draw.normal(3000, 200, 400)), 0.02)
        error = found.noise_mw(0, 399 * 0.02)
        inside += abs(found.mean_mw(0, 399 * 0.02) - 3000) <= error
    assert 0.91 <= inside / 400 <= 0.99


def test_readings_that_stand_still_hide_half_a_step() -> None:
    still, noisy = [3056.0] * 50, [3056.0, 3132.4] * 25
    assert trace(still, step=76.4).blind_mw(0, 49) == pytest.approx(38.2)
    assert trace(noisy, step=76.4).blind_mw(0, 49) == 0
    assert trace([0, 1, 2, 3], counts=True, step=2.0).blind_mw(0, 2) == pytest.approx(2)


def test_a_step_that_is_not_told_is_guessed_on_the_safe_side() -> None:
    assert trace([100, 100, 176, 176, 252, 251]).seen_step() == 76
    assert trace([5, 5, 5]).seen_step() == 1
    assert trace([0, 3, 3, 5, 9], counts=True).seen_step() == 2


def test_the_sampler_reads_until_the_block_ends_and_leaves_failures_out() -> None:
    meter = Counting(30)
    with Sampler(meter, interval_s=0.001) as sampler:
        assert meter.done.wait(30)
    found = sampler.trace()
    calls = meter.calls
    assert sampler.failures == calls // 3
    assert set(found.readings) <= {float(n) for n in range(1, calls + 1) if n % 3}
    assert (np.diff(found.seconds) > 0).all()
    after = meter.calls
    assert after == calls  # nothing goes on reading


def test_a_meter_that_never_answers_is_an_error() -> None:
    class Dead(Counting):
        def read(self) -> float:
            self.done.set()
            raise OSError("gone")

    meter = Dead(1)
    with Sampler(meter, interval_s=0.001) as sampler:
        assert meter.done.wait(30)
    with pytest.raises(InputError, match=r"counting was read 0 times; [0-9]+ readings failed"):
        sampler.trace()


def test_a_reading_counts_for_the_middle_of_its_call() -> None:
    times = iter([10.0, 10.5, 20.0, 20.5])
    sampler = Sampler(Counting(9), clock=lambda: next(times))
    sampler.sample()
    sampler.sample()
    np.testing.assert_allclose(sampler.trace().seconds, [10.25, 20.25])
