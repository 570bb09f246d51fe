from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="scenes are made for training, which needs torch")

from adaptive.errors import InputError
from adaptive.networks.detectors.scenes import (
    COVERED,
    Composer,
    read_backgrounds,
    write_scenes,
)
from adaptive.networks.images import ImageArrays
from adaptive.tasks.coco import read_coco


@pytest.fixture
def composer() -> Composer:
    """Objects of one grey level a class, above a black background."""
    levels = np.array([80, 160, 240], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (3, 32, 32, 3)).copy()
    objects = ImageArrays(["a", "b", "c"], images, np.arange(3), ["dark", "grey", "light"])
    return Composer(objects, np.zeros((2, 128, 128, 3), np.uint8))


def test_boxes_are_where_the_pixels_are(composer: Composer) -> None:
    for number in range(40):
        scene = composer.scene(number)
        assert scene.image.shape == (96, 96, 3)
        assert 1 <= len(scene.labels) <= 5
        drawn = np.zeros((96, 96), np.uint8)
        for label, box in zip(scene.labels, scene.boxes):
            x1, y1, x2, y2 = box.astype(int)
            assert 16 <= x2 - x1 <= 64
            assert 16 <= y2 - y1 <= 64
            drawn[y1:y2, x1:x2] = composer.objects.images[label, 0, 0, 0]
        np.testing.assert_array_equal(scene.image[..., 0], drawn)


def test_no_object_is_covered_by_more_than_its_share(composer: Composer) -> None:
    for number in range(40):
        boxes = composer.scene(number).boxes
        for first in range(len(boxes)):
            for later in range(first + 1, len(boxes)):
                a, b = boxes[first], boxes[later]
                sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                inside = np.prod(np.maximum(sides, 0))
                assert inside <= COVERED * np.prod(a[2:] - a[:2]) + 1e-3


def test_a_number_gives_the_same_scene_and_another_gives_another(composer: Composer) -> None:
    one, again, other = composer.scene(7), composer.scene(7), composer.scene(8)
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.boxes, again.boxes)
    assert (composer.scene(7, seed=1).image != one.image).any()
    assert (other.image != one.image).any()


def test_written_scenes_are_read_back(composer: Composer, tmp_path: Path) -> None:
    scenes = [composer.scene(number) for number in range(6)]
    classes = composer.objects.classes
    write_scenes(tmp_path / "made", scenes, classes)
    sizes = {f"{number:05}.png": (96, 96) for number in range(6)}
    labels = read_coco(tmp_path / "made" / "labels.json", classes, sizes)
    assert not labels.flaws
    assert labels.names == tuple(sizes)
    for number, (scene, true) in enumerate(zip(scenes, labels.boxes)):
        np.testing.assert_array_equal(true.boxes, scene.boxes)
        np.testing.assert_array_equal(true.classes, scene.labels)
        pixels = np.asarray(Image.open(tmp_path / "made" / "images" / f"{number:05}.png"))
        np.testing.assert_array_equal(pixels, scene.image)


def test_backgrounds_are_middle_squares(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 200  # the middle square
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made = read_backgrounds(tmp_path, 96)
    assert made.shape == (1, 128, 128, 3)
    assert made.min() == 200


def test_backgrounds_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        read_backgrounds(tmp_path, 96)
    with pytest.raises(InputError, match="smaller than scenes"):
        read_backgrounds(tmp_path, 200)
