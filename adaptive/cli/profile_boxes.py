"""What `adaptive profile` does otherwise where candidates are detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.bundle.bundle import Bundle
from adaptive.engines.choose import Engines
from adaptive.errors import InputError
from adaptive.evaluation.boxes import percent
from adaptive.measuring.box_profiling import BoxProfiler
from adaptive.measuring.boxed import list_boxed
from adaptive.outcomes.boxes import TableBoxes, boxes_folder
from adaptive.outcomes.labelled import LabelledImages
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.routing.extractors import Extractor
from adaptive.tasks.learnt import Learnt


def begin(
    bundle: Bundle,
    images: Path,
    labels: Path | None,
    split: str | None,
    limit: int | None,
    threads: int,
    features: str,
    engines: Engines,
    extractor: Extractor | None = None,
) -> tuple[BoxProfiler, LabelledImages]:
    """Read the labels, and open the detectors.

    Raises
    ------
    InputError
        when there are no labels, or they cannot be used.
    """
    if labels is None:
        raise InputError(
            "detectors are measured on true boxes: --labels names a JSON file of COCO's form, or a "
            "folder with a text file (YOLO) or an XML file (VOC) for each image"
        )
    shares = Split() if split is None else Split.parse(split)
    found = list_boxed(images, bundle.labels, labels, limit)
    tune = shares.rows(found.names, "tune")
    outputs = [c.output for c in bundle.candidates]
    learns = any(isinstance(own, BoxOutput) and Learnt.of(own) is None for own in outputs)
    if learns and len(tune) and all(found.boxes[row].crowd.all() for row in tune):
        raise InputError(
            f"none of the {len(tune)} images that tune has a true box, and from those it is learnt "
            "how boxes are read; take more images, or divide them by another --split"
        )
    profiler = BoxProfiler(bundle, threads, features, engines=engines, extractor=extractor)
    return profiler, profiler.labelled(found, shares)


def told(table: OutcomeTable, output: Path) -> Iterator[str]:
    """A line on each candidate: F1 and average precision on all images, and its time."""
    names = list(table.candidates)
    ranking = TableBoxes.read(boxes_folder(output), names, len(table)).ranking(names)
    yield f"  {'candidate':24} {'F1':>6} {'AP':>6} {'AP50':>6} {'AP s/m/l':>16} {'ms':>8}"
    for place, name in enumerate(names):
        own = ranking.summary(np.full(len(table), place))
        values = (own.ap_small, own.ap_medium, own.ap_large)
        sizes = "/".join(map(percent, values))
        yield (
            f"  {name:24} {100 * table.quality(name).mean():6.1f} {percent(own.ap):>6} "
            f"{percent(own.ap50):>6} {sizes:>16} {table.of(name).ms.mean():8.2f}"
        )
