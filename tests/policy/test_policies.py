"""One contract for all kinds of policy, then what each kind does."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive import BundleError, InputError, Limits
from adaptive.bundle.bundle import Bundle
from adaptive.candidate import InputSpec
from adaptive.limits import UNLIMITED
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import DecisionLog
from adaptive.monitoring.drift import Monitor
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import Exponents
from adaptive.policy.files import (
    POLICIES,
    policy_from_json,
    policy_to_json,
    read_policy,
    write_policy,
)
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.gain import Gain, bar, describe, log_odds, paths_of
from adaptive.policy.history import History, Output
from adaptive.policy.hybrid import Hybrid, expected_gain
from adaptive.policy.means import arithmetic, geometric
from adaptive.policy.premodel import ByPremodel
from adaptive.policy.signals import (
    PAIRED,
    SIGNALS,
    agreement,
    certainty,
    margin,
    soften,
)
from adaptive.policy.spending import STOP
from adaptive.policy.walk import Walk
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.registry import load_premodel
from adaptive.premodel.scaling import Scaling
from adaptive.routing.bucket import Bucket

NAMES = ("a", "b", "c")
CLASSES = 4


def chain(candidates: tuple[str, ...] = ("c", "x", "a", "b")) -> KNNChain:
    """Twenty noted images; its candidates stand in another order than the policies'."""
    draw = np.random.default_rng(0)
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    table = scaling.grid(draw.normal(size=(20, 2)))
    outcomes = draw.integers(0, 2, (20, len(candidates)))
    return KNNChain.from_arrays(["f", "g"], list(candidates), scaling, table, outcomes, 3)


PREMODEL = chain()

GAINS = tuple(
    Gain(path, ways, np.random.default_rng(len(path)).normal(0, 0.3, (len(ways), 10)))
    for path, ways in paths_of(3).items()
)

MAKE: dict[str, Callable[[], Policy]] = {
    "fixed": lambda: Fixed(NAMES),
    "random": lambda: Random(NAMES, shares=(0.2, 0.0, 0.8), seed=5),
    "random, equal": lambda: Random(NAMES),
    "premodel": lambda: ByPremodel(NAMES, PREMODEL),
    "premodel, abstains": lambda: ByPremodel(NAMES, PREMODEL, on_abstain="abstain"),
    "cascade": lambda: Cascade(NAMES, thresholds=(0.5, 0.6)),
    "cascade of one": lambda: Cascade(("a",)),
    "cascade, margin": lambda: Cascade(
        NAMES, thresholds=(0.3, 0.3), signal="margin", temperatures=(0.5, 1.0, 2.0)
    ),
    "cascade, entropy, averaged": lambda: Cascade(
        NAMES, thresholds=(0.3, 0.3), signal="entropy", combine="arithmetic", weights=(1, 2, 3)
    ),
    "cascade, agreement": lambda: Cascade(
        NAMES, thresholds=(0.6, 0.5), signal="agreement", temperatures=(0.5, 1.0, 2.0)
    ),
    "cascade, agreement, averaged": lambda: Cascade(
        NAMES, thresholds=(0.6, 0.5), signal="agreement", combine="geometric"
    ),
    "hybrid, agreement": lambda: Hybrid(
        NAMES, PREMODEL, thresholds=(0.5, 0.5), signal="agreement", shift=0.2, start_gain=0.1
    ),
    "hybrid": lambda: Hybrid(NAMES, PREMODEL, thresholds=(0.5, 0.5), shift=0.4, start_gain=0.1),
    "hybrid, learned gains": lambda: Hybrid(
        NAMES, PREMODEL, thresholds=(0.5, 0.5), signal="margin", combine="geometric", gains=GAINS
    ),
    "hybrid, averaged": lambda: Hybrid(
        NAMES,
        PREMODEL,
        (1.0, 2.0, 3.0),
        thresholds=(0.5, 0.5),
        signal="margin",
        combine="geometric",
        shift=-0.3,
        start_gain=0.0,
        typical_gain=(0.1, -0.2),
    ),
}


EXPONENTS = tuple(
    Exponents(members, tuple(0.3 + 0.2 * member for member in members))
    for length in (1, 2, 3)
    for members in itertools.combinations(range(3), length)
)
MAKE.update(
    {
        "fixed, exponents": lambda: Fixed(NAMES, exponents=EXPONENTS[:1]),
        "premodel, exponents": lambda: ByPremodel(NAMES, PREMODEL, exponents=EXPONENTS[:3]),
        "cascade, exponents": lambda: Cascade(
            NAMES, thresholds=(0.3, 0.3), signal="margin", exponents=EXPONENTS
        ),
        "cascade, agreement, exponents": lambda: Cascade(
            NAMES, thresholds=(0.4, 0.4), signal="agreement", exponents=EXPONENTS
        ),
        "hybrid, gains and exponents": lambda: Hybrid(
            NAMES, PREMODEL, thresholds=(0.5, 0.5), gains=GAINS, exponents=EXPONENTS
        ),
        "hybrid, exponents of some sets": lambda: Hybrid(
            NAMES, PREMODEL, thresholds=(0.5, 0.5), start_gain=0.1, exponents=EXPONENTS[2:5]
        ),
    }
)


