"""The bucket keeps its promise for every prefix and mix, alone, in a router and from threads."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive import Bundle, InputError, Limits, Router
from adaptive.limits import UNLIMITED
from adaptive.policy.cascade import Cascade
from adaptive.policy.files import policy_from_json, policy_to_json
from adaptive.policy.fixed import Fixed
from adaptive.policy.history import Output
from adaptive.policy.walk import Walk
from adaptive.routing.account import with_costs
from adaptive.routing.bucket import Bucket
from adaptive.routing.running import Networks

COSTS = (1.0, 4.0, 10.0)


def answer(bucket: Bucket, policy: Cascade, confidences, factors=(1.0, 1.0, 1.0)) -> list[int]:
    """Drive one image as the router does; its candidates' confidences and true costs are given."""
    held = bucket.open(sum(COSTS))
    spent = 0.0
    walk = Walk(policy, 1, None, Limits(allowance_ms=held))
    while (step := walk.wanted) is not None:
        spent += COSTS[step.candidate] * factors[step.candidate]
        output = Output(np.array([confidences[step.candidate]]))
        walk.feed(step, output, Limits(allowance_ms=held - spent))
    bucket.close(held, spent)
    return list(walk.routes[0].path)


def policy(costs=COSTS) -> Cascade:
    return Cascade(("a", "b", "c"), thresholds=(0.5, 0.5), costs_ms=costs)


images = st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(images, st.floats(1, 20), st.floats(1, 10))
def test_mean_is_kept_for_every_prefix_and_mix(images, mean: float, bursts: float) -> None:
    bucket = Bucket(mean, mean * bursts)
    for n, image in enumerate(images, start=1):
        path = answer(bucket, policy(), image)
        assert path, "every image is answered"
        assert bucket.spent <= bucket.burst + (n - 1) * mean + 1e-6
        assert bucket.level >= -1e-6


runs = st.lists(st.tuples(*[st.floats(0, 1)] * 3, *[st.floats(0.2, 3)] * 3), max_size=60)


@settings(max_examples=200, deadline=None)
@given(runs, st.floats(3, 20), st.floats(1, 10))
def test_measured_costs_exceed_the_bound_by_one_run_at_most(runs, mean: float, bursts: float):
    # The cheapest takes at most 3 ms, so every image brings what it needs.
    bucket = Bucket(mean, mean * bursts)
    excess = 0.0
    for n, image in enumerate(runs, start=1):
        path = answer(bucket, policy(), image[:3], image[3:])
        excess = max([excess, *(COSTS[c] * (image[3 + c] - 1) for c in path)])
        assert bucket.spent <= bucket.burst + (n - 1) * mean + excess + 1e-6


def test_bound_is_reached_by_the_worst_mix() -> None:
    bucket = Bucket(5.0, 15.0)
    paths = [answer(bucket, policy(), (0, 0, 0)) for _ in range(1000)]
    assert paths[0] == [0, 1, 2]
    assert bucket.spent == pytest.approx(15 + 999 * 5, abs=15)
    assert bucket.spent <= 15 + 999 * 5


def test_easy_images_save_for_hard_ones_up_to_the_burst() -> None:
    bucket = Bucket(5.0, 40.0)
    for _ in range(100):
        assert answer(bucket, policy(), (0.9, 0.9, 0.9)) == [0]
    hard = [len(answer(bucket, policy(), (0, 0, 0))) for _ in range(6)]
    assert hard[:3] == [3, 3, 3]
    assert min(hard) < 3


def test_start_that_cannot_be_paid_for_moves_to_one_that_can() -> None:
    strong_first = Cascade(("c", "b", "a"), thresholds=(0.0, 0.0), costs_ms=(10.0, 4.0, 1.0))
    for allowance, expected in ((20, 0), (9, 2), (0.5, 2), (-3, 2)):
        walk = Walk(strong_first, 1, None, Limits(allowance_ms=allowance))
        assert walk.wanted.candidate == expected


def test_allowance_does_not_undo_a_deadline() -> None:
    late = Cascade(("a", "b"), thresholds=(0.5,), upper_ms=(5.0, 50.0), costs_ms=(1.0, 10.0))
    assert Walk(late, 1, None, Limits(remaining_ms=2.0, allowance_ms=0.0)).wanted is None
    assert Walk(late, 1, None, Limits(remaining_ms=6.0, allowance_ms=0.0)).wanted.candidate == 0


def test_energy_limit_is_kept_by_mean_energies() -> None:
    two = Cascade(("a", "b"), thresholds=(0.5,), costs_mj=(1.0, 10.0))
    unsure = Output(np.array([0.0]))
    for left, asked in ((20.0, 2), (10.5, 1), (0.5, 0)):
        walk = Walk(two, 1, None, Limits(remaining_mj=left))
        count = 0
        while (step := walk.wanted) is not None:
            count += 1
            left -= two.costs_mj[step.candidate]
            walk.feed(step, unsure, Limits(remaining_mj=left))
        assert count == asked


