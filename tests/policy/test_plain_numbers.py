"""One image on plain numbers takes the path, and gets the bits, that it gets among many."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive import Limits
from adaptive.columns import ONE, Many, columns_of, dot, leading
from adaptive.limits import UNLIMITED
from adaptive.policy.base import STOP, History, Output, Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import Exponents
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.gain import Gain, paths_of
from adaptive.policy.history import Single
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.means import MEANS
from adaptive.policy.premodel import ByPremodel
from adaptive.policy.signals import PAIRED, SIGNALS
from adaptive.policy.walk import Route, Walk
from adaptive.premodel.base import Premodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.mixture import Mixture
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.scaling import Scaling

NAMES = ("net@1", "b", "net@2")
FEATURES = ("f", "g")
IMAGES = 6


def neighbours(kind: type[KNNChain], **settings: Any) -> KNNChain:
    draw = np.random.default_rng(0)
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    table = scaling.grid(draw.normal(size=(60, 2)))
    outcomes = draw.integers(0, 2, (60, 4)).astype(np.uint8)
    # judges one candidate more than the policies ask, in another order
    return kind.from_arrays(
        FEATURES, ("net@2", "x", *NAMES[:2]), scaling, table, outcomes, **settings
    )


def mixture(conditions: int = 3) -> Mixture:
    draw = np.random.default_rng(1)
    factor = np.tril(draw.normal(0, 1, (conditions, 2, 2)))
    factor[:, range(2), range(2)] = draw.uniform(0.5, 2, (conditions, 2))
    arrays = {
        "floor": np.array([0.1, 0.0]),
        "scale": np.array([0.7, 1.3]),
        "offset": np.array([0.2, -0.4]),
        "weight": np.full(conditions, 1 / conditions),
        "mean": draw.normal(size=(conditions, 2)),
        "factor": factor,
        "rate": draw.uniform(0.1, 0.95, (conditions, 3)),
    }
    return Mixture.from_arrays(FEATURES, NAMES, arrays)


PREMODELS: dict[str, Premodel] = {
    "chain": neighbours(KNNChain, k=5),
    "share of neighbours": neighbours(OutcomeKNN, k=20),
    "weighted neighbours": neighbours(OutcomeKNN, k=9, weights="distance"),
    "mixture": mixture(),
    "mixture of one": mixture(1),
}

GIVEN = st.sampled_from(sorted(PREMODELS)).map(PREMODELS.__getitem__)


@st.composite
def exponents(draw: st.DrawFn, traits: int) -> tuple[Exponents, ...]:
    """Exponents of some of the sets; an exponent may be 0."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    sets = [s for count in (1, 2, 3) for s in itertools.combinations(range(3), count)]
    found = []
    for members in draw(st.lists(st.sampled_from(sets), unique=True)):
        weights = random.uniform(0, 2, len(members)) * random.integers(0, 2, len(members))
        weights[random.integers(len(members))] = 0.7
        slopes: tuple[tuple[float, ...], ...] = ()
        if traits and draw(st.booleans()):
            slopes = tuple(map(tuple, random.normal(0, 0.8, (len(members), traits)).tolist()))
        found.append(Exponents(members, tuple(weights.tolist()), slopes))
    return tuple(found)