@pytest.fixture(params=MAKE)
def make(request: pytest.FixtureRequest) -> Callable[[], Policy]:
    return MAKE[request.param]


def chances_of(policy: Policy, count: int, seed: int = 1) -> np.ndarray | None:
    X = np.random.default_rng(seed).normal(size=(count, 2))
    return policy.chances(X) if policy.needs_features else None


def outputs_of(count: int, members: int, seed: int = 2) -> tuple[Output, ...]:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(members):
        values = draw.dirichlet(np.full(CLASSES, 0.4), count).astype(np.float32)
        found.append(Output(values.max(axis=1), values))
    return tuple(found)


def walked(policy: Policy, count: int, limits: Limits = UNLIMITED) -> list[tuple[Any, ...]]:
    """(path, combined probabilities) of each image, all driven at once."""
    outputs = dict(zip(policy.candidates, outputs_of(count, len(policy.candidates))))
    walk = Walk(policy, count, chances_of(policy, count), limits)
    steps = 0
    while (step := walk.wanted) is not None:
        steps += 1
        assert steps < 100
        name = policy.candidates[step.candidate]
        assert 0 <= step.candidate < len(policy.candidates)
        assert step.candidate not in step.path
        walk.feed(step, outputs[name].rows(step.rows), limits)
    found: dict[int, tuple[Any, ...]] = {}
    for route in walk.routes:
        assert len(route.rows)
        for position, row in enumerate(route.rows.tolist()):
            assert row not in found
            values = None if route.probabilities is None else route.probabilities[position]
            found[row] = (route.path, values)
    return [found[row] for row in range(count)]


def test_every_kind_is_under_contract() -> None:
    assert {make().kind for make in MAKE.values()} == set(POLICIES)


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_start_gives_one_index_an_image(make: Callable[[], Policy], count: int) -> None:
    policy = make()
    start = policy.start(chances_of(policy, count), count, UNLIMITED)
    assert start.shape == (count,)
    assert start.dtype.kind == "i"
    assert np.isin(start, [STOP, *range(len(policy.candidates))]).all()
    if policy.settings().get("on_abstain") != "abstain":
        assert (start != STOP).all()


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_next_gives_a_candidate_that_has_not_run_or_stop(
    make: Callable[[], Policy], count: int
) -> None:
    policy = make()
    for first in range(len(policy.candidates)):
        for last in range(first, len(policy.candidates)):
            path = tuple(range(first, last + 1))
            outputs = outputs_of(count, len(path))
            history = History(path, outputs, chances_of(policy, count))
            choice = policy.next(history, UNLIMITED)
            assert choice.shape == (count,)
            assert choice.dtype.kind == "i"
            assert np.isin(choice, [STOP, *range(last + 1, len(policy.candidates))]).all()
            answer = policy.answer(history)
            if answer is not None:
                assert answer.shape == (count, CLASSES)
                np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
                assert (answer >= 0).all()


@pytest.mark.parametrize("preference", [-1.0, -0.3, 0.0, 0.7, 1.0])
def test_many_at_once_equal_one_by_one(make: Callable[[], Policy], preference: float) -> None:
    limits = Limits(preference=preference)
    together, count = make(), 40
    alone = make()
    start = together.start(chances_of(together, count), count, limits)
    chances = chances_of(alone, count)
    for row in range(count):
        own = None if chances is None else chances[[row]]
        assert alone.start(own, 1, limits)[0] == start[row]
    outputs = outputs_of(count, len(together.candidates))
    for last in range(len(together.candidates)):
        path = tuple(range(last + 1))
        history = History(path, outputs[: last + 1], chances)
        choice, answer = together.next(history, limits), together.answer(history)
        for row in range(count):
            rows = np.array([row])
            own = None if chances is None else chances[[row]]
            single = History(path, tuple(o.rows(rows) for o in outputs[: last + 1]), own)
            assert alone.next(single, limits)[0] == choice[row]
            if answer is not None:
                np.testing.assert_array_equal(alone.answer(single)[0], answer[row])  # type: ignore


def test_a_walk_ends_and_tells_why(make: Callable[[], Policy]) -> None:
    policy = make()
    chances = chances_of(policy, 40)
    outputs = outputs_of(40, len(policy.candidates))
    for row, (path, values) in enumerate(walked(policy, 40)):
        assert len(path) == len(set(path))
        if not path:
            continue
        rows = np.array([row])
        own = None if chances is None else chances[[row]]
        history = History(path, tuple(outputs[c].rows(rows) for c in path), own)
        reason = policy.reason(history)
        assert policy.candidates[path[-1]] in reason
        assert "\n" not in reason
        assert (values is not None) == (policy.answer(history) is not None)


