from __future__ import annotations

import threading

from adaptive.serving.lanes import Entry, Lane


def test_jobs_run_up_to_the_capacity_then_wait_then_are_turned_away():
    lane: Lane[str] = Lane(2, 2)
    assert [lane.enter(job) for job in "abcde"] == [
        Entry.RUNS,
        Entry.RUNS,
        Entry.WAITS,
        Entry.WAITS,
        Entry.FULL,
    ]
    assert (lane.busy, len(lane)) == (2, 2)


def test_first_come_is_first_served():
    lane: Lane[str] = Lane(1, 3)
    for job in "abc":
        lane.enter(job)
    assert [lane.leave(0.1) for _ in range(3)] == ["b", "c", None]
    assert lane.busy == 0
    assert lane.enter("d") is Entry.RUNS


def test_queue_of_nothing_refuses_at_once():
    lane: Lane[str] = Lane(1, 0)
    assert lane.enter("a") is Entry.RUNS
    assert lane.enter("b") is Entry.FULL
    lane.leave(0.1)
    assert lane.enter("c") is Entry.RUNS


def test_retry_after_is_what_the_queue_takes():
    lane: Lane[int] = Lane(2, 100)
    assert lane.retry_after_s() == 1
    for job in range(10):
        lane.enter(job)
    lane.leave(4.0)  # the first job tells what one takes
    assert len(lane) == 7
    assert lane.retry_after_s() == 16  # 8 jobs, two at a time, 4 s each


def test_no_job_is_lost_or_run_twice_among_threads():
    lane: Lane[int] = Lane(3, 10_000)
    ran: list[int] = []
    most = []

    def bring(jobs: range) -> None:
        for job in jobs:
            if lane.enter(job) is not Entry.RUNS:
                continue
            current: int | None = job
            while current is not None:
                most.append(lane.busy)
                ran.append(current)
                current = lane.leave(0.0)

    threads = [
        threading.Thread(target=bring, args=(range(n * 500, n * 500 + 500),)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(ran) == list(range(4000))
    assert max(most) <= 3
    assert (lane.busy, len(lane)) == (0, 0)
