"""Conditions of live images against calibration's: false alarms, power, what is said, restarts."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_and_dark import NAMES, mixture, photo
from click.testing import CliRunner

from adaptive import Bundle, InputError, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.cli import group
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.betting import Capital, factors, rate_bound
from adaptive.monitoring.conditions import (
    ConditionMonitor,
    condition_monitor_of,
    conditions_in_log,
)
from adaptive.monitoring.resuming import resumed
from adaptive.policy.cascade import Cascade
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.shares import ConditionShares, count_conditions, known_shares

#: Tuesday 24 November 2026, 14:00 UTC
TUESDAY = 1_795_528_800.0


def monitor(counts=(900, 100), alpha=0.01, **more) -> ConditionMonitor:
    premodel = mixture()
    return ConditionMonitor(
        premodel, ConditionShares(premodel.descriptions(), counts), alpha=alpha, **more
    )


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("adaptive.monitoring.conditions").setLevel(logging.ERROR)
    yield
    logging.getLogger("adaptive.monitoring.conditions").setLevel(logging.NOTSET)


@pytest.mark.parametrize("dark", [0.06, 0.1, 0.15])
def test_the_bet_is_never_in_our_favour_while_nothing_has_changed(dark: float) -> None:
    # All sequences of eight images, with a share of dark ones inside the bounds.
    low, high = monitor().bounds[1]
    dark = min(max(dark, low), high)
    expected = 0.0
    for images in itertools.product((0, 1), repeat=8):
        one = monitor()
        for number, condition in enumerate(images):
            one.update(condition, number)
        expected += dark ** sum(images) * (1 - dark) ** (8 - sum(images)) * one.e_value
    assert expected <= 1 + 1e-9


def test_bounds_hold_together() -> None:
    bounds = monitor((700, 200, 100)[:2]).bounds
    each = 1 - 0.01 / 4
    assert bounds[0] == (1 - rate_bound(900, 200, each), rate_bound(900, 700, each))
    for low, high in bounds:
        assert 0 < low < high < 1


def test_false_alarms_stay_within_what_is_promised() -> None:
    # Calibration images are drawn anew too: alpha 5% and the bounds' 1%, so 6% of 60 runs; more
    # than ten would be one case in a thousand.
    generator = np.random.default_rng(5)
    alarms = 0
    for _ in range(60):
        drawn = int(generator.binomial(500, 0.2))
        one = monitor((500 - drawn, drawn), alpha=0.05)
        alarms += any(one.update(int(d), 0.0) for d in generator.random(600) < 0.2)
    assert alarms <= 10


@pytest.mark.parametrize(("before", "half", "longest"), [(0, 20, 40), (1000, 35, 60)])
def test_half_of_the_images_turning_dark_is_told_soon(before, half, longest) -> None:
    delays = []
    for seed in range(15):
        generator = np.random.default_rng(seed)
        one = monitor()
        for dark in generator.random(before) < 0.1:
            one.update(int(dark), 0.0)
        assert not one.alarm
        delay = 1
        while not one.update(int(generator.random() < 0.5), 1.0):
            delay += 1
        delays.append(delay)
    assert np.median(delays) <= half
    assert max(delays) <= longest


def test_a_condition_that_vanishes_is_told_too() -> None:
    one = monitor((500, 500))
    number = 0
    while not one.update(0, float(number)):
        number += 1
    assert number < 40
    assert one.shares.looks[0] in one.words()


def test_the_sentence_says_since_when_and_how_many(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    generator = np.random.default_rng(1)
    one = monitor()
    assert one.words() == "no image has been judged by condition yet"
    for minute in range(2000):
        one.update(int(generator.random() < 0.1), TUESDAY - 60 * (2000 - minute))
    assert "not shown to be others than calibration had" in one.words()
    for minute in range(400):
        one.update(minute % 2, TUESDAY + 60 * minute)
    assert abs(one.change.since - TUESDAY) <= 15 * 60
    assert one.goes_on
    words = one.words()
    assert words.startswith("since Tuesday 24 Nov 1")
    assert re.search(r"(49|50|51)% of (39|40|41)\d images", words)
    assert words.endswith(f'images are "{one.shares.looks[1]}"; calibration had 10%')
    # Afterwards it is told as past, and the alarm stays.
    for minute in range(400, 1200):
        one.update(int(minute % 10 == 0), TUESDAY + 60 * minute)
    assert one.alarm
    assert not one.goes_on
    assert one.words().startswith("from Tuesday 24 Nov 1")
    assert " were " in one.words()
    status = json.loads(json.dumps(one.status(), allow_nan=False))
    assert status["images"] == 3200
    assert sum(own["images"] for own in status["conditions"]) == 3200
    assert status["conditions"][1]["share"] == 0.1
    assert status["conditions"][1]["recent"] == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("images", [0, 1, 150])
def test_state_goes_on_where_it_was(images: int) -> None:
    draws = (np.random.default_rng(2).random(220) < 0.4).astype(int).tolist()
    whole, first, second = monitor(), monitor(), monitor()
    for number, condition in enumerate(draws):
        whole.update(condition, number)
        if number < images:
            first.update(condition, number)
    second.restore(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    for number, condition in enumerate(draws[images:], images):
        second.update(condition, number)
    assert second.status() == whole.status()
    assert whole.alarm
    size = len(json.dumps(whole.to_json()))
    for number in range(2000):
        whole.update(0, number)
    assert len(json.dumps(whole.to_json())) < 1.3 * size  # no more with more images


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "reads up to 1"),
        ({"asks": {}}, "of other conditions"),
        ({"best": [0.0]}, "'best' has 1 numbers, not 60"),
        ({"since": ["x"]}, "not a number"),
        ({"change": [1.0]}, "'change' has 1 numbers, not 4"),
        ({"counts": None}, "has no 'counts'"),
        ({"counts": [-1, 1]}, "'counts' holds what is no number of images"),
        ({"counts": [0.5, 0.5]}, "'counts' holds what is no number of images"),
        ({"counts": [1e300, 1e300]}, "'counts' holds what is no number of images"),
        ({"change": [0.0, 1.0, 0, 0]}, "counts other images than the"),
        ({"change": [0.0, 1.0, 0, 10**6]}, "counts other images than the"),
    ],
)
def test_bad_state_is_one_sentence(change: dict, says: str) -> None:
    one = monitor()
    one.update(1, 0.0)
    with pytest.raises(InputError, match=says):
        monitor().restore({**one.to_json(), **change})


def test_state_is_written_while_it_runs(tmp_path: Path) -> None:
    log, one = tmp_path / "log.jsonl", monitor()
    path = tmp_path / "log.jsonl.conditions.json"
    written = threading.Event()
    with resumed([one], log, every_s=0.02):
        one.update(1, 0.0)
        for _ in range(500):
            if path.exists() and json.loads(path.read_text())["counts"] == [0, 1]:
                written.set()
                break
            threading.Event().wait(0.01)
        assert written.is_set()
    again = monitor()
    with resumed([again], log):
        assert again.images == 1


def test_shares_are_read_from_the_certificate_or_else_the_premodel() -> None:
    premodel = mixture(of="training")
    assert known_shares(premodel, None).counts == (90, 10)
    looks = premodel.descriptions()
    told = ConditionShares(looks, (3, 4))
    assert known_shares(premodel, {"conditions": told.to_json()}) == told
    assert known_shares(premodel, {"conditions": [["dark", 0.5]]}).of == "training"
    others = ConditionShares(("a", "b"), (3, 4)).to_json()
    assert known_shares(premodel, {"conditions": others}).of == "training"
    assert known_shares(mixture(told=False), {"epsilon": 0.1}) is None
    assert known_shares(None, None) is None
    assert told.words() == f"43% {looks[0]}; 57% {looks[1]}"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"looks": ["a"], "counts": [1, 2], "of": "x"}, "2 counts for 1 conditions"),
        ({"looks": ["a"], "counts": [-1], "of": "x"}, "are not of images"),
        ({"looks": ["a"], "counts": [0.5], "of": "x"}, "no whole numbers"),
        ({"looks": [1], "counts": [1], "of": "x"}, "no texts"),
        ({"counts": [1], "of": "x"}, "has no 'looks'"),
    ],
)
def test_bad_shares_are_one_sentence(values: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ConditionShares.from_json(values, "it")


def test_images_count_for_their_most_probable_condition() -> None:
    X = np.array([[150.0, 3.0], [8.0, 3.0], [9.0, 100.0]])
    assert count_conditions(mixture(), X).counts == (1, 2)
    assert count_conditions(mixture(), X[:0]) is None


def test_one_condition_or_a_bad_alpha_cannot_be_watched() -> None:
    with pytest.raises(InputError, match="two or more are needed"):
        ConditionMonitor(mixture(), ConditionShares(("a",), (5,)))
    with pytest.raises(InputError, match="is not between 0 and 1"):
        monitor(alpha=2)


def test_no_bet_beyond_certainty() -> None:
    assert not factors(1.0).any()
    assert not factors(0.0).any()
    capital = Capital(3)
    assert math.exp(capital.log_e) == pytest.approx(1)


@pytest.fixture(scope="module")
def by_condition(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose policy goes by a mixture of bright and dark."""
    output = tmp_path_factory.mktemp("conditions") / "bundle"
    write_bundle(output, Bundle.read(tiny_bundle), ByPremodel(NAMES, mixture(of="training")))
    return output


