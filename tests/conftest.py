"""Small real things that many tests share: networks, images, an outcome table, a bundle."""

from __future__ import annotations

import csv
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "support"))

from onnx_files import colour_network, first_exit, second_exit

from adaptive.bundle.bundle import Bundle, write_bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import sha256
from adaptive.outcomes.labelled import list_images
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade

COLOURS = ("blue", "green", "red")

# A job that a shell runs in the background ignores Ctrl-C, and what it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as quick what needs no real images or browser, trains no network and is not slow."""
    for item in items:
        for fixture, name in (("data", "data"), ("browser", "slow")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(name)
        if not any(item.get_closest_marker(name) for name in ("data", "slow", "train")):
            item.add_marker("quick")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images and networks; tests that need it skip where it is not."""
    folder = os.environ.get("ADAPTIVE_DATA")
    if not folder:
        pytest.skip("ADAPTIVE_DATA names no folder of real images and networks")
    return Path(folder)


def photographs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (count, 40, 48, 3) of one main colour each, and the colour's index."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    base = generator.uniform(60, 160, (count, 3))
    base[np.arange(count), 2 - labels] += generator.uniform(5, 90, count)
    noise = generator.normal(0, 20, (count, 40, 48, 3))
    images = np.clip(base[:, None, None, :] + noise, 0, 255).astype(np.uint8)
    return images, labels


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 90 PNG images with labels.csv; images/ is relative to it."""
    folder = tmp_path_factory.mktemp("images")
    images, labels = photographs(90)
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for row, (image, label) in enumerate(zip(images, labels)):
            Image.fromarray(image).save(folder / f"{row:03}.png")
            writer.writerow([f"{row:03}.png", int(label)])
    return folder


@pytest.fixture(scope="session")
def tiny_candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candidates that differ in every respect of a manifest entry, two of them exits."""
    folder = tmp_path_factory.mktemp("candidates")
    return make_candidates(folder)


def make_candidates(folder: Path) -> Path:
    """Write the tiny networks and their manifest into `folder`."""
    # Columns are blue, green, red; rows are the image's red, green, blue.
    exact = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
    biased = exact * 0.05 + np.array([[0.02, 0, 0], [0.02, 0, 0], [0, 0, 0]], np.float32)
    colour_network(folder / "cheap.onnx", biased, 8)
    colour_network(folder / "strong.onnx", exact * 40, 16, "float32", "NCHW", softmax=True)
    first_exit(folder / "exits-1.onnx", biased, 8)
    second_exit(folder / "exits-2.onnx", exact * 0.08)
    pixels = InputSpec(8, "uint8", "NHWC", "stretch")
    normal = InputSpec(16, "float32", "NCHW", "crop", (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), 255.0)

    def candidate(name: str, file: str, spec: InputSpec, kind: str, after: str | None = None):
        return Candidate(name, file, sha256(folder / file), spec, OutputSpec(3, kind), after)

    candidates = [
        candidate("cheap", "cheap.onnx", pixels, "logits"),
        candidate("strong", "strong.onnx", normal, "probabilities"),
        candidate("net@1", "exits-1.onnx", pixels, "logits"),
        candidate("net@2", "exits-2.onnx", pixels, "logits", "net@1"),
    ]
    write_candidates(folder, candidates, COLOURS, reference="strong")
    return folder


@pytest.fixture(scope="session")
def tiny_table_path(
    tiny_candidates: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The outcome table of the tiny images, measured by really running the networks."""
    from adaptive.measuring.profiling import Profiler

    output = tmp_path_factory.mktemp("table") / "outcomes.csv"
    profiler = Profiler(Bundle.read(tiny_candidates))
    images = list_images(tiny_images, COLOURS, tiny_images / "labels.csv")
    assert profiler.profile(images, output) == []
    profiler.close()
    return output


@pytest.fixture(scope="session")
def tiny_table(tiny_table_path: Path) -> OutcomeTable:
    return OutcomeTable.read(tiny_table_path)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two small networks and a cascade."""
    output = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(
        output,
        Bundle.read(tiny_candidates),
        Cascade(("cheap", "strong"), thresholds=(0.9,)),
        names=["cheap", "strong"],
    )
    return output
