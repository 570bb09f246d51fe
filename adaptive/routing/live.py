"""Run a bundle's networks on a table's images and hold the answers against the replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from tqdm import tqdm

from adaptive.bundle.bundle import Bundle
from adaptive.engines.choose import EngineOptions
from adaptive.errors import ImageError
from adaptive.evaluation.replay import replay
from adaptive.outcomes.quality import TOP1, quality_words
from adaptive.outcomes.table import OutcomeTable
from adaptive.prediction import Prediction
from adaptive.routing.extractors import Extractor
from adaptive.routing.router import Router
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import image_f1
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match


@dataclass(frozen=True)
class Difference:
    """An image on which live and replay went different ways.

    Attributes
    ----------
    live, replayed : name of the candidate that answered, and what the answer is worth: bool where
        it is right or wrong
    """

    image: str
    live: tuple[str | None, bool | float]
    replayed: tuple[str | None, bool | float]

    def words(self, quality: str) -> str:
        """As a line for a terminal."""
        (live, own), (replayed, other) = self.live, self.replayed
        return (
            f"  {self.image}: live {live} {_worth(own, quality)}, replay {replayed} "
            f"{_worth(other, quality)}"
        )


def _worth(value: bool | float, quality: str) -> str:
    if isinstance(value, bool):
        return "right" if value else "wrong"
    return f"{quality_words(quality)} {100 * value:.1f}"


@dataclass(frozen=True)
class LiveComparison:
    """Live answers beside the replay's, over the images that could be read."""

    images: int
    differences: tuple[Difference, ...]
    top1: float  # the mean quality, whatever it is called
    ms: float
    replayed_ms: float
    unreadable: tuple[str, ...] = ()
    quality: str = TOP1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "images": self.images,
            self.quality: self.top1,
            "ms": self.ms,
            "replayed_ms": self.replayed_ms,
            "differences": [
                {"image": d.image, "live": list(d.live), "replayed": list(d.replayed)}
                for d in self.differences
            ],
            "unreadable": list(self.unreadable),
        }

    def text(self) -> str:
        """Lines for a terminal."""
        lines = [
            f"live: {self.images} images, {quality_words(self.quality)} {100 * self.top1:.2f} %, "
            f"{self.ms:.3f} ms an image after decoding (replay: {self.replayed_ms:.3f} ms)",
            f"live and replay agree on {self.images - len(self.differences)} of {self.images}",
        ]
        lines += [d.words(self.quality) for d in self.differences[:20]]
        lines += [f"  cannot be read: {name}" for name in self.unreadable]
        return "\n".join(lines)


def _f1(true: TrueBoxes, found: Detections) -> float:
    """What an answer is worth; an abstention nothing, as in the replay."""
    if found.candidate is None:
        return 0.0
    return float(image_f1(Truth.of([true]), match([true], [found]), 0.0)[0])


#: A table rounds what answers are worth by less than this.
_ROUNDED = 1e-4


def compare_live(
    bundle: Bundle,
    table: OutcomeTable,
    images: Path,
    engine: str | EngineOptions = "auto",
    extractor: Extractor | None = None,
    true: Sequence[TrueBoxes] | None = None,
) -> LiveComparison:
    """Answer every image of `table` with the bundle's policy, and compare.

    Differences are near-ties: a confidence that the table rounds to the other side of a
    threshold, or probabilities that it keeps in 16 bits.

    true : of each image what it really holds, for a bundle that finds boxes
    """
    done = replay(bundle.policy.afresh(), table)
    differences: list[Difference] = []
    unreadable: list[str] = []
    right, spent, kept = [], [], []
    policy = bundle.policy.afresh()
    with Router.load(bundle.folder, policy=policy, engine=engine, extractor=extractor) as router:
        router.warm_up()
        for row, name in enumerate(tqdm(table.images, unit="image", desc="live")):
            answer: Prediction | Detections
            worth: bool | float
            try:
                if true is None:
                    answer = router.classify(images / name)
                    worth = bool(answer.index == table.label[row])
                else:
                    answer = router.detect(images / name)
                    worth = _f1(true[row], answer)
            except ImageError:
                unreadable.append(name)
                continue
            right.append(worth)
            spent.append(answer.ms["total"] - answer.ms["decode"])
            kept.append(row)
            position = int(done.candidate[row])
            expected = None if position < 0 else bundle.policy.candidates[position]
            replayed = done.quality[row].item()
            if answer.candidate != expected or abs(worth - replayed) > _ROUNDED:
                told = bool(replayed) if true is None else float(replayed)
                differences.append(Difference(name, (answer.candidate, worth), (expected, told)))
    return LiveComparison(
        len(right),
        tuple(differences),
        float(np.mean(right)) if right else 0.0,
        float(np.mean(spent)) if spent else 0.0,
        float(done.ms[kept].mean()) if kept else 0.0,
        tuple(unreadable),
        table.quality_name,
    )
