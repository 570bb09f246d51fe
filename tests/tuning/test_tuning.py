"""Tuning on tables whose truth is made here: what is chosen, and what is promised of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.evaluation.replay import replay
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.hybrid import Hybrid
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.tuning.build import build_policy, learn_gains
from adaptive.tuning.certificate import P_VALUES, Counts
from adaptive.tuning.gate import foretold, gate
from adaptive.tuning.hypotheses import SURE, Tuned
from adaptive.tuning.judged import Judged
from adaptive.tuning.learned import learned_trials
from adaptive.tuning.members import CLASSES, DRAWN, Members
from adaptive.tuning.objectives import Tuner
from adaptive.tuning.search import FAMILIES, Trial, choose, trials

NETWORKS = (("small", 0.5, 1.0), ("medium", 1.0, 3.0), ("large", 1.6, 8.0))


def make_table(n=400, seed=0, classes=6, blind=False, probabilities=True, networks=NETWORKS):
    """Networks that get surer and better with their cost, on images of varying difficulty.

    The feature "clear" tells the difficulty; with `blind` the confidences do not.
    """
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, n)
    clear = generator.normal(0.6, 0.9, n)
    outcomes, values = {}, {}
    for name, skill, ms in networks:
        logits = generator.normal(0, 0.8, (n, classes))
        logits[np.arange(n), label] += 2 * skill + 1.2 * clear
        each = np.exp(logits)
        values[name] = (each / each.sum(axis=1, keepdims=True)).astype(np.float16)
        right = values[name].argmax(axis=1) == label
        confidence = values[name].max(axis=1).astype(np.float64)
        if blind:
            confidence = generator.uniform(0.2, 1, n)
        outcomes[name] = Outcomes(right, right, confidence, np.full(n, ms), np.full(n, 2 * ms))
    nothing = np.zeros(n)
    return OutcomeTable(
        tuple(f"{seed}-{row}.jpg" for row in range(n)),
        label,
        ("clear", "other"),
        np.column_stack([clear, generator.normal(size=n)]),
        outcomes,
        nothing,
        np.full(n, 0.01),
        values if probabilities else {},
    )


def members_of(table, seed=0):
    cost = {name: float(table.ms(name).mean()) for name in table.candidates}
    return Members.of(table, cost, seed=seed)


def noted_chain(table, k=15):
    """The papers' premodel on "clear", without scikit-learn."""
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    outcomes = np.column_stack([table.quality(name) for name in table.candidates])
    grid = scaling.grid(table.feature_columns(("clear",)))
    return KNNChain.from_arrays(
        ["clear"], list(table.candidates), scaling, grid, outcomes.astype(np.uint8), k
    )


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def members(table):
    return members_of(table)


@pytest.fixture(scope="module")
def chances(table):
    return noted_chain(make_table(seed=99)).predict(table.feature_columns(("clear",)))


@pytest.mark.parametrize("budget", [1.0, 1.7, 3.5, 8.0, 30.0])
def test_no_trial_is_above_the_budget(members, chances, budget):
    found = list(trials(members, budget, Judged(chances, charge=0.1)))
    assert found
    for trial in found:
        assert trial.cost <= budget + 1e-9
        assert trial.right.shape == (len(members),)
        assert trial.right.dtype == bool
        assert trial.family in FAMILIES
        assert all(0 < share <= 1 for share in trial.shares)
        assert list(trial.shares) == sorted(trial.shares, reverse=True)


@pytest.mark.parametrize("kind", [None, "fixed", "cascade", "hybrid"])
def test_choose_stays_within_budget_and_kind(members, chances, kind):
    for budget in (2.0, 5.0, 9.0):
        choice = choose(members, budget, Judged(chances, charge=0.1), kind=kind)
        assert choice.trial.cost <= budget + 1e-9
        assert kind in (None, choice.trial.kind)
        assert choice.expected == choice.families[choice.trial.family]


def test_choose_refuses_a_budget_below_the_cheapest(members):
    with pytest.raises(InputError, match=r"0\.5 cannot be met: the cheapest candidate, small"):
        choose(members, 0.5)
    with pytest.raises(InputError, match="no cascade policy has a mean cost of at most 1"):
        choose(members, 1.0, kind="cascade")
    with pytest.raises(InputError, match="no hybrid policy"):
        choose(members, 5.0, kind="hybrid")


def test_choose_is_the_same_every_time(table, chances):
    first, second = (
        choose(members_of(table, 3), 4.0, Judged(chances, charge=0.1)) for _ in range(2)
    )
    assert first.trial.path == second.trial.path
    assert first.reason == second.reason
    np.testing.assert_array_equal(first.trial.right, second.trial.right)


def test_an_earlier_budget_does_not_change_a_later_choice(table, chances):
    used = members_of(table)
    for budget in (2.0, 3.0, 6.0):
        choose(used, budget, Judged(chances, charge=0.1))
    choose(used, 4.0, Judged(chances[::-1].copy(), charge=0.1))
    fresh, again = (choose(m, 4.0, Judged(chances, charge=0.1)) for m in (members_of(table), used))
    assert fresh.reason == again.reason
    np.testing.assert_array_equal(fresh.trial.right, again.trial.right)


def test_more_budget_is_not_less_accurate_in_cross_validation(members):
    cheap, dear = (choose(members, budget).expected for budget in (1.0, 6.0))
    assert dear > cheap


def test_the_reason_names_what_was_compared(members, chances):
    assert choose(members, 1.0).reason == "fixed is all that fits the budget"
    assert "in cross-validation" in choose(members, 4.0).reason
    judged = Judged(chances, charge=0.1)
    only = choose(members, 4.0, judged, kind="hybrid")
    words = gate(members, judged).words
    unasked = words.replace("the premodel is left out", "Unasked, the premodel would be left out")
    assert only.reason == f"only hybrid policies were asked for. {unasked}"
    worse = make_table(networks=(("small", 1.6, 1.0), ("large", 0.1, 8.0)), probabilities=False)
    assert "nothing more complicated than fixed was better" in choose(members_of(worse), 3.0).reason


def test_uninformative_chances_hardly_ever_make_a_hybrid():
    picked = 0
    for seed in range(60):
        table = make_table(300, seed, probabilities=False)
        noise = np.random.default_rng(1000 + seed).uniform(0, 1, (300, 3))
        choice = choose(members_of(table, seed), 3.0, Judged(noise, charge=0.01))
        picked += choice.trial.kind == "hybrid"
        if choice.trial.family in ("cascade", "averaging cascade", "cascade of three"):
            assert "premodel is left out" in choice.reason
    # Two standard errors are passed by chance one time in forty, where nothing is to be gained.
    assert picked <= 5


def test_informative_chances_are_used_where_confidences_tell_nothing():
    picked = 0
    for seed in range(10):
        table = make_table(600, seed, blind=True, probabilities=False)
        premodel = noted_chain(make_table(600, 500 + seed), k=51)
        chances = premodel.predict(table.feature_columns(("clear",)))
        choice = choose(members_of(table, seed), 2.0, Judged(chances, charge=0.01))
        picked += choice.trial.kind in ("hybrid", "premodel")
    assert picked >= 8


def test_a_candidate_that_the_premodel_does_not_judge_is_in_no_hybrid(members, chances):
    unknown = chances.copy()
    unknown[:, 1] = np.nan
    found = [t for t in trials(members, 6.0, Judged(unknown)) if t.family == "hybrid"]
    assert found
    assert all("medium" not in t.path for t in found)


def replayed(trial: Trial, table, premodel=None, chances=None) -> tuple[Policy, float, float]:
    """The built policy, its agreement with the trial, and its cost."""
    own = judged = None
    if trial.kind == "hybrid":
        judged = Judged(chances)
        own = judged.numbers([table.candidates.index(name) for name in trial.path], False)
    policy = build_policy(trial, table, members_of(table), premodel, judged)
    free = replace(table, features_ms=np.zeros(len(table)))
    done = replay(policy, free, chances=own)
    return policy, float(np.mean(done.quality == trial.right)), float(done.ms.mean())


def test_a_trial_is_what_its_policy_does(table, members, chances):
    premodel = noted_chain(make_table(seed=99))
    seen = set()
    generator = np.random.default_rng(0)
    found = [t for budget in (2.0, 4.5, 8.0) for t in trials(members, budget, Judged(chances))]
    by_thresholds = [family for family in FAMILIES if not family.startswith("learned")]
    for family in by_thresholds:
        own = [t for t in found if t.family == family]
        for number in generator.choice(len(own), min(25, len(own)), replace=False):
            trial = own[number]
            policy, agreement, cost = replayed(trial, table, premodel, chances)
            assert policy.kind == trial.kind
            # Images with equal scores stand or fall together at a threshold, but not in a
            # trial; the chain's chances and half-precision probabilities have many such.
            assert agreement >= 0.98, trial
            assert cost == pytest.approx(trial.cost, rel=0.02), trial
            seen.add(family)
    assert seen == set(by_thresholds)


