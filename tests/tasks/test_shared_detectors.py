"""Three real detectors on real images: what they are known to reach, they reach here."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import astuple, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectors import open_session, shared

from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.coco import coco_rows, read_coco
from adaptive.tasks.decoding import COCO_NUMBERS
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import best_threshold, image_f1
from adaptive.tasks.fusion import fuse
from adaptive.tasks.labels import BoxLabels
from adaptive.tasks.matching import Matches, Truth, match
from adaptive.tasks.score_map import ScoreMap

pytestmark = [pytest.mark.data, pytest.mark.slow]

#: AP and mean F1 an image, as measured by others on these images. For FastestDet that F1 is the
#: one at a threshold of 0.5; at its best threshold, near 0.58, it is higher.
KNOWN = {
    "fastestdet_352": (0.195, 0.410),
    "nanodet_m_320": (0.263, 0.514),
    "yolox_nano_416": (0.302, 0.563),
}


@pytest.fixture(scope="module")
def folder(data: Path) -> Path:
    if not (data / "detection").is_dir():
        pytest.skip("ADAPTIVE_DATA has no folder detection")
    return data / "detection"


@pytest.fixture(scope="module")
def labels(folder: Path) -> BoxLabels:
    content = json.loads((folder / "instances.json").read_text())
    names = [entry["name"] for entry in sorted(content["categories"], key=lambda e: e["id"])]
    sizes = {}
    for path in sorted((folder / "images").iterdir()):
        height, width = cv2.imread(str(path)).shape[:2]
        sizes[path.name] = (width, height)
    return read_coco(folder / "instances.json", names, sizes)


@pytest.fixture(scope="module")
def found(folder: Path, labels: BoxLabels) -> dict[str, list[Detections]]:
    answers = {}
    for name, detector in shared().items():
        session = open_session(folder / "models" / detector.file)
        detector = replace(detector, spec=replace(detector.spec, several=True))
        answers[name] = [
            detector.find(session, cv2.imread(str(folder / "images" / image)))
            for image in labels.names
        ]
    return answers


@pytest.fixture(scope="module")
def matches(labels: BoxLabels, found: dict[str, list[Detections]]) -> dict[str, Matches]:
    return {name: match(labels.boxes, one) for name, one in found.items()}


def test_all_labels_are_read(labels: BoxLabels) -> None:
    assert len(labels) == 206
    assert sum(map(len, labels.boxes)) == 1698
    assert sum(int(one.crowd.sum()) for one in labels.boxes) == 15
    assert labels.flaws == ()


def test_coco_numbers_are_those_of_its_label_files(folder: Path) -> None:
    content = json.loads((folder / "instances.json").read_text())
    numbers = sorted(entry["id"] for entry in content["categories"])
    assert [COCO_NUMBERS[number] for number in numbers] == list(range(80))


def test_average_precision_is_as_known(labels: BoxLabels, matches: dict[str, Matches]) -> None:
    ranking = Ranking(Truth.of(labels.boxes), list(matches.values()))
    for candidate, name in enumerate(matches):
        assert ranking.ap(np.full(206, candidate)) == pytest.approx(KNOWN[name][0], abs=0.008)


def test_f1_is_as_known(labels: BoxLabels, matches: dict[str, Matches]) -> None:
    truth = Truth.of(labels.boxes)
    half = np.arange(0, 206, 2)
    tuning = Truth.of([labels.boxes[image] for image in half])
    for name, own in matches.items():
        best = best_threshold(tuning, own.of_images(half))
        mean = image_f1(truth, own, best).mean()
        at_most = image_f1(truth, own, min(best, 0.5)).mean()
        assert at_most == pytest.approx(KNOWN[name][1], abs=0.01)
        assert mean >= at_most


def test_every_mix_is_as_pycocotools_has_it(
    folder: Path, labels: BoxLabels, found: dict[str, list[Detections]], matches: dict[str, Matches]
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools, the judge, is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ranking = Ranking(Truth.of(labels.boxes), list(matches.values()))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances.json"))
    image_ids = {entry["file_name"]: number for number, entry in truth.imgs.items()}
    numbers = sorted(truth.cats)
    answers = list(found.values())
    generator = np.random.default_rng(0)
    for choice in [*(np.full(206, c) for c in range(3)), generator.integers(0, 3, 206)]:
        rows = [
            row
            for image, name in enumerate(labels.names)
            for row in coco_rows(answers[choice[image]][image], image_ids[name], numbers)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(truth, truth.loadRes(rows), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        assert np.allclose(astuple(ranking.summary(choice)), judge.stats, rtol=0, atol=1e-9)


def test_one_scale_of_scores_gives_mixes_their_precision_back(
    labels: BoxLabels, matches: dict[str, Matches]
) -> None:
    """The oracle by F1 gains F1; its average precision is only then above the best detector's."""
    truth = Truth.of(labels.boxes)
    plain = list(matches.values())
    maps = [ScoreMap.learn(one) for one in plain]
    mapped = [own.matches(one) for own, one in zip(maps, plain)]
    f1 = np.array([image_f1(truth, one, best_threshold(truth, one)) for one in plain])
    oracle = f1.argmax(axis=0)
    assert f1.max(axis=0).mean() > f1.mean(axis=1).max() + 0.03
    before, after = Ranking(truth, plain), Ranking(truth, mapped)
    for candidate in range(3):
        alone = np.full(206, candidate)
        assert after.ap(alone) == pytest.approx(before.ap(alone), abs=1e-12)
    assert after.ap(oracle) > before.ap(oracle) + 0.01


def test_fused_boxes_are_better_than_any_detectors(
    labels: BoxLabels, found: dict[str, list[Detections]], matches: dict[str, Matches]
) -> None:
    truth = Truth.of(labels.boxes)
    plain = list(matches.values())
    maps = [ScoreMap.learn(one) for one in plain]
    fused = [
        fuse([own.detections(one) for own, one in zip(maps, answers)])
        for answers in zip(*found.values())
    ]
    best = max(Ranking(truth, [one]).ap(np.zeros(206, int)) for one in plain)
    assert Ranking(truth, [match(labels.boxes, fused)]).ap(np.zeros(206, int)) > best
