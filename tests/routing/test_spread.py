from __future__ import annotations

import threading
from pathlib import Path

import pytest

from adaptive import Router
from adaptive.errors import ImageError
from adaptive.routing.spread import spread


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 32])
def test_results_stand_in_the_order_of_the_items(threads: int, count: int) -> None:
    assert spread(lambda item: item * item, range(count), threads) == [i * i for i in range(count)]


def test_several_threads_work_side_by_side() -> None:
    meet = threading.Barrier(2, timeout=10)
    assert sorted(spread(lambda _: meet.wait(), [0, 0], 2)) == [0, 1]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_error_is_raised(threads: int) -> None:
    def run(item: int) -> int:
        if item in (3, 7):
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match="item 3"):
        spread(run, range(9), threads)


def test_a_batch_in_threads_gives_the_answers_of_one_by_one(tiny_images: Path) -> None:
    images = sorted(tiny_images.glob("*.png"))[:30]
    with Router.load(threads=2) as router, Router.load() as alone:
        found = router.classify_batch(images, batch=7)
        expected = [alone.classify(image) for image in images]
    assert [(a.label, a.path) for a in found] == [(a.label, a.path) for a in expected]
    for one, other in zip(found, expected):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.features == other.features
        assert set(one.ms) == set(other.ms)


def test_the_first_damaged_image_of_a_batch_is_told(tiny_images: Path) -> None:
    good = min(tiny_images.glob("*.png"))
    with Router.load(threads=2) as router, pytest.raises(ImageError, match="is empty"):
        router.classify_batch([good, b"", good, b"x"])
