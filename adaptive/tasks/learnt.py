"""What is learnt of a detector on labelled images: its threshold, its scores, how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.box_output import BoxOutput
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import best_threshold, image_f1
from adaptive.tasks.matching import Matches, Truth
from adaptive.tasks.score_map import ScoreMap
from adaptive.tasks.sureness import Sureness, signals_of

#: Parts into which images are divided, so that each is judged by what others taught.
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a manifest entry says of one detector's boxes, beyond how they are decoded.

    Attributes
    ----------
    shown : boxes of this score or more are the answer
    score_map : from its scores to the chance that a box is right
    sureness : how good its boxes are to be expected, as a whole
    """

    shown: float
    score_map: ScoreMap
    sureness: Sureness

    @classmethod
    def of(cls, output: BoxOutput) -> Learnt | None:
        """What a manifest entry says already; None where it says nothing of it."""
        if output.shown is None and output.score_map is None and output.sureness is None:
            return None
        knots = output.score_map
        scores = ScoreMap.identity() if knots is None else ScoreMap(*map(np.array, knots))
        return cls(output.least, scores, Sureness.of(output.sureness))

    @classmethod
    def learn(
        cls,
        truth: Truth,
        matches: Matches,
        found: Sequence[Detections],
        rows: NDArray[np.int64],
        tuning: Truth,
    ) -> Learnt:
        """Learn it from some of the images, which nothing is to be reported on.

        Parameters
        ----------
        truth, matches, found : of all images
        rows : those to learn from, rising
        tuning : the true boxes of these
        """
        own = matches.of_images(rows)
        shown = best_threshold(tuning, own)
        score_map = ScoreMap.learn(own)
        signals = [signals_of(found[row], score_map, shown) for row in rows.tolist()]
        quality = image_f1(truth, matches, shown)[rows]
        return cls(shown, score_map, Sureness.learn(signals, quality))

    def quality(self, truth: Truth, matches: Matches) -> NDArray[np.float64]:
        """F1 of each image's answer."""
        return image_f1(truth, matches, self.shown)

    def confidences(
        self, found: Sequence[Detections], quality: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """How sure each image's boxes are; those learnt from, by what others of them taught.

        Parameters
        ----------
        found : of all images
        quality : of all images' answers; only those of `rows` are looked at
        rows : images that it was learnt from; none where it came with the candidate
        """
        signals = [signals_of(one, self.score_map, self.shown) for one in found]
        sure = np.array([self.sureness.judge(own) for own in signals])
        if len(rows) < 2 * FOLDS:
            return sure
        for fold in range(FOLDS):
            others = [row for place, row in enumerate(rows.tolist()) if place % FOLDS != fold]
            apart = Sureness.learn([signals[row] for row in others], quality[others])
            for row in rows[fold::FOLDS].tolist():
                sure[row] = apart.judge(signals[row])
        return sure

    def output(self, output: BoxOutput) -> BoxOutput:
        """A manifest entry that says it."""
        knots = (tuple(self.score_map.scores.tolist()), tuple(self.score_map.chances.tolist()))
        return replace(output, shown=self.shown, score_map=knots, sureness=self.sureness.weights)

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values."""
        said = self.output(BoxOutput("final", 1)).to_json()
        return {name: said.get(name) for name in ("shown", "score_map", "sureness")}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Learnt:
        """Read what `to_json` gave.

        Raises
        ------
        InputError
            when it says something that cannot be.
        """
        knots = values["score_map"]
        score_map = ScoreMap(np.array(knots["scores"]), np.array(knots["chances"]))
        return cls(float(values["shown"]), score_map, Sureness.of(values["sureness"]))
