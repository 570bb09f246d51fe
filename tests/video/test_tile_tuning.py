"""Thresholds are tuned against a stated loss, and keep it on the clips that tuned them."""

from __future__ import annotations

import numpy as np
import pytest
from tile_networks import bottlenecks, clip

from adaptive.engines.tiles.engine import TileCost, TileEngine
from adaptive.engines.tiles.state import Thresholds
from adaptive.errors import InputError
from adaptive.video.tile_tuning import disagreement, total_variation, tuned_tiles


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = bottlenecks(tmp_path_factory.mktemp("tuning") / "net.onnx")
    opened = TileEngine.open(path, measure=False)
    opened.costs = tuple(TileCost(0.01, 1.0) for _ in opened.cut.segments)
    opened.dense_ms = float(len(opened.costs))
    opened.filling_ms = opened.dense_ms * 1.2
    yield opened
    opened.close()


def apart(dense, tiles):
    return float(np.abs(dense[0] - tiles[0]).max() / np.abs(dense[0]).max())


CLIPS = [clip((3, 24, 24), 6, seed=seed, side=3) for seed in (1, 2)]


def test_a_larger_bound_is_faster_and_each_is_kept(engine):
    told = []
    none, some, much = (
        tuned_tiles(engine, CLIPS, bound, apart, told.append) for bound in (1e-4, 0.003, 0.5)
    )
    assert none.loss < 1e-4
    assert some.loss <= 0.003
    assert much.loss <= 0.5
    assert none.speed_up <= some.speed_up < much.speed_up
    assert len(told) == none.tried + some.tried + much.tried
    lost = []
    for frames in CLIPS:
        state = engine.state(much.thresholds)
        for number, frame in enumerate(frames):
            found = engine.run_streams([state], frame)
            if number:
                lost.append(apart(engine.run(frame), found))
    assert np.mean(lost) == pytest.approx(much.loss)


def test_losses_are_of_probabilities_and_of_classes():
    logits, other = [np.array([[0.0, np.log(3.0)]])], [np.array([[0.0, 0.0]])]
    assert total_variation(logits, other) == pytest.approx(0.25)
    assert total_variation([np.array([[0.25, 0.75]])], [np.array([[0.5, 0.5]])]) == 0.25
    assert disagreement(logits, [np.array([[1.0, 0.0]])]) == 1
    assert disagreement(logits, logits) == 0


def test_what_cannot_be_tuned_is_said(engine, tmp_path):
    with pytest.raises(InputError, match="two frames or more"):
        tuned_tiles(engine, [CLIPS[0][:1]], 0.1)
    plain = TileEngine.open(bottlenecks(tmp_path / "net.onnx"), measure=False)
    with pytest.raises(InputError, match="without measuring its costs"):
        tuned_tiles(plain, CLIPS, 0.1)


def test_thresholds_are_kept_in_a_file(tmp_path):
    given = Thresholds(0.1, {"images": 0.02})
    given.write(tmp_path / "tiles.json")
    assert Thresholds.read(tmp_path / "tiles.json") == given
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="no thresholds of tiles of format 1"):
        Thresholds.read(tmp_path / "other.json")
