"""Laws of the replay: what is charged, what is answered."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_tables import AFTER, NAMES, chain, table_of

from adaptive import InputError, Limits
from adaptive.evaluation.replay import ABSTAINED, rank_of, replay
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy over some of the candidates, in any order."""
    names = tuple(
        draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES), unique=True))
    )
    kind = draw(st.sampled_from(["fixed", "random", "premodel", "cascade", "hybrid"]))
    if kind == "fixed":
        return Fixed(names)
    if kind == "random":
        return Random(names, seed=draw(st.integers(0, 9)))
    if kind == "premodel":
        return ByPremodel(
            names, chain(), on_abstain=draw(st.sampled_from(["strongest", "abstain"]))
        )
    common: dict[str, Any] = {
        "thresholds": tuple(draw(st.floats(0, 1)) for _ in names[1:]),
        "signal": draw(st.sampled_from(["top", "margin", "entropy"])),
        "combine": draw(st.sampled_from([None, "arithmetic", "geometric"])),
    }
    if kind == "cascade":
        return Cascade(names, **common)
    return Hybrid(
        names,
        chain(),
        **common,
        shift=draw(st.floats(-1, 1)),
        start_gain=draw(st.none() | st.floats(-0.5, 1)),
    )


def segments(ran: list[str]) -> set[str]:
    """All that must have run for these candidates to have run."""
    found = set()
    for name in ran:
        step: str | None = name
        while step is not None:
            found.add(step)
            step = AFTER.get(step)
    return found


@given(policies(), st.integers(1, 25), st.integers(0, 99), st.booleans(), st.floats(0, 3))
@settings(max_examples=80, deadline=None)
def test_cost_is_the_sum_of_what_ran(
    policy: Policy, count: int, seed: int, energy: bool, premodel_ms: float
) -> None:
    """Every segment once, whoever asked for it, and the features where they are needed."""
    table = table_of(count, seed, energy)
    done = replay(policy, table, premodel_ms=premodel_ms)
    for row in range(count):
        ran = [n for n, r in zip(policy.candidates, done.ran[row]) if r]
        paid = segments(ran)
        expected = sum(table.of(name).ms[row] for name in paid)
        if policy.premodel is not None:
            # f and g of f, g, h: 0.3 of the 0.4 ms that all take alone
            expected += table.features_ms[row] * 0.75 + premodel_ms
        assert done.ms[row] == pytest.approx(expected)
        if energy:
            assert done.mj is not None
            assert done.mj[row] == pytest.approx(sum(table.of(n).mj[row] for n in paid))
    assert (done.mj is not None) == energy
    assert set(done.shares()) == set(policy.candidates)
    assert sum(done.shares().values()) + done.abstained.mean() == pytest.approx(1)


