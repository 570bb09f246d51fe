from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError, TableError
from adaptive.intervals import mean, share
from adaptive.outcomes.quality import (
    check_quality,
    is_binary,
    mean_quality,
    quality_words,
    right_or_wrong,
)
from adaptive.outcomes.table import OutcomeTable


def write(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_users_own_table_needs_image_quality_and_ms_alone(tmp_path: Path) -> None:
    path = write(
        tmp_path / "own.csv",
        "image,bright,a:iou,a:ms,b:iou,b:ms,b:confidence",
        "x.png,0.5,0.25,2,1,9,0.5",
        "y.png,0.75,0,2,0.5,9,0.75",
    )
    table = OutcomeTable.read(path)
    assert table.quality_name == "iou"
    assert table.candidates == ("a", "b")
    assert table.features == ("bright",)
    np.testing.assert_array_equal(table.quality("a"), [0.25, 0])
    np.testing.assert_array_equal(table.quality("b"), [1, 0.5])
    np.testing.assert_array_equal(table.of("a").confidence, [1, 1])  # sure where it does not tell
    np.testing.assert_array_equal(table.of("b").confidence, [0.5, 0.75])
    np.testing.assert_array_equal(table.decode_ms + table.features_ms, [0, 0])
    assert table.of("a").top5 is None
    assert not table.binary
    assert not table.of_classes


def test_a_graded_table_is_written_and_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", "image,a:f1,a:ms", "x,0.123456789,1", "y,1,2.5")
    first = OutcomeTable.read(path)
    first.write(tmp_path / "again.csv")
    again = OutcomeTable.read(tmp_path / "again.csv")
    assert again.quality_name == "f1"
    np.testing.assert_array_equal(again.quality("a"), first.quality("a"))
    np.testing.assert_array_equal(again.ms("a"), [1, 2.5])


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("image,a:ms", "x,1", "beside NAME:ms every candidate needs one column NAME:<quality>"),
        ("image,a:ms,a:f1,a:iou", "x,1,1,1", "the endings ['f1', 'iou'] would do"),
        ("image,a:ms,a:f1", "x,1,1.5", "at most 1 is allowed"),
        ("image,a:ms,a:f1", "x,1,-0.5", "at least 0 is"),
        ("image,a:ms,a:f1,b:ms", "x,1,1,1", "none would do"),
        ("image,a:ms,a:top1", "x,1,0.5", "only 0 and 1 are allowed"),
        ("image,a:ms,a:mean iou", "x,1,1", "is no name"),
        ("a:ms,a:f1", "1,1", "no column 'image'"),
    ],
)
def test_what_is_no_table_is_told_why(tmp_path: Path, header: str, row: str, says: str) -> None:
    path = write(tmp_path / "own.csv", header, row)
    with pytest.raises(TableError) as caught:
        OutcomeTable.read(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_and_words() -> None:
    assert check_quality("mIoU-50") == "mIoU-50"
    assert [quality_words(name) for name in ("top1", "f1", "chrF")] == ["top-1", "F1", "chrF"]
    for name in ("", "1st", "a:b", "mean iou"):
        with pytest.raises(InputError, match="is no name"):
            check_quality(name)
    with pytest.raises(InputError, match="another column"):
        check_quality("ms", ("ms",))


def test_the_mean_of_right_and_wrong_has_wilsons_interval_and_of_grades_the_normal_one() -> None:
    right = np.array([1.0, 0, 1, 1])
    assert mean_quality(right) == share(right.astype(bool)) == mean_quality(right.astype(bool))
    grades = np.linspace(0.2, 0.8, 50)
    assert mean_quality(grades) == mean(grades)
    assert mean_quality(np.array([0.0, 0, 0.9])).low == 0.0


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=200), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_better_answer_is_never_wrong_where_a_worse_one_is_right(
    rows: list[tuple[float, ...]], seed: int
) -> None:
    quality = np.array(rows)
    outcomes = right_or_wrong(quality, seed)
    better = quality[:, 0] >= quality[:, 1]
    assert np.all(outcomes[better, 0] >= outcomes[better, 1])
    if is_binary(quality):
        np.testing.assert_array_equal(outcomes, quality)


def test_the_chance_of_being_right_is_the_expected_quality() -> None:
    for level in (0.0, 0.1, 0.5, 0.73, 1.0):
        outcomes = right_or_wrong(np.column_stack([np.full(1000, level), np.full(1000, 0.3)]))
        assert outcomes[:, 0].mean() == pytest.approx(level, abs=1e-3)
