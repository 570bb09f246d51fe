"""The programs in examples/ run as they stand, and docs/library.md shows them as they are."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

#: Those that docs/library.md shows.
SHOWN = (
    "own_networks.py",
    "own_extractor.py",
    "own_policy.py",
    "own_answers.py",
    "threads_and_asyncio.py",
    "camera_loop.py",
    "shapes.py",
)


def need_scikit_learn() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which training needs, is not installed")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def lines_of(name: str, folder: Path, *arguments: object) -> list[str]:
    """What an example prints, run in another folder; warnings end it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def told_by(address: str) -> tuple[int, Any]:
    """Status and JSON of a GET."""
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def shares(lines: list[str]) -> dict[str, float]:
    """Per cent right by whoever answers."""
    found = (re.fullmatch(r"(.+): ([0-9.]+)% right, [0-9.]+ ms", line) for line in lines)
    return {match[1]: float(match[2]) for match in found if match}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    import cv2

    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for grey in range(20):
        writer.write(np.full((48, 64, 3), 40 + 8 * grey, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_shows_the_programs_as_they_are(name: str) -> None:
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    program = (EXAMPLES / name).read_text(encoding="utf-8")
    assert f"```python\n{program}```\n" in page


@pytest.mark.slow
def test_own_networks_are_tuned_and_kept_to_the_promise(tmp_path: Path) -> None:
    lines = lines_of("own_networks.py", tmp_path)
    assert re.match(r"cheapest of the \d+ certified policies", lines[0])
    right = shares(lines)
    assert len(right) == 3
    tuned = next(share for name, share in right.items() if not name.startswith("always"))
    assert right["always tiny"] + 10 < right["always large"]
    assert tuned > right["always large"] - 6
    assert all(re.match(r"(disc|square|cross) [01]\.\d+ \(", line) for line in lines[-3:])


@pytest.mark.slow
def test_an_own_feature_tells_the_conditions_apart(tmp_path: Path) -> None:
    need_scikit_learn()
    lines = lines_of("own_extractor.py", tmp_path)
    right = shares(lines)
    assert right["premodel"] > max(right["always day"], right["always night"]) + 4
    assert lines[-2].endswith("('day',)")
    assert lines[-1].endswith("('night',)")


@pytest.mark.slow
def test_an_own_policy_lies_between_its_networks(tmp_path: Path) -> None:
    lines = lines_of("own_policy.py", tmp_path)
    right = shares(lines)
    assert lines[0].startswith("suspects: ['")
    assert right["always tiny"] < right["suspicious"] < right["always large"]


@pytest.mark.slow
def test_masks_are_routed_by_their_confidence(tmp_path: Path) -> None:
    lines = lines_of("own_answers.py", tmp_path)
    found = [re.fullmatch(r"(.+): overlap ([0-9.]+), ([0-9.]+) ms", line) for line in lines[:3]]
    overlap = {match[1]: float(match[2]) for match in found if match}
    assert overlap["always quick"] + 0.1 < overlap["always thorough"]
    assert overlap["cascade"] > overlap["always thorough"] - 0.03
    assert all(re.match(r"\d+ pixels [01]\.\d+ \(", line) for line in lines[3:])


def test_threads_and_loops_answer(tmp_path: Path) -> None:
    lines = lines_of("threads_and_asyncio.py", tmp_path)
    assert len(lines) == 13
    assert lines[-2].endswith(" True")
    assert lines[-1] == "True"


def test_a_video_s_frames_are_answered(tmp_path: Path, video: Path) -> None:
    lines = lines_of("camera_loop.py", tmp_path, video, 5)
    assert [line.split()[0] for line in lines[:5]] == ["1", "2", "3", "4", "5"]
    assert re.search(r"\w+ answered \d", lines[-1])


def test_the_camera_service_tells_the_newest_answer_until_sigterm(video: Path) -> None:
    service = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "camera_service.py"), str(video), "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stdout is not None
        address = service.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/latest", address)
        status, told = told_by(address)
        for _ in range(200):
            if status == 200 and told["answer"]["frame"] == 20:
                break
            assert status in (200, 503)  # no frame so far
            time.sleep(0.05)
            status, told = told_by(address)
        assert told["answer"]["frame"] == 20
        assert told["answer"]["candidate"] in told["answer"]["path"]
        assert told_by(address.replace("latest", "healthz")) == (200, {"fresh": True})
        assert told_by(address.replace("latest", "nothing"))[0] == 404
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    finally:
        service.kill()
        service.communicate()


@pytest.mark.slow
def test_the_walk_ends_in_a_report(tiny_candidates: Path, tmp_path: Path) -> None:
    need_scikit_learn()
    draw = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    rows = ["image,label"]
    for number in range(300):  # noisy images of one main colour each, as the candidates know them
        label = int(draw.integers(3))
        colour = draw.uniform(60, 160, 3)
        colour[2 - label] += draw.uniform(5, 90)
        pixels = np.clip(colour + draw.normal(0, 20, (40, 48, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        rows.append(f"{number}.png,{label}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    command = tmp_path / "bin" / "adaptive"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m adaptive.cli "$@"\n')
    command.chmod(0o755)
    out = tmp_path / "out"
    given = (tiny_candidates, tmp_path / "images", tmp_path / "labels.csv", out)
    done = subprocess.run(
        ["sh", str(EXAMPLES / "walk.sh"), *map(str, given)],
        env={**environment(), "PATH": f"{command.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert {"outcomes.csv", "premodel", "policy.json", "bundle", "report.html"} <= {
        path.name for path in out.iterdir()
    }
    assert done.stdout.endswith(f"then: adaptive serve {out}/bundle\n")
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
