"""Candidates from ONNX files, without a manifest written by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from adaptive import Bundle, InputError, Router
from adaptive.bundle.adding import CheckImages, NoSense, Recipe, add_candidate, remove_candidate
from adaptive.candidate import InputSpec, OutputSpec
from adaptive.cli.candidates import command
from adaptive.files import sha256
from tests.support.onnx_files import (
    colour_network,
    external_tensor,
    integer,
    ints,
    model,
    node,
    tensor,
    value,
)

COLOURS = ["red", "green", "blue"]

#: Of the brightest channel; red is told last where nobody subtracts the mean.
SHIFTED = np.eye(3)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Photographs of three colours, twelve each, wider than high."""
    random = np.random.default_rng(3)
    for position, name in enumerate(COLOURS):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 100, (24, 40, 3), np.uint8)
            pixels[..., position] += 60
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def network(path: Path, **more: Any) -> Path:
    return colour_network(path, SHIFTED, 16, **{"dtype": "float32", "layout": "NCHW", **more})


def test_what_the_file_says_is_read_from_it(tmp_path: Path) -> None:
    colour_network(tmp_path / "my net.onnx", SHIFTED / 9, 20, softmax=True)
    added = add_candidate(tmp_path / "nets", tmp_path / "my net.onnx", labels=COLOURS)
    entry = Bundle.read(tmp_path / "nets").candidate("my_net")
    assert entry == added.candidate
    assert entry.input == InputSpec(20, "uint8", "NHWC", "crop")
    assert entry.output == OutputSpec(3, "probabilities")
    assert entry.sha256 == sha256(tmp_path / "my net.onnx")
    assert any("crop" in note for note in added.notes)


