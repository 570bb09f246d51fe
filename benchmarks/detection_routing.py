"""What tells whether a detector's boxes are enough, and what merging several detectors is worth.

    adaptive profile --candidates DETECTORS --images IMAGES --labels LABELS -o X.csv
    python benchmarks/detection_routing.py X.csv

Whatever is learnt (thresholds, maps of scores, models of signals) is learnt on four fifths of the
images and judged on the last fifth, five times. Printed are, for each pair of a cheap and a dear
detector: the area under the ROC curve of each signal for "the cheap one's F1 is as good", and the
mean F1 that a cascade on it gains over the random mix, over all shares. Then F1 and average
precision of boxes that several detectors found, merged.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.outcomes.boxes import TableBoxes, boxes_folder
from adaptive.outcomes.table import OutcomeTable
from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import best_threshold, image_f1
from adaptive.tasks.fusion import fuse
from adaptive.tasks.learnt import Learnt
from adaptive.tasks.matching import Matches, Truth, match
from adaptive.tasks.suppression import suppress
from adaptive.tasks.sureness import SIGNALS, fit_logistic, signals_of

FOLDS = 5

Floats = NDArray[np.float64]


def auc(signal: Floats, right: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, ties by half."""
    order = np.unique(signal, return_inverse=True)[1]
    ranks = np.bincount(order).cumsum()[order] - (np.bincount(order)[order] - 1) / 2
    wins = ranks[right].sum() - right.sum() * (right.sum() + 1) / 2
    return float(wins / (right.sum() * (~right).sum()))


def over_mix(signal: Floats, small: Floats, large: Floats) -> float:
    """Mean F1 of keeping the surest of each share, less that of a random share of that size."""
    order = np.argsort(-signal, kind="stable")
    gain = np.cumsum((small - large)[order]) / len(small)
    shares = np.arange(1, len(small) + 1) / len(small)
    return float((gain - shares * gain[-1]).mean())


class Read:
    """The table's detectors, each image read by what the images of other folds taught."""

    def __init__(self, table: OutcomeTable, boxes: TableBoxes) -> None:
        self.names = list(table.candidates)
        self.table, self.boxes = table, boxes
        self.folds = np.arange(len(table)) % FOLDS
        truth = boxes.truth
        self.f1 = {name: np.zeros(len(table)) for name in self.names}
        self.signals: Dict[str, List[Dict[str, float]]] = {n: [{}] * len(table) for n in self.names}
        self.mapped: Dict[str, List[Detections]] = {n: list(boxes.found[n]) for n in self.names}
        for fold in range(FOLDS):
            others, own = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
            tuning = boxes.select(others).truth
            for name in self.names:
                found, matches = boxes.found[name], boxes.matches[name]
                learnt = Learnt.learn(truth, matches, found, others, tuning)
                self.f1[name][own] = image_f1(truth, matches, learnt.shown)[own]
                for row in own.tolist():
                    one = found[row]
                    self.signals[name][row] = signals_of(one, learnt.score_map, learnt.shown)
                    self.mapped[name][row] = learnt.score_map.detections(one)

    def matrix(self, name: str, features: bool) -> Floats:
        """A row of signals for each image, with the image's features or without."""
        own = np.array([[row[s] for s in SIGNALS] for row in self.signals[name]])
        return np.concatenate([own, self.table.X], axis=1) if features else own

    def learnt_signal(self, name: str, target: Floats, features: bool) -> Floats:
        """A logistic model's number for each image, by the other folds."""
        matrix, found = self.matrix(name, features), np.zeros(len(self.table))
        for fold in range(FOLDS):
            own = self.folds == fold
            weights, constant = fit_logistic(matrix[~own], target[~own])
            found[own] = matrix[own] @ weights + constant
        return found


def signals(read: Read) -> None:
    """The table of signals."""
    costs = {n: float(read.table.ms(n).mean()) for n in read.names}
    for small, large in itertools.combinations(sorted(read.names, key=costs.__getitem__), 2):
        own, other = read.f1[small], read.f1[large]
        right = own >= other
        print(f"\n{small} before {large}: as good on {100 * right.mean():.0f}% of the images")
        print(f"{'':44}{'AUC':>7}{'over the mix':>15}")
        plain = {s: np.array([r[s] for r in read.signals[small]]) for s in SIGNALS}
        lines: List[Tuple[str, Floats]] = []
        for name, values in plain.items():
            turned = -values if name in ("boxes", "entropy", "unsure", "small") else values
            lines.append((("few " if turned is not values else "") + name, turned))
        for what, target in (("its F1", own), ("no gain", 1 - np.clip(other - own, 0, 1))):
            for features in (False, True):
                beside = " and image features" if features else ""
                values = read.learnt_signal(small, target, features)
                lines.append((f"model of {what}{beside}", values))
        lines.append(("knowing F1 (oracle)", own - other))
        for name, values in lines:
            print(
                f"{name:44}{auc(values, right):>7.2f}{100 * over_mix(values, own, other):>+15.2f}"
            )