def test_threads_cannot_spend_the_same_tokens() -> None:
    bucket = Bucket(5.0, 30.0)
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        draws = np.random.default_rng(seed).random((400, 3)) * 0.7
        barrier.wait()
        for image in draws:
            assert answer(bucket, policy(), image)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bucket.images == 3200
    assert bucket.spent <= 30 + 3199 * 5
    assert 0 <= bucket.level <= bucket.burst


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.0,), "above 0"),
        ((float("nan"),), "above 0"),
        ((1.0, float("inf")), "above 0"),
        ((5.0, 4.0), "below the mean"),
        ((5.0, 9.0, "s"), "not one of"),
    ],
)
def test_bad_bucket_is_refused(arguments: tuple, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Bucket(*arguments)


def test_mean_below_the_cheapest_is_refused(tiny_candidates: Path) -> None:
    networks = Networks(Bundle.read(tiny_candidates), {})
    costly = Cascade(("cheap", "strong"), thresholds=(0.5,), costs_ms=(3.0, 9.0))
    with pytest.raises(InputError, match=r"'cheap', the cheapest .* costs 3 ms"):
        with_costs(costly, networks, Bucket(2.0))
    with pytest.raises(InputError, match=r"the bundle has none for \['strong'\]"):
        with_costs(Fixed(("strong",)), networks, Bucket(2.0))


def test_candidate_above_the_burst_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Bucket(5.0, 8.0).check(("a", "b"), (1.0, 10.0))
    assert "b costs 10 ms, more than the burst" in caplog.text


def test_mean_that_cannot_be_kept_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    bucket = Bucket(5.0, 10.0)
    for _ in range(50):
        bucket.close(bucket.open(10.0), 9.0)
    assert caplog.text.count("cannot be kept") == 1
    assert bucket.status()["debt"] == pytest.approx(50 * 9 - 10 - 49 * 5)


def test_router_keeps_the_mean(tiny_candidates: Path, tiny_images: Path) -> None:
    mean = 4.0
    never_sure = Cascade(("cheap", "strong"), thresholds=(1.0,), costs_ms=(0.1, 20.0))
    paths = [tiny_images / f"{row:03}.png" for row in range(40)]
    bucket = Bucket(mean, 60.0)
    with Router.load(tiny_candidates, policy=never_sure, bucket=bucket) as router:
        router.warm_up()
        first = router.classify(paths[0])
        assert first.path == ("cheap", "strong")
        # What runs took is charged, and that is far less than was expected of them.
        assert bucket.spent == pytest.approx(first.ms["cheap"] + first.ms["strong"])
        bucket.close(0.0, 50.0)
        assert router.classify(paths[0]).path == ("cheap",)
        bucket.close(0.0, -50.0)
        assert {len(a.path) for a in router.classify_batch(paths, batch=8)} == {1, 2}
        assert router.status()["bucket"]["images"] == 42


def test_router_keeps_the_energy(tiny_candidates: Path, tiny_images: Path) -> None:
    read = Bundle.read(tiny_candidates)
    from dataclasses import replace

    energies = {"cheap": 1.0, "strong": 9.0, "net@1": 1.0, "net@2": 1.0}
    bundle = replace(
        read, candidates=tuple(replace(c, mj=energies[c.name]) for c in read.candidates)
    )
    never_sure = Cascade(("cheap", "strong"), thresholds=(1.0,))
    networks = Networks.open(bundle, never_sure.candidates, 1)
    bucket = Bucket(3.0, 12.0, unit="mj")
    with Router(bundle, networks.engines, never_sure, bucket=bucket) as router:
        paths = [len(router.classify(tiny_images / "000.png").path) for _ in range(60)]
        assert router.policy.costs_mj == (1.0, 9.0)
        assert router.classify(tiny_images / "000.png", Limits(remaining_mj=0.5)).label is None
    # 2 (n - 1) + 12 - 1 tokens are left for what costs 9 more
    assert sum(paths) - 60 == (11 + 2 * 59) // 9
    assert bucket.spent <= 12 + 60 * 3


def test_failing_engine_pays_back_what_it_held(tiny_bundle: Path, tiny_images: Path) -> None:
    from adaptive.errors import EngineError

    bucket = Bucket(5.0)
    own = Cascade(("cheap", "strong"), thresholds=(0.9,), costs_ms=(0.1, 1.0))
    with Router.load(tiny_bundle, policy=own, bucket=bucket) as router:
        router.close()
        with pytest.raises(EngineError):
            router.classify(tiny_images / "000.png")
    assert bucket.level == bucket.burst


def test_costs_survive_a_policy_file() -> None:
    assert "costs_ms" not in policy_to_json(Fixed(("a",)))
    two = Cascade(("a", "b"), thresholds=(0.5,), costs_ms=(1.0, 2.0), costs_mj=(3.0, 4.0))
    assert policy_from_json(policy_to_json(two)) == two
    with pytest.raises(InputError, match="costs_mj has 1 energies for 2 candidates"):
        Cascade(("a", "b"), thresholds=(0.5,), costs_mj=(1.0,))


def test_limits_of_some_rows() -> None:
    limits = Limits(np.array([1.0, 2.0, 3.0]), 5.0, 0.5, np.array([7.0, 8.0, 9.0]))
    some = limits.rows(np.array([0, 2]))
    assert some.remaining_ms.tolist() == [1, 3]
    assert some.allowance_ms.tolist() == [7, 9]
    assert (some.remaining_mj, some.preference) == (5.0, 0.5)
    assert UNLIMITED.rows(slice(0, 1)) is UNLIMITED
    with pytest.raises(InputError, match="allowance_ms is not a number"):
        Limits(allowance_ms=float("nan"))


def test_batch_takes_a_deadline_for_each_image(tiny_candidates: Path, tiny_images: Path) -> None:
    never_sure = Cascade(("cheap", "strong"), thresholds=(1.0,), upper_ms=(1.0, 1e6))
    deadlines = np.array([1e9, 1e5, -1.0, 1e9])
    with Router.load(tiny_candidates, policy=never_sure) as router:
        answers = router.classify_batch([tiny_images / "000.png"] * 4, Limits(deadlines), batch=3)
    assert [len(a.path) for a in answers] == [2, 1, 0, 2]