@pytest.mark.parametrize(
    ("like", "scaling"),
    [
        ("imagenet", (255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ("-1..1", (127.5, (1, 1, 1), (1, 1, 1))),
        ("0..1", (255, None, None)),
        ("0..255", (None, None, None)),
        ("0.5/0.25", (255, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))),
        ("127.5,127,126/128", (None, (127.5, 127, 126), (128, 128, 128))),
    ],
)
def test_a_scaling_has_a_name_or_is_numbers(tmp_path: Path, like: str, scaling: Any) -> None:
    recipe = Recipe(like=like, resize="stretch")
    spec = add_candidate(
        tmp_path / "nets", network(tmp_path / "a.onnx"), recipe=recipe, labels=COLOURS
    ).candidate.input
    assert (spec.scale, spec.mean, spec.std) == scaling
    assert (spec.resize, spec.layout, spec.dtype) == ("stretch", "NCHW", "float32")


def test_a_mean_of_a_known_scaling_follows_the_order_of_channels(tmp_path: Path) -> None:
    recipe = Recipe(like="caffe", channels="BGR")
    added = add_candidate(tmp_path / "n", network(tmp_path / "a.onnx"), recipe=recipe)
    assert added.candidate.input.mean == (103.939, 116.779, 123.68)


def test_the_order_of_channels_is_found_on_images(tmp_path: Path, images: Path) -> None:
    weights = SHIFTED[::-1]  # the first channel is the third class: a network that reads BGR
    path = colour_network(tmp_path / "bgr.onnx", weights, 16, "float32", "NCHW")
    added = add_candidate(
        tmp_path / "nets",
        path,
        labels=COLOURS,
        recipe=Recipe(like="0..1"),
        images=CheckImages(images),
    )
    assert added.candidate.input.channels == "BGR"
    assert added.check is not None
    assert added.check.best.top1.value == 1
    rgb = [t for t in added.check.tried if t.setting.spec.channels == "RGB"]
    assert rgb
    assert all(t.told and t.top1.value < 0.5 for t in rgb)
    router = Router.load(tmp_path / "nets")
    assert router.classify(images / "red" / "0.png").label == "red"
    router.close()


def test_a_scaling_is_found_on_images(tmp_path: Path, images: Path) -> None:
    # Right only where pixels reach it as 0..255: colour less 55 in all, then cut off at 0.
    path = model(
        tmp_path / "raw.onnx",
        [
            node("Sub", ["images", "floor"], ["above"]),
            node("GlobalAveragePool", ["above"], ["mean"]),
            node("Relu", ["mean"], ["cut"]),
            node("Flatten", ["cut"], ["answer"]),
        ],
        [value("images", "float32", ["n", 3, 16, 16])],
        [value("answer", "float32", ["n", 3])],
        [tensor("floor", np.full((1, 3, 1, 1), 55, np.float32))],
    )
    added = add_candidate(tmp_path / "nets", path, labels=COLOURS, images=CheckImages(images))
    assert added.candidate.input.scale is None
    assert added.candidate.input.mean is None
    assert added.candidate.input.channels == "RGB"


def test_what_is_no_better_than_guessing_is_refused(tmp_path: Path, images: Path) -> None:
    path = colour_network(tmp_path / "a.onnx", np.ones((3, 3)), 16, "float32", "NCHW")
    with pytest.raises(NoSense, match="Nothing was written"):
        add_candidate(tmp_path / "nets", path, labels=COLOURS, images=CheckImages(images))
    assert not (tmp_path / "nets").exists()


def test_labels_may_be_the_names_of_the_images_folders(tmp_path: Path, images: Path) -> None:
    order = [2, 1, 0]  # blue, green, red: sorted, as ImageFolder numbers them
    path = colour_network(tmp_path / "a.onnx", SHIFTED[:, order], 16, "float32", "NCHW")
    added = add_candidate(
        tmp_path / "nets", path, recipe=Recipe(like="0..1"), images=CheckImages(images)
    )
    assert Bundle.read(tmp_path / "nets").labels == ("blue", "green", "red")
    assert any("ImageFolder" in note for note in added.notes)


def test_one_more_output_than_labels_is_a_background(tmp_path: Path) -> None:
    path = colour_network(tmp_path / "a.onnx", np.eye(3, 4), 16)
    assert add_candidate(tmp_path / "n", path, labels=COLOURS).candidate.output.background


def test_a_fixed_batch_axis_of_one_is_taken_and_told(tmp_path: Path) -> None:
    path = _fixed(tmp_path / "one.onnx", 1)
    added = add_candidate(tmp_path / "nets", path, labels=COLOURS, recipe=Recipe(like="0..1"))
    assert any("one after the other" in note for note in added.notes)


def test_weights_outside_come_along_in_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    linked = tmp_path / "cache"
    linked.mkdir()
    path = model(
        tmp_path / "real.onnx",
        [
            node("GlobalAveragePool", ["images"], ["mean"]),
            node("Flatten", ["mean"], ["colour"]),
            node("MatMul", ["colour", "weights"], ["answer"]),
        ],
        [value("images", "float32", ["n", 3, 16, 16])],
        [value("answer", "float32", ["n", 3])],
        [external_tensor("weights", (3, 3), "net.bin")],
    )
    (linked / "model.onnx").symlink_to(path)
    (linked / "net.bin").symlink_to(tmp_path / "net.bin")
    recipe = Recipe(like="0..1")
    for name in ("a", "b"):
        add_candidate(
            tmp_path / "nets", linked / "model.onnx", name, recipe, COLOURS, link=name == "b"
        )
    bundle = Bundle.read(tmp_path / "nets")
    assert bundle.candidate("a").file == "a.external/a.onnx"
    assert not any(p.is_symlink() for p in (tmp_path / "nets").rglob("*"))
    assert (tmp_path / "nets" / "b.external" / "net.bin").samefile(tmp_path / "net.bin")
    assert remove_candidate(tmp_path / "nets", "a") == ("a.external/a.onnx", "a.external/net.bin")
    assert sorted(os.listdir(tmp_path / "nets")) == ["b.external", "labels.txt", "manifest.json"]
    assert Bundle.read(tmp_path / "nets").names == ("b",)


def test_a_candidate_is_replaced_by_force_alone(tmp_path: Path) -> None:
    first, second = (network(tmp_path / f"{name}.onnx") for name in "ab")
    colour_network(second, SHIFTED * 2, 16, "float32", "NCHW")
    recipe = Recipe(like="0..1", resize="crop")
    add_candidate(tmp_path / "nets", first, "net", recipe, COLOURS, reference=True)
    before = (tmp_path / "nets" / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="--force"):
        add_candidate(tmp_path / "nets", second, "net", recipe)
    assert (tmp_path / "nets" / "manifest.json").read_bytes() == before
    add_candidate(tmp_path / "nets", second, "net", recipe, force=True)
    bundle = Bundle.read(tmp_path / "nets")
    assert bundle.candidate("net").sha256 == sha256(second)
    assert bundle.reference == "net"
    with pytest.raises(InputError, match="only candidate"):
        remove_candidate(tmp_path / "nets", "net")


def _fixed(path: Path, batch: int) -> Path:
    return model(
        path,
        [node("GlobalAveragePool", ["images"], ["mean"]), node("Flatten", ["mean"], ["answer"])],
        [value("images", "float32", [batch, 3, 16, 16])],
        [value("answer", "float32", [batch, 3])],
    )


def _open_sides(path: Path) -> Path:
    return model(
        path,
        [node("GlobalAveragePool", ["images"], ["mean"]), node("Flatten", ["mean"], ["answer"])],
        [value("images", "float32", ["n", 3, "h", "w"])],
        [value("answer", "float32", ["n", 3])],
    )


@pytest.mark.parametrize(
    ("make", "recipe", "labels", "said"),
    [
        (network, Recipe(), COLOURS, "does not say how pixels are scaled"),
        (network, Recipe(like="imgnet"), COLOURS, "is no scaling"),
        (network, Recipe(like="0.5/0"), COLOURS, "above 0"),
        (network, Recipe(like="0..1", size=17), COLOURS, "16x16 pixels"),
        (network, Recipe(like="0..1", layout="NHWC"), COLOURS, "which is NCHW"),
        (network, Recipe(like="0..1"), ["a", "b", "c", "d"], "3 numbers and there are 4 labels"),
        (network, Recipe(like="0..1", pad=3, resize="crop"), COLOURS, "pads nothing"),
        (lambda p: _fixed(p, 4), Recipe(like="0..1"), COLOURS, "fixed batch axis of 4"),
        (_open_sides, Recipe(like="0..1"), COLOURS, "give --size"),
        (lambda p: p, Recipe(), COLOURS, "no file"),
    ],
)
def test_what_is_neither_told_nor_tried_is_asked_for(
    tmp_path: Path, make: Any, recipe: Recipe, labels: list[str], said: str
) -> None:
    path = make(tmp_path / "a.onnx")
    with pytest.raises(InputError, match=said):
        add_candidate(tmp_path / "nets", path, recipe=recipe, labels=labels)
    assert not (tmp_path / "nets").exists()


def test_open_sides_take_the_size_that_is_given(tmp_path: Path) -> None:
    path = _open_sides(tmp_path / "a.onnx")
    recipe = Recipe(like="0..1", size=(12, 20))
    assert add_candidate(tmp_path / "n", path, recipe=recipe).candidate.input.sides == (12, 20)
    assert json.loads((tmp_path / "n" / "manifest.json").read_text())["candidates"][0]["input"][
        "size"
    ] == [12, 20]


def test_a_detector_may_know_one_class_alone(tmp_path: Path) -> None:
    path = model(
        tmp_path / "faces.onnx",
        [
            node("Cast", ["images"], ["pixels"], integer("to", 1)),
            node("ReduceMean", ["pixels"], ["brightness"], ints("axes", [1, 2, 3])),
            node("Mul", ["brightness", "share"], ["four"]),
            node("ReduceMean", ["four"], ["scores"], ints("axes", [0, 1]), integer("keepdims", 0)),
            node("Identity", ["corners"], ["boxes"]),
        ],
        [value("images", "uint8", [1, 32, 32, 3])],
        [value("boxes", "float32", [1, 4]), value("scores", "float32", [1, 1])],
        [
            tensor("share", np.float32([[[[1 / 255]]]])),
            tensor("corners", np.float32([[2, 2, 12, 12]])),
        ],
    )
    (tmp_path / "labels.txt").write_text("face\n")
    options = ["--decoder", "proposals", "--labels", str(tmp_path / "labels.txt")]
    done = CliRunner().invoke(command, ["add", str(path), "-o", str(tmp_path / "nets"), *options])
    assert done.exit_code == 0, done.output
    assert Bundle.read(tmp_path / "nets").labels == ("face",)
    assert "one after the other" not in done.output  # all detectors run so
    assert "--check" not in done.output  # which refuses detectors
    with Router.load(tmp_path / "nets") as router:
        found = router.detect(np.full((32, 32, 3), 255, np.uint8))
    assert found.labels == ("face",)
    np.testing.assert_allclose(found.boxes, [[2, 2, 12, 12]])


def test_a_classifier_needs_two_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("face\n")
    options = ["--like", "0..1", "--labels", str(tmp_path / "labels.txt")]
    path = network(tmp_path / "net.onnx")
    done = CliRunner().invoke(command, ["add", str(path), "-o", str(tmp_path / "nets"), *options])
    assert isinstance(done.exception, InputError)
    assert "names 1 classes; two are needed at least" in str(done.exception)