@st.composite
def gains(draw: st.DrawFn, told: int) -> tuple[Gain, ...]:
    """Gains of some of the paths, by the signal alone or with what the premodel told."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    found = []
    for path, ways in paths_of(3).items():
        if draw(st.booleans()):
            width = 4 + 2 * told * draw(st.integers(0, 1))
            found.append(Gain(path, ways, random.normal(0, 0.3, (len(ways), width))))
    return tuple(found)


SHARES = st.floats(0, 1, width=32)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy of this library."""
    kind = draw(st.sampled_from(["fixed", "random", "premodel", "cascade", "hybrid"]))
    common: dict[str, Any] = {
        "upper_ms": draw(st.sampled_from([None, (3.0, 2.0, 6.0), (1.0, 2.0, math.inf)])),
        "costs_ms": draw(st.sampled_from([None, (1.0, 1.5, 4.0)])),
        "costs_mj": draw(st.sampled_from([None, (10.0, 5.0, 30.0)])),
        "abstain_below": draw(st.one_of(st.none(), SHARES)),
    }
    premodel = draw(GIVEN)
    if kind == "fixed":
        return Fixed(NAMES, **common)
    if kind == "random":
        return Random(NAMES, shares=draw(st.sampled_from([None, (0.5, 0.0, 0.5)])), **common)
    if kind == "premodel":
        own: dict[str, Any] = {"on_abstain": draw(st.sampled_from(["strongest", "abstain"]))}
        if draw(st.booleans()):
            own.update(rule="utility", price=draw(st.floats(0, 0.3)))
            common["costs_ms"] = (1.0, 1.5, 4.0)
        fitted = draw(exponents(premodel.traits))
        return ByPremodel(NAMES, premodel, exponents=fitted, **own, **common)
    told = 0
    if kind == "hybrid":
        common["premodel"], told = premodel, premodel.conditions or len(NAMES)
        common["shift"] = draw(st.sampled_from([0.0, 0.4, -1.0]))
        common["start_gain"] = draw(st.sampled_from([None, 0.0, 0.2]))
        common["typical_gain"] = draw(st.sampled_from([None, (0.1, -0.2)]))
    common["thresholds"] = (draw(SHARES), draw(SHARES))
    common["signal"] = draw(st.sampled_from([*SIGNALS, *PAIRED]))
    common["gains"] = draw(gains(told))
    if draw(st.booleans()):
        common["exponents"] = draw(exponents(premodel.traits if kind == "hybrid" else 0))
    if not common.get("exponents"):
        common["combine"] = draw(st.sampled_from([None, *MEANS]))
        common["temperatures"] = draw(st.sampled_from([None, (0.5, 1.0, 2.0)]))
        common["weights"] = draw(st.sampled_from([None, (1.0, 2.0, 3.0)]))
    return Hybrid(NAMES, **common) if kind == "hybrid" else Cascade(NAMES, **common)


#: Of what is left, a number for all images or one for each.
EACH = st.lists(st.sampled_from([0.5, 2.0, 5.0, math.inf]), min_size=IMAGES, max_size=IMAGES)
LEFT = st.one_of(st.just(math.inf), st.floats(0, 8), EACH.map(np.array))
LIMITS = st.one_of(
    st.just(UNLIMITED),
    st.builds(
        Limits,
        LEFT,
        LEFT.map(lambda left: 5 * left),
        st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1)),
        LEFT,
    ),
)