@pytest.mark.parametrize("seed", [0, 1])
def test_steps_that_are_split_and_fed_in_any_order_change_nothing(
    make: Callable[[], Policy], seed: int
) -> None:
    policy, draw = make(), np.random.default_rng(seed)
    outputs = dict(zip(policy.candidates, outputs_of(40, len(policy.candidates))))
    walk = Walk(policy, 40, chances_of(policy, 40))
    told = list(walk.waiting)
    while waiting := walk.waiting:
        assert sorted(map(id, waiting)) == sorted(map(id, told))
        step = waiting[draw.integers(len(waiting))]
        told.remove(step)
        if len(step.rows) > 1 and draw.random() < 0.5:
            step, rest = walk.split(step, int(draw.integers(1, len(step.rows))))
            told.append(rest)
        output = outputs[policy.candidates[step.candidate]].rows(step.rows)
        told += walk.feed(step, output)
    found = {}
    for route in walk.routes:
        for position, row in enumerate(route.rows.tolist()):
            values = None if route.probabilities is None else route.probabilities[position]
            found[row] = (route.path, values)
    for row, (path, values) in enumerate(walked(make(), 40)):
        assert found[row][0] == path
        if values is not None:
            np.testing.assert_array_equal(found[row][1], values)


def test_settings_survive_a_file(make: Callable[[], Policy], tmp_path: Path) -> None:
    policy = make()
    write_policy(policy, tmp_path / "policy.json")
    read = read_policy(tmp_path / "policy.json", PREMODEL)
    assert type(read) is type(policy)
    assert read == replace(policy)
    assert read.settings() == policy.settings()
    assert read.upper_ms == policy.upper_ms
    assert [p for p, _ in walked(read, 40)] == [p for p, _ in walked(make(), 40)]


def test_repr_names_the_candidates(make: Callable[[], Policy]) -> None:
    assert "'a'" in repr(make())
    assert "KNNChain" not in repr(make())


UPPER = (1.0, 4.0, 9.0)


def timed(make: Callable[[], Policy]) -> Policy:
    policy = make()
    return replace(policy, upper_ms=UPPER[: len(policy.candidates)])


@pytest.mark.parametrize("left", [math.inf, 1e9, 9.0, 8.9, 4.0, 3.9, 1.0, 0.9, 0.0, -5.0])
def test_affordable_never_starts_what_is_too_late(make: Callable[[], Policy], left: float) -> None:
    policy = timed(make)
    upper = np.array(policy.upper_ms)
    choice = np.array([STOP, *range(len(upper))])
    start = policy.affordable(choice, (), Limits(left))
    later = policy.affordable(choice, (0,), Limits(left))
    fitting = [c for c in range(len(upper)) if upper[c] <= left]
    for asked, first, then in zip(choice, start, later):
        if asked == STOP or upper[asked] <= left:
            assert first == then == asked
        else:
            assert first == (fitting[-1] if fitting else STOP)
            assert then == STOP


def test_affordable_takes_a_time_for_each_image(make: Callable[[], Policy]) -> None:
    policy = timed(make)
    last = len(policy.candidates) - 1
    left = np.array([100.0, UPPER[last], 0.5, 1.0])
    choice = np.full(4, last)
    found = policy.affordable(choice, (), Limits(left))
    alone = [int(policy.affordable(choice[:1], (), Limits(float(ms)))[0]) for ms in left]
    assert found.tolist() == alone
    assert found.tolist() == [last, last, STOP, 0]


def test_without_times_no_deadline_is_kept(make: Callable[[], Policy]) -> None:
    policy = replace(make(), upper_ms=None)
    choice = np.array([0, STOP])
    assert policy.affordable(choice, (), Limits(0.0)) is choice


