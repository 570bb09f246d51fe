"""Whether a premodel tells anything about images that it has not learned, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.intervals import Z95, Estimate, mean
from adaptive.premodel.base import NONE
from adaptive.premodel.scoring import areas

#: What a premodel may tell; the keys of `TellingReport.verdict`.
SOMETHING, ORDER, NOTHING = "something", "order", "nothing"

_HEADS = {
    SOMETHING: "The premodel tells something about images that it has not seen",
    ORDER: "The premodel ranks images that it has not seen, but its chances are no better than the "
    "base rate",
    NOTHING: "The premodel is not shown to tell anything about images that it has not seen",
}


@dataclass(frozen=True)
class TellingReport:
    """A premodel's chances, by cross-validation, against what needs no premodel.

    Attributes
    ----------
    verdict : "something" where the chances have a lower squared error than the base rate; "order"
        where they do not, but rank the images better than guessing; else "nothing". Either must
        hold beyond chance, by 95% intervals
    chosen : share of the images for which the best candidate was chosen
    cheapest, cheapest_share : the first candidate of the order, and what always choosing it scores
    commonest, commonest_share : the answer that is best most often, and the same of it
    brier, base : squared error of the chances, and of saying each candidate's share in all
        images; means over candidates
    saved : base less brier, paired over the images
    auc : mean area under the ROC curve; None where it is known of no candidate
    auc_by_guessing : guessing gives no more than this, in 97.5% of cases at least
    """

    verdict: str
    chosen: float
    cheapest: str
    cheapest_share: float
    commonest: str
    commonest_share: float
    brier: float
    base: float
    saved: Estimate
    auc: float | None
    auc_by_guessing: float | None

    def words(self) -> str:
        """One sentence."""
        always = f"always {self.cheapest!r}, the cheapest, {self.cheapest_share:.1%}"
        if self.commonest_share > self.cheapest_share:
            always += f"; always {self.commonest!r} {self.commonest_share:.1%}"
        parts = [
            f"{_HEADS[self.verdict]}: best candidate chosen for {self.chosen:.1%} ({always})",
            f"Brier {self.brier:.3f} (base rate {self.base:.3f})",
        ]
        if self.auc is not None:
            parts.append(f"AUC {self.auc:.2f} (guessing 0.50)")
        return ", ".join(parts) + "."


def telling(
    names: Sequence[str],
    chances: np.ndarray,
    outcomes: np.ndarray,
    chosen: np.ndarray,
    best: np.ndarray,
    parts: Sequence[np.ndarray],
) -> TellingReport:
    """Judge chances that were given by premodels that had not learned the images.

    Parameters
    ----------
    names : of the candidates, in the chain's order, and then of "none"
    chances, outcomes : ndarrays of shape (n, candidates)
    chosen, best : ndarrays (n,), indices of candidates or NONE
    parts : rows of the images that one premodel judged, for each
    """
    counts = np.bincount(np.where(best == NONE, len(names) - 1, best), minlength=len(names))
    commonest = int(counts.argmax())
    blind = (outcomes.mean(axis=0) - outcomes) ** 2
    told = (chances - outcomes) ** 2
    saved = mean((blind - told).mean(axis=1))
    auc, guessing = _area(chances, outcomes, parts)
    if saved.low > 0:
        verdict = SOMETHING
    elif auc is not None and guessing is not None and auc > guessing:
        verdict = ORDER
    else:
        verdict = NOTHING
    return TellingReport(
        verdict,
        float((chosen == best).mean()),
        names[0],
        float(counts[0] / len(best)),
        names[commonest],
        float(counts[commonest] / len(best)),
        float(told.mean()),
        float(blind.mean()),
        saved,
        auc,
        guessing,
    )


def _area(
    chances: np.ndarray, outcomes: np.ndarray, parts: Sequence[np.ndarray]
) -> tuple[float | None, float | None]:
    """Mean area over candidates and parts, and what guessing stays below.

    By guessing, an area has the variance (n + 1) / (12 yes no) (Mann and Whitney 1947; ties make
    it smaller). Parts are independent; candidates, which share the images, count as if they
    always erred together, which no dependence exceeds.
    """
    ranked = np.array([areas(chances[rows], outcomes[rows]) for rows in parts])
    yes = np.array([outcomes[rows].sum(axis=0) for rows in parts], np.float64)
    count = np.array([[len(rows)] for rows in parts], np.float64)
    with np.errstate(divide="ignore"):
        variance = (count + 1) / (12 * yes * (count - yes))
    known = ~np.isnan(ranked)
    judged = known.any(axis=0)
    if not judged.any():
        return None, None
    often = known.sum(axis=0)[judged]
    area = np.where(known, ranked, 0).sum(axis=0)[judged] / often
    error = np.sqrt(np.where(known, variance, 0).sum(axis=0)[judged]) / often
    return float(area.mean()), 0.5 + Z95 * float(error.mean())