def judged(read: Read, found: Sequence[Detections]) -> Tuple[float, float, float]:
    """F1 with thresholds by the other folds, AP and AP50."""
    truth: Truth = read.boxes.truth
    matches: Matches = match(read.boxes.true, found)
    f1 = np.zeros(len(found))
    for fold in range(FOLDS):
        others = np.flatnonzero(read.folds != fold)
        least = best_threshold(read.boxes.select(others).truth, matches.of_images(others))
        own = read.folds == fold
        f1[own] = image_f1(truth, matches, least)[own]
    summary = Ranking(truth, [matches]).summary(np.zeros(len(found), np.int64))
    return float(f1.mean()), summary.ap, summary.ap50


def answers(read: Read) -> None:
    """The table of answers: one detector for all, mixes, cascades that keep half, the oracle."""
    names, truth = read.names, read.boxes.truth
    plain = Ranking(truth, [read.boxes.matches[n] for n in names])
    mapped = Ranking(truth, [match(read.boxes.true, read.mapped[n]) for n in names])
    costs = np.stack([read.table.ms(n) for n in names])
    f1 = np.stack([read.f1[n] for n in names])
    rows = np.arange(f1.shape[1])
    draw = np.random.default_rng(0)

    def line(title: str, choices: Sequence[NDArray[np.int64]], ms: float) -> None:
        own = np.mean([[f1[c, rows].mean(), plain.ap(c), mapped.ap(c)] for c in choices], axis=0)
        print(f"{title:56}{100 * own[0]:>7.1f}{100 * own[1]:>7.1f}{100 * own[2]:>11.1f}{ms:>9.1f}")

    print(f"\n{'':56}{'F1':>7}{'AP':>7}{'AP mapped':>11}{'ms':>9}")
    for place, name in enumerate(names):
        line(f"always {name}", [np.full(len(rows), place)], costs[place].mean())
    order = np.argsort(costs.mean(axis=1), kind="stable")
    for small, large in itertools.combinations(order.tolist(), 2):
        title = f"{names[small]}, {names[large]}"
        half = [np.where(draw.random(len(rows)) < 0.5, small, large) for _ in range(20)]
        line(f"half and half by chance: {title}", half, float(costs[[small, large]].mean()))
        signal = read.learnt_signal(names[small], f1[small], False)
        keeps = np.zeros(len(rows), bool)
        for fold in range(FOLDS):
            own = read.folds == fold
            keeps[own] = signal[own] >= np.median(signal[~own])
        ms = float((costs[small] + np.where(keeps, 0, costs[large])).mean())
        line(f"cascade, the surer half stays: {title}", [np.where(keeps, small, large)], ms)
    best = order[f1[order].argmax(axis=0)]
    line("oracle by F1, the cheapest of equals", [best], float(costs[best, rows].mean()))


def union(found: Sequence[Detections]) -> Detections:
    """All boxes, of which the surest suppress the others."""
    boxes, scores, kinds = (
        np.concatenate([getattr(one, part) for one in found])
        for part in ("boxes", "scores", "classes")
    )
    kept = suppress(boxes, scores, kinds, 0.55, 100)
    return Detections.of(boxes[kept], scores[kept], kinds[kept])


def merging(read: Read) -> None:
    """The table of merged boxes."""
    ways: Dict[str, Callable[..., Any]] = {
        "suppression": union,
        "weighted fusion": fuse,
    }
    print(f"\n{'':60}{'F1':>7}{'AP':>7}{'AP50':>7}")
    for count in range(1, len(read.names) + 1):
        for names in itertools.combinations(read.names, count):
            for mapped in (False, True):
                source = read.mapped if mapped else read.boxes.found
                for way, merge in ways.items() if count > 1 else [("alone", lambda one: one[0])]:
                    found = [merge(list(own)) for own in zip(*(source[n] for n in names))]
                    f1, ap, ap50 = judged(read, found)
                    title = f"{' + '.join(names)}, {way}{', mapped' if mapped else ''}"
                    print(f"{title:60}{100 * f1:>7.1f}{100 * ap:>7.1f}{100 * ap50:>7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    path = parser.parse_args().table
    table = OutcomeTable.read(path)
    read = Read(table, TableBoxes.read(boxes_folder(path), list(table.candidates), len(table)))
    answers(read)
    signals(read)
    merging(read)


if __name__ == "__main__":
    main()