@given(policies(), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_images_do_not_touch_each_other(policy: Policy, count: int, seed: int) -> None:
    """All at once, one by one, and in another order: the same for each image."""
    table = table_of(count, seed)
    together = replay(changed(policy), table)
    alone = changed(policy)
    for row in range(count):
        single = replay(alone, table.select(np.array([row])))
        for part in ("quality", "top5", "candidate", "ran", "confidence"):
            np.testing.assert_array_equal(getattr(single, part)[0], getattr(together, part)[row])
        assert single.ms[0] == pytest.approx(together.ms[row])
    if not isinstance(policy, Random):
        order = np.random.default_rng(seed).permutation(count)
        mixed = replay(policy, table.select(order))
        np.testing.assert_array_equal(mixed.candidate, together.candidate[order])
        np.testing.assert_array_equal(mixed.quality, together.quality[order])


@pytest.mark.parametrize("name", NAMES)
def test_fixed_is_the_tables_columns(name: str) -> None:
    table = table_of(60)
    done = replay(Fixed((name,)), table)
    np.testing.assert_array_equal(done.quality, table.quality(name))
    np.testing.assert_array_equal(done.top5, table.of(name).top5)
    np.testing.assert_array_equal(done.confidence, table.of(name).confidence)
    np.testing.assert_allclose(done.ms, table.ms(name))
    assert done.shares() == {name: 1.0}


def test_an_exits_segment_is_never_paid_twice() -> None:
    table = table_of(40)
    ask_all = replay(Cascade(("net@1", "net@2", "net@3"), thresholds=(1, 1)), table)
    last = replay(Fixed(("net@3",)), table)
    assert ask_all.ran.all()
    np.testing.assert_allclose(ask_all.ms, last.ms)
    np.testing.assert_array_equal(ask_all.quality, last.quality)
    backwards = replay(Cascade(("net@3", "net@1"), thresholds=(1,)), table)
    np.testing.assert_allclose(backwards.ms, last.ms)
    np.testing.assert_array_equal(backwards.quality, table.quality("net@1"))


def test_cascade_with_thresholds_at_their_ends() -> None:
    table = table_of(50)
    first = replay(Cascade(("small", "net@2", "big"), thresholds=(0, 0)), table)
    np.testing.assert_array_equal(first.quality, table.quality("small"))
    np.testing.assert_allclose(first.ms, table.ms("small"))
    last = replay(
        Cascade(("small", "net@2", "big"), thresholds=(0, 0)), table, Limits(preference=1)
    )
    np.testing.assert_array_equal(last.quality, table.quality("big"))
    np.testing.assert_allclose(last.ms, sum(table.ms(n) for n in ("small", "net@2", "big")))


@pytest.mark.parametrize("combine", ["arithmetic", "geometric"])
@pytest.mark.parametrize("weights", [None, (1.0, 3.0, 0.5)])
def test_averaging_against_plain_numpy(combine: str, weights: tuple[float, ...] | None) -> None:
    table = table_of(200)
    names = ("small", "net@2", "big")
    policy = Cascade(names, thresholds=(0.5, 0.6), signal="top", combine=combine, weights=weights)
    done = replay(policy, table)
    w = np.array(weights or (1.0, 1.0, 1.0))
    lengths = set()
    for row in range(len(table)):
        members = [table.probabilities[n][row].astype(np.float64) for n in names]
        for count in (1, 2, 3):
            parts, own = members[:count], w[:count]
            if combine == "arithmetic" or count == 1:
                mean = np.average(parts, axis=0, weights=own)
            else:
                logs = np.log(np.maximum(parts, 1e-12))
                mean = np.exp(np.average(logs, axis=0, weights=own))
                mean /= mean.sum()
            if count == 3 or mean.max() >= policy.thresholds[count - 1]:
                break
        lengths.add(count)
        assert done.ran[row].sum() == count
        assert done.confidence[row] == pytest.approx(mean.max(), rel=1e-4)
        best = np.sort(mean)
        if best[-1] - best[-2] > 1e-4:
            assert done.quality[row] == (mean.argmax() == table.label[row])
    assert lengths == {1, 2, 3}


def test_limits_are_kept_and_time_is_taken_off() -> None:
    table = table_of(200)
    upper = (2.0, 6.0, 10.0)
    policy = Cascade(("small", "net@2", "big"), thresholds=(1, 1), upper_ms=upper)
    none = replay(policy, table, Limits(1.9))
    assert none.abstained.all()
    assert not none.quality.any()
    assert np.isnan(none.confidence).all()
    assert (none.candidate == ABSTAINED).all()
    assert (none.ms == 0).all()
    some = replay(policy, table, Limits(8.0))
    for row in range(len(table)):
        # A deadline counts from the image's arrival, so decoding is taken off it first.
        left, ran = 8.0 - table.decode_ms[row], []
        for name, ms in zip(policy.candidates, upper):
            if ms > left:
                break
            ran.append(name)
            left -= table.ms(name)[row]
        assert [n for n, r in zip(policy.candidates, some.ran[row]) if r] == ran
    late = np.full(200, 2.0) + table.decode_ms / 2
    assert (late > upper[0]).any()
    assert replay(policy, table, Limits(late)).abstained.all()
    each = np.where(np.arange(200) % 2 == 0, 1.9, 1e9)
    mixed = replay(policy, table, Limits(each))
    np.testing.assert_array_equal(mixed.abstained, each < 2)
    assert mixed.ran[1::2].all()


def test_an_abstention_is_wrong_and_charged_with_the_features() -> None:
    table = table_of(50)
    chances = np.zeros((50, 2))
    chances[25:, 1] = 1
    policy = ByPremodel(("small", "big"), chain(), on_abstain="abstain")
    done = replay(policy, table, chances=chances, premodel_ms=0.5)
    assert done.abstained.tolist() == [True] * 25 + [False] * 25
    assert not done.quality[:25].any()
    assert not done.top5[:25].any()
    np.testing.assert_allclose(done.ms[:25], table.features_ms[:25] * 0.75 + 0.5)
    np.testing.assert_array_equal(done.quality[25:], table.quality("big")[25:])


def test_what_the_table_lacks_is_named() -> None:
    table = table_of(5)
    with pytest.raises(InputError, match="'vgg' is not in the outcome table; it has"):
        replay(Fixed(("vgg",)), table)
    with pytest.raises(InputError, match=r"no features \['g'\]; it has \['f'"):
        replay(ByPremodel(("small",), chain()), changed(table, features=("f", "x", "h")))
    with pytest.raises(InputError, match="no probabilities of 'small'"):
        replay(Cascade(("small",), signal="margin"), changed(table, probabilities={}))
    confident = Cascade(("small", "big"), thresholds=(0.5,))
    assert len(replay(confident, changed(table, probabilities={})).ms) == 5


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rank_against_a_stable_sort(count: int, classes: int, seed: int, coarse: bool) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 3, (count, classes)) / 3 if coarse else draw.random((count, classes))
    labels = draw.integers(0, classes, count)
    order = np.argsort(-values, axis=1, kind="stable")
    expected = [order[row].tolist().index(labels[row]) for row in range(count)]
    assert rank_of(values, labels).tolist() == expected


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused(label: int) -> None:
    with pytest.raises(InputError, match="outside the 3 classes"):
        rank_of(np.zeros((2, 3)), np.array([0, label]))


def test_an_allowance_is_taken_off_and_keeps_the_cheapest() -> None:
    table = table_of(100)
    costs = (1.0, 3.0, 9.0)
    policy = Cascade(("small", "net@2", "big"), thresholds=(1, 1), costs_ms=costs)
    assert replay(policy, table).ran.all()
    # Nothing is left for a second candidate, but the cheapest may always answer.
    spent = replay(policy, table, Limits(allowance_ms=0.0))
    assert spent.ran.sum(axis=0).tolist() == [100, 0, 0]
    enough = float(table.ms("small").max()) + 3.0
    some = replay(policy, table, Limits(allowance_ms=enough))
    assert some.ran[:, 1].all()
    assert not some.ran[:, 2].any()