@pytest.mark.parametrize("shape", [Fixed, Random, Cascade])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"candidates": ()}, "needs at least one candidate"),
        ({"candidates": ("a", "a")}, "stands twice"),
        ({"candidates": ("a", "..")}, "no candidate name"),
        ({"candidates": ("a", 3)}, "no candidate name"),
        ({"candidates": "ab"}, "candidates is the text 'ab'; give a list of names"),
        ({"upper_ms": (1.0,)}, "upper_ms has 1 times for 2 candidates"),
        ({"upper_ms": (1.0, math.nan)}, "must be numbers above 0"),
        ({"upper_ms": (1.0, 0.0)}, "must be numbers above 0"),
        ({"premodel": chain(("a", "c"))}, "'b' is not in the premodel; it has"),
    ],
)
def test_constructors_refuse(shape: Any, settings: dict[str, Any], says: str) -> None:
    own = {"thresholds": (0.5,)} if shape is Cascade else {}
    with pytest.raises(InputError, match=says):
        shape(**{"candidates": ("a", "b"), **own, **settings})


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Fixed(None), "candidates None is not a list of names"),
    (lambda: Fixed(5), "candidates 5 is not a list of names"),
    (lambda: Fixed({"a": 1}), "candidates {'a': 1} is not a list of names"),
    (lambda: Fixed({"a", "b"}), "is not a list of names"),
    (lambda: Fixed(("a",), premodel="knn"), "premodel 'knn' is no premodel"),
    (lambda: Fixed(("a",), upper_ms=3.0), r"upper_ms 3.0 is a single number; give a list, \[3.0\]"),
    (lambda: Fixed(("a",), costs_ms="3"), "costs_ms '3' is not a list of numbers"),
    (lambda: Fixed(("a",), costs_mj=["x"]), "costs_mj holds 'x'; that 'x' is not a number"),
    (lambda: Fixed(("a",), upper_ms=[[1.0]]), "is not a number"),
    (lambda: Fixed(("a",), upper_ms=np.ones((1, 1))), r"upper_ms has shape \(1, 1\)"),
    (lambda: Fixed(("a",), upper_ms=[True]), "True is not a number"),
    (lambda: Random(NAMES, shares=0.5), "shares 0.5 is a single number"),
    (lambda: Random(NAMES, shares="even"), "shares 'even' is not a list of numbers"),
    (lambda: Random(NAMES, seed="3"), "seed '3' is not a whole number >= 0"),
    (lambda: Random(NAMES, seed=3.0), "seed 3.0 is not a whole number >= 0"),
    (lambda: ByPremodel(NAMES, PREMODEL, price="x"), "price 'x' is not a number"),
    (lambda: ByPremodel(NAMES, PREMODEL, rule=["utility"]), "rule .* is not one of"),
    (lambda: ByPremodel(NAMES, PREMODEL, on_abstain=None), "on_abstain None is not one of"),
    (lambda: Cascade(("a", "b"), thresholds=0.5), "thresholds 0.5 is a single number; give a list"),
    (lambda: Cascade(("a", "b"), thresholds=np.float32(0.5)), "is a single number; give a list"),
    (lambda: Cascade(("a", "b"), thresholds="0.5"), "thresholds '0.5' is not a list of numbers"),
    (lambda: Cascade(("a", "b"), thresholds=None), "thresholds None is not a list of numbers"),
    (lambda: Cascade(("a", "b"), thresholds=("0.5",)), "'0.5' is not a number"),
    (lambda: Cascade(("a", "b"), thresholds={0.5}), "is not a list of numbers"),
    (lambda: Cascade(("a", "b"), thresholds=(0.5,), temperatures=1.5), "is a single number"),
    (lambda: Cascade(("a", "b"), thresholds=(0.5,), weights=2), "weights 2 is a single number"),
    (lambda: Cascade(("a", "b"), thresholds=(0.5,), signal=None), "signal None is not one of"),
    (lambda: Cascade(("a", "b"), thresholds=(0.5,), signal=["top"]), "is not one of"),
    (lambda: Cascade(("a", "b"), thresholds=(0.5,), combine=3), "combine 3 is not one of"),
    (lambda: Hybrid(("a",), PREMODEL, shift="1"), "shift '1' is not a finite number"),
    (lambda: Hybrid(("a",), PREMODEL, start_gain=[0.1]), "start_gain .* is not a finite number"),
    (lambda: Hybrid(NAMES, PREMODEL, thresholds=(0, 0), typical_gain=0.1), "is a single number"),
    (lambda: Hybrid(NAMES, PREMODEL, thresholds=(0, 0), gains=3), "gains 3 is not a list of gains"),
    (lambda: Hybrid(NAMES, PREMODEL, thresholds=(0, 0), gains=["x"]), "holds 'x', which is no `G"),
    (lambda: Gain(0, ((1,),), np.zeros((1, 8))), "0 is not a list of positions"),
    (lambda: Gain((0,), (1,), np.zeros((1, 8))), "1 is not a list of positions"),
    (lambda: Gain((0,), ((1,),), "x"), "coefficients are not an array of numbers"),
    (lambda: Gain((0,), ((1,),), 3.0), r"coefficients have shape \(\)"),
    (lambda: Exponents(5, (1.0,)), "members of exponents 5 is not a list of positions"),
    (lambda: Exponents(("a",), (1.0,)), "exponents need positions"),
    (lambda: Exponents((0,), ("1",)), "'1' is not a number"),
    (lambda: Fixed(("a",), exponents=5), "exponents 5 is not a list"),
    (lambda: Fixed(("a",), exponents=[5]), "exponents holds 5, which is no `Exponents`"),
    (lambda: Fixed(("a",), abstain_below="0.6"), "abstain_below '0.6' is not a number"),
    (lambda: Fixed(("a",), abstain_below=True), "abstain_below True is not a number"),
    (lambda: Bundle.read(5), "a bundle is a folder's name, not 5"),
    (lambda: load_premodel(None), "a premodel is a folder's name, not None"),
    (lambda: InputSpec(32, mean=5), "input mean 5 is not three finite numbers"),
    (lambda: Limits("40"), "remaining_ms '40' is not a list of numbers"),
    (lambda: Limits(None), "remaining_ms None is not a list of numbers"),
    (lambda: Limits(["soon"]), "'soon' is not a number"),
    (lambda: Limits(True), "remaining_ms True is not a list of numbers"),
    (lambda: Limits(remaining_mj=np.ones((2, 2))), "remaining_mj has shape"),
    (lambda: Limits(preference="fast"), r"'fast' is a word; give the number PREFERENCES\['fast'\]"),
    (lambda: Limits(preference="1"), "preference '1' is not a number"),
    (lambda: Limits(preference=[1.0]), r"preference \[1.0\] is not a number"),
    (lambda: Bucket("15"), "a bucket's mean '15' is not a number"),
    (lambda: Bucket(15, burst=[30]), "a bucket's burst .* is not a number"),
    (lambda: Bucket(15, unit=None), "a bucket's unit None is not one of"),
    (lambda: Audit("0.1"), "an audit's share '0.1' is not a number"),
    (lambda: Audit(0.1, scope=None), "an audit's scope None is not one of"),
    (lambda: Audit(0.1, seed=0.5), "an audit's seed 0.5 is not a whole number"),
    (lambda: Monitor("0.1"), "a disagreement rate of '0.1' is not a number"),
    (lambda: Monitor(0.1, alpha=None), "alpha None is not a number"),
    (lambda: DecisionLog(3), "the decision log 3 is no path"),
    (lambda: DecisionLog("nowhere/x", keep=1.5), "keep 1.5 is not a whole number >= 1"),
    (lambda: DecisionLog("nowhere/x", max_bytes="1"), "max_bytes '1' is not a whole number >= 1"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG)
