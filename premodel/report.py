"""How well a premodel chooses, by cross-validation: a table to read and numbers to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Sequence

import numpy as np

from adaptive.errors import InputError, MissingExtra
from adaptive.outcomes.quality import TOP1, quality_words
from adaptive.premodel.base import NONE, Premodel, first_yes
from adaptive.premodel.scoring import areas, brier
from adaptive.premodel.telling import TellingReport, telling

FORMAT = 1


@dataclass(frozen=True)
class Report:
    """Choices on images that the premodel had not learned, against the best ones.

    Attributes
    ----------
    rows, folds, seed : images, parts that they were split into, seed of the split
    stratified : whether every part has its share of each class
    notes : what is not as asked, in sentences
    accuracy : share of images for which the best candidate was chosen
    fold_accuracy : the same of each part
    commonest, commonest_share : the class that is best most often, and how often: what always
        choosing it would score
    macro : precision, recall and f1, averaged over classes
    per_class : class -> precision, recall, f1 and number of images
    classes : candidates in the chain's order, then "none"; those that are best or were chosen
    confusion : confusion[i][j] images of which classes[i] is the best and classes[j] was chosen
    chances : candidate -> "auc", the area under the ROC curve of its chance, averaged over the
        parts (None where no part has both outcomes), "brier", the mean squared error of its
        chance, and "base", that of its share in all images, which a useful chance stays below
    top1 : where it is known which candidates are right: share of images answered right by the
        chain (where all say no, the last one answers), by each candidate, and by the oracle
    quality : what being right is called; one between 0 and 1 is made right or wrong before
    telling : whether all this is better than what needs no premodel
    """

    rows: int
    folds: int
    seed: int
    stratified: bool
    notes: tuple[str, ...]
    accuracy: float
    fold_accuracy: tuple[float, ...] = field(repr=False)
    commonest: str
    commonest_share: float
    macro: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    confusion: tuple[tuple[int, ...], ...] = field(repr=False)
    chances: dict[str, dict[str, float | None]] = field(repr=False)
    telling: TellingReport
    top1: dict[str, float] | None = None
    quality: str = TOP1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        told = {
            **asdict(self.telling),
            "saved": self.telling.saved.to_json(),
            "words": self.telling.words(),
        }
        return {"format": FORMAT, **asdict(self), "telling": told}

    def to_text(self) -> str:
        """As a table for a terminal."""
        how = "stratified" if self.stratified else "not stratified"
        parts = [
            f"{self.folds}-fold cross-validation on {self.rows} images ({how}, seed {self.seed})",
            *(f"note: {note}" for note in self.notes),
            f"best candidate chosen: {self.accuracy:.1%} "
            f"(always {self.commonest!r}: {self.commonest_share:.1%})",
            "",
            _columns(
                [["class", "precision", "recall", "F1", "images"]]
                + [
                    [name, *(f"{values[key]:.3f}" for key in _SCORES), str(values["images"])]
                    for name, values in self.per_class.items()
                ]
                + [["macro", *(f"{self.macro[key]:.3f}" for key in _SCORES), str(self.rows)]]
            ),
            "",
            _columns(
                [["best \\ chosen", *self.classes]]
                + [[name, *map(str, counts)] for name, counts in zip(self.classes, self.confusion)]
            ),
            "",
            _columns(
                [["chance", "AUC", "Brier", "base"]]
                + [
                    [name, *("-" if value is None else f"{value:.3f}" for value in found.values())]
                    for name, found in self.chances.items()
                ]
            ),
        ]
        if self.top1 is not None:
            lines = [[f"{quality_words(self.quality)} on these images", ""]]
            lines += [[name, f"{share:.1%}"] for name, share in self.top1.items()]
            parts += ["", _columns(lines)]
        return "\n".join(parts)


_SCORES = ("precision", "recall", "f1")


def cross_validate(
    premodel: Premodel,
    X: np.ndarray,
    outcomes: np.ndarray,
    folds: int = 5,
    seed: int = 0,
    measured: bool = False,
    quality: str = TOP1,
) -> Report:
    """Train on all parts but one, choose on that one, for each part.

    Parts are stratified by the best candidate, which is the first in the chain whose outcome
    is 1. With fewer images of a class than parts they are plain random parts, and the report's
    notes say so.

    Parameters
    ----------
    premodel : its settings are used; it is not changed
    X, outcomes : as in `Premodel.fit`
    folds : number of parts, at least 2
    seed : of the shuffle
    measured : whether outcomes say which candidates are right, so that top-1 is known
    quality : what that is called, where it is another

    Raises
    ------
    InputError
        for a number of parts that leaves too few images to learn from.
    MissingExtra
        without scikit-learn.
    """
    names = (*premodel.candidates, "none")
    best = first_yes(outcomes)
    chances = np.empty(outcomes.shape)
    ranked = []
    parts, notes, stratified = _split(best, names, folds, seed)
    fold_accuracy = []
    for learned, held in parts:
        try:
            fitted = premodel.unfitted().fit(X[learned], outcomes[learned])
        except InputError as exc:
            raise InputError(f"with one of {folds} parts held out, {exc}") from exc
        chances[held] = fitted.predict(X[held])
        ranked.append(areas(chances[held], outcomes[held]))
        fold_accuracy.append(float((first_yes(chances[held]) == best[held]).mean()))
    chosen = first_yes(chances)
    return _score(
        names,
        np.where(best == NONE, len(names) - 1, best),
        np.where(chosen == NONE, len(names) - 1, chosen),
        chances=_chances(premodel.candidates, chances, outcomes, np.array(ranked)),
        telling=telling(names, chances, outcomes, chosen, best, [held for _, held in parts]),
        top1=_top1(premodel.candidates, outcomes, chosen) if measured else None,
        quality=quality,
        folds=len(parts),
        seed=seed,
        stratified=stratified,
        notes=notes,
        fold_accuracy=tuple(fold_accuracy),
    )


def _split(
    best: np.ndarray, names: Sequence[str], folds: int, seed: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[str, ...], bool]:
    try:
        from sklearn.model_selection import KFold, StratifiedKFold
    except ImportError as exc:
        raise MissingExtra("cross-validation", "scikit-learn", "premodel") from exc
    if not 2 <= folds <= len(best):
        raise InputError(
            f"{folds} folds of {len(best)} images are asked for; from 2 to {len(best)} are allowed"
        )
    values, counts = np.unique(best, return_counts=True)
    rarest = int(counts.argmin())
    if counts[rarest] >= folds:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(splitter.split(best, best)), (), True
    name = names[int(values[rarest])]
    note = f"parts are not stratified: {name!r} is the best of only {counts[rarest]} images"
    splitter = KFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(best)), (note,), False


def _score(names: Sequence[str], best: np.ndarray, chosen: np.ndarray, **known: Any) -> Report:
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    labels = np.union1d(best, chosen)
    classes = tuple(names[label] for label in labels)
    scores = precision_recall_fscore_support(best, chosen, labels=labels, zero_division=0)
    counts = scores[3]
    return Report(
        rows=len(best),
        accuracy=float(accuracy_score(best, chosen)),
        commonest=classes[int(counts.argmax())],
        commonest_share=float(counts.max() / len(best)),
        macro={key: float(values.mean()) for key, values in zip(_SCORES, scores)},
        per_class={
            name: {
                **{key: float(values[i]) for key, values in zip(_SCORES, scores)},
                "images": int(counts[i]),
            }
            for i, name in enumerate(classes)
        },
        classes=classes,
        confusion=tuple(
            tuple(int(count) for count in row)
            for row in confusion_matrix(best, chosen, labels=labels)
        ),
        **known,
    )


def _chances(
    candidates: Sequence[str], chances: np.ndarray, outcomes: np.ndarray, ranked: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Areas are averaged over parts: chances of two parts come from two premodels."""
    found: dict[str, dict[str, float | None]] = {}
    for level, name in enumerate(candidates):
        known = ranked[~np.isnan(ranked[:, level]), level]
        right = outcomes[:, level]
        found[name] = {
            "auc": float(known.mean()) if len(known) else None,
            "brier": brier(chances[:, level], right),
            "base": brier(right.mean(), right),
        }
    return found


def _top1(candidates: Sequence[str], outcomes: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    answering = np.where(chosen == NONE, len(candidates) - 1, chosen)
    return {
        "chain": float(outcomes[np.arange(len(outcomes)), answering].mean()),
        **{
            f"always {name}": float(outcomes[:, level].mean())
            for level, name in enumerate(candidates)
        },
        "oracle": float(outcomes.any(axis=1).mean()),
    }


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )
