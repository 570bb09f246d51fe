"""How a policy turns a premodel's chances into a start."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import BundleError, InputError
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.files import policy_from_json, policy_to_json
from adaptive.policy.history import History, Output
from adaptive.policy.premodel import ByPremodel
from adaptive.policy.spending import STOP

NETS = ("net0", "net1", "net2")
COSTS = (1.0, 4.0, 10.0)


@pytest.fixture
def premodel(random_chain):
    return random_chain(candidates=3)[0]


@pytest.fixture
def utility(premodel):
    def make(**settings):
        values = {"rule": "utility", "price": 0.05, "costs_ms": COSTS, **settings}
        return ByPremodel(NETS, premodel, **values)

    return make


def starts(policy, chances, limits=UNLIMITED):
    chances = np.array(chances, np.float64)
    return policy.start(chances, len(chances), limits).tolist()


def test_utility_starts_where_the_chance_is_worth_its_time(utility):
    chances = [[0.5, 0.6, 0.7], [0.2, 0.6, 0.7], [0.2, 0.3, 0.99], [0.4, 0.55, 0.0]]
    assert starts(utility(), chances) == [0, 1, 2, 0]  # a tie goes to the first
    assert starts(utility(price=0.0), chances) == [2, 2, 2, 1]
    assert starts(utility(price=9.0), chances) == [0, 0, 0, 0]


def test_utility_abstains_where_no_answer_is_worth_its_time(utility):
    chances = [[0.04, 0.1, 0.5], [0.06, 0.1, 0.5]]
    assert starts(utility(on_abstain="abstain"), chances) == [STOP, 0]
    assert starts(utility(), chances) == [2, 0]


def test_preference_weighs_chance_against_time(utility):
    chances = [[0.5, 0.6, 0.7]]
    assert starts(utility(), chances, Limits(preference=1.0)) == [2]
    assert starts(utility(), chances, Limits(preference=-1.0)) == [0]
    assert starts(utility(price=0.0), chances, Limits(preference=-1.0)) == [0]


def test_many_rows_equal_one_by_one(utility, premodel):
    chances = np.random.default_rng(0).uniform(size=(500, 3))
    for policy in (
        utility(),
        utility(on_abstain="abstain", price=0.3),
        ByPremodel(NETS, premodel),
        ByPremodel(NETS, premodel, on_abstain="abstain"),
    ):
        single = [starts(policy, row[None])[0] for row in chances]
        assert starts(policy, chances) == single
        assert starts(policy, chances[:0].reshape(0, 3)) == []


def test_costs_follow_the_policys_order(premodel):
    policy = ByPremodel(("net2", "net0"), premodel, rule="utility", price=0.1, costs_ms=(10.0, 1.0))
    assert starts(policy, [[0.9, 0.3]]) == [1]


def test_reason_names_the_rule(utility, premodel):
    outputs = (Output(np.ones(1)),)
    history = History((1,), outputs, np.array([[0.2, 0.9, 0.3]]))
    assert "less the price of its time, is the highest" in utility().reason(history)
    assert "to be the first that is right" in ByPremodel(NETS, premodel).reason(history)


def test_json_round_trip(utility, premodel):
    for policy in (utility(on_abstain="abstain"), ByPremodel(NETS, premodel)):
        assert policy_from_json(policy_to_json(policy), premodel) == policy
    old = {"format": 1, "kind": "premodel", "candidates": list(NETS), "on_abstain": "abstain"}
    assert policy_from_json(old, premodel) == ByPremodel(NETS, premodel, on_abstain="abstain")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rule": "best"}, r"rule 'best' is not one of \['first-yes', 'utility'\]"),
        ({"costs_ms": None}, 'rule "utility" needs costs_ms, a time for each candidate'),
        ({"costs_ms": [1.0]}, "costs_ms has 1 times for 3 candidates"),
        ({"costs_ms": [1.0, -2.0, 3.0]}, "must be numbers above 0"),
        ({"price": -0.1}, "price -0.1 is not a finite number of at least 0"),
        ({"rule": "first-yes"}, 'price 0.05 belongs to rule "utility"'),
    ],
)
def test_settings_that_make_no_sense_are_refused(utility, premodel, changes, sentence):
    values = {**policy_to_json(utility()), **changes}
    with pytest.raises(BundleError, match=sentence):
        policy_from_json(values, premodel)
    direct = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    with pytest.raises(InputError, match=sentence):
        utility(**direct)