def test_wrong_kinds_of_arguments_are_one_sentence(wrong: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_only_a_policy_that_draws_is_changed_by_use() -> None:
    drawn = Random(NAMES, seed=3)
    first = drawn.start(None, 20, UNLIMITED)
    assert (drawn.start(None, 20, UNLIMITED) != first).any()
    assert (drawn.afresh().start(None, 20, UNLIMITED) == first).all()
    cascade = MAKE["cascade"]()
    assert cascade.afresh() is cascade


def test_two_policies_may_look_at_one_history() -> None:
    """What one of them found out is not what the other one answers."""
    probabilities = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    outputs = tuple(Output(p.max(axis=1), p) for p in probabilities)
    history = History((0, 1), outputs)
    for weights in ((1.0, 1.0), (3.0, 1.0)):
        policy = Cascade(("a", "b"), thresholds=(0.5,), combine="arithmetic", weights=weights)
        said = policy.answer(history)
        expected = np.average(np.concatenate(probabilities), axis=0, weights=weights)
        np.testing.assert_allclose(np.asarray(said)[0], expected)


def test_lists_and_arrays_are_taken_as_tuples_of_floats() -> None:
    told = Cascade(
        ["a", "b"], None, np.array([1, 2]), [1, 2], thresholds=np.array([0.5], np.float32)
    )
    plain = Cascade(("a", "b"), None, (1.0, 2.0), (1.0, 2.0), thresholds=(0.5,))
    assert told == plain
    assert policy_from_json(json.loads(json.dumps(policy_to_json(told)))) == plain
    assert Random(NAMES, shares=[1, 0, 0], seed=np.int64(3)) == Random(
        NAMES, shares=(1, 0, 0), seed=3
    )


@pytest.mark.parametrize("given", [40, np.int64(40), np.float32(40), np.array(40)])
def test_limits_of_any_kind_of_number_are_floats(given: Any) -> None:
    assert Limits(given) == Limits(40.0)
    assert type(Limits(given).remaining_ms) is float
    assert type(Limits(preference=np.int8(1)).preference) is float
    np.testing.assert_array_equal(Limits([given, 3]).remaining_ms, [40.0, 3.0])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Random(NAMES, shares=(0.5, 0.5)), "must be 3 numbers >= 0 that sum to 1"),
        (lambda: Random(NAMES, shares=()), "must be 3 numbers"),
        (lambda: Random(NAMES, shares=(0.5, 0.6, -0.1)), "must be 3 numbers"),
        (lambda: Random(NAMES, shares=(0.5, 0.6, 0.1)), "must be 3 numbers"),
        (lambda: Random(NAMES, shares=(0.5, 0.5, math.nan)), "must be 3 numbers"),
        (lambda: Random(NAMES, shares=(0.5, 0.5, math.inf)), "must be 3 numbers"),
        (lambda: Random(NAMES, seed=-1), "seed -1 is not a whole number >= 0"),
        (lambda: Random(NAMES, seed=0.5), "seed 0.5 is not a whole number"),  # type: ignore
        (lambda: ByPremodel(NAMES), "needs a premodel"),
        (lambda: ByPremodel(NAMES, PREMODEL, on_abstain="ask"), "on_abstain 'ask' is not one of"),
        (lambda: Cascade(NAMES), "3 candidates need 2 thresholds, got"),
        (lambda: Cascade(NAMES, thresholds=(0.5, math.nan)), "must lie between 0 and 1"),
        (lambda: Cascade(NAMES, thresholds=(0.5, 1.1)), "must lie between 0 and 1"),
        (lambda: Cascade(NAMES, thresholds=(0.5, 1), signal="best"), "signal 'best' is not one"),
        (lambda: Cascade(NAMES, thresholds=(0, 1), combine="sum"), "combine 'sum' is not one of"),
        (lambda: Cascade(("a",), weights=(0,)), "must be 1 numbers above 0"),
        (lambda: Cascade(("a",), weights=(math.inf,)), "must be 1 numbers above 0"),
        (lambda: Cascade(("a",), temperatures=(math.nan,)), "must be 1 numbers above 0"),
        (lambda: Hybrid(("a",)), "a hybrid policy needs a premodel"),
        (lambda: Hybrid(("a",), PREMODEL, shift=math.nan), "shift nan is not a finite number"),
        (lambda: Hybrid(("a",), PREMODEL, start_gain=math.inf), "start_gain inf is not a finite"),
        (lambda: Hybrid(("a",), PREMODEL, typical_gain=(1.0,)), "must be 0 finite numbers"),
        (lambda: Limits(math.nan), "remaining_ms is not a number"),
        (lambda: Limits(np.array([1, math.nan])), "remaining_ms is not a number"),
        (lambda: Limits(preference=1.5), "preference 1.5 is not between -1 and 1"),
        (lambda: Limits(preference=math.nan), "preference nan is not between"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_what_a_policy_needs() -> None:
    assert not Fixed(NAMES).needs_features
    assert ByPremodel(NAMES, PREMODEL).needs_features
    plain = {"thresholds": (0.5, 0.5)}
    assert not Cascade(NAMES, **plain).needs_probabilities  # type: ignore[arg-type]
    for more in ({"signal": "margin"}, {"combine": "geometric"}, {"temperatures": (1, 2, 3)}):
        assert Cascade(NAMES, **plain, **more).needs_probabilities  # type: ignore[arg-type]


def test_probabilities_that_are_missing_are_named() -> None:
    policy = Cascade(NAMES, thresholds=(0.5, 0.5), signal="margin")
    with pytest.raises(InputError, match="needs probabilities, and those of candidate 'a' are not"):
        policy.next(History((0,), (Output(np.ones(1)),)), UNLIMITED)
    for shape in (ByPremodel, Hybrid):
        policy = shape(("a",), PREMODEL, **({"start_gain": 0.1} if shape is Hybrid else {}))
        with pytest.raises(InputError, match="needs the premodel's chances"):
            policy.start(None, 1, UNLIMITED)


def test_chances_come_in_the_policys_order() -> None:
    X = np.random.default_rng(3).normal(size=(9, 2))
    by_name = dict(zip(PREMODEL.candidates, PREMODEL.predict(X).T))
    found = ByPremodel(("b", "c"), PREMODEL).chances(X)
    np.testing.assert_array_equal(found, np.stack([by_name["b"], by_name["c"]], axis=1))


# What each kind does


def test_premodel_takes_the_first_yes() -> None:
    chances = np.array([[0.6, 0.9, 1.0], [0.5, 0.6, 0.0], [0.5, 0.0, 0.51], [0.5, 0.2, 0.0]])
    policy = ByPremodel(NAMES, PREMODEL)
    assert policy.start(chances, 4, UNLIMITED).tolist() == [0, 1, 2, 2]
    shy = ByPremodel(NAMES, PREMODEL, on_abstain="abstain")
    assert shy.start(chances, 4, UNLIMITED).tolist() == [0, 1, 2, STOP]


def test_random_keeps_its_shares_and_its_seed() -> None:
    policy = Random(NAMES, shares=(0.2, 0.0, 0.8), seed=5)
    drawn = policy.start(None, 20_000, UNLIMITED)
    assert np.bincount(drawn, minlength=3)[1] == 0
    assert abs((drawn == 0).mean() - 0.2) < 0.02
    again = Random(NAMES, shares=(0.2, 0.0, 0.8), seed=5)
    np.testing.assert_array_equal(drawn, again.start(None, 20_000, UNLIMITED))
    other = Random(NAMES, shares=(0.2, 0.0, 0.8), seed=6)
    assert (drawn != other.start(None, 20_000, UNLIMITED)).any()


def test_cascade_thresholds_at_their_ends() -> None:
    assert {path for path, _ in walked(Cascade(NAMES, thresholds=(0, 0)), 50)} == {(0,)}
    sure = Cascade(NAMES, thresholds=(1, 1))
    for row, (path, _) in enumerate(walked(sure, 50)):
        confidences = [o.confidence[row] for o in outputs_of(50, 3)]
        expected = next((i for i, c in enumerate(confidences[:2]) if c >= 1), 2)
        assert path == tuple(range(expected + 1))


@pytest.mark.parametrize("kind", ["cascade", "cascade, margin", "hybrid", "hybrid, averaged"])
def test_preference_at_its_ends(kind: str) -> None:
    """Fast asks nobody else, accurate asks everybody; between, more is never fewer."""
    policy = replace(MAKE[kind](), upper_ms=None)
    starts = policy.start(chances_of(policy, 60), 60, UNLIMITED).tolist()
    lengths = []
    for preference in (-1.0, -0.5, 0.0, 0.5, 1.0):
        paths = [p for p, _ in walked(policy, 60, Limits(preference=preference))]
        assert [p[0] for p in paths] == starts
        lengths.append([len(p) for p in paths])
    if isinstance(policy, Cascade) and not isinstance(policy, Hybrid):
        assert set(lengths[0]) == {1}
        assert set(lengths[-1]) == {3}
        assert all(a <= b for few, many in zip(lengths, lengths[1:]) for a, b in zip(few, many))
    else:
        assert lengths[-1] == [3 - s for s in starts]
        assert lengths[0] == [1] * 60


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.sampled_from(sorted([*SIGNALS, *PAIRED])),
    st.sampled_from([None, "arithmetic", "geometric"]),
    st.sampled_from([None, (0.5, 1.0, 3.0)]),
    st.sampled_from([None, (0.2, -0.4)]),
    st.floats(-1, 1),
    st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_hybrid_without_shift_and_start_is_the_cascade(
    thresholds: list[float],
    signal: str,
    combine: str | None,
    temperatures: tuple[float, ...] | None,
    typical: tuple[float, ...] | None,
    preference: float,
    count: int,
) -> None:
    common: dict[str, Any] = {
        "thresholds": tuple(thresholds),
        "signal": signal,
        "combine": combine,
        "temperatures": temperatures,
    }
    limits = Limits(preference=preference)
    plain = walked(Cascade(NAMES, **common), count, limits)
    hybrid = Hybrid(NAMES, PREMODEL, **common, shift=0.0, start_gain=None, typical_gain=typical)
    for (path, values), (other, others) in zip(plain, walked(hybrid, count, limits)):
        assert path == other
        if values is not None:
            np.testing.assert_array_equal(values, others)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_expected_gain_against_loops(count: int, members: int, seed: int) -> None:
    chances = np.random.default_rng(seed).random((count, members))
    gain = expected_gain(chances)
    for row in range(count):
        for j in range(members):
            later = chances[row, j + 1 :]
            expected = max(later) - chances[row, j] if len(later) else -math.inf
            assert gain[row, j] == pytest.approx(expected)


def test_hybrid_starts_and_shifts_by_the_formula() -> None:
    chances = np.array([[0.2, 0.8, 0.9], [0.8, 0.9, 0.2], [0.1, 0.1, 0.9], [0.9, 0.1, 0.1]])
    policy = Hybrid(
        NAMES, PREMODEL, thresholds=(0.5, 0.6), shift=0.5, start_gain=0.3, typical_gain=(0.1, 0.2)
    )
    assert policy.start(chances, 4, UNLIMITED).tolist() == [1, 0, 2, 0]
    history = History((0,), (Output(np.full(4, 0.5)),), chances)
    np.testing.assert_allclose(
        policy.threshold(history), 0.5 + 0.5 * (np.array([0.7, 0.1, 0.8, -0.8]) - 0.1)
    )
    history = History((1,), (Output(np.full(4, 0.5)),), chances)
    np.testing.assert_allclose(
        policy.threshold(history), 0.6 + 0.5 * (np.array([0.1, -0.7, 0.8, 0.0]) - 0.2)
    )


def test_signals_against_plain_numpy() -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(7), 50).astype(np.float32)
    ordered = np.sort(values, axis=1)
    np.testing.assert_array_equal(SIGNALS["top"](values), ordered[:, -1])
    np.testing.assert_allclose(margin(values), ordered[:, -1] - ordered[:, -2])
    entropy = -(values * np.log(values)).sum(axis=1)
    np.testing.assert_allclose(certainty(values), 1 - entropy / np.log(7), rtol=1e-5)
    one_hot = np.eye(7, dtype=np.float32)
    for signal in SIGNALS.values():
        np.testing.assert_allclose(signal(one_hot), 1, atol=1e-6)
    flat = np.full((1, 7), 1 / 7, np.float32)
    np.testing.assert_allclose([margin(flat)[0], certainty(flat)[0]], 0, atol=1e-6)


