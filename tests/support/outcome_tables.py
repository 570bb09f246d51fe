"""An outcome table and a premodel made up at random, but consistent, for the laws of the replay."""

from __future__ import annotations

from typing import Container

import numpy as np

from adaptive.evaluation.replay import rank_of
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling

CLASSES = 7
NAMES = ("small", "net@1", "net@2", "net@3", "big")
AFTER = {"net@2": "net@1", "net@3": "net@2"}
FEATURES = ("f", "g", "h")


def table_of(
    count: int, seed: int = 0, energy: bool = False, through: Container[str] = ()
) -> OutcomeTable:
    """A table with three exits, whose columns agree with its probabilities.

    through : exits that can be run through without their heads
    """
    draw = np.random.default_rng(seed)
    label = draw.integers(0, CLASSES, count)
    outcomes, probabilities = {}, {}
    for position, name in enumerate(NAMES):
        sharp = 0.3 + 0.2 * position
        values = draw.dirichlet(np.full(CLASSES, 0.3), count)
        values[np.arange(count), label] += sharp * draw.random(count)
        values = (values / values.sum(axis=1, keepdims=True)).astype(np.float16)
        rank = rank_of(values, label)
        outcomes[name] = Outcomes(
            rank == 0,
            rank < 5,
            values.max(axis=1).astype(np.float64),
            draw.uniform(0.5, 2, count) * (position + 1),
            draw.uniform(1, 9, count) if energy else None,
            AFTER.get(name),
            draw.uniform(0.2, 0.5, count) * (position + 1) if name in through else None,
        )
        probabilities[name] = values
    return OutcomeTable(
        tuple(f"{i}.jpg" for i in range(count)),
        label,
        FEATURES,
        draw.normal(size=(count, 3)),
        outcomes,
        np.full(count, 3.0),
        draw.uniform(0.1, 0.2, count),
        probabilities,
        {"feature_ms": {"f": 0.1, "g": 0.2, "h": 0.1}},
    )


def chain(seed: int = 0) -> KNNChain:
    draw = np.random.default_rng(seed)
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    table = scaling.grid(draw.normal(size=(30, 2)))
    outcomes = draw.integers(0, 2, (30, len(NAMES)))
    return KNNChain.from_arrays(["g", "f"], list(NAMES), scaling, table, outcomes, 5)
