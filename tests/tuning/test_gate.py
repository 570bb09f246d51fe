"""Whether a premodel is used, on tables whose truth is made here."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adaptive.features.schema import SCHEMA
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.hybrid import Hybrid
from adaptive.premodel.mixture import FEATURES, Mixture
from adaptive.premodel.shares import ConditionShares, known_shares
from adaptive.tuning.gate import Gate, gate
from adaptive.tuning.objectives import Tuner
from adaptive.tuning.search import _sentence, choose
from adaptive.tuning.trial import Trial

NETWORKS = (("small", 1.0), ("medium", 3.0), ("large", 8.0))

#: skill by condition and network: where conditions reorder the networks
REORDERED = ((0.7, 1.1, 1.6), (1.5, 0.5, 0.6), (0.4, 1.6, 0.5))

#: where one condition is harder for all of them
HARDER = ((0.8, 1.2, 1.7), (0.4, 0.8, 1.3), (0.1, 0.5, 1.0))

#: where conditions are nothing to the networks
SAME = ((0.7, 1.1, 1.6),) * 3


def table_of(skills, n=900, seed=0, classes=8):
    """Three conditions that the features tell, and what networks make of them."""
    generator = np.random.default_rng(seed)
    condition = generator.integers(0, 3, n)
    X = np.exp(generator.normal(0, 0.15, (n, 5)) + np.log([30, 4, 120, 40, 130]))
    X[condition == 1, 2:] *= 0.2
    X[condition == 2, 1] *= 8
    label = generator.integers(0, classes, n)
    clear = generator.normal(0.3, 0.6, n)
    outcomes, values = {}, {}
    for network, (name, ms) in enumerate(NETWORKS):
        skill = np.array(skills)[condition, network]
        logits = generator.normal(0, 1, (n, classes))
        logits[np.arange(n), label] += 1.6 * skill + clear
        each = np.exp(logits)
        values[name] = (each / each.sum(axis=1, keepdims=True)).astype(np.float16)
        right = values[name].argmax(axis=1) == label
        confidence = values[name].max(axis=1).astype(np.float64)
        outcomes[name] = Outcomes(right, right, confidence, np.full(n, ms))
    return OutcomeTable(
        tuple(f"{seed}-{row}.jpg" for row in range(n)),
        label,
        FEATURES,
        X,
        outcomes,
        np.zeros(n),
        np.full(n, 0.02),
        values,
    )


def tuner_of(table):
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    outcomes = np.column_stack([table.quality(n) for n in table.candidates]).astype(np.uint8)
    premodel = Mixture(FEATURES, table.candidates, k=3, schema_version=SCHEMA.version).fit(
        table.feature_columns(FEATURES), outcomes
    )
    return Tuner(table, Split(1.0, 0.0, 0.0), premodel=premodel)


def decided(skills, seed):
    tuner = tuner_of(table_of(skills, seed=seed))
    return gate(tuner.members, tuner.judged)


def test_conditions_that_reorder_networks_are_used():
    assert all(decided(REORDERED, seed).taken for seed in range(10))


def test_conditions_that_are_nothing_to_the_networks_are_left_out():
    """By chance one in forty passes each question, and there are two."""
    assert sum(decided(SAME, seed).taken for seed in range(40)) <= 2


def test_what_only_tells_hard_from_easy_is_left_out_however_surely_it_foretells():
    found = [decided(HARDER, seed) for seed in range(20)]
    assert np.mean([one.foretold.errors for one in found]) > 2
    assert sum(one.taken for one in found) <= 2
    assert any("hardly change places" in one.words for one in found)


def test_a_decision_is_the_same_at_every_budget_and_said_in_one_sentence():
    tuner = tuner_of(table_of(REORDERED))
    for budget in (3.0, 5.0, 8.0):
        tuned = tuner.within(budget)
        assert isinstance(tuned.policy, Hybrid)
        assert tuned.reason.startswith("The premodel is used: ")
        assert tuned.reason.count(". ") == 0
    other = tuner_of(table_of(SAME))
    for budget in (3.0, 5.0, 8.0):
        tuned = other.within(budget)
        assert not isinstance(tuned.policy, Hybrid)
        assert "The premodel is left out: it foretells" in tuned.reason


def test_a_sentence_does_not_leave_out_what_is_taken():
    """A policy that the premodel decides may be the best where hybrids are not shown to be."""
    tuner = tuner_of(table_of(SAME))
    forced = choose(tuner.members, 5.0, tuner.judged, kind="hybrid")
    assert "The premodel is left out" not in forced.reason
    assert ". Unasked, the premodel would be left out: it foretells" in forced.reason
    chosen = Trial("premodel", ("small", "large"), (), np.ones(3), np.ones(3), 1.0)
    refused = Gate(False, False, "", None, None, None, "the premodel is left out: it knows nothing")
    assert _sentence(refused, chosen) == (
        "Hybrids with the premodel are left out: it knows nothing"
    )


def test_a_hybrid_by_conditions_beats_the_learned_cascade_on_other_images():
    tuner, other = tuner_of(table_of(REORDERED, 1500)), table_of(REORDERED, 1500, seed=1)
    from adaptive.evaluation.replay import replay

    for budget in (3.0, 5.0):
        hybrid = replay(tuner.within(budget).policy, other)
        cascade = replay(tuner.learned(budget).policy, other)
        assert hybrid.quality.mean() > cascade.quality.mean() + 0.02
        assert hybrid.ms.mean() < 1.05 * budget


def test_each_make_is_served_as_it_was_tuned():
    tuner = tuner_of(table_of(REORDERED))
    kinds = {}
    from adaptive.evaluation.replay import replay

    for make in ("", "conditions", "conditions, exponents", "exponents"):
        tuned = tuner.learned(4.0, make)
        kinds[make] = type(tuned.policy)
        numbers = None
        if tuned.policy.needs_features:
            where = [tuner.tune.candidates.index(n) for n in tuned.policy.candidates]
            numbers = tuner.judged.numbers(where, tuned.policy.needs_traits)
        done = replay(tuned.policy, tuner.tune, chances=numbers)
        assert np.mean(done.quality == tuned.choice.trial.right) > 0.9
        assert done.ms.mean() <= 1.03 * 4.0
    assert kinds.pop("") is Cascade
    assert set(kinds.values()) == {Hybrid}


def test_a_learned_cascade_is_among_the_families():
    tuned = tuner_of(table_of(SAME)).within(4.0)
    assert "learned cascade" in tuned.choice.families


def test_a_certificate_says_which_conditions_it_was_made_under():
    tuner = tuner_of(table_of(REORDERED))
    tuner.calibration = table_of(REORDERED, 1500, seed=7)
    certificate = tuner.certified(0.2, 0.05).certificate
    told = certificate.conditions
    assert told.images == certificate.images == 1500
    shares = dict(zip(told.looks, told.shares))
    assert len(shares) == 3
    assert all(0.25 < share < 0.42 for share in shares.values())
    assert any("dark" in looks for looks in shares)
    assert " These images are: 3" in certificate.words()
    written = json.loads(json.dumps(certificate.to_json()))
    assert ConditionShares.from_json(written["conditions"], "it") == told
    assert known_shares(tuner.premodel, written) == told
