"""What a table's boxes are worth where a bundle reads them otherwise than the table did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from adaptive.outcomes.boxes import TableBoxes, boxes_folder
from adaptive.outcomes.merged import told_of
from adaptive.outcomes.table import OutcomeTable
from adaptive.tasks.learnt import Learnt


def read_otherwise(table: OutcomeTable, learnt: Mapping[str, Learnt]) -> Sequence[str]:
    """The candidates whose boxes `learnt` reads otherwise than the table's file says."""
    told = told_of(table)
    return [n for n in told if n in learnt and learnt[n].to_json() != told[n].to_json()]


def reread(
    table: OutcomeTable, path: Path, learnt: Mapping[str, Learnt], names: Sequence[str]
) -> OutcomeTable:
    """The table with the qualities and confidences that boxes have as `learnt` reads them.

    Parameters
    ----------
    table : all images of the file at `path`, beside which their boxes lie
    names : the candidates that are read again

    Raises
    ------
    TableError
        when the boxes are not there, or are not of this table.
    """
    boxes = TableBoxes.read(boxes_folder(path), names, len(table))
    truth, nobody = boxes.truth, np.empty(0, np.int64)
    outcomes = dict(table.outcomes)
    for name in names:
        quality = learnt[name].quality(truth, boxes.matches[name])
        confidence = learnt[name].confidences(boxes.found[name], quality, nobody)
        outcomes[name] = replace(outcomes[name], quality=quality, confidence=confidence)
    return replace(table, outcomes=outcomes)
