"""What answers in boxes are worth where the boxes of all detectors that ran are merged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.box_output import BoxMerge
from adaptive.errors import TableError
from adaptive.outcomes.boxes import TableBoxes, boxes_folder
from adaptive.outcomes.table import OutcomeTable
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import best_threshold, image_f1
from adaptive.tasks.fusion import fuse
from adaptive.tasks.learnt import Learnt
from adaptive.tasks.matching import match


@dataclass(eq=False)
class MergedBoxes:
    """The merged boxes of any detectors of a table, made when they are first asked for.

    Parameters
    ----------
    boxes : of all images of the table's file, whatever part of it is looked at
    learnt : by candidate, the map of its scores to chances, through which they are merged
    merge : how, and from which chance on a merged box is part of the answer
    """

    boxes: TableBoxes
    learnt: Mapping[str, Learnt]
    merge: BoxMerge
    _found: Dict[Tuple[str, ...], Tuple[Detections, ...]] = field(default_factory=dict, repr=False)
    _quality: Dict[Tuple[str, ...], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def found(self, path: Sequence[str]) -> Tuple[Detections, ...]:
        """Each image's boxes by these detectors, in the order in which they ran."""
        key = tuple(path)
        if key not in self._found:
            self._found[key] = tuple(
                fuse(
                    [self.learnt[n].score_map.detections(self.boxes.found[n][row]) for n in key],
                    iou=self.merge.iou,
                )
                for row in range(len(self.boxes))
            )
        return self._found[key]

    def quality(self, path: Sequence[str]) -> NDArray[np.float64]:
        """F1 of each image's merged boxes."""
        key = tuple(path)
        if key not in self._quality:
            matches = match(self.boxes.true, self.found(key))
            self._quality[key] = image_f1(self.boxes.truth, matches, self.merge.least)
        return self._quality[key]

    def best(self, path: Sequence[str]) -> BoxMerge:
        """The same with the chance that makes the mean F1 of these highest, as its boxes are.

        Choose it on images that nothing is reported on.
        """
        matches = match(self.boxes.true, self.found(path))
        return replace(self.merge, least=min(1.0, best_threshold(self.boxes.truth, matches)))


def with_merged(
    table: OutcomeTable,
    path: Path,
    merge: BoxMerge,
    learnt: Mapping[str, Learnt] | None = None,
) -> OutcomeTable:
    """A table whose answers by several detectors are their merged boxes.

    Parameters
    ----------
    table : as it was read from `path`, or some of its images
    learnt : by candidate, how its boxes are read; as the table's file says when left out

    Raises
    ------
    TableError
        when no boxes lie beside the table, or nothing says how scores are to be read.
    """
    folder = boxes_folder(path)
    if not folder.is_dir():
        raise TableError(
            f"boxes are merged from {folder.name}, which does not lie beside {path}; profile the "
            "images again (a table made of a decision log has no boxes)"
        )
    images = len(table) if table.row is None else len(OutcomeTable.read(path))
    boxes = TableBoxes.read(folder, table.candidates, images)
    told = told_of(table) if learnt is None else learnt
    silent = [name for name in table.candidates if name not in told]
    if silent:
        raise TableError(f"nothing says how the scores of {silent} are to be read; profile again")
    return replace(table, merged=MergedBoxes(boxes, told, merge).quality)


def told_of(table: OutcomeTable) -> Dict[str, Learnt]:
    """By candidate, how a table's file says that its boxes are read."""
    parts = (table.meta.get(key) or {} for key in ("learnt", "told"))
    return {n: Learnt.from_json(values) for part in parts for n, values in part.items()}
