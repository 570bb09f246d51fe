from __future__ import annotations

import json

import numpy as np
import pytest

from adaptive.premodel.base import first_yes
from adaptive.premodel.telling import telling

NAMES = ("small", "big", "none")


def judged(chances, outcomes, parts=5):
    chances, outcomes = np.asarray(chances, np.float64), np.asarray(outcomes)
    rows = np.array_split(np.arange(len(chances)), parts)
    return telling(NAMES, chances, outcomes, first_yes(chances), first_yes(outcomes), rows)


def images(count=400, seed=0):
    """How hard images are, and which of two candidates are right on them."""
    generator = np.random.default_rng(seed)
    hard = generator.uniform(size=count)
    right = np.column_stack([generator.uniform(size=count) > hard * w for w in (1.0, 0.6)])
    return hard, right.astype(int)


def test_true_chances_tell_something():
    hard, outcomes = images()
    found = judged(np.column_stack([1 - hard, 1 - 0.6 * hard]), outcomes)
    assert found.verdict == "something"
    assert found.saved.low > 0
    assert found.saved.value == pytest.approx(found.base - found.brier)
    assert found.auc > 0.7 > found.auc_by_guessing
    assert found.words().startswith(
        "The premodel tells something about images that it has not seen: best"
    )


def test_chances_of_other_images_tell_nothing():
    hard, _ = images()
    _, outcomes = images(seed=1)
    found = judged(np.column_stack([1 - hard, 1 - 0.6 * hard]), outcomes)
    assert found.verdict == "nothing"
    assert found.brier > found.base
    assert "is not shown to tell anything" in found.words()


def test_chances_that_only_rank_are_told_apart():
    hard, outcomes = images()
    found = judged(np.column_stack([0.02 - hard / 50, 0.02 - hard / 50]), outcomes)
    assert found.verdict == "order"
    assert found.brier > found.base


def test_guessing_is_seldom_taken_for_more():
    """Chances that know nothing: at most 2.5% are said to rank, whatever the candidates share."""
    generator = np.random.default_rng(0)
    said = 0
    for _ in range(400):
        right = generator.integers(0, 2, 60)
        chance = generator.uniform(size=60)
        found = judged(np.column_stack([chance, chance]), np.column_stack([right, right]))
        said += found.verdict != "nothing"
    assert said <= 400 * 0.025 + 3 * (400 * 0.025) ** 0.5


def test_words_name_all_that_it_is_held_against():
    chances = [[0.75, 0.25], [0.75, 0.25], [0.25, 0.25], [0.25, 0.75]]
    outcomes = [[1, 1], [0, 0], [0, 0], [0, 1]]
    found = judged(chances, outcomes, parts=1)
    assert found.words() == (
        "The premodel is not shown to tell anything about images that it has not seen: best "
        "candidate chosen for 75.0% (always 'small', the cheapest, 25.0%; always 'none' 50.0%), "
        "Brier 0.188 (base rate 0.219), AUC 0.79 (guessing 0.50)."
    )


def test_the_cheapest_is_named_once_where_it_is_the_commonest():
    found = judged([[0.9, 0.9]] * 4, [[1, 1], [1, 1], [1, 0], [0, 1]], parts=2)
    assert "(always 'small', the cheapest, 75.0%), Brier" in found.words()


def test_areas_that_are_not_known_are_left_out():
    found = judged([[0.9, 0.2], [0.8, 0.4]], [[1, 0], [1, 0]], parts=2)
    assert (found.auc, found.auc_by_guessing) == (None, None)
    assert "AUC" not in found.words()
    json.dumps(found.saved.to_json(), allow_nan=False)
