"""Where the time of answers went: what steps add up to, in words and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from adaptive.prediction import Prediction, Reused
from adaptive.report.steps import MARGIN, WIDTH, StepTimes


def answer(path: tuple[str, ...], reused: Reused | None = None, **ms: float) -> Prediction:
    return Prediction("cat", 0, 0.9, (("cat", 0.9),), path[-1], path, ms, reused=reused)


@pytest.fixture
def times() -> StepTimes:
    found = StepTimes()
    found.add(answer(("small",), decode=1.0, small=2.0, total=4.0))
    found.add(answer(("small", "large"), decode=1.0, small=2.0, large=5.0, total=8.0))
    found.add(answer(("small",), decode=3.0, small=2.0, total=6.0))
    return found


def test_answers_of_one_path_are_averaged_and_what_no_step_took_is_the_rest(
    times: StepTimes,
) -> None:
    often, seldom = times.ways
    assert (often.path, often.answers, often.total) == (("small",), 2, 5.0)
    assert often.ms == {"decode": 2.0, "small": 2.0, "rest": 1.0}
    assert seldom.ms == {"decode": 1.0, "small": 2.0, "large": 5.0, "rest": 0.0}


def test_a_reused_answer_took_no_step(times: StepTimes) -> None:
    times.add(answer(("small",), Reused(1, 2, 0.1), decode=9.0, total=9.0))
    assert times.ways[0].answers == 2


def test_the_table_tells_milliseconds_and_shares(times: StepTimes) -> None:
    lines = times.table().splitlines()
    assert lines[0] == "small: 2, 5.000 ms each"
    assert lines[1].split() == ["decode", "2.000", "ms", "40.0", "%"]
    assert lines[4] == "small > large: 1, 8.000 ms each"


def test_the_picture_gives_each_step_its_share_of_the_longest_path(times: StepTimes) -> None:
    root = ElementTree.fromstring(times.drawing())
    bars = {
        part[0].text: float(part.attrib["width"])
        for part in root.iter("{http://www.w3.org/2000/svg}rect")
        if len(part)
    }
    assert bars["large: 5.000 ms, 62.5%"] == pytest.approx((WIDTH - 2 * MARGIN) * 5 / 8, abs=0.1)
    assert bars["decode: 2.000 ms, 40.0%"] == pytest.approx((WIDTH - 2 * MARGIN) * 2 / 8, abs=0.1)


def test_nothing_answered_is_an_empty_picture() -> None:
    assert StepTimes().table() == ""
    assert ElementTree.fromstring(StepTimes().drawing()).tag.endswith("svg")
