"""Batches whose images stop at different depths: full batches, the same answers."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exit_candidates import EXITS, exit_candidates

from adaptive import Bundle, EngineError, ImageError, InputError, Limits, Prediction, Router
from adaptive.images.decoded import decode_image
from adaptive.limits import UNLIMITED
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import Decision
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.routing.account import Account
from adaptive.routing.bucket import Bucket
from adaptive.routing.judging import JudgedImage
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks, ways_of
from adaptive.routing.scheduler import Cohort, Scheduler

POLICIES: dict[str, Any] = {
    "all exits": lambda: Cascade(EXITS, thresholds=(0.85, 0.8)),
    "agreement": lambda: Cascade(EXITS, thresholds=(0.85, 0.75), signal="agreement"),
    "an exit is skipped": lambda: Cascade(("deep@1", "deep@3"), thresholds=(0.75,)),
    "exits, then a network": lambda: Cascade(
        ("deep@2", "deep@3", "strong"), thresholds=(0.8, 0.9), combine="geometric"
    ),
    "a network between exits": lambda: Cascade(
        ("deep@1", "cheap", "deep@3"), thresholds=(0.7, 0.9)
    ),
    "drawn": lambda: Random((*EXITS, "strong"), seed=4),
    "downwards": lambda: Cascade(("deep@3", "deep@1"), thresholds=(0.9,)),
    "one": lambda: Fixed(("deep@3",)),
}


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exit_candidates(tmp_path_factory.mktemp("exits"))


@pytest.fixture(scope="module")
def images(tiny_images: Path) -> list[Path]:
    return sorted(tiny_images.glob("*.png"))[:60]


@pytest.fixture(scope="module")
def one_by_one(candidates: Path, images: list[Path]) -> dict[str, list[Prediction]]:
    """What `classify` answers, by policy."""
    found = {}
    for name, make in POLICIES.items():
        with Router.load(candidates, policy=make()) as router:
            found[name] = [router.classify(image) for image in images]
    return found


class Counting:
    """An engine that notes how many images each run had."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.sizes: list[int] = []

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        self.sizes.append(len(inputs[0]))
        found: list[np.ndarray] = self.engine.run(*inputs)
        return found

    def close(self) -> None:
        self.engine.close()


def counting(router: Router) -> dict[str, Counting]:
    engines = router._networks.engines
    for name in engines:
        engines[name] = Counting(engines[name])
    return engines


def same(found: list[Prediction], expected: list[Prediction]) -> None:
    """The same way and answer for every image, in order; numbers up to rounding."""
    assert [a.path for a in found] == [a.path for a in expected]
    assert [a.label for a in found] == [a.label for a in expected]
    for one, other in zip(found, expected):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert set(one.ms) == set(other.ms)
        assert one.reason == other.reason


@pytest.mark.parametrize("batch", [7])
@pytest.mark.parametrize("name", POLICIES)
def test_a_chunk_at_a_time_gives_the_answers_of_one_by_one(
    name: str, batch: int, candidates: Path, images: list[Path], one_by_one: Any
) -> None:
    with Router.load(candidates, policy=POLICIES[name]()) as router:
        same(router.classify_batch(images, batch=batch, regroup=False), one_by_one[name])


def test_these_images_stop_at_different_exits(one_by_one: Any) -> None:
    stops = Counter(answer.candidate for answer in one_by_one["all exits"])
    assert all(stops[name] >= 8 for name in EXITS)
    assert len(Counter(answer.path for answer in one_by_one["agreement"])) == 3


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("name", POLICIES)
def test_regrouped_batches_are_full_and_give_the_answers_of_one_by_one(
    name: str, batch: int, candidates: Path, images: list[Path], one_by_one: Any
) -> None:
    with Router.load(candidates, policy=POLICIES[name]()) as router:
        counted = counting(router)
        answers = router.classify_batch(images, batch=batch)
    same(answers, one_by_one[name])
    for segment, engine in counted.items():
        needed = sum(segment in answer.ms for answer in answers)
        assert sum(engine.sizes) == needed
        assert len(engine.sizes) == math.ceil(needed / batch)
        assert max(engine.sizes, default=0) <= batch