def test_a_router_watches_and_its_log_tells_the_same(
    by_condition: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("adaptive.monitoring.conditions").setLevel(logging.WARNING)
    log = tmp_path / "log.jsonl"
    with Router.load(by_condition, audit=Audit(0.3), log=log) as router:
        for number in range(60):
            answer = router.classify(photo(number >= 20, number), explain=number == 59)
        status = router.status()["conditions"]
        described = router.describe()["conditions"]
        assert router.conditions.alarm
    assert [own.pop("examples") for own in described["conditions"]] == [[], []]
    assert status == described
    assert status["images"] == 60
    assert [own["images"] for own in status["conditions"]] == [20, 40]
    assert "; training had 10%" in status["words"]
    (first, _) = answer.explanation.conditions
    assert first.description == status["conditions"][1]["description"]
    assert first.probability > 0.9
    assert answer.explanation.condition_words().startswith(first.description)
    read = conditions_in_log(log, Bundle.read(by_condition))
    assert read.counts.tolist() == [20, 40]
    assert read.alarm_at == status["alarm_at"]
    assert caplog.text.count("images are taken under other conditions: since ") == 1

    target = tmp_path / "replay.json"
    arguments = ["replay", log, "--policy", "fixed:strong", "--bundle", by_condition]
    result = CliRunner().invoke(group, [*map(str, arguments), "--json", str(target)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("conditions: since ")
    assert json.loads(target.read_text())["conditions"]["alarm"] is True


def test_a_policy_without_features_counts_only_audited_images(by_condition: Path) -> None:
    bundle = Bundle.read(by_condition)
    cascade = Cascade(NAMES, thresholds=(0.9,))
    one = condition_monitor_of(replace(bundle, policy=cascade))
    assert one.every is False
    with Router.load(by_condition, policy=cascade, audit=Audit(0.4)) as router:
        for number in range(30):
            router.classify(photo(True, number), explain=True)
        audited = router.status()["audit"]["audited"]
        assert 4 <= audited < 30
        assert router.conditions.images == audited


def test_old_bundles_say_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    assert condition_monitor_of(Bundle.read(tiny_bundle)) is None
    output = tmp_path / "old"
    write_bundle(output, Bundle.read(tiny_bundle), ByPremodel(NAMES, mixture(told=False)))
    with Router.load(output, audit=Audit(1.0)) as router:
        router.classify(photo(True, 0))
        assert router.conditions is None
        told = router.describe()["conditions"]
        assert told["words"] is told["of"] is None
        assert len(told["conditions"]) == 2
    with Router.load(tiny_bundle) as router:
        assert router.describe()["conditions"] is None
