from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from box_candidates import box_candidates
from click.testing import CliRunner, Result
from onnx_files import colour_network
from PIL import Image

from adaptive.cli.identify import command
from adaptive.cli.video import command as video
from adaptive.errors import AdaptiveError
from adaptive.video.identity import IdentityStore

COLOURS = {"ann": (200, 20, 20), "bob": (20, 200, 20), "cid": (20, 20, 200), "dot": (120, 120, 20)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network whose embedding is an image's mean colour."""
    folder = tmp_path_factory.mktemp("networks")
    return write_networks(folder, np.eye(3, dtype=np.float32))


def write_networks(folder: Path, weights: np.ndarray) -> Path:
    colour_network(folder / "colour.onnx", weights, 8)
    entry = {
        "name": "colour",
        "file": "colour.onnx",
        "input": {"dtype": "uint8", "layout": "NHWC", "size": 8, "resize": "stretch"},
    }
    path = folder / "networks.json"
    path.write_text(json.dumps({"format": 1, "networks": [entry]}))
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for number in range(4):
            own = np.clip(np.array(colour) + generator.integers(-9, 10, 3), 0, 255)
            Image.new("RGB", (24, 24), tuple(own.tolist())).save(folder / name / f"{number}.png")
    return folder


def run(*arguments: Any, group: Any = command) -> Result:
    return CliRunner().invoke(group, [str(a) for a in arguments])


def refused(says: str, *arguments: Any) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, AdaptiveError), result.output
    assert says in str(result.exception)


@pytest.fixture
def store(networks: Path, tmp_path: Path) -> Path:
    path = tmp_path / "people.npz"
    assert run("make", path, "--networks", networks, "--threshold", "colour=0.1").exit_code == 0
    return path


def test_people_are_added_matched_and_forgotten(store: Path, networks: Path, people: Path) -> None:
    with_networks = ("--networks", networks)
    for name in ("ann", "bob"):
        assert run("add", store, name, people / name, *with_networks).exit_code == 0
    before = store.read_bytes()
    result = run("match", store, people, *with_networks, "--json")
    assert result.exit_code == 0, result.output
    said = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    named = {(Path(s["image"]).parent.name, s["name"]) for s in said}
    assert named == {("ann", "ann"), ("bob", "bob"), ("cid", None), ("dot", None)}
    assert store.read_bytes() == before  # matching does not learn unless it is told to
    assert run("forget", store, "ann").exit_code == 0
    result = run("match", store, people / "ann", *with_networks, "--json")
    assert '"name": "ann"' not in result.output
    assert "forgotten: ann" not in run("list", store).output
    assert json.loads(run("list", store, "--json").output)["names"] == {"bob": 4}
    refused("the store has no 'ann'", "forget", store, "ann")


def test_learning_names_the_unknown_and_a_person_renames_them(
    store: Path, networks: Path, people: Path
) -> None:
    result = run("match", store, people, "--networks", networks, "--learn")
    assert "unknown-1 (new)" in result.output
    assert IdentityStore.read(store).names() == {f"unknown-{n}": 4 for n in (1, 2, 3, 4)}
    assert run("rename", store, "unknown-1", "ann").exit_code == 0
    assert run("merge", store, "unknown-2", "ann").exit_code == 0
    assert IdentityStore.read(store).names() == {"ann": 8, "unknown-3": 4, "unknown-4": 4}


def test_thresholds_are_tuned_and_nothing_is_promised_of_two_persons(
    store: Path, networks: Path, people: Path
) -> None:
    result = run("tune", store, people, "--networks", networks, "--rate", 0.05)
    assert result.exit_code == 0, result.output
    assert "Nothing is promised: a rate of 5% cannot be shown" in result.output
    assert "99 persons are needed" in result.output
    read = IdentityStore.read(store)
    assert 0 < read.thresholds["colour"] < 1
    assert read.certificate["holds"] is False
    assert len(read) == 0


def test_a_store_of_another_network_is_refused(store: Path, people: Path, tmp_path: Path) -> None:
    other = write_networks(tmp_path, 2 * np.eye(3, dtype=np.float32))
    refused("are of another network 'colour'", "match", store, people, "--networks", other)
    refused("lists no network", "make", tmp_path / "new", "--networks", empty(tmp_path))


def empty(folder: Path) -> Path:
    path = folder / "empty.json"
    path.write_text('{"format": 1, "networks": []}')
    return path


def test_who_is_seen_in_a_clip(store: Path, networks: Path, people: Path, tmp_path: Path) -> None:
    bundle = box_candidates(tmp_path / "detectors")  # finds the corner of what is red
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"FFV1"), 25, (64, 64))
    for _ in range(5):
        writer.write(np.broadcast_to(np.array([20, 20, 250], np.uint8), (64, 64, 3)).copy())
    writer.release()
    assert run("add", store, "ann", people / "ann", "--networks", networks).exit_code == 0
    asked = ("identify", clip, "--store", store, "--networks", networks, "--detector", bundle)
    result = run(*asked, "--json", group=video)
    assert result.exit_code == 0, result.output
    said = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert {s["frame"] for s in said} == {1, 2, 3, 4, 5}
    assert {s["name"] for s in said} == {"ann"}
    assert {tuple(s["box"]) for s in said} == {(0, 0, 16, 16)}


def test_an_oracle_names_whom_no_network_matches(
    store: Path, networks: Path, people: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    """Classifiers of colours: "ann" is known, and the others are what they call them."""
    asked = (store, people, "--networks", networks, "--oracle", tiny_candidates)
    assert run("add", store, "ann", people / "ann", "--networks", networks).exit_code == 0
    result = run("match", *asked, "--json")
    assert result.exit_code == 0, result.output
    said = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    found = {(Path(s["image"]).parent.name, s["name"], s["by"]) for s in said}
    assert {("ann", "ann", "colour"), ("bob", "green", "oracle"), ("cid", "blue", "oracle")} < found
    assert IdentityStore.read(store).names() == {"ann": 4}  # only read
    assert run("match", *asked, "--learn").exit_code == 0
    names = IdentityStore.read(store).names()
    assert names["blue"] == 4  # the oracle names the first, then the network does
    assert sum(names.values()) == 4 + 16
    assert not any(name.startswith("unknown") for name in names)
    boxes = box_candidates(tmp_path / "detectors")
    refused("detect", "match", store, people, "--networks", networks, "--oracle", boxes)
