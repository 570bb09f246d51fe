from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.evaluation.evaluation import evaluate, paired
from adaptive.evaluation.findings import Verdict
from adaptive.evaluation.verdict import verdict
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling

NAMES = ("small", "big")


def made(
    count: int = 2000,
    told: float = 1.0,
    honest: bool = False,
    features_ms: float = 0.1,
    seed: int = 0,
) -> OutcomeTable:
    """Half of the images are hard for the small network; nine in ten are right for the big one.

    told : how much of the feature is hardness, the rest being noise
    honest : whether the small network's confidence tells hard from easy
    """
    draw = np.random.default_rng(seed)
    hard = draw.random(count) < 0.5
    feature = np.where(draw.random(count) < told, hard, draw.random(count) < 0.5)
    feature = feature + draw.normal(0, 0.05, count)
    small = draw.random(count) < np.where(hard, 0.3, 0.9)
    big = draw.random(count) < 0.9
    confidence = np.where(hard, 0.2, 0.8) + draw.uniform(-0.1, 0.1, count)
    ones = np.ones(count)
    return OutcomeTable(
        tuple(f"{i}.jpg" for i in range(count)),
        np.zeros(count, int),
        ("hardness",),
        feature[:, np.newaxis],
        {
            "small": Outcomes(small, small, confidence if honest else ones / 2, 5 * ones),
            "big": Outcomes(big, big, ones * 0.9, 50 * ones),
        },
        ones,
        features_ms * ones,
        meta={"feature_ms": {"hardness": features_ms}},
    )


def learned(table: OutcomeTable, k: int = 15) -> KNNChain:
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    outcomes = np.column_stack([table.quality(n) for n in table.candidates]).astype(np.uint8)
    grid = scaling.grid(table.X)
    return KNNChain.from_arrays(["hardness"], table.candidates, scaling, grid, outcomes, k)


def judged(told: float, seed: int = 0, **more: object) -> Verdict:
    premodel = learned(made(400, told=told, seed=seed + 100))
    table = made(told=told, seed=seed, **more)  # type: ignore[arg-type]
    return verdict(ByPremodel(NAMES, premodel), table, premodel_ms=0.05)


def test_informative_features_pay() -> None:
    found = judged(1.0)
    assert found.pays is True
    assert found.premodel_pays is True
    assert found.overall().startswith("Routing pays: ")
    assert "The premodel pays" in found.overall()


def test_noise_features_do_not_pay() -> None:
    for seed in range(5):
        assert judged(0.0, seed).pays is not True


def test_noise_features_that_cost_time_lose() -> None:
    found = judged(0.0, features_ms=20.0)
    assert found.pays is False
    assert found.premodel_pays is False
    assert found.overall().startswith("Routing does not pay: ")
    assert "The premodel does not pay" in found.overall()
    assert any("below a random mix" in line for line in found.words())


def test_false_alarms_on_noise_are_as_rare_as_promised() -> None:
    # One-sided, 2.5% at most; the features' time only makes it rarer.
    alarms = sum(judged(0.0, seed, count=300, features_ms=0.0).pays is True for seed in range(150))
    assert alarms <= 11


def test_difference_to_the_mix_equals_the_evaluations() -> None:
    premodel = learned(made(400, seed=5))
    policy, table = ByPremodel(NAMES, premodel), made(told=0.7)
    found = verdict(policy, table, 0.05)
    expected = evaluate(policy, table, premodel_ms=0.05)
    against = found.find("policy", "random mix")[0]
    assert against.difference == expected.over_mix
    assert against.ms == pytest.approx(expected.policy.ms.value)
    assert against.opponent_ms == pytest.approx(expected.mix.ms.value)


def test_fixed_candidates_below_its_cost_are_left_out() -> None:
    found = judged(1.0)
    assert [c.name for c in found.find("policy", "fixed")] == ["big"]
    assert verdict(Fixed(("small",)), made()).find("policy", "fixed")[0].name == "big"
    assert not verdict(Fixed(("big",)), made()).find("policy", "fixed")


def test_policy_that_is_its_own_baseline_cannot_be_told_from_it() -> None:
    table = made(100)
    found = verdict(Fixed(("small",)), table)
    against = found.find("policy", "random mix")[0]
    assert against.difference.value == 0
    assert against.difference.low < 0 < against.difference.high
    assert found.pays is None
    assert against.needed is None
    assert "neither is ahead" in against.words()


def test_one_image_decides_nothing() -> None:
    for row in range(10):
        table = made(10).select(np.array([row]))
        assert verdict(Fixed(("small",)), table).find("policy", "fixed")[0].pays is None


