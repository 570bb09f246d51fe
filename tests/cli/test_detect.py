from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from box_candidates import LABELS, NEAR, box_candidates
from click.testing import CliRunner, Result
from PIL import Image

from adaptive import Router
from adaptive.cli.classify import command as classify
from adaptive.cli.detect import Seen, command
from adaptive.errors import AdaptiveError, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return box_candidates(tmp_path_factory.mktemp("detectors") / "candidates")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name, colour in (("000007", (255, 0, 0)), ("000011", (0, 255, 255))):
        Image.new("RGB", (64, 64), colour).save(images / f"{name}.png")
    return images


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def refused(says: str, *arguments: object) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, AdaptiveError), result.output
    assert says in str(result.exception)


def test_text_and_json(folder: Path, images: Path) -> None:
    result = run("--bundle", folder, images)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith(f"{images}/000007.png: 1 red  large ")
    assert lines[1] == "    red 1.000  0.0 0.0 16.0 16.0"
    assert "1 green, 1 blue" in lines[2]
    assert lines[-1].startswith("2 images, 3 boxes: large 100.0 %; mean ")
    result = run("--bundle", folder, images / "000007.png", "--json")
    said = json.loads(result.output)
    assert said["image"] == str(images / "000007.png")
    assert said["boxes"] == [[0, 0, 16, 16]]
    assert said["candidate"] == "large"


def test_coco_rows(folder: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert run("--bundle", folder, images, "--coco", out).exit_code == 0
    rows = json.loads(out.read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(7, 1), (11, 2), (11, 3)]
    assert rows[1]["bbox"] == [16, 16, 32, 32]
    refused("rows.json exists", "--bundle", folder, images, "--coco", out)
    labels = {
        "images": [{"id": 70, "file_name": "000007.png"}, {"id": 71, "file_name": "000011.png"}],
        "categories": [{"id": i, "name": n} for i, n in ((9, "blue"), (5, "red"), (2, "green"))],
        "annotations": [],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    more = ("--coco", out, "--force", "--coco-labels", tmp_path / "labels.json")
    assert run("--bundle", folder, images, *more).exit_code == 0
    rows = json.loads(out.read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(70, 5), (71, 2), (71, 9)]


def test_a_number_is_not_given_to_two_images(folder: Path, images: Path, tmp_path: Path) -> None:
    """Both would be one image in COCO's results, with the boxes of two."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "000007.png").write_bytes((images / "000011.png").read_bytes())
    categories = [{"id": place, "name": name} for place, name in enumerate(LABELS)]
    known = [{"id": place, "file_name": f"{place:06}.png"} for place in (7, 11)]
    told = json.dumps({"images": known, "categories": categories, "annotations": []})
    (tmp_path / "labels.json").write_text(told)
    rows = ("--coco", tmp_path / "rows.json", "--coco-labels", tmp_path / "labels.json")
    refused("2 images are called '000007.png'", "--bundle", folder, images, other, *rows)
    assert run("--bundle", folder, other, *rows).exit_code == 0


def test_why_and_who_voted(folder: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Router.load(folder) as router:
        found = router.detect(images / "000007.png")
    seen = Seen(None, as_json=False, explain=True, drawings=None)
    seen.show({"image": "7"}, replace(found, votes={"small": 0.25, "large": 1.0}), None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "    why: every image goes to large",
        "    votes: small 0.25, large 1",
    ]


def test_drawings(folder: Path, images: Path, tmp_path: Path) -> None:
    assert run("--bundle", folder, images, "--draw", tmp_path / "drawn").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["000007.jpg", "000011.jpg"]
    drawn = cv2.imread(str(tmp_path / "drawn" / "000011.jpg"))
    plain = cv2.imread(str(images / "000011.png"))
    apart = np.abs(drawn.astype(int) - plain).max(axis=2) > 60
    left, top, right, bottom = NEAR[1] * 2
    assert apart[top + 20 : bottom - 20, [left, right]].all()  # the box's sides
    assert not apart[top + 20 : bottom - 12, left + 4 : right - 4].any()  # and nothing inside
    refused("exists", "--bundle", folder, images, "--draw", tmp_path / "drawn")


def test_videos(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 64))
    for colour in ((0, 0, 255), (0, 255, 0), (0, 0, 0)):
        writer.write(np.full((64, 64, 3), colour, np.uint8))
    writer.release()
    result = run("--bundle", folder, "--video", path, "--draw", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    assert [line for line in result.output.splitlines() if line.startswith("frame")][2].startswith(
        "frame 3: nothing"
    )
    assert (tmp_path / "drawn" / "frame-000002.jpg").exists()
    assert "3 images, 2 boxes" in result.output


def test_images_that_cannot_be_read_are_left_out(folder: Path, images: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    result = run("--bundle", folder, images)
    assert result.exit_code == 1
    assert "broken.png" in result.output
    assert "2 images, 3 boxes" in result.output


def test_what_is_refused(folder: Path, images: Path, tiny_candidates: Path) -> None:
    refused("and only one of them", "--bundle", folder)
    refused("and only one of them", "--bundle", folder, images, "--camera", 0)
    refused("--frames and --every count", "--bundle", folder, images, "--frames", 2)
    refused("name images", "--bundle", folder, "--camera", 0, "--coco", "x.json")
    refused("give that too", "--bundle", folder, images, "--coco-labels", "x.json")
    refused("cannot detect; it classifies images", "--bundle", tiny_candidates, images)
    result = CliRunner().invoke(classify, ["--bundle", str(folder), str(images)])
    assert isinstance(result.exception, InputError)
    assert "cannot classify; it finds boxes" in str(result.exception)
