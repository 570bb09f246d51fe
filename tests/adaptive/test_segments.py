"""Which segments run: the law in one place, against a plain simulation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive import InputError
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.routing.running import ways_of
from adaptive.segments import Run, Segments

# Two exits go on from net@2, and one whole network stands alone.
AFTER = {
    "net@1": None,
    "net@2": "net@1",
    "net@3": "net@2",
    "other@3": "net@2",
    "net@4": "net@3",
    "big": None,
}
PATHS = st.lists(st.sampled_from(sorted(AFTER)), unique=True)
THROUGH = st.sets(st.sampled_from(sorted(AFTER)))


def plainly(path: list[str], through: set[str]) -> list[list[tuple[str, bool]]]:
    """Walk up to what has a state, then down again."""
    states: set[str] = set()
    answered: set[str] = set()
    steps = []
    for name in path:
        runs: list[tuple[str, bool]] = []
        if name not in answered:
            runs.append((name, False))
        above = AFTER[name]
        while above is not None and above not in states:
            runs.insert(0, (above, above in through))
            above = AFTER[above]
        states |= {segment for segment, _ in runs}
        answered |= {segment for segment, headless in runs if not headless}
        steps.append(runs)
    return steps


@given(PATHS, THROUGH)
def test_steps_against_a_plain_walk(path: list[str], through: set[str]) -> None:
    assert Segments(AFTER, through).steps(path) == plainly(path, through)


@given(PATHS, THROUGH)
def test_every_segment_answers_once_and_never_before_its_state_is_there(
    path: list[str], through: set[str]
) -> None:
    runs = [run for step in Segments(AFTER, through).steps(path) for run in step]
    assert len(set(runs)) == len(runs)
    for position, (segment, headless) in enumerate(runs):
        before = {earlier for earlier, _ in runs[:position]}
        assert AFTER[segment] is None or AFTER[segment] in before
        assert not headless or segment in through
    assert {segment for segment, headless in runs if not headless} >= set(path)


def test_an_exit_that_was_run_through_is_run_again_when_it_is_asked() -> None:
    segments = Segments(AFTER, ("net@1", "net@2"))
    assert segments.steps(["net@3", "net@1"]) == [
        [Run("net@1", True), Run("net@2", True), Run("net@3", False)],
        [Run("net@1", False)],
    ]
    assert Segments(AFTER).steps(["net@3", "net@1"])[1] == []


def test_a_chain_without_its_beginning_is_refused() -> None:
    with pytest.raises(InputError, match="comes after 'net@1', which is not there"):
        Segments({"net@2": "net@1"})


EXITS = ("net@1", "net@2", "net@3")


@pytest.mark.parametrize(
    ("policy", "passed"),
    [
        (Fixed(("net@3",)), {"net@1", "net@2"}),
        (Fixed(("net@1",)), set()),
        (Random(("net@1", "net@2")), {"net@1"}),
        (Cascade(EXITS, thresholds=(0.5, 0.5)), set()),
        (Cascade(("net@1", "net@3"), thresholds=(0.5,)), {"net@2"}),
        (Cascade(("net@2", "net@4"), thresholds=(0.5,)), {"net@1", "net@3"}),
        (Cascade(("big", "net@2"), thresholds=(0.5,)), {"net@1"}),
        (Cascade(EXITS, thresholds=(0.5, 0.5), costs_ms=(1, 2, 3)), set()),
        # A limit that rules out the first lets images start at the second.
        (Cascade(EXITS, thresholds=(0.5, 0.5), costs_ms=(2, 1, 3)), {"net@1"}),
        (Cascade(EXITS, thresholds=(0.5, 0.5), upper_ms=(9, 9, 1)), {"net@1", "net@2"}),
    ],
)
def test_what_a_policy_may_run_through(policy: Policy, passed: set[str]) -> None:
    assert Segments(AFTER, AFTER).run_through(ways_of(policy)) == passed
