"""Streams whose networks compute only what changed: exits and premodel go on as before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adaptive import Limits, Router
from adaptive.engines.tiles.state import Thresholds
from adaptive.errors import InputError
from adaptive.routing.running import Networks
from adaptive.routing.tiled import StreamEngine, TiledNetworks, tile_states
from adaptive.video.gate import FrameGate


@pytest.fixture(scope="module")
def router():
    with Router.load() as opened:
        yield opened


def clip(frames, seed=0, shape=(96, 128, 3)):
    random = np.random.default_rng(seed)
    frame = np.kron(random.integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    found = []
    for _ in range(frames):
        found.append(frame)
        frame = frame.copy()
        y, x = random.integers(0, 80), random.integers(0, 112)
        frame[y : y + 16, x : x + 16] = random.integers(0, 256, 3)
    return found


def same(found, wanted):
    assert (found.label, found.path) == (wanted.label, wanted.path)
    assert found.score == pytest.approx(wanted.score, abs=1e-4)


NEVER = FrameGate("difference", 0, 0, 0)


def test_a_stream_at_threshold_0_answers_as_the_router_does(router):
    camera = router.stream("exact", NEVER, tiles=0.0)
    for number, frame in enumerate(clip(12)):
        same(camera.classify(frame, time_s=number), router.classify(frame))
    camera.close()


def test_two_streams_do_not_see_each_other(router):
    cameras = [router.stream(name, NEVER, tiles=0.0) for name in ("left", "right")]
    for number, frames in enumerate(zip(clip(6, 1), clip(6, 2))):
        for camera, frame in zip(cameras, frames):
            same(camera.classify(frame, time_s=number), router.classify(frame))
    for camera in cameras:
        camera.close()


def test_another_size_a_cut_and_a_reset_begin_anew(router):
    camera = router.stream("cuts", NEVER, tiles=0.2)
    for number, frame in enumerate(clip(3)):
        camera.classify(frame, time_s=number)
    small = np.ascontiguousarray(clip(1, seed=3)[0][:64, :64])
    same(camera.classify(small, time_s=10), router.classify(small))
    assert camera.counts["cut"] >= 1
    camera.reset()
    other = clip(1, seed=4)[0]
    same(camera.classify(other, time_s=11), router.classify(other))
    camera.close()


def test_streams_with_tiles_keep_them_among_several(router, monkeypatch):
    made = []
    of = TiledNetworks.of

    def kept(tiled, thresholds):
        made.append(of(tiled, thresholds))
        return made[-1]

    monkeypatch.setattr(TiledNetworks, "of", kept)
    tiled, plain = router.stream("tiled", NEVER, tiles=0.0), router.stream("plain", NEVER)
    for number, frames in enumerate(zip(clip(4, 1), clip(4, 2))):
        found = router.classify_streams(
            [(tiled, frames[0]), (plain, frames[1])], times_s=[number, number]
        )
        for answer, frame in zip(found, frames):
            same(answer, router.classify(frame))
    (networks,) = made
    assert max(state.frames for state in tile_states(networks).values()) == 4
    for camera in (tiled, plain):
        camera.close()


def test_a_stream_with_tiles_follows_times_that_are_rescaled(router):
    policy = replace(router.policy, upper_ms=(1.0, 1.0, 1.0))
    with Router.load(policy=policy) as timed:
        camera = timed.stream("slow", NEVER, tiles=0.0)
        frame, limits = clip(1)[0], Limits(50_000)
        assert camera.classify(frame, limits, time_s=0).path == ("mobilenet", "inception")
        timed.rescale({"inception": 1e6, "resnet": 1e6})
        assert timed.classify(frame, limits).path == ("mobilenet",)
        assert camera.classify(frame, limits, time_s=1).path == ("mobilenet",)


def test_exits_are_cut_and_each_keeps_a_state_of_its_own(router):
    exits = Networks.open(router.bundle, ["exits@5"], 1)
    tiled = TiledNetworks(exits)
    first, second = tiled.of(0.0), tiled.of(0.0)
    states = tile_states(first)
    assert {"exits@1", "exits@2", "exits@5"} <= set(states)
    assert all(states[key] is not other for key, other in tile_states(second).items())
    engine = first.engines["exits@1"]
    assert isinstance(engine, StreamEngine)
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    for found, wanted in zip(engine.run(frames), exits.engines["exits@1"].run(frames)):
        assert np.allclose(found, wanted, atol=1e-5)
    assert states["exits@1"].frames == 0  # several images are no stream's next frame
    engine.run(frames[:1])
    assert states["exits@1"].counts["filled"] == 1
    tiled.close()
    exits.close()


def test_what_tiles_cannot_do_is_said(router):
    with pytest.raises(InputError, match="keeps a map 'nothing'"):
        router.stream("wrong", tiles=Thresholds(0.1, {"nothing": 0.2}))
    with pytest.raises(InputError, match="at least 0"):
        router.stream("wrong", tiles=-1.0)
    own = Router.of({"mine": lambda batch: np.full((len(batch), 2), 0.5)}, ["a", "b"])
    with pytest.raises(InputError, match=r"no network of the router can be cut.*mine: it does not"):
        own.stream(tiles=0.0)
    own.close()
