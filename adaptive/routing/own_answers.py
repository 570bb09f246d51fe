"""Candidates that answer with something of their own, and say how sure they are of it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Sequence, cast

import numpy as np

from adaptive.engines.function import FunctionEngine
from adaptive.policy.history import Output
from adaptive.routing.photo import Found, Inputs
from adaptive.routing.running import Networks
from adaptive.segments import Run


@dataclass(eq=False)
class OwnOutput(Output):
    """What one candidate said about n images: its answers, and how sure it is of each.

    Attributes
    ----------
    answers : one an image
    """

    answers: tuple[Any, ...] = ()

    def rows(self, chosen: np.ndarray) -> OwnOutput:
        """The same for some of the images."""
        kept = np.arange(len(self.answers))[chosen]
        return OwnOutput(self.confidence[chosen], answers=tuple(self.answers[i] for i in kept))


class OwnAnswers(Networks):
    """Networks whose engines give pairs (answer, confidence), and no probabilities."""

    def plain(self) -> Networks:
        """The same, for nobody is told of runs."""
        return self

    def execute(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        """Run one candidate on what it reads of each image, and say what it found for each."""
        began = perf_counter()
        count = len(rows)
        engine = cast(FunctionEngine, self.engines[run.step])
        batch = rows[0][0] if count == 1 else np.concatenate([row[0] for row in rows])
        pairs = engine.pairs(batch)
        spent = (perf_counter() - began) * 1e3 / count
        return [
            Found(OwnOutput(np.array([sure]), answers=(answer,)), (), spent, count)
            for answer, sure in pairs
        ]
