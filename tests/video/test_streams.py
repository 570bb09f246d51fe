"""A server's streams: bounded in number and age, and each its owner's."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive import Router
from adaptive.video.gate import FrameGate
from adaptive.video.stream import Ways
from adaptive.video.streams import PassingStreams

SCENE = np.random.default_rng(0).integers(0, 200, (60, 80, 3), np.uint8)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streams(clock: Clock) -> PassingStreams:
    router = Router.of({"a": lambda images: np.ones((len(images), 2)) / 2}, ["a", "b"])
    ways = Ways(router.decode, router.classify, router.detect)
    return PassingStreams(FrameGate(), router.view, ways, most=3, idle_s=60.0, clock=clock)


def test_the_least_recently_used_goes_first(streams: PassingStreams) -> None:
    made = {name: streams.stream("me", name) for name in "abc"}
    assert streams.stream("me", "a") is made["a"]
    streams.stream("me", "d")
    assert (len(streams), streams.dropped) == (3, 1)
    assert streams.stream("me", "a") is made["a"]
    assert streams.stream("me", "c") is made["c"]
    assert streams.stream("me", "b") is not made["b"]


def test_a_stream_that_sends_nothing_is_forgotten(streams: PassingStreams, clock: Clock) -> None:
    first = streams.stream("me", "door")
    clock.now_s = 60.0
    assert streams.stream("me", "door") is first
    clock.now_s = 120.5
    assert len(streams) == 0
    assert streams.stream("me", "door") is not first
    assert streams.dropped == 0


def test_a_name_belongs_to_its_owner(streams: PassingStreams) -> None:
    assert streams.stream("me", "door") is not streams.stream("you", "door")


def test_frames_of_streams_that_went_are_still_counted(
    streams: PassingStreams, clock: Clock
) -> None:
    for name in "abcd":
        streams.stream("me", name).classify(SCENE, time_s=0.0)
    streams.stream("me", "d").classify(SCENE, time_s=0.1)
    assert streams.counts() == {"first": 4, "still": 1}
    clock.now_s = 100.0
    assert len(streams) == 0
    assert streams.counts() == {"first": 4, "still": 1}
