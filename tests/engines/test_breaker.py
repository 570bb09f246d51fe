from __future__ import annotations

from adaptive.engines.breaker import CLOSED, HALF_OPEN, OPEN, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures=2, first_s=1.0, longest_s=3.0, clock=clock)
    for expected in (False, True):
        assert breaker.ask() == 0
        assert breaker.failed("down") is expected
    return breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker(failures=2, clock=Clock())
    for _ in range(5):  # never two in a row
        breaker.failed("once")
        assert breaker.state == CLOSED
        assert breaker.succeeded() is False
    breaker.failed("down")
    assert breaker.failed("still down") is True
    assert breaker.state == OPEN
    assert breaker.status() == {"state": OPEN, "failures": 2, "last_failure": "still down"}


def test_open_one_says_how_long_to_wait():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 0.25
    assert breaker.ask() == 0.75


def test_one_trial_at_a_time_closes_it_again():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.0
    assert breaker.state == HALF_OPEN
    assert breaker.ask() == 0
    assert breaker.ask() == 1.0  # somebody tries already
    assert breaker.succeeded() is True
    assert breaker.state == CLOSED
    assert breaker.ask() == 0


def test_trials_that_fail_are_further_and_further_apart():
    clock = Clock()
    breaker = opened(clock)
    waits = []
    for _ in range(4):
        clock.now += breaker.ask()
        assert breaker.ask() == 0
        assert breaker.failed("down") is False  # it was open before
        waits.append(breaker.ask())
    assert waits == [2.0, 3.0, 3.0, 3.0]


def test_trial_that_was_abandoned_lets_another_try():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.0
    assert breaker.ask() == 0
    breaker.abandoned()
    assert breaker.ask() == 0
