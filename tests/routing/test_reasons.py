"""A reason says what happened, limits and preferences included, whatever the policy is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from adaptive import Limits, Router
from adaptive.limits import UNLIMITED
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.gain import Gain
from adaptive.policy.history import History, Output
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.policy.spending import STOP
from adaptive.policy.walk import Walk
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.routing.account import Left
from adaptive.routing.bucket import Bucket

NAMES = ("small", "middle", "large")
COSTS: dict[str, Any] = {
    "upper_ms": (1.0, 4.0, 9.0),
    "costs_ms": (1.0, 3.0, 8.0),
    "costs_mj": (2.0, 5.0, 20.0),
}
FAST, ACCURATE = Limits(preference=-1.0), Limits(preference=1.0)


def premodel() -> KNNChain:
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    table = scaling.grid(np.arange(4.0)[:, np.newaxis])
    return KNNChain.from_arrays(["f"], list(NAMES), scaling, table, np.ones((4, 3), int), 1)


def told(
    policy: Policy,
    limits: Limits | list[Limits] = UNLIMITED,
    chances: tuple[float, ...] | None = None,
    signals: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> tuple[str, tuple[str, ...]]:
    """The reason and the path of one image; limits for the start and after each candidate."""
    own = None if chances is None else np.array([chances])
    each = iter(limits) if isinstance(limits, list) else iter([limits] * 4)
    walk = Walk(policy, 1, own, next(each))
    while (step := walk.wanted) is not None:
        top = signals[step.candidate]
        values = np.array([[top, 1 - top]], np.float32)
        walk.feed(step, Output(np.array([top]), values), next(each))
    (route,) = walk.routes
    reason = policy.reason(route.history, walk.preference, walk.changes(0))
    return reason, tuple(policy.candidates[c] for c in route.path)


def fixed() -> Fixed:
    return Fixed(("large", "small"), upper_ms=(9.0, 1.0), costs_mj=(20.0, 2.0))


def test_fixed() -> None:
    assert told(fixed()) == ("every image goes to large", ("large",))
    assert told(fixed(), FAST) == ("every image goes to large", ("large",))
    assert told(fixed(), Limits(5.0)) == (
        "every image goes to large, but the deadline leaves no time for it, so small was asked",
        ("small",),
    )
    assert told(fixed(), Limits(remaining_mj=3.0)) == (
        "every image goes to large, but the energy left does not pay for it, so small was asked",
        ("small",),
    )
    assert told(fixed(), Limits(0.5)) == (
        "every image goes to large, but the deadline leaves no time for it or any other, so there "
        "is no answer",
        (),
    )
    alone = Fixed(("large",), upper_ms=(9.0,))
    assert told(alone, Limits(0.5)) == (
        "every image goes to large, but the deadline leaves no time for it, so there is no answer",
        (),
    )


def test_each_limit_that_did_not_suffice_is_named() -> None:
    policy = Fixed(("large", "small"), None, (9.0, 1.0), (8.0, 1.0), (20.0, 2.0))
    reason, _ = told(policy, Limits(5.0, 10.0, 0.0, 4.0))
    assert reason == (
        "every image goes to large, but the deadline leaves no time for it and the time allowed "
        "does not pay for it and the energy left does not pay for it, so small was asked"
    )
    reason, _ = told(policy, Limits(5.0, 30.0))
    assert "energy" not in reason
    by_bucket = Left(100.0, np.inf, 0.0, 4.0, "ms", np.array(True))
    assert told(policy, by_bucket)[0] == (
        "every image goes to large, but the bucket does not pay for it, so small was asked"
    )
    by_request = Left(100.0, np.inf, 0.0, 4.0, "ms", np.array(False))
    assert "but the time allowed does not pay for it" in told(policy, by_request)[0]


def test_random_tells_whom_it_drew() -> None:
    policy = Random(("small", "large"), shares=(0.0, 1.0), upper_ms=(1.0, 9.0))
    assert told(policy) == ("a draw by fixed shares chose large", ("large",))
    assert told(policy, Limits(5.0)) == (
        "a draw by fixed shares chose large, but the deadline leaves no time for it, so small was "
        "asked",
        ("small",),
    )


def test_premodel_that_is_overruled_is_not_said_to_expect_another() -> None:
    policy = ByPremodel(NAMES, premodel(), **COSTS)
    assert told(policy, chances=(0.2, 0.3, 0.96)) == (
        "the premodel expects large to be the first that is right",
        ("large",),
    )
    reason, path = told(policy, Limits(5.0), (0.2, 0.3, 0.96))
    assert path == ("middle",)
    assert reason == (
        "the premodel expects large to be the first that is right, but the deadline leaves no "
        "time for it, so middle was asked"
    )
    assert told(policy, Limits(5.0), (0.2, 0.3, 0.4))[0] == (
        "the premodel expects no candidate to be right, which calls for large, but the deadline "
        "leaves no time for it, so middle was asked"
    )
    assert told(policy, FAST, (0.2, 0.3, 0.4)) == (
        "the premodel expects no candidate to be right, which calls for large",
        ("large",),
    )


def test_premodel_that_abstains() -> None:
    policy = ByPremodel(NAMES, premodel(), on_abstain="abstain", **COSTS)
    for limits in (UNLIMITED, Limits(5.0), FAST):
        assert told(policy, limits, (0.2, 0.3, 0.4)) == (
            "the premodel expects no candidate to be right, so the policy abstained",
            (),
        )
    assert told(policy, Limits(0.5), (0.2, 0.3, 0.9)) == (
        "the premodel expects large to be the first that is right, but the deadline leaves no "
        "time for it or any other, so there is no answer",
        (),
    )


def test_utility_says_what_a_preference_changed() -> None:
    policy = ByPremodel(NAMES, premodel(), rule="utility", price=0.05, **COSTS)
    chances = (0.5, 0.8, 0.9)
    plain = "the premodel's chance for middle, less the price of its time, is the highest"
    assert told(policy, chances=chances) == (plain, ("middle",))
    assert told(policy, FAST, chances) == (
        "the request prefers a fast answer, and then no candidate is worth more than small",
        ("small",),
    )
    assert told(policy, ACCURATE, chances) == (
        "the request prefers an accurate answer, and then no candidate is worth more than large",
        ("large",),
    )
    # A preference that changed nothing is not brought up.
    assert told(policy, Limits(preference=0.01), chances) == (plain, ("middle",))
    # The order of the candidates decides what is asked instead, not their worth.
    assert told(policy, Limits(3.5), chances)[0] == (
        f"{plain}, but the deadline leaves no time for it, so small was asked"
    )


def test_utility_that_abstains() -> None:
    policy = ByPremodel(NAMES, premodel(), on_abstain="abstain", rule="utility", price=0.2, **COSTS)
    assert told(policy, chances=(0.1, 0.2, 0.9)) == (
        "no candidate's chance is worth the price of its time, so the policy abstained",
        (),
    )
    assert told(policy, FAST, (0.9, 0.9, 0.9)) == (
        "the request prefers a fast answer, and then none is worth its time: the policy abstained",
        (),
    )


CASCADE = Cascade(NAMES, thresholds=(0.8, 0.7), **COSTS)


@pytest.mark.parametrize(
    ("limits", "signals", "reason", "path"),
    [
        (UNLIMITED, (0.9, 0.9, 0.9), "small was sure enough", "s"),
        (
            UNLIMITED,
            (0.6, 0.9, 0.9),
            "small was not sure enough, so middle was asked; middle was sure enough",
            "sm",
        ),
        (
            UNLIMITED,
            (0.6, 0.6, 0.5),
            "small and middle were not sure enough, so large was asked",
            "sml",
        ),
        (
            FAST,
            (0.6, 0.6, 0.6),
            "small was not sure enough, but the request prefers a fast answer",
            "s",
        ),
        (FAST, (0.9, 0.6, 0.6), "small was sure enough", "s"),
        (
            ACCURATE,
            (0.9, 0.9, 0.9),
            "small was sure enough, but the request prefers an accurate answer, then middle was "
            "sure enough, but the request prefers an accurate answer, so large was asked",
            "sml",
        ),
        (
            ACCURATE,
            (0.6, 0.6, 0.9),
            "small and middle were not sure enough, so large was asked",
            "sml",
        ),
        (
            Limits(5.0),
            (0.6, 0.6, 0.9),
            "small was not sure enough, so middle was asked; middle was not sure enough, but the "
            "deadline leaves no time for large",
            "sm",
        ),
        (
            Limits(3.0),
            (0.6, 0.6, 0.9),
            "small was not sure enough, but the deadline leaves no time for middle",
            "s",
        ),
        (
            Limits(remaining_mj=3.0),
            (0.6, 0.6, 0.9),
            "small was not sure enough, but the energy left does not pay for middle",
            "s",
        ),
        (
            Limits(3.0, preference=1.0),
            (0.9, 0.6, 0.9),
            "small was sure enough; the request prefers an accurate answer, but the deadline "
            "leaves no time for middle",
            "s",
        ),
        (Limits(3.0), (0.9, 0.6, 0.9), "small was sure enough", "s"),
        (
            Limits(3.0, preference=-1.0),
            (0.6, 0.6, 0.9),
            "small was not sure enough, but the request prefers a fast answer",
            "s",
        ),
        (
            Limits(0.5),
            (0.6, 0.6, 0.9),
            "small comes first, but the deadline leaves no time for it or any other, so there is "
            "no answer",
            "",
        ),
    ],
)
def test_cascade(limits: Limits, signals: tuple[float, ...], reason: str, path: str) -> None:
    found, way = told(CASCADE, limits, signals=signals)
    assert "".join(name[0] for name in way) == path
    assert found == reason


def test_cascade_that_cannot_afford_its_first() -> None:
    policy = Cascade(("large", "small"), thresholds=(0.8,), upper_ms=(9.0, 1.0))
    assert told(policy, Limits(5.0), signals=(0.5, 0.5)) == (
        "large comes first, but the deadline leaves no time for it, so small was asked",
        ("small",),
    )
    three = Cascade(("large", "small", "middle"), thresholds=(0.8, 0.8), upper_ms=(9.0, 1.0, 4.0))
    assert told(three, Limits(2.0), signals=(0.5, 0.5, 0.5)) == (
        "large comes first, but the deadline leaves no time for it, so small was asked; small was "
        "not sure enough, but the deadline leaves no time for middle",
        ("small",),
    )


def test_cascade_of_one() -> None:
    assert told(Cascade(("small",))) == ("every image goes to small", ("small",))


def test_limits_that_run_out_on_the_way() -> None:
    limits = [Limits(20.0), Limits(18.0), Limits(6.0)]
    assert told(CASCADE, limits, signals=(0.6, 0.6, 0.6)) == (
        "small was not sure enough, so middle was asked; middle was not sure enough, but the "
        "deadline leaves no time for large",
        ("small", "middle"),
    )


def hybrid(**settings: Any) -> Hybrid:
    return Hybrid(NAMES, premodel(), thresholds=(0.8, 0.7), **COSTS, **settings)


def test_hybrid_by_moved_thresholds() -> None:
    policy = hybrid(start_gain=0.1)
    assert told(policy, chances=(0.2, 0.3, 0.9)) == (
        "large is the first from which the premodel expects little of going on",
        ("large",),
    )
    assert told(policy, Limits(5.0), (0.2, 0.3, 0.9)) == (
        "large is the first from which the premodel expects little of going on, but the deadline "
        "leaves no time for it, so middle was asked; middle was not sure enough, but the deadline "
        "leaves no time for large",
        ("middle",),
    )
    assert told(policy, FAST, (0.9, 0.9, 0.9))[0] == (
        "small was not sure enough, but the request prefers a fast answer"
    )


def test_hybrid_by_learned_gains_speaks_of_gains() -> None:
    def rows(*constants: float) -> np.ndarray:
        return np.array([[c, *[0.0] * 9] for c in constants])

    ways = ((1,), (2,), (1, 2))
    chances = (0.5, 0.5, 0.5)
    on = hybrid(gains=(Gain((0,), ways, rows(0.1, 0.2, 0.05)),))
    assert told(on, chances=chances) == (
        "going on from small promised a gain, so large was asked",
        ("small", "large"),
    )
    assert told(on, Limits(5.0), chances) == (
        "going on from small promised a gain, but the deadline leaves no time for large",
        ("small",),
    )
    assert told(on, FAST, chances) == (
        "going on from small promised a gain, but the request prefers a fast answer",
        ("small",),
    )
    stay = hybrid(gains=(Gain((0,), ways, rows(-0.1, -0.2, -0.05)),))
    # It is far from sure: what keeps it is that the others promise too little.
    assert told(stay, chances=chances, signals=(0.3, 0.3, 0.3)) == (
        "going on from small promised too little",
        ("small",),
    )
    assert told(stay, ACCURATE, chances)[0] == (
        "going on from small promised too little, but the request prefers an accurate answer, "
        "then middle was not sure enough, so large was asked"
    )


def test_a_users_own_policy_needs_to_say_nothing() -> None:
    class Second(Fixed):
        def why_start(self, candidate: int, chances: Any, preference: float) -> str:
            return Policy.why_start(self, candidate, chances, preference)

        def start(self, chances: Any, count: int, limits: Limits) -> np.ndarray:
            return np.full(count, 1 if chances is None else STOP)

    policy = Second(("small", "large"), upper_ms=(1.0, 9.0))
    assert told(policy) == ("the fixed policy chose large", ("large",))
    assert told(policy, Limits(2.0))[0] == (
        "the fixed policy chose large, but the deadline leaves no time for it, so small was asked"
    )
    assert told(policy, chances=(0.5, 0.5))[0] == "the fixed policy gives no answer to this image"


MAKE: dict[str, Callable[[], Policy]] = {
    "fixed": lambda: Fixed(NAMES[::-1], **_turned()),
    "random": lambda: Random(NAMES, seed=3, **COSTS),
    "premodel": lambda: ByPremodel(NAMES, premodel(), **COSTS),
    "utility": lambda: ByPremodel(NAMES, premodel(), rule="utility", price=0.03, **COSTS),
    "cascade": lambda: CASCADE,
    "hybrid": lambda: hybrid(shift=0.3, start_gain=0.2),
    "gains": lambda: hybrid(
        gains=(
            Gain((0,), ((1,), (2,), (1, 2)), np.random.default_rng(4).normal(0, 0.2, (3, 10))),
            Gain((0, 1), ((2,),), np.random.default_rng(5).normal(0, 0.2, (1, 10))),
        )
    ),
}


def _turned() -> dict[str, Any]:
    return {name: values[::-1] for name, values in COSTS.items()}


@pytest.mark.parametrize("name", MAKE)
def test_reasons_of_many_images_are_true(name: str) -> None:
    """Each sentence is held against what the same policy does without limits."""
    draw = np.random.default_rng(11)
    seen = set()
    for _ in range(400):
        policy = MAKE[name]()
        chances = tuple(draw.random(3)) if policy.needs_features else None
        signals = tuple(draw.uniform(0.5, 1, 3))
        deadline = float(draw.choice([np.inf, 0.5, 2.0, 5.0, 20.0]))
        energy = float(draw.choice([np.inf, 1.0, 3.0, 8.0, 50.0]))
        preference = float(draw.choice([-1.0, -0.5, 0.0, 0.5, 1.0]))
        limits = Limits(deadline, energy, preference)
        reason, path = told(policy, limits, chances, signals)
        assert "\n" not in reason
        # With the preference alone, and with nothing: what limits and preference each changed.
        preferred = told(MAKE[name](), Limits(preference=preference), chances, signals)[1]
        neutral = told(MAKE[name](), UNLIMITED, chances, signals)[1]
        limited = "deadline" in reason or "energy" in reason
        assert limited == (path != preferred), (reason, path, preferred)
        if "deadline" in reason:
            assert deadline < max(COSTS["upper_ms"])
        if "energy" in reason:
            assert energy < max(COSTS["costs_mj"])
        if path == neutral == preferred:
            assert "prefers" not in reason
        if not limited:
            assert ("prefers" in reason) == (preferred != neutral)
        if "a fast answer" in reason:
            assert preference < 0
        if "an accurate answer" in reason:
            assert preference > 0
        assert (not path) == ("no answer" in reason or "abstained" in reason)
        for asked in re.findall(r"so (\w+) was asked", reason):
            assert asked in path
        for sure in re.findall(r"(\w+) was (?:not )?sure enough", reason):
            assert sure in path
        seen.add(limited)
    assert seen == {True, False}


def test_router_tells_the_bucket_from_the_request(tiny_candidates: Path, tiny_images: Path) -> None:
    never_sure = Cascade(("cheap", "strong"), thresholds=(1.0,), costs_ms=(0.0001, 50.0))
    image = tiny_images / "000.png"
    with Router.load(tiny_candidates, policy=never_sure, bucket=Bucket(20.0, 40.0)) as router:
        router.warm_up()
        answer = router.classify(image)
        assert answer.path == ("cheap",)
        assert answer.reason == (
            "cheap was not sure enough, but the bucket does not pay for strong"
        )
        batch = router.classify_batch([image, image])
        assert {a.reason for a in batch} == {answer.reason}
        tight = router.classify(image, Limits(allowance_ms=10.0))
        assert tight.reason == (
            "cheap was not sure enough, but the time allowed does not pay for strong"
        )


def test_reasons_in_a_batch_are_each_images_own(tiny_candidates: Path, tiny_images: Path) -> None:
    policy = Cascade(("cheap", "strong"), thresholds=(1.0,), upper_ms=(1e-6, 1e4))
    image = tiny_images / "000.png"
    with Router.load(tiny_candidates, policy=policy) as router:
        each = router.classify_batch([image] * 3, Limits(np.array([1e6, 5e3, -1.0])))
    assert [a.reason for a in each] == [
        "cheap was not sure enough, so strong was asked",
        "cheap was not sure enough, but the deadline leaves no time for strong",
        "cheap comes first, but the deadline leaves no time for it or any other, so there is no "
        "answer",
    ]


def test_a_reason_asked_for_by_hand_needs_no_limits() -> None:
    history = History((0,), (Output(np.array([0.9])),))
    assert CASCADE.reason(history) == "small was sure enough"


def test_what_rules_out_the_others_need_not_be_what_rules_out_the_wanted() -> None:
    policy = Fixed(("large", "small"), None, (1.0, 9.0), None, (20.0, 2.0))
    assert told(policy, Limits(5.0, 10.0)) == (
        "every image goes to large, but the energy left does not pay for it, and the limits allow "
        "no other, so there is no answer",
        (),
    )
    assert told(policy, Limits(5.0, 1.0))[0] == (
        "every image goes to large, but the energy left does not pay for it or any other, so "
        "there is no answer"
    )