def test_without_regrouping_each_batch_runs_alone(candidates: Path, images: list[Path]) -> None:
    with Router.load(candidates, policy=POLICIES["all exits"]()) as router:
        counted = counting(router)
        answers = router.classify_batch(images, batch=16, regroup=False)
    reached = [len(a.path) == 3 for a in answers]
    expected = [sum(reached[first : first + 16]) for first in range(0, len(images), 16)]
    assert counted["deep@3"].sizes == [count for count in expected if count]


@pytest.mark.parametrize("cohorts", [1, 2, 3])
def test_few_cohorts_on_their_way_give_the_same_answers(
    cohorts: int,
    candidates: Path,
    images: list[Path],
    one_by_one: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adaptive.routing.router.MOST_COHORTS", cohorts)
    with Router.load(candidates, policy=POLICIES["all exits"]()) as router:
        counted = counting(router)
        same(router.classify_batch(images, batch=8), one_by_one["all exits"])
    assert all(max(engine.sizes) <= 8 for engine in counted.values())


def test_any_iterable_and_none_at_all(
    candidates: Path, images: list[Path], one_by_one: Any
) -> None:
    with Router.load(candidates, policy=POLICIES["all exits"]()) as router:
        assert router.classify_batch([]) == []
        same(router.classify_batch(iter(images[:5]), batch=2), one_by_one["all exits"][:5])
        with pytest.raises(InputError, match="batch 0 is not a whole number >= 1"):
            router.classify_batch(images, batch=0)


def regrouped(
    policy: Policy, candidates: Path, images: list[Path], cohorts: int
) -> tuple[Scheduler, list[Cohort]]:
    """Let in the images eight at a time; nothing is drained."""
    bundle = Bundle.read(candidates)
    networks = Networks.open(bundle, policy.candidates, 1, ways_of(policy))
    scheduler = Scheduler(policy, networks, 8, cohorts)
    done = []
    for first in range(0, len(images), 8):
        done += list(scheduler.make_room())
        photos = [Photo(decode_image(image, 256, 10**6)) for image in images[first : first + 8]]
        scheduler.admit(JudgedImage(photos), Account(photos, policy, {}, UNLIMITED, 0.0, None))
    done += list(scheduler.make_room())
    return scheduler, done


def test_memory_is_kept_for_those_that_wait(candidates: Path, images: list[Path]) -> None:
    policy = Cascade(EXITS, thresholds=(0.85, 0.8))
    scheduler, done = regrouped(policy, candidates, images, cohorts=5)
    there = done + list(scheduler._cohorts)
    assert len(scheduler._cohorts) < 5
    waiting = [p for cohort in there for p in cohort.photos if p.image.pixels.size]
    assert len(waiting) == sum(cohort.unfinished for cohort in there) > 0
    # At most one batch less one for each of the two exits that one can wait for.
    assert len(waiting) <= 2 * 7
    states = [s for p in waiting for kept in p.carried.values() for s in kept]
    assert states
    assert all(state.base is None and len(state) == 1 for state in states)
    finished = [p for cohort in there for p in cohort.photos if not p.image.pixels.size]
    assert not any(p.carried or p.image._tensors for p in finished)
    rest = list(scheduler.drain())
    assert [len(cohort.photos) for cohort in done + rest] == [8] * 7 + [4]
    assert not scheduler._queues


# Limits


def test_each_image_keeps_its_own_energy(candidates: Path, images: list[Path]) -> None:
    policy = Cascade(EXITS, thresholds=(1.0, 1.0), costs_mj=(2.0, 4.0, 6.0))
    energies = np.random.default_rng(0).choice([1.0, 2.5, 4.5, 6.5], len(images))
    with Router.load(candidates, policy=policy) as router:
        alone = [
            router.classify(image, Limits(remaining_mj=float(mj)))
            for image, mj in zip(images, energies)
        ]
        assert {len(a.path) for a in alone} == {0, 1, 2, 3}
        counted = counting(router)
        together = router.classify_batch(images, Limits(remaining_mj=energies), batch=16)
    assert [a.path for a in together] == [a.path for a in alone]
    assert len(counted["deep@3"].sizes) == math.ceil(np.sum(energies == 6.5) / 16)


def test_nobody_waits_for_later_images_under_a_deadline(
    candidates: Path, images: list[Path]
) -> None:
    policy = Cascade(EXITS, thresholds=(0.85, 0.8), upper_ms=(1.0, 2.0, 3.0))
    deadlines = np.where(np.arange(len(images)) % 3, 1e6, -1.0)
    with Router.load(candidates, policy=policy) as router:
        free = router.classify_batch(images, batch=16)
        counted = counting(router)
        answers = router.classify_batch(images, Limits(deadlines), batch=16)
    for row, answer in enumerate(answers):
        assert answer.path == (free[row].path if row % 3 else ())
    reached = [len(a.path) == 3 for a in answers]
    expected = [sum(reached[first : first + 16]) for first in range(0, len(images), 16)]
    assert counted["deep@3"].sizes == [count for count in expected if count]


# What goes wrong


class Breaking:
    """An engine that fails at its third run."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.runs = engine, 0

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        self.runs += 1
        if self.runs == 3:
            raise EngineError("it broke")
        found: list[np.ndarray] = self.engine.run(*inputs)
        return found

    def close(self) -> None:
        self.engine.close()


@pytest.mark.parametrize("bucket", [None, Bucket(500.0)])
def test_what_fails_leaves_nothing_behind(
    bucket: Bucket | None, candidates: Path, images: list[Path]
) -> None:
    policy = Cascade(EXITS, thresholds=(0.85, 0.8), costs_ms=(10.0, 20.0, 30.0))
    seen: list[Decision] = []

    class Observer:
        def observe(self, decision: Decision) -> None:
            seen.append(decision)

    with Router.load(candidates, policy=policy, bucket=bucket, observers=[Observer()]) as router:
        alone = [router.classify(image) for image in images[:30]]
        seen.clear()
        damaged: list[Any] = [*images[:20], b"no image", *images[20:30]]
        with pytest.raises(ImageError, match="not a JPEG"):
            router.classify_batch(damaged, batch=4)
        # Whole batches before it may have been answered, and are told in their order.
        told = [d.prediction.path for d in seen]
        assert told == [a.path for a in alone[: len(told)]]
        engines = router._networks.engines
        engines["deep@2"] = Breaking(engines["deep@2"])
        with pytest.raises(EngineError, match="it broke"):
            router.classify_batch(images[:30], batch=4)
        if bucket is not None:
            # All that was held is paid back, less what really ran.
            assert bucket.level == pytest.approx(bucket.burst, rel=0.05)
        same(router.classify_batch(images[:30], batch=4), alone)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_decisions_are_told_in_order_and_audits_still_have_their_images(
    share: float, candidates: Path, images: list[Path]
) -> None:
    seen: list[Decision] = []

    class Observer:
        def observe(self, decision: Decision) -> None:
            seen.append(decision)

    def told(batch: int | None) -> list[Any]:
        seen.clear()
        audit = Audit(share, scope="all", seed=1)
        policy = POLICIES["an exit is skipped"]()
        with Router.load(candidates, policy=policy, audit=audit, observers=[Observer()]) as router:
            if batch is None:
                for image in images:
                    router.classify(image)
            else:
                router.classify_batch(images, batch=batch)
            assert audit.failures == 0
        return [(d.prediction.path, d.audit, sorted(d.outcomes)) for d in seen]

    alone = told(None)
    assert told(8) == alone
    every = ["cheap", "deep@1", "deep@2", "deep@3", "strong"]
    assert all(outcomes == every for _, audit, outcomes in alone if audit)
    assert any(audit for _, audit, _ in alone) == (share > 0)


# All exits at once


def test_all_exits_in_one_pass(candidates: Path, images: list[Path]) -> None:
    policy = Cascade(EXITS, thresholds=(0.5, 0.5))
    with Router.load(candidates, policy=policy) as router:
        counted = counting(router)
        found = router.all_exits(images, "deep@3", batch=16)
        assert list(found) == list(EXITS)
        assert all(len(counted[name].sizes) == math.ceil(len(images) / 16) for name in EXITS)
        assert router.all_exits([], "deep@2")["deep@1"].shape == (0, 3)
        with pytest.raises(InputError, match=r"\['strong'\] are not open"):
            router.all_exits(images, "strong")
        with pytest.raises(InputError, match="'deep@4' is not in the bundle"):
            router.all_exits(images, "deep@4")
    for name in EXITS:
        with Router.load(candidates, policy=Fixed((name,))) as router:
            alone = [router.classify(image) for image in images]
        assert [a.index for a in alone] == found[name].argmax(axis=1).tolist()
        np.testing.assert_allclose([a.score for a in alone], found[name].max(axis=1), atol=1e-5)


class Timed(Networks):
    """Networks that keep which candidates ran on how many images."""

    ran: list[tuple[str, int]]

    def execute(self, run, rows):
        self.ran.append((run.segment, len(rows)))
        return super().execute(run, rows)


@pytest.mark.parametrize(
    ("images", "remaining_ms", "expected"),
    [
        (1, 5e6, [("cheap", 1), ("strong", 1)]),
        (1, 2e6, [("cheap", 1)]),
        (4, 20e6, [("cheap", 4), ("strong", 4)]),
        # Enough for one, or three of four of them, and not for what they take together.
        (4, 15e6, [("cheap", 4)]),
        (4, 5e6, [("cheap", 4)]),
        (4, 3e6, []),
    ],
)
def test_images_that_are_answered_together_share_the_deadline(
    tiny_candidates: Path,
    tiny_images: Path,
    images: int,
    remaining_ms: float,
    expected: list[tuple[str, int]],
) -> None:
    policy = Cascade(("cheap", "strong"), thresholds=(1.0,), upper_ms=(1e6, 4e6))
    opened = Networks.open(Bundle.read(tiny_candidates), ("cheap", "strong"), 1)
    networks = Timed(opened.bundle, opened.engines)
    networks.ran = []
    with Router(opened.bundle, networks, policy) as router:
        answers = router.classify_batch([tiny_images / "000.png"] * images, Limits(remaining_ms))
    assert networks.ran == expected
    assert {answer.path for answer in answers} == {tuple(name for name, _ in expected)}


ON = ("cheap", "net@1", "strong")


@pytest.mark.parametrize(("remaining_ms", "on"), [(20e6, ("cheap",)), (24e6, ON)])
def test_images_that_wait_for_another_candidate_count_too(
    tiny_candidates: Path, tiny_images: Path, remaining_ms: float, on: tuple[str, ...]
) -> None:
    class Split(Cascade):
        """The first image starts at the last candidate, the others at the first."""

        def start(self, chances, count, limits):
            return np.array([2] + [0] * (count - 1))

    policy = Split(("cheap", "net@1", "strong"), thresholds=(1.0, 1.0), upper_ms=(1e6, 9e6, 5e6))
    with Router.load(tiny_candidates, policy=policy) as router:
        image = tiny_images / "000.png"
        answers = router.classify_batch([image] * 3, Limits(remaining_ms))
    # The first one still waits for its 5 when the others would go on, each for 9.
    assert [a.path for a in answers] == [("strong",), on, on]
