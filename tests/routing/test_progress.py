"""What hangs is told from what has many images to work on."""

from __future__ import annotations

import io
import math
import threading
from time import sleep

import numpy as np
import pytest
from PIL import Image

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.policy.cascade import Cascade
from adaptive.routing import progress
from adaptive.routing.generation import Settings
from adaptive.serving import record
from adaptive.serving.record import Record
from adaptive.serving.service import Service

#: What an image may take here, seconds, and what one really takes.
EACH_S, TAKES_S = 0.4, 0.05


@pytest.fixture(autouse=True)
def at():
    """A request that this thread works on."""
    record.begin(Record(0.0, None, None))
    yield
    record.end()


def test_work_is_given_time_for_each_image():
    assert not progress.stalled(0.02)
    sleep(0.03)
    assert progress.stalled(0.02)
    progress.expect(1)
    assert not progress.stalled(0.02)
    progress.expect(32)
    sleep(0.03)
    assert not progress.stalled(0.02)
    assert progress.stalled(0.0001)
    progress.expect(math.inf)
    assert not progress.stalled(1e-9)


def test_what_is_answered_does_not_count():
    sleep(0.01)
    record.end()
    assert not progress.stalled(1e-9)
    progress.expect(1)  # of no request
    assert not progress.stalled(1e-9)


def test_one_that_hangs_beside_others_that_do_not_is_seen():
    begun, hold = threading.Event(), threading.Event()

    def hang() -> None:
        record.begin(Record(0.0, None, None))
        try:
            begun.set()
            hold.wait(30)
        finally:
            record.end()

    thread = threading.Thread(target=hang)
    thread.start()
    assert begun.wait(30)
    sleep(0.03)
    progress.expect(1)
    assert progress.stalled(0.02)
    hold.set()
    thread.join(30)
    progress.expect(1)
    assert not progress.stalled(0.02)


class Slow:
    """An engine that takes a while for each image."""

    def __init__(self, engine) -> None:
        self.engine = engine

    def run(self, *inputs):
        sleep(TAKES_S * len(inputs[0]))
        return self.engine.run(*inputs)

    def close(self) -> None:
        self.engine.close()


def watch(work) -> bool:
    """Whether anything counted as stalled while `work` was done."""
    over, seen = threading.Event(), []

    def look() -> None:
        while not over.wait(0.01):
            seen.append(progress.stalled(EACH_S))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join(30)
    assert len(seen) > 10
    return any(seen)


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(window_ms=1.0, max_batch=4)], ids=["alone", "gathered"]
)
@pytest.mark.parametrize("how", ["candidate", "router"])
def test_many_images_of_one_request_have_not_hung(tiny_candidates, tmp_path, settings, how):
    policy = Cascade(("cheap", "strong"), thresholds=(1.0,))
    write_bundle(tmp_path / "bundle", Bundle.read(tiny_candidates), policy)
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(stream, "PNG")
    images = [stream.getvalue()] * 16
    with Service(tmp_path / "bundle", settings) as service:
        engines = service.generation.networks.engines
        engines["strong"] = Slow(engines["strong"])
        ask = service.candidate("strong").infer if how == "candidate" else service.classify_batch
        # It takes 0.8 s in all, twice as long as one image may.
        assert not watch(lambda: ask(images))
        progress.expect(1)
        assert watch(lambda: sleep(1.2 * EACH_S))
