from __future__ import annotations

import math
import threading
from collections import deque
from time import perf_counter, sleep

import numpy as np
import pytest

from adaptive.bundle.bundle import Bundle
from adaptive.errors import EngineError, InputError
from adaptive.images.decoded import DecodedImage
from adaptive.limits import UNLIMITED, Limits
from adaptive.routing.batching import Batching, Telling
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks
from adaptive.segments import Run

#: Long enough that a batch which waits for nothing shows, short enough for a failing test.
LONG_MS = 20_000.0


class Spy:
    """An engine that keeps what it was run on."""

    def __init__(self, engine, pause: threading.Event | None = None) -> None:
        self.engine, self.pause = engine, pause
        self.sizes: list[int] = []

    def run(self, *inputs):
        self.sizes.append(len(inputs[0]))
        if self.pause is not None:
            self.pause.wait(30)
        return self.engine.run(*inputs)

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def opened(tiny_candidates):
    networks = Networks.open(Bundle.read(tiny_candidates), ("cheap", "strong", "net@2"), 1)
    yield networks
    networks.close()


def photo(seed: int) -> Photo:
    """A photo of one colour that no other one has."""
    colour = np.array([seed % 251, seed // 251 % 251, seed * 7 % 251], np.uint8)
    pixels = np.broadcast_to(colour, (40, 48, 3)).copy()
    return Photo(DecodedImage(pixels, pixels))


def together(works) -> list[BaseException]:
    """Run all of these at the same time; what they raised."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work) -> None:
        barrier.wait(30)
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return failures


def batching(networks: Networks, window_ms: float, most: int, told=None) -> Batching:
    ran = (lambda *_: None) if told is None else lambda *run: told.append(run)
    return Batching(networks.bundle, networks.engines, ran, window_ms, most)


def test_full_batch_leaves_without_waiting_for_the_window(opened):
    spy = opened.engines["cheap"] = Spy(opened.engines["cheap"])
    networks = batching(opened, LONG_MS, 4)
    began = perf_counter()
    works = [lambda n=n: networks.run("cheap", [photo(n)]) for n in range(8)]
    assert together(works) == []
    assert (perf_counter() - began) * 1e3 < LONG_MS
    assert spy.sizes == [4, 4]


def test_window_ends_for_who_is_alone(opened):
    told = []
    networks = batching(opened, 5.0, 4, told)
    (one,), _ = networks.run("cheap", [photo(1)])
    assert [(segment, images) for segment, images, _ in told] == [("cheap", 1)]
    # Waiting is not what the candidate cost.
    assert one.ms["cheap"] < 1e3 * (told[0][2] + 0.05)


def test_thousands_of_requests_get_their_own_answers(opened):
    told = []
    networks = batching(opened, 1.0, 8, told)
    alone = Networks(opened.bundle, opened.engines)
    names = ("cheap", "strong", "net@1", "net@2")
    wrong = []

    def requests(worker: int) -> None:
        order = np.random.default_rng(worker).permutation(len(names))
        for turn in range(150):
            name = names[order[turn % len(names)]]
            asked, expected = photo(worker * 150 + turn), photo(worker * 150 + turn)
            output = networks.run(name, [asked]).output
            wanted = alone.run(name, [expected]).output
            if not np.allclose(output.probabilities, wanted.probabilities, atol=1e-6):
                wrong.append((worker, turn, name))

    assert together([lambda n=n: requests(n) for n in range(16)]) == []
    assert wrong == []
    counts = {name: sum(images for own, images, _ in told if own == name) for name in names}
    asked = dict.fromkeys(names, 0)
    for worker in range(16):
        order = np.random.default_rng(worker).permutation(len(names))
        for turn in range(150):
            asked[names[order[turn % len(names)]]] += 1
    # An image that asks the second exit runs through the first one.
    assert counts == {**asked, "net@1": asked["net@1"] + asked["net@2"]}
    assert max(images for _, images, _ in told) > 1


def test_networks_and_exits_are_gathered_apart(opened):
    spies = {}
    for name in ("cheap", "net@1", "net@2"):
        spies[name] = opened.engines[name] = Spy(opened.engines[name])
    networks = batching(opened, LONG_MS, 3)
    works = [lambda n=n: networks.run("net@2", [photo(n)]) for n in range(3)]
    works += [lambda n=n: networks.run("cheap", [photo(n)]) for n in range(3)]
    assert together(works) == []
    assert {name: spy.sizes for name, spy in spies.items()} == {
        "cheap": [3],
        "net@1": [3],
        "net@2": [3],
    }


def test_request_that_is_due_takes_its_batch_along(opened):
    spy = opened.engines["cheap"] = Spy(opened.engines["cheap"])
    networks = batching(opened, LONG_MS, 8)
    began = perf_counter()

    def due() -> None:
        with networks.until(Limits(remaining_ms=50.0)):
            networks.run("cheap", [photo(1)])

    early = threading.Thread(target=lambda: networks.run("cheap", [photo(2)]))
    early.start()
    while not networks._gathering:
        threading.Event().wait(0.001)
    due()
    early.join(30)
    assert not early.is_alive()
    assert (perf_counter() - began) * 1e3 < LONG_MS
    assert spy.sizes == [2]


class Slow:
    """An engine that takes a known time for each image of a batch."""

    def __init__(self, engine, each_s: float) -> None:
        self.engine, self.each_s = engine, each_s
        self.sizes: list[int] = []

    def run(self, *inputs):
        self.sizes.append(len(inputs[0]))
        sleep(self.each_s * len(inputs[0]))
        return self.engine.run(*inputs)

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def slow(opened):
    """Networks of which one takes 50 ms an image, as they know by now."""
    engine = opened.engines["cheap"] = Slow(opened.engines["cheap"], 0.05)
    networks = batching(opened, LONG_MS, 8)
    networks.window_ms = 0.0
    networks.run("cheap", [photo(0)])
    networks.window_ms = LONG_MS
    engine.sizes.clear()
    return networks, engine


def waiting_for_others(networks, images: int, limits: Limits = UNLIMITED) -> threading.Thread:
    """A request that has begun a batch and waits for others."""

    def work() -> None:
        with networks.until(limits):
            networks.run("cheap", [photo(seed) for seed in range(images)])

    thread = threading.Thread(target=work)
    thread.start()
    while not networks._gathering:
        sleep(0.001)
    return thread


def test_request_that_a_batch_would_make_late_runs_alone_beside_it(slow):
    networks, engine = slow
    other = waiting_for_others(networks, 6)
    # Alone it takes 50 ms, with the others it would take 350.
    with networks.until(Limits(remaining_ms=200.0)):
        networks.run("cheap", [photo(9)])
    assert engine.sizes == [1]
    networks.run("cheap", [photo(10), photo(11)])
    other.join(30)
    assert engine.sizes == [1, 8]


def test_batch_with_a_request_that_is_due_grows_no_further_than_that_can_bear(slow):
    networks, engine = slow
    due = waiting_for_others(networks, 2, Limits(remaining_ms=400.0))
    # Five more would keep it for more than 400 ms: it leaves as it is, and they begin another.
    more = threading.Thread(
        target=lambda: networks.run("cheap", [photo(seed) for seed in range(20, 25)])
    )
    more.start()
    due.join(30)
    assert engine.sizes[0] == 2
    networks.run("cheap", [photo(seed) for seed in range(30, 33)])
    more.join(30)
    assert engine.sizes == [2, 8]


def test_request_whose_deadline_bears_the_batch_joins_it(slow):
    networks, engine = slow
    other = waiting_for_others(networks, 2)
    with networks.until(Limits(remaining_ms=2000.0)):
        networks.run("cheap", [photo(9)])
    other.join(30)
    assert engine.sizes == [3]


def test_a_run_on_more_images_bounds_one_on_fewer(slow):
    networks, _ = slow
    run = Run("cheap", False)
    one = networks._takes_s(run, 1)
    assert networks._takes_s(run, 4) == pytest.approx(4 * one, rel=0.1)
    networks._spent_s[run][8] = deque([0.06])  # a batch that hardly takes longer than one
    assert networks._takes_s(run, 4) < 0.09
    assert networks._takes_s(Run("strong", False), 4) == 0.0


@pytest.mark.parametrize(
    "due", [50, np.int64(50), np.float32(50), np.array(50.0), np.array([9e9, 50.0])]
)
def test_deadline_of_any_kind_of_number_is_held(opened, due):
    networks = batching(opened, LONG_MS, 8)
    with networks.until(Limits(remaining_ms=due)):
        assert networks._request.due < perf_counter() + 0.051
        networks.run("cheap", [photo(1)])


def test_deadline_of_one_request_is_forgotten_with_it(opened):
    networks = batching(opened, 5.0, 8)
    with networks.until(Limits(remaining_ms=0.001)):
        networks.run("cheap", [photo(1)])
    assert networks._request.due == math.inf
    with networks.until(UNLIMITED):
        networks.run("cheap", [photo(2)])


def test_image_that_breaks_a_network_breaks_no_other_answer(opened):
    class Picky:
        def __init__(self, engine) -> None:
            self.engine = engine
            self.sizes: list[int] = []

        def run(self, images):
            self.sizes.append(len(images))
            if (images[:, 0, 0, 0] == 13).any():
                raise EngineError("it does not like thirteen")
            return self.engine.run(images)

        def close(self) -> None:
            self.engine.close()

    picky = opened.engines["cheap"] = Picky(opened.engines["cheap"])
    networks = batching(opened, LONG_MS, 4)
    answered: dict[int, int] = {}

    def ask(seed: int) -> None:
        (one,), output = networks.run("cheap", [photo(seed)])
        assert output is one.done["cheap"]
        answered[seed] = len(output.confidence)

    failures = together([lambda s=seed: ask(s) for seed in (11, 12, 13, 14)])
    assert [str(failure) for failure in failures] == ["it does not like thirteen"]
    assert answered == {11: 1, 12: 1, 14: 1}
    assert sorted(picky.sizes) == [1, 1, 1, 1, 4]


def test_more_images_than_a_batch_holds_run_in_several(opened):
    spy = opened.engines["cheap"] = Spy(opened.engines["cheap"])
    networks = batching(opened, 1.0, 4)
    photos, output = networks.run("cheap", [photo(n) for n in range(10)])
    assert [list(p.done) for p in photos] == [["cheap"]] * 10
    assert output.probabilities.shape == (10, 3)
    assert spy.sizes == [4, 4, 2]


def test_late_request_does_not_join_a_batch_that_runs(opened):
    pause = threading.Event()
    spy = opened.engines["cheap"] = Spy(opened.engines["cheap"], pause)
    networks = batching(opened, 1.0, 8)
    first = threading.Thread(target=lambda: networks.run("cheap", [photo(1)]))
    first.start()
    while not spy.sizes:
        threading.Event().wait(0.001)
    late = threading.Thread(target=lambda: networks.run("cheap", [photo(2)]))
    late.start()
    while len(spy.sizes) < 2:
        threading.Event().wait(0.001)
    pause.set()
    for thread in (first, late):
        thread.join(30)
    assert spy.sizes == [1, 1]


def test_telling_networks_tell_of_every_run(opened):
    told = []
    networks = Telling(opened.bundle, opened.engines, lambda *run: told.append(run))
    networks.run("net@2", [photo(1), photo(2)])
    assert [(segment, images) for segment, images, _ in told] == [("net@1", 2), ("net@2", 2)]
    assert all(seconds > 0 for _, _, seconds in told)
    networks.advance([Run("cheap", False)], [photo(3)])
    assert told[-1][:2] == ("cheap", 1)


@pytest.mark.parametrize(("window_ms", "most"), [(-1.0, 4), (math.nan, 4), (1.0, 0)])
def test_settings_that_cannot_be_are_refused(opened, window_ms, most):
    with pytest.raises(InputError):
        batching(opened, window_ms, most)
