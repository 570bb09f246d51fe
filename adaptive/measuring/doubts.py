"""What makes an outcome table look wrong, before anything is tuned on it."""

from __future__ import annotations

import math
from typing import Container

import numpy as np

from adaptive.outcomes.quality import TOP1
from adaptive.outcomes.table import OutcomeTable

#: Fewer images than this tell nothing about labels.
FEWEST = 10

#: A candidate that is so little of the way from guessing to always right has learned nothing.
NEAR = 0.05


def labels_doubt(table: OutcomeTable, classes: int, untrained: Container[str] = ()) -> str | None:
    """Whether the labels seem to be of other classes than the candidates answer with.

    They do where no candidate is better than guessing: by more than NEAR of the way to always
    right, and by more than guessing itself spreads on so many images.

    Parameters
    ----------
    classes : number of classes to guess among
    untrained : candidates that are expected to guess
    """
    names = [name for name in table.candidates if name not in untrained]
    if len(table) < FEWEST or not names or table.quality_name != TOP1:
        return None
    chance = 1 / classes
    spread = math.sqrt(chance * (1 - chance) / len(table))
    near = chance + max(NEAR * (1 - chance), spread)
    top1 = [float(np.mean(table.quality(name))) for name in names]
    if max(top1) > near:
        return None
    low, high = (f"{100 * value:.1f}" for value in (min(top1), max(top1)))
    found = f"{high}%" if low == high else f"{low} to {high}%"
    return (
        f"top-1 is {found} for every candidate, and guessing among {classes} classes gives "
        f"{100 * chance:.2g}%; the labels seem to be of another data set or in another order"
    )
