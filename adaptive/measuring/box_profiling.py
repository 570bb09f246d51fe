"""Make an outcome table of detectors: what each finds in every labelled image, and at what cost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.bundle.bundle import Bundle
from adaptive.measuring.boxed import BoxedImages
from adaptive.measuring.partial import Partial
from adaptive.measuring.profiling import Profiler
from adaptive.outcomes.boxes import TableBoxes, boxes_folder
from adaptive.outcomes.labelled import LabelledImages
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.base import Output
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.learnt import Learnt

#: A mean F1 below this says that labels and boxes hardly ever meet.
NEAR = 0.02


class BoxProfiler(Profiler):
    """Runs detectors on images with true boxes; see `Profiler` for the parameters.

    What a candidate's manifest entry does not say of its boxes, the threshold of its answer, the
    map of its scores and how sure it is as a whole, is learnt on the tuning part of the images.
    """

    #: by image, what it really holds; nothing where the times alone are measured
    true: Mapping[str, TrueBoxes] = {}

    #: the images that may be learnt from
    split = Split()

    def labelled(self, images: BoxedImages, split: Split | None = None) -> LabelledImages:
        """The images as `profile` takes them; their true boxes are kept here.

        split : whose tuning part is learnt from
        """
        self.true = dict(zip(images.names, images.boxes))
        self.split = split or Split()
        nothing = (0,) * len(images)  # of classes
        return LabelledImages(images.root, images.names, nothing, images.omitted, images.notes)

    def said(self, output: Output, label: int) -> dict[str, Any]:
        """All boxes that a candidate found in one image."""
        assert output.boxes is not None
        (found,) = output.boxes
        columns = (found.boxes, found.scores[:, None], found.classes[:, None])
        return {"boxes": np.concatenate(columns, axis=1).tolist()}

    def partial(self, output: Path, fingerprint: Mapping[str, Any], keep: bool) -> Partial:
        """The rows as they come; boxes are among them, and no probabilities."""
        told = {**fingerprint, "split": self.split.to_json(), "objects": _objects(self.true)}
        return BoxPartial(output, told, self.bundle, self.true, self.split)

    def doubts(self, table: OutcomeTable) -> list[str]:
        """What makes the table that was profiled look wrong, in sentences."""
        trained = [c.name for c in self.bundle.candidates if not c.untrained]
        best = max((float(table.quality(name).mean()) for name in trained), default=1.0)
        if best >= NEAR or not any(map(len, self.true.values())):
            return []
        return [
            f"the mean F1 is at most {100 * best:.1f}% for every candidate; labels may be in "
            "another order, boxes of another form, or class numbers want a class map"
        ]


class BoxPartial(Partial):
    """The rows of a profile of detectors; see `Partial`.

    Parameters
    ----------
    true : by image, what it really holds
    split : whose tuning part is learnt from
    """

    def __init__(
        self,
        output: Path,
        fingerprint: Mapping[str, Any],
        bundle: Bundle,
        true: Mapping[str, TrueBoxes],
        split: Split,
    ) -> None:
        super().__init__(output, fingerprint, bundle, False)
        self._true = true
        self._split = split

    def finish(self, meta: Mapping[str, Any], mj: Mapping[str, float]) -> None:
        """Put the table in place, with its boxes, and remove the partial files."""
        rows, _, meta = self._ordered(meta)
        names = [row["image"] for row in rows]
        nothing = TrueBoxes.of([], [])
        boxes = TableBoxes.of(
            [self._true.get(name, nothing) for name in names],
            {c.name: [_found(row[c.name]["boxes"]) for row in rows] for c in self._all},
        )
        learnt, fresh = self._learn(boxes, names)
        tune = self._split.rows(names, "tune")
        outcomes = {}
        for candidate in self._all:
            name, own = candidate.name, learnt[candidate.name]
            quality = own.quality(boxes.truth, boxes.matches[name])
            seen = tune if name in fresh else tune[:0]
            confidence = own.confidences(boxes.found[name], quality, seen)
            outcomes[name] = box_outcomes(
                [row[name] for row in rows], quality, confidence, mj.get(name)
            )
        timed = np.array([[r["decode:ms"], r["features:ms"]] for r in rows])
        told = {
            **meta,
            "task": "detect",
            "quality": "f1",
            "split": self._split.to_json(),
            "learnt": {name: learnt[name].to_json() for name in fresh},
            "told": {n: own.to_json() for n, own in learnt.items() if n not in fresh},
        }
        table = OutcomeTable(
            tuple(names),
            np.zeros(len(rows), np.int64),
            tuple(meta["features"]),
            np.array([r["features"] for r in rows], np.float64),
            outcomes,
            timed[:, 0],
            timed[:, 1],
            meta=told,
        )
        aside, target = self.folder / "boxes", boxes_folder(self.output)
        shutil.rmtree(aside, ignore_errors=True)
        boxes.write(aside)
        if target.exists():
            shutil.rmtree(target)
        os.replace(aside, target)
        table.write(self.output)
        shutil.rmtree(self.folder)

    def _learn(
        self, boxes: TableBoxes, names: Sequence[str]
    ) -> tuple[Dict[str, Learnt], List[str]]:
        """By candidate, what its entry says or the tuning part taught; and which were taught."""
        rows = self._split.rows(names, "tune")
        if not len(rows):
            rows = np.arange(len(names))  # of a handful of images; nobody can tune on them
        truth, tuning = boxes.truth, boxes.select(rows).truth
        found, fresh = {}, []
        for candidate in self._all:
            assert isinstance(candidate.output, BoxOutput)
            own = Learnt.of(candidate.output)
            if own is None:
                name = candidate.name
                matches, answers = boxes.matches[name], boxes.found[name]
                own = Learnt.learn(truth, matches, answers, rows, tuning)
                fresh.append(name)
            found[candidate.name] = own
        return found, fresh


def box_outcomes(
    rows: Sequence[Mapping[str, Any]],
    quality: np.ndarray,
    confidence: np.ndarray,
    mj: float | None,
) -> Outcomes:
    """One candidate's columns."""

    def column(part: str) -> np.ndarray | None:
        return np.array([row[part] for row in rows]) if part in rows[0] else None

    spent = column("ms")
    assert spent is not None
    return Outcomes(
        quality=quality,
        top5=None,
        confidence=confidence,
        ms=spent,
        mj=None if mj is None else np.full(len(rows), mj),
        scale=column("scale"),
        normalise=column("normalise"),
    )


def _found(rows: Sequence[Sequence[float]]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections.of(table[:, :4], table[:, 4], table[:, 5])


def _objects(true: Mapping[str, TrueBoxes]) -> int:
    return sum(map(len, true.values()))