def outputs_of(seed: int, classes: int, dtype: Any) -> list[Output]:
    """What three networks say of the images; some are sure, some undecided between two."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(3, IMAGES, classes)) * random.uniform(0, 6, (3, IMAGES, 1))
    logits[:, 0] = 0.0
    logits[:, 1, : classes // 2] = -200.0
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    values = (values / values.sum(axis=-1, keepdims=True)).astype(dtype)
    return [Output(own.max(axis=1), own) for own in values]


def driven(
    policy: Policy, count: int, chances: np.ndarray | None, said: list[Output], limits: list[Limits]
) -> Walk:
    """A walk of images, with other limits at each step."""
    walk = Walk(policy, count, chances, limits[0])
    while (step := walk.wanted) is not None:
        left = limits[len(step.path) + 1].rows(step.rows)
        walk.feed(step, said[step.candidate].rows(step.rows), left)
    return walk


def of_image(walk: Walk, row: int) -> tuple[Route, int]:
    route = next(route for route in walk.routes if row in route.rows)
    return route, route.rows.tolist().index(row)


@given(
    policies(),
    st.lists(LIMITS, min_size=4, max_size=4),
    st.integers(0, 1 << 20),
    st.sampled_from([2, 10, 1000]),
    st.sampled_from([np.float32, np.float16]),
)
def test_an_image_alone_gets_the_bits_that_it_gets_among_many(
    policy: Policy, limits: list[Limits], seed: int, classes: int, dtype: Any
) -> None:
    if any(own.preference != limits[0].preference for own in limits):
        limits = [
            replace(own, preference=limits[0].preference)
            if own is not UNLIMITED or limits[0].preference
            else own
            for own in limits
        ]
    said = outputs_of(seed, classes, dtype)
    features = np.random.default_rng(seed).normal(size=(IMAGES, 2))
    chances = policy.chances(features)
    many = driven(policy.afresh(), IMAGES, chances, said, limits)
    alone = policy.afresh()
    for row in range(IMAGES):
        own = None if chances is None else alone.chances(features[row : row + 1])
        if own is not None:
            assert own.tobytes() == chances[row : row + 1].tobytes()
        left = [limit.rows(np.array([row])) for limit in limits]
        walk = driven(alone, 1, own, [o.rows(np.array([row])) for o in said], left)
        (route,) = walk.routes
        assert isinstance(route.history, Single)
        wanted, place = of_image(many, row)
        assert route.path == wanted.path
        assert route.calibrated == wanted.calibrated
        assert bool(route.abstained[0]) == bool(wanted.abstained[place])
        assert (route.probabilities is None) == (wanted.probabilities is None)
        if route.probabilities is not None and wanted.probabilities is not None:
            assert route.probabilities.dtype == wanted.probabilities.dtype
            assert route.probabilities[0].tobytes() == wanted.probabilities[place].tobytes()
        assert walk.limited(0) == many.limited(row)
        assert walk.changes(0) == many.changes(row)
        assert walk.wanted_start(0) == many.wanted_start(row)
        array = wanted.history.rows(np.array([place])) if route.path else wanted.history
        for preference in {0.0, limits[0].preference}:
            if isinstance(policy, Random):
                break  # telling why would draw anew
            told = policy.reason(route.history, preference, walk.changes(0))
            if route.path or chances is None:
                assert told == policy.reason(array, preference, many.changes(row))
        if route.path:
            for limit in left:
                assert policy.grounds(route.history, limit) == policy.grounds(array, limit)
            if isinstance(policy, Cascade):
                score = policy.score(route.history)
                assert type(score) is float
                assert score == policy.score(array)[0]


def test_what_is_derived_from_a_kind_runs_on_arrays_unless_it_says_otherwise() -> None:
    seen = []

    @dataclass
    class Theirs(Cascade):
        def next(self, history: History, limits: Limits) -> np.ndarray:
            seen.append(history)
            return np.where(history.outputs[-1].confidence < 0.99, 1, STOP)

    @dataclass
    class Plain(Cascade):
        plain: ClassVar[bool] = True

    said = outputs_of(0, 10, np.float32)
    one = [output.rows(np.array([2])) for output in said]
    walk = Walk(Theirs(NAMES, thresholds=(0.5, 0.5)), 1)
    assert walk.wanted is not None
    walk.feed(walk.wanted, one[0])
    assert [type(history) for history in seen] == [History]
    plain = driven(Plain(NAMES, thresholds=(0.5, 0.5)), 1, None, one, [UNLIMITED] * 4)
    assert isinstance(plain.routes[0].history, Single)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12), st.integers(0, 1 << 20))
def test_arithmetic_on_numbers_has_the_bits_of_that_on_columns(
    values: list[float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows = np.array([values, random.normal(size=len(values)), np.zeros(len(values))])
    weights = random.normal(size=len(values)).tolist()
    many, columns = Many(3), columns_of(rows)
    found: dict[str, list[Any]] = {"numbers": [], "columns": []}
    for name, math_, own in (("numbers", ONE, values), ("columns", many, columns)):
        place, most = leading(own, math_)
        positive = [math_.most(c * c, 1e-9) for c in own]
        told = [
            *(dot(weights, own), most, place),
            *(*math_.logs(positive), *math_.exps([-c for c in positive])),
            *(math_.log(positive[0]), math_.rint(own[0]), math_.least(own[0], 0.5)),
            math_.at([3, 1, 2] * 4, place),
            *(math_.pick(own[0] > 0, own[0], 7.0), math_.of(own[0]), math_.all(2)),
        ]
        found[name] = [float(math_.first(one)).hex() for one in told]
    assert found["numbers"] == found["columns"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_draws_on_numbers_are_those_on_columns(share: float) -> None:
    policy = Random(NAMES, shares=(share, 0.0, 1 - share), seed=3)
    together = policy.afresh().start(None, 200, UNLIMITED).tolist()
    alone = policy.afresh()
    assert together == [alone.first(None, ONE, UNLIMITED) for _ in range(200)]


def test_traits_are_no_candidates_of_a_premodel_policy() -> None:
    fitted = Exponents((0, 1), (1.0, 1.0), ((0.1,) * 5, (0.2,) * 5))
    told = np.array([[0.1, 0.2, 0.3, 0.9, 0.1, 0.0, 2.0, 3.0], [0.1, 0.2, 0.6, 1, 0, 0, 1, 1]])
    first_yes = ByPremodel(NAMES, PREMODELS["mixture"], on_abstain="abstain", exponents=(fitted,))
    assert first_yes.needs_traits
    assert first_yes.start(told, 2, UNLIMITED).tolist() == [STOP, 2]
    utility = replace(first_yes, rule="utility", price=0.1, costs_ms=(1.0, 1.0, 5.0))
    assert utility.start(told, 2, UNLIMITED).tolist() == [1, 1]