@pytest.mark.parametrize("premodel", [True, False], ids=["hybrid", "cascade"])
@pytest.mark.parametrize("probabilities", [True, False])
def test_learned_gains_are_served_as_they_were_foretold(probabilities, premodel, chances):
    table = make_table(probabilities=probabilities)
    members = members_of(table)
    judge = noted_chain(make_table(seed=99)) if premodel else None
    judged = Judged(chances) if premodel else None
    free = replace(table, features_ms=np.zeros(len(table)))
    lengths = set()
    for budget in (2.0, 4.5, 8.0):
        for trial in learned_trials(members, budget, judged):
            own = chances[:, [table.candidates.index(name) for name in trial.path]]
            learned = learn_gains(trial, table, members, judge, judged)
            price = learned.price(budget, own=True)
            gains = learned.gains(price)
            policy = build_policy(trial, table, members, judge, judged, gains=gains)
            assert policy.kind == ("hybrid" if premodel else "cascade")
            right, _, cost = learned.walk(price, own=True)
            done = replay(policy, free, chances=own if premodel else None)
            # Averages are judged by exponents of the other images, over some of the classes.
            assert np.mean(done.quality == right) > 0.99, trial
            assert done.ms.mean() == pytest.approx(cost.mean(), rel=0.02)
            assert done.ms.mean() <= 1.02 * budget
            # What was foretold is by other images' gains: nearly, not exactly, the same.
            assert np.mean(right == trial.right) > 0.85, trial
            lengths.add(len(trial.path))
    assert lengths == {2, 3}


def test_cross_fitted_gains_do_not_know_the_image(table, members):
    """With pure noise for chances, own coefficients look better than they are, the others not."""
    noise = np.random.default_rng(5).uniform(0.02, 0.98, (len(table), 3))
    assert foretold(members, Judged(noise), None).errors < 2
    everything = np.stack([members.quality[n] for n in members.names], axis=1) * 0.9 + 0.05
    assert foretold(members, Judged(everything), None).errors > 5


def test_a_trial_is_nearly_what_its_policy_does_where_classes_are_cut_off():
    table = make_table(300, classes=5 * CLASSES)
    members = members_of(table)
    assert members.answer(("small",), False).shape == (300, CLASSES + DRAWN)
    for trial in [t for t in trials(members, 4.0) if not t.learned][::7]:
        _, agreement, cost = replayed(trial, table)
        assert agreement >= 0.96, trial
        assert cost == pytest.approx(trial.cost, rel=0.05), trial


def test_members_keep_the_likeliest_classes():
    table = make_table(50, classes=140)
    members = members_of(table)
    for name in table.candidates:
        np.testing.assert_array_equal(
            members.right((name,), False),
            members.logs[name].argmax(axis=1) == members.label,
        )
    assert members_of(make_table(50, probabilities=False)).logs is None


def test_without_probabilities_only_confidences_are_used(chances):
    members = members_of(make_table(probabilities=False))
    for trial in trials(members, 5.0, Judged(chances)):
        assert trial.signal == "top"
        assert not trial.average


def test_tuner_splits_by_name_and_keeps_the_test_part_out(table):
    tuner = Tuner(table, Split(0.5, 0.3, 0.2, 4))
    parts = {part: Split(0.5, 0.3, 0.2, 4).rows(table.images, part) for part in ("tune", "test")}
    assert tuner.tune.images == tuple(table.images[r] for r in parts["tune"])
    seen = set(tuner.tune.images) | set(tuner.calibration.images)
    assert not seen & {table.images[r] for r in parts["test"]}
    assert tuner.reference == "large"


def test_within_gives_a_policy_within_the_budget(table):
    tuner = Tuner(table)
    for budget in (1.5, 4.0):
        tuned = tuner.within(budget)
        assert isinstance(tuned.policy, (Fixed, Cascade))
        assert float(replay(tuned.policy, tuner.tune).ms.mean()) <= budget * 1.01
        assert tuned.certificate is None


def test_energy_can_be_the_cost(table):
    tuner = Tuner(table, cost="mj")
    assert tuner.cost == {"small": 2.0, "medium": 6.0, "large": 16.0}
    assert tuner.within(5.0).choice.trial.cost <= 5.0
    bare = {n: replace(o, mj=None) for n, o in table.outcomes.items()}
    with pytest.raises(InputError, match=r"no energies \(small:mj\)"):
        Tuner(replace(table, outcomes=bare), cost="mj")


