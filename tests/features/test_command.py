from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from adaptive.cli.features import command
from adaptive.csvfile import read_csv
from adaptive.errors import InputError
from adaptive.features.extract import extract
from adaptive.features.schema import ALL29, SCHEMA, resolve_names


def run(*arguments: object) -> click.testing.Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def assert_refused(message: str, *arguments: object) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.output
    assert message in str(result.exception)


@pytest.fixture
def photos(tmp_path: Path, scene: np.ndarray) -> Path:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(scene).save(folder / "b.png")
    Image.fromarray(scene[::-1]).save(folder / "deeper" / "c, d.PNG", format="PNG")
    Image.fromarray(scene[:, ::-1]).save(folder / "a.bmp")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image either")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table(tmp_path: Path, photos: Path, scene: np.ndarray) -> None:
    result = run(photos, "-o", tmp_path / "X.csv")
    assert result.exit_code == 0, result.output
    rows = read(tmp_path / "X.csv")
    assert tuple(rows[0]) == ("image", *ALL29)
    assert [row["image"] for row in rows] == [
        str(photos / "a.bmp"),
        str(photos / "b.png"),
        str(photos / "deeper" / "c, d.PNG"),
    ]
    expected = extract(SCHEMA.crop(scene), ALL29)
    assert [float(rows[1][name]) for name in ALL29] == expected.tolist()


@pytest.mark.parametrize("features", ["paper7", "all+extra", "noise,hue2"])
def test_features_choose_the_columns(tmp_path: Path, photos: Path, features: str) -> None:
    result = run(photos / "b.png", "-o", tmp_path / "X.csv", "--features", features)
    assert result.exit_code == 0, result.output
    assert tuple(read(tmp_path / "X.csv")[0]) == ("image", *resolve_names(features))


def test_an_image_named_twice_is_written_once(tmp_path: Path, photos: Path) -> None:
    run(photos / "b.png", photos, photos / "b.png", "-o", tmp_path / "X.csv")
    images = [row["image"] for row in read(tmp_path / "X.csv")]
    assert images[0] == str(photos / "b.png")
    assert len(images) == len(set(images)) == 3


def test_unreadable_images_are_listed_and_left_out(tmp_path: Path, photos: Path) -> None:
    whole = (photos / "b.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("hello")
    (photos / "empty.gif").touch()
    result = run(photos, "-o", tmp_path / "X.csv")
    assert result.exit_code == 1
    listed = [line for line in result.output.splitlines() if line.startswith("left out: ")]
    assert len(listed) == 3
    for name in ("cut.png", "empty.gif", "text.jpg"):
        assert sum(name in line for line in listed) == 1
    assert len(read(tmp_path / "X.csv")) == 3


def test_a_name_that_no_table_can_hold_is_left_out(tmp_path: Path, photos: Path) -> None:
    named = os.fsencode(photos) + b"/\xff.png"
    try:
        shutil.copyfile(photos / "b.png", named)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    result = run(photos, "-o", tmp_path / "X.csv")
    assert result.exit_code == 1
    assert "udcff.png' has a name that is not UTF-8; rename it" in result.output
    assert len(read_csv(tmp_path / "X.csv").text("image")) == len(read(tmp_path / "X.csv")) == 3


def test_no_readable_image_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    assert_refused("none of 1 images", tmp_path / "text.jpg", "-o", tmp_path / "X.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.jpg"]


def test_an_existing_output_needs_force(tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "X.csv"
    output.write_text("mine")
    assert_refused("give --force to replace it", photos, "-o", output)
    assert output.read_text() == "mine"
    assert run(photos, "-o", output, "--force").exit_code == 0
    assert len(read(output)) == 3


def test_bad_input_writes_nothing(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "bare").mkdir()
    output = tmp_path / "X.csv"
    assert_refused("there is no image or folder", photos / "no.png", "-o", output)
    assert_refused("holds no image", tmp_path / "bare", "-o", output)
    assert_refused("feature 'hue9' is unknown", photos, "-o", output, "--features", "hue9")
    assert_refused("does not exist", photos, "-o", tmp_path / "nowhere" / "X.csv")
    assert_refused("is a folder", photos, "-o", tmp_path / "bare", "--force")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "photos"]


def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr("adaptive.images.decoded.decode_image", interrupted)
    assert run(photos, "-o", tmp_path / "X.csv").exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_whose_features_they_are_stands_beside(tmp_path: Path, photos: Path) -> None:
    assert run(photos, "-o", tmp_path / "X.csv", "--features", "noise,hue2").exit_code == 0
    assert json.loads((tmp_path / "X.json").read_text()) == {
        "format": 1,
        "features": ["noise", "hue2"],
        "schema": SCHEMA.to_json(),
    }
    (tmp_path / "X.csv").unlink()
    assert_refused("X.json exists; give --force", photos, "-o", tmp_path / "X.csv")
    assert_refused("name a CSV file", photos, "-o", tmp_path / "X.json", "--force")
