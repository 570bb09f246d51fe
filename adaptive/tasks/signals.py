"""What a detector's boxes say about how right they are, before anybody knows."""

from __future__ import annotations

from typing import Dict

import numpy as np

from adaptive.tasks.detections import Detections

#: Scores of boxes that may as well be right as wrong.
UNSURE = (0.15, 0.5)

#: Boxes of a smaller area are small, square pixels of the image, as for COCO.
SMALL = 32**2

NAMES = ("boxes", "entropy", "unsure", "least", "mean", "best", "small")


def box_signals(found: Detections, threshold: float) -> Dict[str, float]:
    """Numbers about one image's boxes, under NAMES.

    Parameters
    ----------
    found : all boxes that the network is asked for; more than are shown, so those below
        `threshold` say how nearly there were others
    threshold : the candidate's own: a box of this score or more is one that is shown

    Returns
    -------
    boxes : how many are shown
    entropy : sum over all boxes of the entropy of "it is right, by its score", bits
    unsure : how many of all boxes have a score within UNSURE
    least, mean, best : score of those shown; 0 where there are none
    small : share of those shown that are smaller than SMALL; 0 where there are none
    """
    scores = found.scores.astype(np.float64)
    shown = scores >= threshold
    kept = scores[shown]
    inner = scores[(scores > 0) & (scores < 1)]
    entropy = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner)).sum()
    return {
        "boxes": float(len(kept)),
        "entropy": float(entropy),
        "unsure": float(((scores >= UNSURE[0]) & (scores <= UNSURE[1])).sum()),
        "least": float(kept.min()) if kept.size else 0.0,
        "mean": float(kept.mean()) if kept.size else 0.0,
        "best": float(kept.max()) if kept.size else 0.0,
        "small": float((found.areas[shown] < SMALL).mean()) if kept.size else 0.0,
    }
