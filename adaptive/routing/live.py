"""Run a bundle's networks on a table's images and hold the answers against the replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from adaptive.bundle.bundle import Bundle
from adaptive.engines.choose import EngineOptions
from adaptive.errors import ImageError
from adaptive.evaluation.replay import replay
from adaptive.outcomes.quality import TOP1, quality_words
from adaptive.outcomes.table import OutcomeTable
from adaptive.routing.extractors import Extractor
from adaptive.routing.router import Router


@dataclass(frozen=True)
class Difference:
    """An image on which live and replay went different ways.

    Attributes
    ----------
    live, replayed : name of the candidate that answered, and whether it was right
    """

    image: str
    live: tuple[str | None, bool]
    replayed: tuple[str | None, bool]


@dataclass(frozen=True)
class LiveComparison:
    """Live answers beside the replay's, over the images that could be read."""

    images: int
    differences: tuple[Difference, ...]
    top1: float
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
        lines += [
            f"  {d.image}: live {d.live[0]} {'right' if d.live[1] else 'wrong'}, replay "
            f"{d.replayed[0]} {'right' if d.replayed[1] else 'wrong'}"
            for d in self.differences[:20]
        ]
        lines += [f"  cannot be read: {name}" for name in self.unreadable]
        return "\n".join(lines)


def compare_live(
    bundle: Bundle,
    table: OutcomeTable,
    images: Path,
    engine: str | EngineOptions = "auto",
    extractor: Extractor | None = None,
) -> LiveComparison:
    """Classify every image of `table` with the bundle's policy, and compare.

    Differences are near-ties: a confidence that the table rounds to the other side of a
    threshold, or probabilities that it keeps in 16 bits.
    """
    done = replay(bundle.policy.afresh(), table)
    differences: list[Difference] = []
    unreadable: list[str] = []
    right, spent, kept = [], [], []
    policy = bundle.policy.afresh()
    with Router.load(bundle.folder, policy=policy, engine=engine, extractor=extractor) as router:
        router.warm_up()
        for row, name in enumerate(tqdm(table.images, unit="image", desc="live")):
            try:
                answer = router.classify(images / name)
            except ImageError:
                unreadable.append(name)
                continue
            correct = answer.index == table.label[row]
            right.append(correct)
            spent.append(answer.ms["total"] - answer.ms["decode"])
            kept.append(row)
            position = int(done.candidate[row])
            expected = None if position < 0 else bundle.policy.candidates[position]
            if answer.candidate != expected or correct != done.quality[row]:
                differences.append(
                    Difference(
                        name,
                        (answer.candidate, bool(correct)),
                        (expected, bool(done.quality[row])),
                    )
                )
    return LiveComparison(
        len(right),
        tuple(differences),
        float(np.mean(right)) if right else 0.0,
        float(np.mean(spent)) if spent else 0.0,
        float(done.ms[kept].mean()) if kept else 0.0,
        tuple(unreadable),
        table.quality_name,
    )
