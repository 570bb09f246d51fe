"""Outcomes that were measured elsewhere, as a table in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.evaluation.evaluation import evaluate
from adaptive.outcomes.table import OutcomeTable
from adaptive.tuning.objectives import Tuner

IMAGES = [f"street-{number}.png" for number in range(600)]


def masks(seed: int = 0) -> dict[str, Any]:
    """The overlaps of a fast and a large segmenter; the fast one knows when its own is poor."""
    draw = np.random.default_rng(seed)
    hard = draw.uniform(0, 1, len(IMAGES))
    return {
        "images": IMAGES,
        "quality": {
            "fast": np.clip(0.9 - 0.7 * (hard > 0.6) * hard, 0, 1),
            "large": np.clip(0.9 - 0.05 * hard, 0, 1),
        },
        "ms": {"fast": draw.uniform(9, 11, len(IMAGES)), "large": 90.0},
        "confidence": {"fast": np.clip(1 - hard, 0, 1)},
        "features": {"hard": hard},
        "quality_name": "iou",
    }


def test_masks_are_routed_by_their_overlap() -> None:
    table = OutcomeTable.from_arrays(**masks())
    tuner = Tuner(table)
    assert tuner.reference == "large"
    tuned = tuner.certified(0.03, 0.05, "betting")
    assert tuned.policy is not None, tuned.reason
    assert tuned.certificate is not None
    assert "iou is at most 3 points below large's" in tuned.certificate.words()
    result = evaluate(tuned.policy, OutcomeTable.from_arrays(**masks(1)), "large")
    assert result.policy.quality.value > 0.85
    assert result.policy.ms.value < 70


def test_it_is_the_table_that_its_csv_is(tmp_path: Path) -> None:
    table = OutcomeTable.from_arrays(**masks())
    table.write(tmp_path / "x.csv")
    again = OutcomeTable.read(tmp_path / "x.csv")
    assert (again.images, again.features) == (table.images, table.features)
    assert again.quality_name == "iou"
    assert again.own_features == ("hard",)
    for name in ("fast", "large"):
        np.testing.assert_allclose(again.quality(name), table.quality(name), rtol=1e-8)
        np.testing.assert_allclose(again.ms(name), table.ms(name), rtol=1e-5)
        np.testing.assert_allclose(again.of(name).confidence, table.of(name).confidence, rtol=1e-8)


def test_times_that_are_told_in_a_large_unit_are_not_written_as_nothing(tmp_path: Path) -> None:
    """Five decimals are enough for milliseconds, and not for an hour's share."""
    given = {**masks(), "ms": {"fast": 2.5e-6, "large": 3e-5}, "mj": {"large": 1e-8, "fast": 1e-9}}
    table = OutcomeTable.from_arrays(**given)
    table.write(tmp_path / "x.csv")
    again = OutcomeTable.read(tmp_path / "x.csv")
    np.testing.assert_allclose(again.ms("fast"), 2.5e-6)
    np.testing.assert_allclose(again.of("large").mj, 1e-8)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"images": ["a"] * 600}, "none is twice"),
        ({"quality": {"fast": np.zeros(5), "large": np.zeros(600)}}, "no array of 600 numbers"),
        ({"quality": {"fast": np.full(600, 1.5), "large": 0}}, "not between 0 and 1"),
        ({"ms": {"fast": 1.0}}, "'large' is not in the milliseconds"),
        ({"ms": {"fast": 1.0, "large": 0.0}}, "ms of 'large' holds a number that is not above 0"),
        ({"confidence": {"other": 0.5}}, "'other' is not in the quality"),
        (
            {"features": {"hard": np.full(600, np.nan)}},
            "feature 'hard' holds a number that is not finite",
        ),
        ({"images": range(600)}, "an image is called 0; names are texts"),
        ({"images": ["", *IMAGES[1:]]}, "an image is called ''"),
        ({"features": {"large:ms": np.zeros(600)}}, "cannot be called 'large:ms'"),
        ({"features": {"label": np.zeros(600)}}, "cannot be called 'label'"),
        ({"features": {"": np.zeros(600)}}, "cannot be called ''"),
        ({"quality_name": "ms"}, "is the name of another column"),
        ({"quality_name": "top1"}, "neither 0 nor 1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        OutcomeTable.from_arrays(**{**masks(), **wrong})
