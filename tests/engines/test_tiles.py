"""Tiles: at a threshold of 0 an answer is the dense network's, on any network and any clip."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_files as onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_networks import Layers, bottlenecks, clip

from adaptive.engines.engine import OnnxEngine
from adaptive.engines.tiles.engine import TileCost, TileEngine, anywhere
from adaptive.engines.tiles.graph import read_graph
from adaptive.engines.tiles.state import Thresholds
from adaptive.errors import BundleError, EngineError, InputError
from adaptive.images.video import VideoReader
from adaptive.opencv import cv2

SHAPE = (3, 24, 24)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    opened = TileEngine.open(
        bottlenecks(tmp_path_factory.mktemp("tiles") / "net.onnx"), measure=False
    )
    yield opened
    opened.close()


def apart(found, wanted):
    assert [f.shape for f in found] == [w.shape for w in wanted]
    return max(float(np.abs(f - w).max()) for f, w in zip(found, wanted))


def held(engine, frames, state=None):
    """The largest difference from the dense network, over all frames of a clip."""
    state = engine.state(0.0) if state is None else state
    return max(apart(engine.run_streams([state], f), engine.run(f)) for f in frames)


def test_threshold_0_equals_the_dense_network(engine):
    state = engine.state(0.0)
    assert held(engine, clip(SHAPE, 12), state) < 1e-4
    assert state.counts["updated"] == 11


def test_what_did_not_change_is_not_computed(engine):
    first, second = clip(SHAPE, 2, side=3)
    state = engine.state(0.0)
    before = engine.run_streams([state], first)
    again = engine.run_streams([state], first.copy())
    assert state.counts["same"] == 1
    assert state.shares == [0.0] * len(state.shares)
    assert np.array_equal(before[0], again[0])
    engine.run_streams([state], second)
    assert 0 < state.shares[0] < 0.5


def test_the_largest_threshold_keeps_the_first_answer(engine):
    frames = clip(SHAPE, 4)
    state = engine.state(1e9)
    answers = [engine.run_streams([state], frame)[0] for frame in frames]
    assert all(np.array_equal(answer, answers[0]) for answer in answers)
    assert state.counts["same"] == 3


def test_a_slow_change_counts_once_it_has_grown(engine):
    """What is kept is the last value that counted, not the last that was seen."""
    frame = clip(SHAPE, 1)[0]
    state = engine.state(Thresholds(0.0, {"images": 0.5}))
    engine.run_streams([state], frame)
    limit = 0.5 * float(frame.std())
    became = []
    for step in range(1, 8):
        now = frame.copy()
        now[0, :, 4, 4] += step * limit / 4.5
        before = state.counts["same"]
        found = engine.run_streams([state], now)
        became.append(state.counts["same"] > before)
    assert became == [True, True, True, True, False, True, True]
    del found


def test_a_map_that_holds_infinities_is_refreshed(tmp_path):
    """It has no deviation, of which a threshold could be a share."""
    net = Layers(SHAPE)
    logs = net.one("Log", net.one("Relu", net.conv("images", 4)))
    pooled = net.pool("MaxPool", logs, (2, 2), (2, 2))
    path = net.write(tmp_path / "net.onnx", net.head(net.one("Exp", pooled)))
    tiles = TileEngine.open(path, measure=False)
    assert logs in tiles.maps
    state = tiles.state(Thresholds(0.0, {logs: 0.1}))
    assert held(tiles, clip(SHAPE, 4), state) < 1e-4
    assert np.isinf(state.rows[logs][:-3]).any()


def test_two_interleaved_streams_equal_two_alone(engine):
    first, second = clip(SHAPE, 8, seed=1), clip(SHAPE, 8, seed=2)
    alone = []
    for frames in (first, second):
        state = engine.state(0.3)
        alone.append([engine.run_streams([state], frame)[0] for frame in frames])
    states = [engine.state(0.3), engine.state(0.3)]
    for number, pair in enumerate(zip(first, second)):
        for stream, frame in enumerate(pair):
            found = engine.run_streams([states[stream]], frame)[0]
            assert np.array_equal(found, alone[stream][number])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_batch_is_any_set_of_streams(engine, size):
    clips = [clip(SHAPE, 4, seed=seed) for seed in range(size)]
    states = [engine.state(0.0) for _ in clips]
    for frames in zip(*clips):
        batch = np.concatenate(frames)
        assert apart(engine.run_streams(states, batch), engine.run(batch)) < 1e-4
    few, batch = states[::2], np.concatenate([frames[1] for frames in clips[::2]])
    assert apart(engine.run_streams(few, batch), engine.run(batch)) < 1e-4


def test_a_cut_is_answered_as_the_dense_network_does(engine):
    frames = [*clip(SHAPE, 3, seed=1), *clip(SHAPE, 3, seed=2), *clip(SHAPE, 3, seed=1)]
    assert held(engine, frames) < 1e-4


def test_after_a_failure_the_next_frame_is_computed_in_full(engine):
    frames = clip(SHAPE, 4)
    state = engine.state(0.0)
    for frame in frames[:2]:
        engine.run_streams([state], frame)
    parts = engine._parts
    engine._parts = (*parts[:1], parts[1]._replace(session=None), *parts[2:])
    with pytest.raises(EngineError, match="failed on"):
        engine.run_streams([state], frames[2])
    engine._parts = parts
    assert apart(engine.run_streams([state], frames[3]), engine.run(frames[3])) < 1e-4
    assert state.counts["filled"] == 2


def test_frames_of_another_size_are_refused_and_the_state_stays(engine):
    frames = clip(SHAPE, 3)
    state = engine.state(0.0)
    engine.run_streams([state], frames[0])
    with pytest.raises(InputError, match=r"frames of shape \(1, 3, 16, 24\).*\(1, 3, 24, 24\)"):
        engine.run_streams([state], frames[1][:, :, :16])
    with pytest.raises(InputError, match="float64; it reads float32"):
        engine.run_streams([state], frames[1].astype(float))
    with pytest.raises(InputError, match="twice"):
        engine.run_streams([state, state], np.concatenate(frames[:2]))
    assert held(engine, frames[1:], state) < 1e-4
    state.reset()
    assert state.bytes == 0
    assert held(engine, frames, state) < 1e-4


def test_tiles_rest_where_they_do_not_pay(engine):
    """With everything changed nearly all frames are answered as the dense network does alone."""
    state = engine.state(0.0)
    engine.costs = tuple(TileCost(1.0, 10.0) for _ in engine.cut.segments)
    engine.dense_ms = 20.0
    random = np.random.default_rng(0)
    try:
        for _ in range(150):
            frame = random.normal(size=(1, *SHAPE)).astype(np.float32)
            assert apart(engine.run_streams([state], frame), engine.run(frame)) < 1e-4
    finally:
        engine.costs = engine.dense_ms = None
    assert state.counts["filled"] <= 9
    assert state.counts["plain"] >= 130
    assert state.counts["updated"] <= 9  # one is tried after each rest


@st.composite
def networks(draw):
    """A network of a few layers drawn one after the other, and the sides of its input."""
    rows, columns = draw(st.integers(9, 19)), draw(st.integers(9, 19))
    net = Layers((draw(st.sampled_from([3, 16])), rows, columns), draw(st.integers(0, 99)))
    maps = ["images"]
    for _ in range(draw(st.integers(1, 5))):
        x = maps[-1]
        count = net.channels[x]
        kind = draw(st.sampled_from(["conv", "conv", "conv", "pool", "block", "join", "alone"]))
        if kind == "conv":
            kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (3, 1), (2, 2), (5, 5)]))
            stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1)]))
            dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]))
            channels = draw(st.sampled_from([count, 16]))
            whole = [g for g in (1, count, 2) if count % g == 0 and channels % g == 0]
            group = draw(st.sampled_from(whole))
            pads = [draw(st.integers(0, 2)) + k // 2 for k in kernel * 2]
            bias, auto = draw(st.booleans()), draw(st.sampled_from([None, None, "SAME_UPPER"]))
            if dilation != (1, 1):
                auto = None
            x = net.conv(x, channels, kernel, stride, dilation, group, pads, bias, auto)
        elif kind == "pool":
            if draw(st.booleans()):
                x = net.pool("MaxPool", x, (3, 3), draw(st.sampled_from([(1, 1), (2, 2)])), [1] * 4)
            else:
                x = net.pool("AveragePool", x, (2, 2), (1, 1))
        elif kind == "block":
            x = net.one("Add", net.norm(net.conv(x, count)), x)
        elif kind == "join":
            x = net.concat(net.conv(x, 16), net.one("Sigmoid", x))
        if draw(st.booleans()):
            x = net.one(draw(st.sampled_from(["Relu", "Sigmoid", "Tanh"])), x)
        if x != maps[-1]:
            maps.append(x)
    if len(maps) == 1:
        maps.append(net.conv("images", 4))
    if draw(st.booleans()):
        maps.append(net.conv(net.larger(maps[-1]), 4))
    outputs = [net.head(maps[-1])]
    if draw(st.booleans()):
        outputs.append(maps[-1])
    return net, outputs


@given(networks(), st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_any_network_equals_itself_run_densely(drawn, seed, side):
    net, outputs = drawn
    with TemporaryDirectory() as folder:
        path = net.write(Path(folder) / "net.onnx", *outputs)
        frames = clip(net.shape, 4, seed, side)
        try:
            OnnxEngine(path).run(frames[0])
        except EngineError:
            return  # a map shrank to nothing
        tiles = TileEngine.open(path, measure=False)
        wanted = tiles.run(frames[0])
        scale = max(1.0, *(float(np.abs(w).max()) for w in wanted))
        assert held(tiles, frames) < 1e-4 * scale
        tiles.close()


def test_an_operator_that_cannot_be_cut_is_named_and_what_follows_runs_densely(tmp_path):
    net = Layers(SHAPE)
    x = net.one("Relu", net.conv("images", 8))
    shape = net.weight(np.array([0, 8, 24, 24], np.int64))
    y = net.node(
        "Reshape",
        [
            net.node(
                "InstanceNormalization",
                [x, net.weight(net.normal(8)), net.weight(net.normal(8))],
                8,
            ),
            shape,
        ],
        8,
    )
    path = net.write(tmp_path / "net.onnx", net.head(net.conv(y, 8)))
    tiles = TileEngine.open(path, measure=False)
    assert tiles.cut.why == "InstanceNormalization: is no operator that can be cut"
    assert len(tiles.cut.segments) == 1
    assert held(tiles, clip(SHAPE, 4)) < 1e-4


def test_levels_leave_the_rest_to_the_dense_network(tmp_path):
    path = bottlenecks(tmp_path / "net.onnx")
    whole, part = (TileEngine.open(path, measure=False, levels=n) for n in (None, 2))
    assert {s.level for s in part.cut.segments} == {1, 2}
    assert len(part.cut.segments) < len(whole.cut.segments)
    assert "first 2 levels" in part.cut.why
    assert held(part, clip(SHAPE, 5)) < 1e-4


def test_bytes_with_channels_last_are_cut_too(tmp_path):
    path = tmp_path / "net.onnx"
    random = np.random.default_rng(0)
    weight = random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        onnx.node("Cast", ["images"], ["a"], onnx.integer("to", 1)),
        onnx.node("Sub", ["a", "mean"], ["b"]),
        onnx.node("Transpose", ["b"], ["c"], onnx.ints("perm", (0, 3, 1, 2))),
        onnx.node(
            "Conv",
            ["c", "w"],
            ["d"],
            onnx.ints("pads", (1, 1, 1, 1)),
            onnx.ints("kernel_shape", (3, 3)),
        ),
        onnx.node("GlobalAveragePool", ["d"], ["e"]),
    ]
    onnx.model(
        path,
        nodes,
        [onnx.value("images", "uint8", ["n", 10, 14, 3])],
        [onnx.block(1, "e")],
        [onnx.tensor("w", weight), onnx.tensor("mean", np.array(127.5, np.float32))],
    )
    tiles = TileEngine.open(path, measure=False)
    frame = random.integers(0, 256, (1, 10, 14, 3)).astype(np.uint8)
    frames = [frame]
    for _ in range(4):
        frame = frame.copy()
        frame[0, 3:5, 4:9] = random.integers(0, 256, (2, 5, 3))
        frames.append(frame)
    assert held(tiles, frames) < 1e-4
    state = tiles.state(0.5)
    for frame in frames:
        tiles.run_streams([state], frame)
    assert state.counts["filled"] == 1


def test_what_cannot_be_cut_at_all_is_refused(tmp_path):
    flat = onnx.model(
        tmp_path / "flat.onnx",
        [onnx.node("Flatten", ["images"], ["y"])],
        [onnx.value("images", "float32", [1, 3, 4, 4])],
        [onnx.block(1, "y")],
    )
    with pytest.raises(EngineError, match=r"nothing of flat.onnx can be cut.*Flatten"):
        TileEngine.open(flat)
    (tmp_path / "text.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match="not an ONNX file"):
        TileEngine.open(tmp_path / "text.onnx")
    old = Layers((3, 8, 8), opset=10)
    with pytest.raises(EngineError, match=r"opset 10; .*from opset 11 to 17"):
        read_graph(old.write(tmp_path / "old.onnx", old.conv("images", 4)))
    free = onnx.model(
        tmp_path / "free.onnx",
        [onnx.node("Relu", ["images"], ["y"])],
        [onnx.value("images", "float32", ["n", 3, "h", "w"])],
        [onnx.block(1, "y")],
    )
    with pytest.raises(EngineError, match="shape="):
        TileEngine.open(free)
    tiles = TileEngine.open(free, shape=(3, 8, 8), measure=False)
    assert held(tiles, clip((3, 8, 8), 3)) == 0


def test_thresholds_say_what_is_wrong_with_them(engine):
    with pytest.raises(InputError, match="threshold every is -1; at least 0 is allowed"):
        Thresholds(-1)
    with pytest.raises(InputError, match="threshold of images"):
        Thresholds(0.1, {"images": float("nan")})
    with pytest.raises(InputError, match="keeps no map 'nothing'; it keeps"):
        engine.state(Thresholds(0.1, {"nothing": 1.0}))
    assert Thresholds(0.1, {"images": 0}) == Thresholds(0.1, {"images": 0.0})


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 12, 16, 64, 85, 128, 129, 256])
def test_anywhere_is_any_over_channels(channels):
    flags = np.random.default_rng(channels).random((200, channels)) < 0.5 / channels
    assert np.array_equal(anywhere(flags), flags.any(axis=1))
    assert not anywhere(np.zeros((3, channels), bool)).any()


def test_costs_are_measured_where_asked_for(tmp_path):
    tiles = TileEngine.open(bottlenecks(tmp_path / "net.onnx"))
    assert len(tiles.costs) == len(tiles.cut.segments)
    assert tiles.dense_ms > 0
    assert all(cost.fixed >= 0 and cost.whole >= 0 for cost in tiles.costs)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_ten_thousand_frames_neither_drift_nor_grow(tmp_path, threshold):
    net = Layers((3, 12, 12))
    x = net.one("Relu", net.conv("images", 4))
    path = net.write(tmp_path / "net.onnx", net.head(net.conv(x, 4)))
    tiles = TileEngine.open(path, measure=False)
    state = tiles.state(threshold)
    random = np.random.default_rng(3)
    frame = clip((3, 12, 12), 1)[0]
    errors = []
    for number in range(10_000):
        y, x = random.integers(0, 9, 2)
        side = int(random.integers(1, 4))
        frame[:, :, y : y + side, x : x + side] = random.normal(size=(1, 3, side, side))
        found = tiles.run_streams([state], frame)
        if number % 20 == 0:
            errors.append(apart(found, tiles.run(frame)))
        if number == 1000:
            kept, memory = state.bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert state.bytes == kept
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 16 << 10  # KiB
    assert state.counts["updated"] > 9000
    if threshold == 0:
        assert max(errors) < 1e-4
    else:
        assert 0 < np.mean(errors[-100:]) < 1.5 * np.mean(errors[10:110])


SHARED = {
    "imagenet/models/mobilenet_v2_100_224.onnx": 18,
    "imagenet/models/googlenet.onnx": 25,
    "imagenet/models/resnet50.onnx": 20,
    "detection/models/yolox_nano_416.onnx": 28,
}


@pytest.mark.data
@pytest.mark.slow
def test_threshold_0_equals_the_dense_network_on_every_frame_of_a_clip():
    data = Path(os.environ.get("ADAPTIVE_DATA", ""))
    path = data / "video" / "control_carphone.mp4"
    if not path.is_file():
        pytest.skip("ADAPTIVE_DATA names no folder with the shared networks and clips")
    tiles = TileEngine.open(data / "imagenet/models/mobilenet_v2_100_224.onnx", measure=False)
    state, far = tiles.state(0.0, always=True), []
    with VideoReader(path, live=False) as reader:
        for seen in reader:
            frame = cv2.resize(seen.image, (224, 224), interpolation=cv2.INTER_AREA)[None]
            far.append(apart(tiles.run_streams([state], frame), tiles.run(frame)))
    assert len(far) == 120
    assert max(far) < 1e-4
    assert state.counts["filled"] == 1
    assert state.counts["plain"] == 0
    tiles.close()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_shared_networks_equal_themselves_run_densely_on_a_clip(name):
    data = Path(os.environ.get("ADAPTIVE_DATA", ""))
    if not (data / name).is_file():
        pytest.skip("ADAPTIVE_DATA names no folder with the shared networks")
    tiles = TileEngine.open(data / name, measure=False)
    assert len(tiles.cut.segments) >= SHARED[name]
    last = tiles.cut.source in tiles.cut.last
    sides = tiles.shape[1:3] if last else tiles.shape[2:]
    frames = []
    with VideoReader(data / "video" / "street_cars.mp4") as reader:
        for seen in reader:
            square = cv2.resize(seen.image, (sides[1], sides[0]))[None]
            frames.append(square if last else square.transpose(0, 3, 1, 2).astype(np.float32) / 64)
            if len(frames) == 4:
                break
    state = tiles.state(0.0)
    for frame in frames:
        frame = np.ascontiguousarray(frame)
        found, wanted = tiles.run_streams([state], frame), tiles.run(frame)
        scale = max(1.0, float(np.abs(wanted[0]).max()))
        assert apart(found, wanted) < 1e-4 * scale
    assert state.counts["updated"] + state.counts["same"] == 3
    tiles.close()