@pytest.mark.parametrize("bound", P_VALUES)
def test_certified_gives_the_cheapest_policy_that_passed(bound):
    tuner = Tuner(make_table(500, 1), calibration=make_table(1500, 2))
    tuned = tuner.certified(0.04, 0.05, bound)
    certificate = tuned.certificate
    assert certificate.bound == bound
    assert certificate.p_value <= 0.05
    assert certificate.drop_bound <= 0.04 + 1e-6
    assert certificate.images == 1500
    counts = Counts.of(
        tuner.calibration.quality("large"), replay(tuned.policy, tuner.calibration).quality
    )
    assert counts == Counts(certificate.images, certificate.losses, certificate.gains)
    tested = tuned.details["tested_in_order"]
    assert len(tested) == certificate.tested
    order = [entry["p_value_tuning"] for entry in tested]
    assert order == sorted(order)
    passed = []
    for entry in tested:
        if entry["p_value"] > 0.05:
            break
        passed.append(entry["cost"])
    assert tuned.choice.trial.cost == min(passed)
    assert f"cheapest of the {len(passed)} certified policies" in tuned.reason


def test_policies_that_tell_nothing_apart_are_ordered_by_their_drop():
    # With 50 images the betting test's p-values are all 1.
    tuner = Tuner(make_table(50, 1), calibration=make_table(60, 2))
    tested = tuner.certified(0.001, 0.05).details["tested_in_order"]
    alike = [entry for entry in tested if entry["p_value_tuning"] == 1.0]
    assert len(alike) > 3
    # The dearer ones lose less, so they no longer come last.
    assert alike[0]["cost"] > alike[-1]["cost"]


def infeasible(calibrate, epsilon=0.01, bound="betting") -> tuple[Tuner, Tuned]:
    tuner = Tuner(make_table(500, 1), calibration=make_table(calibrate, 2), kind="cascade")
    return tuner, tuner.certified(epsilon, 0.05, bound)


def test_infeasible_says_why_and_how_many_images_more():
    tuner, tuned = infeasible(60)
    assert tuned.policy is None
    assert tuned.certificate is None
    assert tuned.reason.startswith("infeasible: on 60 calibration images the most promising")
    assert f"against {tuner.reference}" in tuned.reason
    assert tuned.reason.endswith(
        f"about {tuned.needed - 60:,} more calibration images would be needed"
    )
    assert 60 < tuned.needed < 200_000
    _, fewer = infeasible(60, bound="exact")
    assert fewer.policy is not None or fewer.needed < tuned.needed


def test_of_a_split_table_it_says_how_many_images_more_in_all():
    tuner = Tuner(make_table(300, 1), Split(0.5, 0.25, 0.25), kind="cascade")
    tuned = tuner.certified(0.005, 0.05)
    more = tuned.needed - len(tuner.calibration)
    assert tuned.reason.endswith(
        f"about {more:,} more calibration images would be needed, which at this split (25% "
        f"calibrate) takes about {4 * more:,} more labelled images in all"
    )


def test_several_drops_are_one_family_in_the_order_of_the_tuning_images():
    drops = (0.02, 0.05, 0.1)
    tuner = Tuner(make_table(500, 1), calibration=make_table(700, 2))
    tuned = tuner.certified(drops, 0.05)
    tested = tuned.details["tested_in_order"]
    sure = [entry for entry in tested if entry["p_value_tuning"] <= SURE]
    assert tested[: len(sure)] == sure
    # Then the most promising of each drop that none of those has, then by promise again.
    begun = len(sure) + len(set(drops) - {entry["drop"] for entry in sure})
    for drop in set(drops) - {entry["drop"] for entry in sure}:
        own = [entry["p_value_tuning"] for entry in tested if entry["drop"] == drop]
        assert min(own) in [entry["p_value_tuning"] for entry in tested[len(sure) : begun]]
    rest = [entry["p_value_tuning"] for entry in tested[begun:]]
    assert rest == sorted(rest)
    assert len(tested) == tuned.certificate.tested
    assert {entry["drop"] for entry in tested} == set(drops)
    passed = {}
    for entry in tested:
        if entry["p_value"] > 0.05:
            break
        passed.setdefault(entry["drop"], []).append(entry["cost"])
    assert len(passed) > 1
    assert tuned.certificate.epsilon == min(passed)
    assert tuned.certificate.drops == (0.1, 0.05, 0.02)
    assert "Tested as one family with" in tuned.certificate.words()
    assert tuned.reason.startswith("tested as one family: 10 points at a mean cost of ")
    for drop in drops:
        own = tuner.certified(drops, 0.05, take=drop)
        if drop in passed:
            assert own.certificate.epsilon == drop
            assert own.choice.trial.cost == min(passed[drop])
        else:
            assert own.policy is None
            assert "infeasible: on 700 calibration images" in own.reason
    with pytest.raises(InputError, match=r"0.03 is not one of the drops"):
        tuner.certified(drops, 0.05, take=0.03)


