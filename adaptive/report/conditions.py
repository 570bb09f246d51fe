"""The conditions that images were taken under: what each looks like, and who is right there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaptive.evaluation.replay import Replay
from adaptive.outcomes.table import OutcomeTable
from adaptive.premodel.base import Premodel
from adaptive.premodel.shares import ConditionShares, surest
from adaptive.report.gallery import Thumbnails

#: Example images of each condition.
EXAMPLES = 4


@dataclass(frozen=True)
class ConditionExample:
    """An image that is taken under a condition, and how surely; `data` as in `Picture`."""

    name: str
    probability: float
    data: str | None


@dataclass(frozen=True)
class ConditionRow:
    """One condition, among the images that are judged.

    Attributes
    ----------
    looks : in words
    images, share : for which it is the most probable one
    before : its share among the images that the policy was made with; None where that is unknown
    of : which images those are, "calibration" or "training"
    quality : by candidate, its mean quality on these images, 0..1; {} without images
    policy, ms : the same of the policy, and its mean milliseconds; None without images
    examples : the images that it is most probable for
    """

    looks: str
    images: int
    share: float
    before: float | None
    of: str | None
    quality: dict[str, float]
    policy: float | None
    ms: float | None
    examples: tuple[ConditionExample, ...]


def condition_rows(
    premodel: Premodel,
    posterior: np.ndarray,
    done: Replay,
    table: OutcomeTable,
    shares: ConditionShares | None,
    thumbnails: Thumbnails,
) -> tuple[ConditionRow, ...]:
    """A row for each condition, commonest first.

    posterior : ndarray (n, conditions), of the table's images
    """
    own = posterior.argmax(axis=1)
    found = []
    for place, looks in enumerate(premodel.descriptions()):
        rows = np.flatnonzero(own == place)
        examples = [
            ConditionExample(
                table.images[r], float(posterior[r, place]), thumbnails.of(table.images[r])
            )
            for r in surest(posterior, place, EXAMPLES)
        ]
        quality = {n: float(table.quality(n)[rows].mean()) for n in table.candidates if len(rows)}
        found.append(
            ConditionRow(
                looks,
                len(rows),
                len(rows) / len(table),
                None if shares is None else shares.shares[place],
                None if shares is None else shares.of,
                quality,
                float(done.quality[rows].mean()) if len(rows) else None,
                float(done.ms[rows].mean()) if len(rows) else None,
                tuple(examples),
            )
        )
    return tuple(sorted(found, key=lambda row: -row.images))
