"""Images, candidates and an experiment's text that several tests start from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest
from fleet import Redis, redis_server, text_of
from PIL import Image

from adaptive.bundle.bundle import Bundle
from adaptive.experiments.declared import Experiment, declared
from adaptive.measuring.profiling import Profiler
from adaptive.outcomes.labelled import list_images
from adaptive.outcomes.table import OutcomeTable

COLOURS = ("blue", "green", "red")
COUNT = 24


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 larger images, of which the last but two cannot be read, and labels.csv."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for row in range(COUNT):
            label = row % 3
            coarse = generator.integers(0, 120, (12, 16, 3), np.uint8)
            coarse[..., 2 - label] += np.uint8(generator.integers(5, 90))
            image = Image.fromarray(coarse).resize((640, 480))
            image.save(folder / f"{row:03}.png")
            writer.writerow([f"{row:03}.png", label])
    (folder / f"{COUNT - 3:03}.png").write_bytes(b"no image at all")
    return folder


@pytest.fixture(scope="session")
def alone(
    photos: Path, tiny_candidates: Path, tmp_path_factory: pytest.TempPathFactory
) -> OutcomeTable:
    """The outcomes of one process."""
    output = tmp_path_factory.mktemp("alone") / "outcomes.csv"
    profiler = Profiler(Bundle.read(tiny_candidates), features="paper7")
    left_out = profiler.profile(list_images(photos, COLOURS, photos / "labels.csv"), output)
    profiler.close()
    assert len(left_out) == 1
    return OutcomeTable.read(output)


@pytest.fixture
def experiment(photos: Path, tiny_candidates: Path, tmp_path: Path) -> Experiment:
    return declared(text_of(photos, tiny_candidates), tmp_path)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    import shutil

    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server; `apt-get install redis-server` brings one")
    pytest.importorskip("dramatiq", reason="needs the extra fleet")
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        yield server