def test_one_drop_is_a_family_of_its_own():
    tuner = Tuner(make_table(500, 1), calibration=make_table(700, 2))
    one, same = tuner.certified(0.05, 0.05), tuner.certified([0.05, 0.05], 0.05)
    assert one.certificate == same.certificate
    assert one.certificate.drops == ()
    assert one.reason.startswith("cheapest of the")


def test_infeasible_at_any_number_says_so():
    _, tuned = infeasible(60, epsilon=-0.2)
    assert tuned.needed is None
    assert tuned.reason.endswith("at these rates no number of images would")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epsilon": 1.5}, "an accuracy drop of 1.5 is not between -1 and 1"),
        ({"epsilon": (0.1, 1.5)}, "an accuracy drop of 1.5 is not between -1 and 1"),
        ({"epsilon": ()}, "no accuracy drop was given"),
        ({"delta": 0.0}, "delta 0.0 is not between 0 and 1"),
        ({"delta": 1.0}, "delta 1.0 is not between 0 and 1"),
        ({"bound": "wald"}, "bound 'wald' is not one of"),
    ],
)
def test_certified_refuses(table, options, sentence):
    with pytest.raises(InputError, match=sentence):
        Tuner(table).certified(**{"epsilon": 0.01, "delta": 0.05, **options})


def test_tuner_refuses_what_it_cannot_use(table):
    with pytest.raises(InputError, match="40 tuning images are too few; at least 50"):
        Tuner(make_table(40), Split(1.0, 0.0, 0.0))
    with pytest.raises(InputError, match="400 images both tune and calibrate, such as '0-0"):
        Tuner(table, calibration=table)
    with pytest.raises(InputError, match="cost 'joule' is neither ms nor mj"):
        Tuner(table, cost="joule")
    with pytest.raises(InputError, match="'huge'"):
        Tuner(table, reference="huge")
    with pytest.raises(InputError, match="no images calibrate"):
        Tuner(table, Split(1.0, 0.0, 0.0)).certified(0.01, 0.05)


def test_upper_times_are_exceeded_as_rarely_as_said():
    generator = np.random.default_rng(0)
    exceeded = []
    for seed in range(30):
        table = make_table(300, seed, probabilities=False)
        times = {
            name: replace(o, ms=o.ms * generator.gamma(5, 0.2, 300))
            for name, o in table.outcomes.items()
        }
        upper = Tuner(replace(table, outcomes=times), Split(0.5, 0.5, 0)).upper_ms(0.1)
        exceeded.append(np.mean(generator.gamma(5, 0.2, 2000) > upper["small"]))
    assert 0.05 < np.mean(exceeded) < 0.115
    with pytest.raises(InputError, match=r"too few for a time that .* at least 99"):
        Tuner(make_table(100), Split(0.6, 0.4, 0)).upper_ms()


def with_decoding(table, ms):
    return replace(table, decode_ms=np.full(len(table), ms))


def test_a_deadline_counts_decoding_and_the_whole_path():
    table = with_decoding(make_table(600), 5.0)  # networks of 1, 3 and 8 ms
    tuner = Tuner(table, Split(0.5, 0.5, 0))
    assert tuner.by_deadline(8.9).policy.candidates in (("small",), ("medium",))
    both = tuner.by_deadline(9.1)
    assert both.policy.candidates == ("small", "medium")
    assert "decoding and networks together take longer than 9 ms with probability" in both.reason
    assert "at most 1%, whichever way an image takes, by the times of" in both.reason
    assert "calibration images" in both.reason
    assert both.policy.upper_ms == (1.0, 3.0)
    with pytest.raises(InputError, match="the fastest candidate, small, takes up to 6 with dec"):
        tuner.by_deadline(5.9)