def test_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="at least one image"):
        verdict(Fixed(("small",)), made(10).select(np.arange(0)))


def test_interval_of_agreement_is_never_empty() -> None:
    same = paired(np.zeros(50))
    assert same.low < 0 < same.high
    assert paired(np.ones(50)).low < 1 == paired(np.ones(50)).high
    wide = np.tile([1.0, -1.0], 50)
    assert paired(wide).high == pytest.approx(1.96 * np.std(wide, ddof=1) / 10, rel=1e-3)


CASCADES = tuple(Cascade(NAMES, thresholds=(t,)) for t in (0.15, 0.5, 0.75))


def test_honest_cascade_beats_a_premodel_on_noise_and_is_not_hidden() -> None:
    table = made(told=0.2, honest=True)
    premodel = learned(made(400, told=0.2, seed=9))
    alone = verdict(ByPremodel(NAMES, premodel), table, 0.05, CASCADES)
    assert alone.find("premodel", "cascade")[0].pays is False
    assert alone.premodel_pays is False
    # A cascade serves; the premodel that lies beside it is judged all the same.
    served = verdict(CASCADES[1], table, 0.05, CASCADES, premodel=premodel)
    assert served.pays is True
    assert served.premodel_pays is False
    assert "The premodel does not pay" in served.overall()
    assert "it lost to" in served.overall()


def test_cascade_is_divided_to_equal_cost() -> None:
    table = made(honest=True)
    found = verdict(ByPremodel(NAMES, learned(made(400, seed=3))), table, 0.05, CASCADES)
    against = found.find("premodel", "cascade")[0]
    assert against.opponent_ms == pytest.approx(against.ms)
    # The same decisions, but the cascade ran the small network first for all of them.
    assert against.pays is True


def test_hybrid_is_judged_by_what_it_adds_to_the_cascade() -> None:
    table = made(told=0.0, honest=True)
    premodel = learned(made(400, told=0.0, seed=9))
    hybrid = Hybrid(NAMES, premodel, thresholds=(0.5,))
    found = verdict(hybrid, table, 0.05, (CASCADES[1],), ["Take care."])
    against = found.find("policy", "cascade")[0]
    assert against.difference.value == pytest.approx(0, abs=1e-12)
    assert found.premodel_pays is None
    assert found.words()[-1] == "Take care."
    within = found.break_even[1]
    assert (within.subject, within.kept, within.saving, within.pays) == ("policy", 1.0, 0.0, False)
    assert "every image still starts with small" in within.words()


def test_break_even_is_the_share_not_kept_times_the_small_networks_time() -> None:
    found = judged(1.0)
    known = found.break_even[0]
    assert known.small == "small"
    assert known.cost == pytest.approx(0.15)
    assert known.saving == pytest.approx((1 - known.kept) * 5)
    assert known.margin.value == pytest.approx(known.saving - known.cost)
    assert known.pays is True
    dear = judged(1.0, features_ms=4.0).break_even[0]
    assert dear.pays is False
    assert "costs more time than it saves" in dear.words()


def test_premodel_policy_is_judged_by_its_own_rule() -> None:
    costs = (5.0, 50.0)
    policy = ByPremodel(
        NAMES, learned(made(400, seed=3)), costs_ms=costs, rule="utility", price=0.004
    )
    found = verdict(policy, made(), 0.05)
    own, alone = found.find("policy", "random mix")[0], found.find("premodel", "random mix")[0]
    assert (own.difference, own.ms) == (alone.difference, alone.ms)
    assert len(found.shown()) == len(found.find("policy"))


def test_exit_that_runs_through_the_small_one_saves_nothing() -> None:
    table = made()
    outcomes = {"small": table.of("small"), "big": replace(table.of("big"), after="small")}
    table = replace(table, outcomes=outcomes)
    found = verdict(ByPremodel(NAMES, learned(made(400, seed=3))), table)
    assert found.break_even[0].kept == 1.0


def test_random_policy_is_judged_on_one_draw() -> None:
    policy = Random(NAMES, seed=3)
    table = made(200)
    first, second = verdict(policy, table), verdict(policy, table)
    assert first == second
    assert evaluate(replace(policy), table).over_mix == first.comparisons[0].difference


def test_verdict_as_json() -> None:
    values = json.loads(json.dumps(judged(1.0).to_json(), allow_nan=False))
    assert values["pays"] is True
    assert {c["opponent"] for c in values["comparisons"]} == {"random mix", "fixed"}
    assert values["break_even"][0]["pays"] is True
