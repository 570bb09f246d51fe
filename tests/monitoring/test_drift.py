"""The monitor's false alarms stay within alpha for ever, and its alarm comes soon after a shift."""

from __future__ import annotations

import json
import logging
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from adaptive import InputError
from adaptive.monitoring.betting import rate_bound
from adaptive.monitoring.drift import Monitor, monitor_of
from adaptive.monitoring.resuming import resumed


def binomial_quantile(n: int, p: float, level: float) -> int:
    """The smallest k with P(Binomial(n, p) <= k) >= level."""
    total, k = 0.0, -1
    while total < level:
        k += 1
        total += math.exp(
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(p)
            + (n - k) * math.log1p(-p)
        )
    return k


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("adaptive.monitoring.drift").setLevel(logging.ERROR)
    yield
    logging.getLogger("adaptive.monitoring.drift").setLevel(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [0.02, 0.12, 0.5])
def test_false_alarms_stay_within_alpha(bound: float) -> None:
    # The worst case is a rate at the bound itself, looked at after every audit.
    runs, audits, alpha = 200, 1500, 0.1
    generator = np.random.default_rng(7)
    alarms = 0
    for _ in range(runs):
        monitor = Monitor(bound, alpha)
        for disagrees in (generator.random(audits) < bound).tolist():
            if monitor.update(disagrees):
                alarms += 1
                break
    assert alarms <= binomial_quantile(runs, alpha, 0.999)


@pytest.mark.slow
def test_false_alarms_include_the_calibration_draw() -> None:
    runs, audits, rate, alpha = 300, 800, 0.1, 0.05
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(runs):
        drawn = int(generator.binomial(1000, rate))
        monitor = Monitor.from_calibration(1000, drawn, alpha, confidence=0.95)
        alarms += any(monitor.update(d) for d in (generator.random(audits) < rate).tolist())
    assert alarms <= binomial_quantile(runs, alpha + 0.05, 0.999)


@pytest.mark.parametrize(
    ("before", "shifted", "median", "worst"),
    [(0, 0.30, 80, 350), (2000, 0.30, 170, 400), (2000, 0.5, 50, 110)],
)
def test_alarm_comes_soon_after_a_shift(
    before: int, shifted: float, median: int, worst: int
) -> None:
    # Calibration: 200 disagreements in 2,000 images, so the bound is 11.7 %.
    delays = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        monitor = Monitor.from_calibration(2000, 200)
        for disagrees in (generator.random(before) < 0.1).tolist():
            monitor.update(disagrees)
        assert not monitor.alarm
        delay = 1
        while not monitor.update(bool(generator.random() < shifted)):
            delay += 1
        assert monitor.alarm_at == before + delay
        delays.append(delay)
    assert np.median(delays) <= median
    assert max(delays) <= worst


def test_e_value_is_a_fair_bet() -> None:
    # At the bound its expectation is 1 after every number of audits: all sequences of six.
    bound = 0.3
    expected = 0.0
    for code in range(64):
        draws = [bool(code >> i & 1) for i in range(6)]
        monitor = Monitor(bound)
        for disagrees in draws:
            monitor.update(disagrees)
        count = sum(draws)
        expected += bound**count * (1 - bound) ** (6 - count) * monitor.e_value
    assert expected == pytest.approx(1.0, abs=1e-9)


def test_rate_bound_is_exact() -> None:
    # No disagreement: 1 - (1 - confidence) ** (1 / n), and Clopper and Pearson's own 5 of 20.
    assert rate_bound(100, 0, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert rate_bound(20, 5, 0.975) == pytest.approx(0.4910, abs=1e-4)
    assert rate_bound(10, 10, 0.99) == 1.0
    assert 0.1 < rate_bound(100_000, 10_000, 0.99) < 0.1025
    with pytest.raises(InputError, match="3 in 2 images"):
        rate_bound(2, 3, 0.99)


def test_alarm_stays_is_logged_once_and_can_be_reset(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("adaptive.monitoring.drift").setLevel(logging.WARNING)
    monitor = Monitor(0.1)
    assert (monitor.rate, monitor.e_value, monitor.alarm) == (None, 1.0, False)
    for _ in range(100):
        monitor.update(True)
    for _ in range(5000):
        monitor.update(False)
    assert monitor.alarm
    assert monitor.e_value < 1
    assert caplog.text.count("answers differ from the reference's more often") == 1
    assert json.loads(json.dumps(monitor.status()))["alarm"] is True
    monitor.reset()
    assert (monitor.audits, monitor.alarm, monitor.e_value) == (0, False, 1.0)


def test_evidence_beyond_all_floats_does_no_harm() -> None:
    monitor = Monitor(0.001)
    for _ in range(3000):
        monitor.update(True)
    assert math.isfinite(monitor.e_value)
    json.dumps(monitor.to_json(), allow_nan=False)


@pytest.mark.parametrize("audits", [0, 1, 300])
def test_state_goes_on_where_it_was(audits: int) -> None:
    draws = (np.random.default_rng(1).random(400) < 0.12).tolist()
    whole = Monitor(0.1)
    for disagrees in draws:
        whole.update(disagrees)
    first = Monitor(0.1)
    for disagrees in draws[:audits]:
        first.update(disagrees)
    second = Monitor.from_json(json.loads(json.dumps(first.to_json())))
    for disagrees in draws[audits:]:
        second.update(disagrees)
    assert second.status() == whole.status()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "reads up to 1"),
        ({"bound": 0.2}, "is for the bound 0.2"),
        ({"disagreements": 9}, "9 disagreements in 1 audits"),
        ({"log_capital": [0.0]}, "has 1 bets"),
        ({"log_capital": ["x"]}, "not a number"),
        ({"audits": None}, "has no 'audits'"),
    ],
)
def test_bad_state_is_one_sentence(change: dict, says: str) -> None:
    monitor = Monitor(0.1)
    monitor.update(True)
    with pytest.raises(InputError, match=says):
        Monitor(0.1).restore({**monitor.to_json(), **change})


def test_resumed_keeps_the_state_between_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("adaptive.monitoring.drift").setLevel(logging.WARNING)
    log = tmp_path / "decisions.jsonl"
    monitor = Monitor(0.1)
    with resumed([monitor], log):
        monitor.update(True)
    again = Monitor(0.1)
    with resumed([again], log):
        assert again.status() == monitor.status()
    with resumed([Monitor(0.2)], log):
        pass
    assert "watched from the start" in caplog.text
    with resumed([], log), resumed([monitor], None):
        pass


def test_monitor_of_a_certificate() -> None:
    assert monitor_of(None) is None
    assert monitor_of({"images": 100, "losses": 3}) is None
    assert monitor_of({"images": 3, "disagreements": 3}) is None
    made = monitor_of({"images": 2000, "disagreements": 200})
    assert made is not None
    assert made.bound == rate_bound(2000, 200, 0.99)


@pytest.mark.parametrize("bound", [0.0, 1.0, -1.0, float("nan")])
def test_bound_that_cannot_be_watched_is_refused(bound: float) -> None:
    with pytest.raises(InputError, match="not between 0 and 1"):
        Monitor(bound)


def test_threads_lose_no_audit() -> None:
    monitor = Monitor(0.5)

    def work() -> None:
        for number in range(500):
            monitor.update(number % 2 == 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (monitor.audits, monitor.disagreements) == (2000, 1000)