def test_a_deadline_counts_features_and_premodel():
    table = make_table(600, blind=True, probabilities=False)
    slow = replace(table, features_ms=np.linspace(1.0, 9.0, 600))
    premodel = noted_chain(make_table(600, 4))
    for features, fits in ((table, True), (slow, False)):
        tuner = Tuner(
            features, Split(0.5, 0.5, 0), None, premodel, False, premodel_ms=0.5, kind="hybrid"
        )
        if fits:
            assert "decoding, features, premodel and networks" in tuner.by_deadline(4.6).reason
        else:  # a mean of 5 ms would be in time, and the slowest are not
            with pytest.raises(InputError, match="no hybrid policy"):
                tuner.by_deadline(4.0 + 0.5 + 5.5)


def test_what_is_said_of_a_deadline_holds_for_other_images():
    """Heavy-tailed times of every step."""

    def slowed(table, generator):
        n = len(table)
        outcomes = {
            name: replace(o, ms=o.ms * np.exp(generator.normal(0, 0.5, n)))
            for name, o in table.outcomes.items()
        }
        return replace(table, outcomes=outcomes, decode_ms=np.exp(generator.normal(0, 0.5, n)))

    generator = np.random.default_rng(0)
    exceeded, lengths = [], set()
    for seed in range(25):
        table = slowed(make_table(600, seed, probabilities=False), generator)
        tuned = Tuner(table, Split(0.5, 0.5, 0), kind="cascade").by_deadline(33.0)
        if tuned.policy is None:
            continue
        fresh = slowed(make_table(4000, 99, probabilities=False), generator)
        path = tuned.policy.candidates
        lengths.add(len(path))
        exceeded.append(float((fresh.decode_ms + fresh.path_ms(path) > 33.0).mean()))
    assert len(exceeded) > 20
    assert max(lengths) > 1
    assert np.mean(exceeded) <= 0.01


def test_a_policy_that_calibration_images_find_late_is_not_promised():
    quick, slow = make_table(400, 1), with_decoding(make_table(400, 2), 50.0)
    tuned = Tuner(quick, calibration=slow).by_deadline(20.0)
    assert tuned.policy is None
    assert tuned.reason.startswith("infeasible: of the most accurate policy that was in time")
    assert "which is more than 20" in tuned.reason


def test_times_of_other_images_count_once_each():
    table = make_table(600)
    ms = np.arange(1.0, 101.0)[np.arange(600) % 100]
    times = {name: replace(o, ms=ms) for name, o in table.outcomes.items()}
    meta = {"times": {"of": "T.csv", "images": 100, "same_images": False}}
    few = replace(table, outcomes=times, meta=meta)
    assert Tuner(few, Split(0.5, 0.5, 0)).upper_ms(0.1)["small"] >= 90
    with pytest.raises(InputError, match="are too few for a time"):
        Tuner(few, Split(0.5, 0.5, 0)).upper_ms(0.001)


def test_chances_of_images_that_it_learned_from_are_cross_fitted():
    pytest.importorskip("sklearn")
    table = make_table(300)
    names, columns = ["other"], table.feature_columns(("other",))
    outcomes = np.column_stack([table.quality(n) for n in table.candidates]).astype(np.uint8)
    premodel = KNNChain(names, list(table.candidates), k=1).fit(columns, outcomes)
    seen, unseen = (
        Tuner(table, Split(1.0, 0.0, 0.0), premodel=premodel, learned_here=here)
        for here in (True, False)
    )
    # One neighbour, itself: the premodel knows these images by heart, its twins do not.
    assert np.all(np.mean(unseen.judged.chances == outcomes, axis=0) > 0.97)
    agreement = np.mean((seen.judged.chances > 0.5) == outcomes, axis=0)
    chance = outcomes.mean(axis=0)
    assert np.all(np.abs(agreement - chance**2 - (1 - chance) ** 2) < 0.15)
    assert seen.charge == pytest.approx(0.01)


def test_tuned_hybrid_is_served_by_the_premodel():
    table = make_table(500, 3, blind=True, probabilities=False)
    premodel = noted_chain(make_table(500, 4))
    tuner = Tuner(table, Split(1.0, 0.0, 0.0), premodel=premodel, learned_here=False, kind="hybrid")
    tuned = tuner.within(4.0)
    assert isinstance(tuned.policy, Hybrid)
    assert tuned.policy.premodel is premodel
    assert float(replay(tuned.policy, tuner.tune).ms.mean()) <= 4.0 * 1.02
