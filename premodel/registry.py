"""A premodel read from its folder, whatever its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from adaptive.checks import a_path
from adaptive.errors import BundleError
from adaptive.files import Fields, check_format, inside, read_json
from adaptive.premodel.base import FORMAT, HEADER, Premodel
from adaptive.premodel.boosting import GradientBoosting
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.logistic import Logistic
from adaptive.premodel.naive_bayes import NaiveBayes
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.svm import SVM
from adaptive.premodel.tree import Tree

#: the kind that the header names -> what reads the rest of the folder
KINDS: dict[str, Callable[[Path, Fields], Premodel]] = {
    KNNChain.kind: KNNChain.read,
    OutcomeKNN.kind: OutcomeKNN.read,
    Tree.kind: Tree.read,
    SVM.kind: SVM.read,
    NaiveBayes.kind: NaiveBayes.read,
    Logistic.kind: Logistic.read,
    GradientBoosting.kind: GradientBoosting.read,
}


def load_premodel(folder: Path | str) -> Premodel:
    """Read a premodel; everything is checked before anything is built.

    Raises
    ------
    BundleError
        when a file is missing, no plain data, inconsistent, or of a newer format.
    """
    folder = a_path(folder, "a premodel")
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder; a premodel is a folder with {HEADER}")
    path = inside(folder, HEADER, "premodel header")
    fields = Fields(read_json(path, "premodel header"), f"premodel header {path}")
    check_format(fields, FORMAT)
    kind = fields.get("kind", str)
    if kind not in KINDS:
        raise BundleError(f"{fields.where} has kind {kind!r}; it must be one of {sorted(KINDS)}")
    return KINDS[kind](folder, fields)