def test_agreement_is_about_the_last_answer() -> None:
    draw = np.random.default_rng(0)
    before, last = draw.dirichlet(np.ones(5), (2, 200)).astype(np.float32)
    found = agreement(before, last)
    for row in range(200):
        said = int(last[row].argmax())
        assert found[row] == pytest.approx(math.sqrt(before[row, said] * last[row, said]))
    assert (found >= 0).all()
    assert (found <= last.max(axis=1) ** 0.5).all()
    np.testing.assert_allclose(agreement(last, last), last.max(axis=1), rtol=1e-6)
    # Knowing nothing twice is no agreement; being sure of two things is none at all.
    flat, one, other = np.full((1, 4), 0.25), np.eye(4)[:1], np.eye(4)[1:2]
    assert agreement(flat, flat) == pytest.approx(0.25)
    assert agreement(one, other) == 0


def test_agreement_looks_at_the_last_two_that_ran() -> None:
    policy = Cascade(NAMES, thresholds=(0.5, 0.5), signal="agreement", combine="arithmetic")
    outputs = outputs_of(30, 2)
    first, second = (o.probabilities for o in outputs)
    np.testing.assert_array_equal(
        policy.score(History((0,), outputs[:1])),
        agreement(first, first),  # type: ignore[arg-type]
    )
    np.testing.assert_array_equal(
        policy.score(History((1, 2), outputs)),
        agreement(first, second),  # type: ignore[arg-type]
    )
    assert policy.needs_probabilities


