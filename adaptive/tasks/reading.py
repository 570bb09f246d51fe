"""How one detector is read: from its outputs to boxes, which of them are an answer, how sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.tasks.decoding import BoxSpec, detections
from adaptive.tasks.detections import Detections
from adaptive.tasks.placement import Placement
from adaptive.tasks.raw import Outputs
from adaptive.tasks.score_map import ScoreMap
from adaptive.tasks.sureness import Sureness


@dataclass(frozen=True, eq=False)
class Reading:
    """One detector's outputs as boxes.

    Parameters
    ----------
    spec : how they are decoded, and which boxes are kept
    least : score from which a box is part of the answer
    score_map : from its scores to the chance that a box is right
    sureness : how good an answer its boxes are, as a whole
    """

    spec: BoxSpec
    least: float
    score_map: ScoreMap
    sureness: Sureness

    @classmethod
    def of(cls, output: BoxOutput) -> Reading:
        """What a manifest entry says.

        Raises
        ------
        InputError
            when the decoder is unknown, or a setting cannot be.
        """
        spec = BoxSpec(
            output.decoder,
            output.classes,
            output.threshold,
            output.iou,
            output.most,
            output.several,
            output.class_map,
            output.options,
        )
        knots = output.score_map
        scores = ScoreMap.identity() if knots is None else ScoreMap(*map(np.array, knots))
        return cls(spec, output.least, scores, Sureness.of(output.sureness))

    def boxes(
        self,
        outputs: Outputs,
        sides: Tuple[int, int],
        placement: Placement,
        image: Tuple[int, int] | None = None,
    ) -> Detections:
        """All boxes that the network found in one image, those that are no answer too.

        Parameters
        ----------
        outputs : by name, of this image alone
        sides : (height, width) of the network's input, pixels
        placement : where the pixels that it saw lay in it
        image : (height, width) of the upright image, where those pixels are fewer

        Raises
        ------
        EngineError
            when the outputs are not what the manifest says.
        """
        found = detections(outputs, self.spec, sides, placement)
        return found if image is None else found.rescaled(placement.image, image)

    def confidence(self, found: Detections) -> float:
        """How sure the boxes of one image are as a whole, 0..1."""
        return self.sureness(found, self.score_map, self.least)
