"""`adaptive candidates`: what is printed, and the exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_candidates import box_candidates
from click.testing import CliRunner, Result
from PIL import Image

from adaptive import Bundle, InputError
from adaptive.box_output import BoxOutput
from adaptive.cli.candidates import command
from tests.support.onnx_files import box_network, colour_network

COLOURS = ("red", "green", "blue")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(5)
    for position, name in enumerate(COLOURS):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 100, (20, 20, 3), np.uint8)
            pixels[..., position] += 80
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("\n".join(COLOURS))
    return tmp_path / "labels.txt"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_two_networks_are_added_listed_checked_and_removed(
    tmp_path: Path, images: Path, labels: Path
) -> None:
    colour_network(tmp_path / "small.onnx", np.eye(3), 8)
    colour_network(tmp_path / "bgr.onnx", np.eye(3)[::-1] * 4, 16, "float32", "NCHW", softmax=True)
    nets = tmp_path / "nets"
    first = run("add", tmp_path / "small.onnx", "-o", nets, "--labels", labels)
    assert first.exit_code == 0, first.exception
    assert f"{nets}: small: uint8 NHWC 8x8 RGB, crop -> 3 logits" in first.output
    second = run("add", tmp_path / "bgr.onnx", "-o", nets, "--check", images, "--reference")
    assert second.exit_code == 0, second.exception
    # The images are as high as wide, so three ways to resize them are one.
    rows = [line for line in second.output.splitlines() if "cover, stretch, fit" in line]
    assert any(row.split()[1] == "BGR" and "100.0%" in row for row in rows), second.output
    assert "taken: " in second.output
    assert Bundle.read(nets).candidate("bgr").input.channels == "BGR"

    listed = run("list", nets)
    assert listed.exit_code == 0
    assert listed.output.splitlines()[1].endswith("(reference)")
    assert listed.output.splitlines()[-1] == "3 classes: red; green; blue"

    checked = run("check", nets, "--images", images, "--engine", "onnx")
    assert checked.exit_code == 0, checked.output
    assert "small: right on 100.0%" in checked.output

    assert run("remove", nets, "bgr").output == "removed bgr: bgr.onnx\n"
    assert Bundle.read(nets).names == ("small",)
    assert Bundle.read(nets).reference is None


def test_labels_in_another_order_are_found_out(tmp_path: Path, images: Path, labels: Path) -> None:
    labels.write_text("green\nblue\nred\n")
    colour_network(tmp_path / "net.onnx", np.eye(3), 8)
    refused = run(
        "add",
        tmp_path / "net.onnx",
        "-o",
        tmp_path / "nets",
        "--labels",
        labels,
        "--channels",
        "RGB",
        "--check",
        images,
    )
    assert isinstance(refused.exception, InputError)
    assert "in another order" in str(refused.exception)
    assert "pixels as they are" in refused.output
    assert not (tmp_path / "nets").exists()

    assert (
        run("add", tmp_path / "net.onnx", "-o", tmp_path / "nets", "--labels", labels).exit_code
        == 0
    )
    checked = run("check", tmp_path / "nets", "--images", images)
    assert checked.exit_code == 1
    assert "no better than always naming one class" in checked.output


def test_a_detector_is_added_with_its_decoder(tmp_path: Path, labels: Path) -> None:
    boxes = np.array([[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16]], np.float32)
    box_network(tmp_path / "boxes.onnx", boxes, 16)
    given = ("add", tmp_path / "boxes.onnx", "-o", tmp_path / "nets", "--labels", labels)
    assert "for a detector give --decoder" in str(run(*given).exception)
    added = run(*given, "--decoder", "proposals", "--pad", 9)
    assert added.exit_code == 0, added.exception
    bundle = Bundle.read(tmp_path / "nets")
    assert bundle.task == "detect"
    entry = bundle.candidates[0]
    assert isinstance(entry.output, BoxOutput)
    assert (entry.output.decoder, entry.input.resize, entry.input.pad) == ("proposals", "fit", 9)
    colour_network(tmp_path / "net.onnx", np.eye(3), 8)
    mixed = run("add", tmp_path / "net.onnx", "-o", tmp_path / "nets")
    assert "not both" in str(mixed.exception)
    assert Bundle.read(tmp_path / "nets").names == ("boxes",)


def test_detectors_are_not_checked_on_images_of_classes(tmp_path: Path) -> None:
    folder = box_candidates(tmp_path / "nets")
    assert "large: runs" in run("check", folder).output
    refused = run("check", folder, "--images", tmp_path)
    assert f"`adaptive profile --candidates {folder} --images" in str(refused.exception)


def test_a_detector_that_knows_other_classes(tmp_path: Path, labels: Path) -> None:
    boxes = np.array([[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16]], np.float32)
    box_network(tmp_path / "boxes.onnx", boxes, 16)
    known = tmp_path / "known.txt"
    known.write_text("blue\nmauve\nred\n")
    options = ("--labels", labels, "--decoder", "proposals", "--resize", "fit", "--class-map")
    given = ("add", tmp_path / "boxes.onnx", "-o", tmp_path / "nets", *options)
    added = run(*given, known)
    assert added.exit_code == 0, added.exception
    assert "1 of 3 classes that it knows are no labels, and their boxes" in added.output
    assert "are left out: mauve" in added.output
    assert "1 of 3 labels it never finds: green" in added.output
    entry = Bundle.read(tmp_path / "nets").candidates[0]
    assert isinstance(entry.output, BoxOutput)
    assert (entry.output.class_map, entry.output.classes) == ((2, -1, 0), 3)
    known.write_text("mauve\npink\n")
    other = run(*given, known, "--force")
    assert "none of the classes that the detector knows, such as 'mauve'" in str(other.exception)
    assert "is for COCO's 80 labels; here are 3" in str(run(*given, "coco", "--force").exception)


def test_of_several_files_those_that_cannot_be_added_are_listed(
    tmp_path: Path, labels: Path
) -> None:
    for name in ("a", "b"):
        colour_network(tmp_path / f"{name}.onnx", np.eye(3), 8)
    (tmp_path / "c.onnx").write_text("no network")
    files = [tmp_path / f"{name}.onnx" for name in "acb"]
    done = run("add", *files, "-o", tmp_path / "nets", "--labels", labels)
    assert done.exit_code == 1
    assert f"left out: {files[1]}: c.onnx is not an ONNX file" in done.output
    assert Bundle.read(tmp_path / "nets").names == ("a", "b")
    named = run("add", *files, "-o", tmp_path / "nets", "--name", "x")
    assert "--name and --reference are of one network" in str(named.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "8by8"), "--size '8by8' is neither"),
        (("--check-labels", "x.csv"), "--check-labels goes with --check"),
        (("--decoder-option", "a=1"), "--decoder-option goes with --decoder"),
        (("--decoder", "final", "--decoder-option", "a"), "is not NAME=VALUE"),
        (("--class-map", "coco"), "--class-map goes with --decoder"),
        (("--decoder", "final", "--class-map", "from 0"), "neither one of ['coco', 'from 1'] nor"),
        (("--like", "imagenet"), "it reads uint8"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, labels: Path, options: tuple[str, ...], said: str
) -> None:
    colour_network(tmp_path / "net.onnx", np.eye(3), 8)
    done = run("add", tmp_path / "net.onnx", "-o", tmp_path / "n", "--labels", labels, *options)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
