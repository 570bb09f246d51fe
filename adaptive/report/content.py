"""Everything that the page shows, gathered from a bundle, a table and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.evaluation.evaluation import Evaluation, Row, policy_row
from adaptive.evaluation.findings import Verdict
from adaptive.evaluation.ranking import Reliability, reliability
from adaptive.evaluation.replay import Replay, replay
from adaptive.evaluation.signals_quality import SignalTable, signal_table
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.premodel.base import Premodel
from adaptive.premodel.shares import ConditionShares
from adaptive.report.conditions import ConditionRow, condition_rows
from adaptive.report.gallery import GalleryGroup, Thumbnails, groups, needed_by_answered
from adaptive.report.use import FeatureUse, feature_use


@dataclass(frozen=True)
class Origin:
    """Where the numbers come from.

    Attributes
    ----------
    command : as it was typed
    part : which images of the table
    sha256 : of the table
    certificate : the promise in words, or None
    promise_note : what must be said about the promise
    """

    bundle: str
    table: str
    part: str
    command: str
    sha256: str
    certificate: str | None = None
    promise_note: str = ""


@dataclass(frozen=True)
class Calibration:
    """How honest one network's, or the policy's, confidences are.

    Attributes
    ----------
    error_at : expected calibration error at the temperature, None where that is unknown
    """

    name: str
    found: Reliability
    temperature: float | None = None
    error_at: float | None = None


@dataclass(frozen=True)
class Content:
    """The page without its looks.

    Attributes
    ----------
    cascades : lines of the best cascades, cheapest first
    conditions : what the premodel knows of them, commonest first; none where it knows none
    needed, answered : names of the rows of `counts`, and of its columns
    counts : images by the fastest candidate that is right and by who answered, (m + 1, m + 1)
    meta : the content of the table's JSON
    with_images : whether thumbnails were asked for
    unreadable : images without a thumbnail
    """

    origin: Origin
    evaluation: Evaluation
    verdict: Verdict
    cascades: tuple[Row, ...]
    signals: SignalTable
    calibrations: tuple[Calibration, ...]
    needed: tuple[str, ...]
    answered: tuple[str, ...]
    counts: np.ndarray
    groups: tuple[GalleryGroup, ...]
    use: tuple[FeatureUse, ...]
    conditions: tuple[ConditionRow, ...]
    meta: Mapping[str, Any]
    with_images: bool
    unreadable: tuple[str, ...]

    @property
    def made(self) -> dict[str, str]:
        """How the table's copies of other networks were made, a sentence each, by their names."""
        entries = self.meta.get("candidates") or []
        return {entry["name"]: str(entry["made"]) for entry in entries if entry.get("made")}


def gather(
    policy: Policy,
    table: OutcomeTable,
    labels: Sequence[str],
    evaluation: Evaluation,
    verdict: Verdict,
    origin: Origin,
    premodel_ms: float = 0.0,
    cascades: Sequence[Policy] = (),
    others: OutcomeTable | None = None,
    images: Path | None = None,
    premodel: Premodel | None = None,
    shares: ConditionShares | None = None,
) -> Content:
    """Compute what the page shows beyond the evaluation and the verdict.

    Parameters
    ----------
    labels : class names
    cascades : the best cascades of several mean times
    others : images to fit temperatures on, other than the table's
    images : folder that the table's image names are relative to, for thumbnails
    premodel : whose chances are ranked beside the other signals; None without one
    shares : of its conditions, among the images that the policy was made with
    """
    done = replay(policy.afresh(), table, premodel_ms=premodel_ms)
    lines = sorted((policy_row(replay(c, table)) for c in cascades), key=lambda r: r.ms.value)
    chances, conditions = None, None
    if premodel is not None:
        X = table.feature_columns(tuple(premodel.features), premodel.own_features)
        judged = premodel.predict(X)
        if premodel.conditions:
            conditions = premodel.posterior(X)
        chances = {n: judged[:, i] for i, n in enumerate(premodel.candidates)}
    signals = signal_table(table, others, chances)
    needed, counts = needed_by_answered(done, table)
    thumbnails = Thumbnails(images)
    return Content(
        origin,
        evaluation,
        verdict,
        tuple(lines),
        signals,
        tuple(_calibrations(done, table, signals)),
        tuple(needed),
        (*needed[:-1], "no answer"),
        counts,
        groups(done, table, labels, thumbnails),
        feature_use(policy, table),
        ()
        if premodel is None or conditions is None
        else condition_rows(premodel, conditions, done, table, shares, thumbnails),
        table.meta,
        images is not None,
        tuple(thumbnails.unreadable),
    )


def _calibrations(done: Replay, table: OutcomeTable, signals: SignalTable) -> list[Calibration]:
    answered = ~done.abstained
    found = []
    if answered.any():
        own = reliability(done.confidence[answered], done.quality[answered])
        found.append(Calibration("this policy", own))
    for name in table.candidates:
        right = table.quality(name)
        soft = signals.softened.get(name)
        found.append(
            Calibration(
                name,
                reliability(np.minimum(table.of(name).confidence, 1.0), right),
                signals.temperatures.get(name),
                None if soft is None else reliability(np.minimum(soft, 1.0), right).error,
            )
        )
    return found