def test_means_against_plain_numpy() -> None:
    draw = np.random.default_rng(0)
    members = [draw.dirichlet(np.ones(5), 20) for _ in range(3)]
    weights = np.array([1.0, 2.0, 0.5])
    np.testing.assert_allclose(
        arithmetic(members, weights), np.average(members, axis=0, weights=weights), rtol=1e-5
    )
    product = np.prod([m ** (w / 3.5) for m, w in zip(members, weights)], axis=0)
    product /= product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(geometric(members, weights), product, rtol=1e-4)
    certain = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    np.testing.assert_allclose(geometric(certain, np.ones(2)), [[0.5, 0.5]])  # no NaN from 0 x 0


def test_soften_is_a_temperature() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 5))
    for temperature in (0.5, 1.0, 3.0):
        scaled = np.exp(logits / temperature)
        plain = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(
            soften(plain, temperature), scaled / scaled.sum(axis=1, keepdims=True), rtol=1e-4
        )


def test_a_misspelt_setting_is_refused_by_name() -> None:
    values = policy_to_json(Cascade(("a", "b"), thresholds=(0.5,)))
    assert policy_from_json(values) == Cascade(("a", "b"), thresholds=(0.5,))
    with pytest.raises(BundleError, match="policy has 'combin', which a cascade policy has not"):
        policy_from_json({**values, "combin": "geometric"})


