"""Drive a policy over an outcome table: what would have been answered, and at what cost.

It drives the same machine as the live router (`adaptive.policy.walk`), vectorised over the images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from adaptive.candidate import positions
from adaptive.errors import InputError
from adaptive.limits import UNLIMITED, Limits
from adaptive.outcomes.quality import quality_words
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.history import Output
from adaptive.policy.walk import Walk

#: In `Replay.candidate`: the policy answered nothing.
ABSTAINED = -1


@dataclass(frozen=True)
class Replay:
    """What a policy did with every image of a table; arrays of shape (n,).

    Attributes
    ----------
    quality : what the answer is worth, 0..1, bool where it is right or wrong; an abstention is
        worth nothing
    top5 : bool, whether one of its five best classes was right; None where that is not known
    ms : float64, features, premodel and every network that ran; decoding is not included
    mj : float64 or None, the same in millijoules, for the networks alone; a segment that is run
        through is charged whole
    candidate : position in the policy's order of the candidate that answered, or ABSTAINED
    ran : bool (n, m), which candidates of the policy's order ran
    confidence : float64, the score of the answer, or of the best guess where it abstained with
        one; NaN where nothing ran
    answer : int, class index of the answer, ABSTAINED where there is none; only where asked for
    """

    policy: Policy = field(repr=False)
    quality: np.ndarray
    top5: np.ndarray | None
    ms: np.ndarray
    candidate: np.ndarray
    ran: np.ndarray
    confidence: np.ndarray
    mj: np.ndarray | None = None
    answer: np.ndarray | None = None

    @property
    def abstained(self) -> np.ndarray:
        """Which images got no answer, bool (n,)."""
        return np.asarray(self.candidate == ABSTAINED)

    def shares(self) -> dict[str, float]:
        """Share of the images that each candidate answered."""
        return {
            name: float(np.mean(self.candidate == position))
            for position, name in enumerate(self.policy.candidates)
        }


def replay(
    policy: Policy,
    table: OutcomeTable,
    limits: Limits = UNLIMITED,
    premodel_ms: float = 0.0,
    chances: np.ndarray | None = None,
    answers: bool = False,
) -> Replay:
    """What `policy` would have done with the images of `table`.

    Parameters
    ----------
    limits : for every image; decoding's time, and that of candidates as they run, is taken off
    premodel_ms : what one prediction of the premodel is charged with
    chances : the premodel's numbers (n, m) where they are known already
    answers : also say which class was answered, which needs the table's probabilities

    Raises
    ------
    InputError
        when the table lacks a candidate, a feature or probabilities that the policy needs.
    """
    positions(policy.candidates, table.outcomes, "the outcome table")
    count = len(table)
    ms = np.zeros(count)
    if policy.needs_features and policy.premodel is not None:
        names = tuple(policy.premodel.features)
        ms += table.features_cost(names) + premodel_ms
        if chances is None:
            own = policy.premodel.own_features
            chances = policy.chances(table.feature_columns(names, own))
    return _drive(policy, table, limits, ms, chances, answers)


def _drive(
    policy: Policy,
    table: OutcomeTable,
    limits: Limits,
    ms: np.ndarray,
    chances: np.ndarray | None,
    answers: bool,
) -> Replay:
    count = len(table)
    segments = table.segments
    energies = all(o.mj is not None for o in table.outcomes.values())
    mj = np.zeros(count) if energies else None
    ran = np.zeros((count, len(policy.candidates)), bool)

    def left(rows: np.ndarray) -> Limits:
        # A deadline counts from the image's arrival, as it does live, so decoding is in it.
        own = limits.rows(rows)
        return Limits(
            own.remaining_ms - table.decode_ms[rows] - ms[rows],
            own.remaining_mj - (0.0 if mj is None else mj[rows]),
            own.preference,
            own.allowance_ms - ms[rows],
        )

    walk = Walk(policy, count, chances, left(np.arange(count)))
    while (step := walk.wanted) is not None:
        name, rows = policy.candidates[step.candidate], step.rows
        # A segment that already ran for these images, and an input that is made, is not paid for
        # again.
        path = [policy.candidates[c] for c in (*step.path, step.candidate)]
        ms[rows] += table.step_ms(path)[rows]
        for member, _ in segments.steps(path)[-1]:
            outcomes = table.outcomes[member]
            if mj is not None and outcomes.mj is not None:
                mj[rows] += outcomes.mj[rows]
        ran[rows, step.candidate] = True
        probabilities = None
        # Where they are known the score is calibrated, as it is live.
        if policy.needs_probabilities or (policy.exponents and name in table.probabilities):
            probabilities = table.probabilities_of(name, rows)
        output = Output(table.outcomes[name].confidence[rows], probabilities)
        walk.feed(step, output, left(rows))
    return _collect(policy, table, walk, ms, mj, ran, answers)


def _collect(
    policy: Policy,
    table: OutcomeTable,
    walk: Walk,
    ms: np.ndarray,
    mj: np.ndarray | None,
    ran: np.ndarray,
    answers: bool,
) -> Replay:
    count = len(table)
    own = [table.outcomes[name] for name in policy.candidates]
    quality = np.zeros(count, np.result_type(*(o.quality for o in own)))
    top5 = np.zeros(count, bool) if all(o.top5 is not None for o in own) else None
    candidate = np.full(count, ABSTAINED, np.intp)
    confidence = np.full(count, np.nan)
    answer = np.full(count, ABSTAINED, np.intp)
    for route in walk.routes:
        if not route.path:
            continue
        rows, last = route.rows, route.path[-1]
        candidate[rows] = last
        values = route.probabilities
        outcomes = table.outcomes[policy.candidates[last]]
        confidence[rows] = outcomes.confidence[rows] if values is None else values.max(axis=1)
        # One network alone says what it said, however sure it is made.
        if values is None or len(route.path) == 1:
            quality[rows] = table.path_quality([policy.candidates[c] for c in route.path])[rows]
            if top5 is not None and outcomes.top5 is not None:
                top5[rows] = outcomes.top5[rows]
            if answers:
                said = table.probabilities_of(policy.candidates[last], rows)
                answer[rows] = said.argmax(axis=1)
        else:
            if not table.of_classes:
                raise InputError(
                    f"the {quality_words(table.quality_name)} of averaged answers is not in the "
                    "outcome table; take a policy that does not average"
                )
            rank = rank_of(values, table.label[rows])
            quality[rows] = rank == 0
            if top5 is not None:
                top5[rows] = rank < 5
            answer[rows] = values.argmax(axis=1)
        none = rows[route.abstained]
        candidate[none] = answer[none] = ABSTAINED
        quality[none] = 0
        if top5 is not None:
            top5[none] = False
    told = answer if answers else None
    return Replay(policy, quality, top5, ms, candidate, ran, confidence, mj, told)


def rank_of(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before each label, shape (n,); of equals the lower index is first.

    probabilities : ndarray (n, classes)
    """
    if len(labels) and (labels.max() >= probabilities.shape[1] or labels.min() < 0):
        raise InputError(
            f"label {int(labels.max())} is outside the {probabilities.shape[1]} classes"
        )
    own = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    before = (probabilities == own) & (np.arange(probabilities.shape[1]) < labels[:, np.newaxis])
    return np.asarray((probabilities > own).sum(axis=1) + before.sum(axis=1))
