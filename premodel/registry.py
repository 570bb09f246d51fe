"""A premodel read from its folder, whatever its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Type, TypeVar

from adaptive.checks import a_path
from adaptive.errors import BundleError, InputError
from adaptive.files import Fields, check_format, inside, read_json
from adaptive.plugins import PREMODELS, add, find, names
from adaptive.premodel.base import FORMAT, HEADER, Premodel
from adaptive.premodel.boosting import GradientBoosting
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.logistic import Logistic
from adaptive.premodel.mixture import Mixture
from adaptive.premodel.naive_bayes import NaiveBayes
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.svm import SVM
from adaptive.premodel.tree import Tree

Own = TypeVar("Own", bound=Type[Premodel])

#: The kinds that this library brings, and those that were registered.
KINDS: dict[str, type[Premodel]] = {
    kind.kind: kind
    for kind in (KNNChain, OutcomeKNN, Tree, SVM, NaiveBayes, Logistic, Mixture, GradientBoosting)
}


def register(kind: Own) -> Own:
    """Make folders that name the `kind` of a class readable; for use as a decorator.

    Raises
    ------
    InputError
        when another class has that name.
    """
    add(KINDS, kind.kind, kind, "a premodel of kind")
    return kind


def premodel_class(name: str) -> type[Premodel] | None:
    """The class of a kind, of this library or of another installed package; None without.

    Raises
    ------
    InputError
        when the other package's class cannot be imported, or is no premodel of that kind.
    """
    return find(KINDS, PREMODELS, name, lambda found: getattr(found, "kind", None) == name)


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
    try:
        shape = premodel_class(kind)
    except InputError as exc:
        raise BundleError(f"{fields.where}: {exc}") from exc
    if shape is None:
        known = sorted([*KINDS, *names(PREMODELS)])
        raise BundleError(f"{fields.where} has kind {kind!r}; it must be one of {known}")
    return shape.read(folder, fields)