def test_gains_lead_to_whichever_later_candidate_promises_most():
    """By hand: the gain of b rises where b is expected to be right, that of c where c is."""
    coefficients = np.zeros((3, 10))
    coefficients[0, 5] = 1.0  # the way b: log-odds of b
    coefficients[1, 6] = 1.0  # the way c: log-odds of c
    coefficients[2, 0] = -9.0
    gains = (Gain((0,), ((1,), (2,), (1, 2)), coefficients),)
    policy = Hybrid(NAMES, PREMODEL, thresholds=(0.0, 0.0), gains=gains)
    chances = np.array([[0.5, 0.9, 0.6], [0.5, 0.6, 0.9], [0.5, 0.1, 0.2]])
    history = History((0,), (Output(np.full(3, 0.5)),), chances)
    np.testing.assert_array_equal(policy.next(history, UNLIMITED), [1, 2, STOP])
    np.testing.assert_array_equal(policy.next(history, Limits(preference=1)), [1, 2, 2])
    np.testing.assert_array_equal(policy.next(history, Limits(preference=-1)), [STOP] * 3)
    # After b no gain is known, and a threshold of 0 asks no further.
    later = History((0, 1), (*history.outputs, Output(np.full(3, 0.5))), chances)
    np.testing.assert_array_equal(policy.next(later, UNLIMITED), [STOP] * 3)


def test_what_gains_are_a_function_of():
    found = describe(np.array([0.25]), log_odds(np.array([[0.5, 0.9]])))
    odds = math.log(0.9 / 0.1)
    wanted = [1, 0.25, 0.0625, math.log(0.26), 0, odds, 0, 0.25 * odds]
    np.testing.assert_allclose(found, [wanted])
    edge = log_odds(np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(edge[0], [-math.log(49), math.log(49)])


def test_a_preference_moves_what_a_gain_must_exceed():
    assert bar(0.0) == 0
    assert bar(1.0) == -np.inf
    assert bar(-1.0) == np.inf
    assert bar(-0.5) > bar(-0.1) > 0 > bar(0.1) > bar(0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ways": [[0]]}, "does not go forward"),
        ({"ways": [[2, 1]]}, "does not go forward"),
        ({"ways": []}, "as many rows"),
        ({"ways": [[1.5]]}, "list of positions"),
        ({"coefficients": [[1.0] * 10, [1.0] * 9]}, "differ in length"),
        ({"coefficients": [["x"] * 10]}, "list of numbers"),
        ({"coefficients": [[1.0] * 8]}, "needs 10 coefficients"),
        ({"coefficients": [[1e999] + [1.0] * 9]}, "not a finite number"),
        ({"path": "a"}, "path"),
    ],
)
def test_broken_gains_are_refused(change, said):
    values = policy_to_json(MAKE["hybrid, learned gains"]())
    values["gains"][1].update(change)
    with pytest.raises(BundleError, match=said):
        policy_from_json(values, PREMODEL)


def test_words_say_what_a_policy_does() -> None:
    names = ("small", "middle", "large")
    premodel = chain(names)
    assert Fixed(("large",)).words() == "large answers every image"
    assert Random(names[:2]).words() == "a random policy over small, middle"
    cascade = Cascade(names, thresholds=(0.5, 0.25), signal="margin", combine="geometric")
    assert cascade.words() == (
        "small first, then middle where the margin is below 0.5, then large where the margin is "
        "below 0.25; answers are averaged (geometric mean)"
    )
    assert Hybrid(names, premodel, thresholds=(0.5, 0.5)).words() == (
        "one or more of small, middle, large, as network and premodel together expect a gain from "
        "the next one"
    )
    assert ByPremodel(names, premodel).words() == (
        "the premodel chooses one of small, middle, large for each image"
    )


class _Theirs(Policy):
    """A policy of somebody else's, which starts and goes on as it is told."""

    kind = "theirs"
    begin: Any = None
    onward: Any = None

    def start(self, chances: Any, count: int, limits: Limits) -> Any:
        return self.begin

    def next(self, history: History, limits: Limits) -> Any:
        return self.onward


@pytest.mark.parametrize(
    "wrong", [0, [1, 1], np.array([1]), np.array([1.0, 1.0]), np.array([1, 3]), np.array([-2, 1])]
)
def test_a_choice_that_is_no_candidate_is_one_sentence(wrong: Any) -> None:
    """A position below STOP would otherwise be counted from the end."""
    policy = _Theirs(NAMES)
    policy.begin = wrong
    with pytest.raises(InputError, match=r"theirs policy wants .* an array of 2 whole numbers"):
        Walk(policy, 2)


def test_a_candidate_that_ran_is_not_asked_for_ever() -> None:
    policy = _Theirs(NAMES)
    policy.begin, policy.onward = np.array([1, 1]), np.array([STOP, 1])
    walk = Walk(policy, 2)
    assert walk.wanted is not None
    with pytest.raises(InputError, match="after \\['b'\\]; an array of 2 whole numbers"):
        walk.feed(walk.wanted, Output(np.array([0.5, 0.5])))
