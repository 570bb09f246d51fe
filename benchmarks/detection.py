"""What quality of boxes costs: `python benchmarks/detection.py [--images N] [--json out.json]`.

Three drawn detectors on drawn images of 80 classes, one thread. A policy sends each image to one
of them, and the average precision of that mix is asked: of ours, which matched every detector's
boxes once before, and of pycocotools, which matches them again, as it must. Both are asked of the
same mixes in turn, and must say the same. What ours did before is listed beside.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from machine import envelope, result, save, show

from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.coco import coco_rows
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import best_threshold
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match
from adaptive.tasks.suppression import suppress

CLASSES = 80
DETECTORS = 3


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=206, help="how many (default 206)")
    parser.add_argument("--boxes", type=int, default=60, help="of one answer (default 60)")
    parser.add_argument("--mixes", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if min(options.images, options.boxes, options.mixes) < 1:
        parser.error("--images, --boxes and --mixes must be at least 1")
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        sys.exit("this benchmark compares with pycocotools: pip install pycocotools")
    generator = np.random.default_rng(0)
    truth = [drawn_truth(generator) for _ in range(options.images)]
    answers = [
        [drawn_answer(generator, one, options.boxes) for one in truth] for _ in range(DETECTORS)
    ]
    times = measured(truth, answers, generator.integers(0, DETECTORS, (options.mixes, len(truth))))
    settings = {"images": options.images, "boxes": options.boxes, "detectors": DETECTORS}
    report = envelope(
        "detection", {name: result(samples) for name, samples in times.items()}, settings
    )
    show(report)
    ours, theirs = (report["results"][f"AP of a mix, {who}"] for who in ("ours", "pycocotools"))
    print(f"ours is {theirs['median'] / ours['median']:.0f} times as quick")
    save(report, options.json)


def measured(
    truth: list[TrueBoxes], answers: list[list[Detections]], mixes: np.ndarray
) -> dict[str, list[float]]:
    """Milliseconds by what was done."""
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Any) -> Any:
        began = perf_counter()
        found = work()
        times.setdefault(name, []).append((perf_counter() - began) * 1e3)
        return found

    counted = Truth.of(truth)
    matches = [timed("matching a detector's boxes", lambda a=a: match(truth, a)) for a in answers]
    for one in matches:
        timed("best threshold for F1", lambda one=one: best_threshold(counted, one))
    ranking = timed("ranking all boxes", lambda: Ranking(counted, matches))
    labels, rows = as_coco(truth, answers)
    ranking.ap(mixes[0])
    for mix in mixes:
        own = timed("AP of a mix, ours", lambda mix=mix: ranking.ap(mix))
        chosen = [row for image, pick in enumerate(mix) for row in rows[pick][image]]
        with contextlib.redirect_stdout(io.StringIO()):
            judge = prepared(labels, chosen)
            theirs = timed("AP of a mix, pycocotools", lambda judge=judge: asked(judge))
        if abs(own - theirs) > 1e-9:
            sys.exit(f"ours says {own!r}, pycocotools {theirs!r}: one of them is wrong")
    crowded = drawn_answer(np.random.default_rng(1), truth[0], 5000)
    for _ in mixes:
        timed(
            "suppression, 5,000 boxes, 100 kept",
            lambda: suppress(crowded.boxes, crowded.scores, crowded.classes, 0.5, 100),
        )
    return times


def drawn_truth(generator: np.random.Generator) -> TrueBoxes:
    """About eight objects of three classes, with few crowds."""
    count = generator.poisson(8)
    corner = generator.uniform(0, 500, (count, 2))
    boxes = np.concatenate([corner, corner + generator.lognormal(4, 0.8, (count, 2))], axis=1)
    kinds = generator.integers(0, CLASSES, 3)
    return TrueBoxes.of(boxes, generator.choice(kinds, count), generator.random(count) < 0.01)


def drawn_answer(generator: np.random.Generator, true: TrueBoxes, count: int) -> Detections:
    """Boxes near the true ones, and others; the nearer, the surer."""
    corner = generator.uniform(0, 500, (count, 2))
    boxes = np.concatenate([corner, corner + generator.lognormal(4, 0.8, (count, 2))], axis=1)
    kinds, scores = generator.integers(0, CLASSES, count), generator.beta(1, 8, count)
    if len(true):
        near = np.flatnonzero(generator.random(count) < 0.3)
        of = generator.integers(0, len(true), len(near))
        noise = generator.normal(0, 0.12, (len(near), 4))
        sides = np.tile(true.boxes[of, 2:] - true.boxes[of, :2], 2)
        boxes[near] = true.boxes[of] + noise * sides
        kinds[near] = true.classes[of]
        scores[near] = np.clip(0.9 - 2 * np.abs(noise).mean(axis=1), 0, 1)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return Detections.of(boxes, scores, kinds)


def as_coco(truth: list[TrueBoxes], answers: list[list[Detections]]) -> tuple[Any, Any]:
    """Labels for pycocotools, and each detector's rows by image."""
    from pycocotools.coco import COCO

    labels = COCO()
    annotations: list[dict[str, Any]] = []
    for image, one in enumerate(truth):
        for (x1, y1, x2, y2), kind, crowd in zip(one.boxes.tolist(), one.classes, one.crowd):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(kind),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(crowd),
                }
            )
    labels.dataset = {
        "images": [{"id": image} for image in range(len(truth))],
        "categories": [{"id": kind} for kind in range(CLASSES)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        labels.createIndex()
    numbers = range(CLASSES)
    rows = [[coco_rows(one, image, numbers) for image, one in enumerate(a)] for a in answers]
    return labels, rows


def prepared(labels: Any, rows: list[dict[str, Any]]) -> Any:
    """pycocotools with the rows read; reading them is not timed."""
    from pycocotools.cocoeval import COCOeval

    return COCOeval(labels, labels.loadRes(rows), "bbox")


def asked(judge: Any) -> float:
    """Average precision, for all areas and up to 100 boxes alone where that is possible."""
    judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
    judge.params.maxDets = [100]
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"]
    return float(precision[precision > -1].mean())


if __name__ == "__main__":
    main()
