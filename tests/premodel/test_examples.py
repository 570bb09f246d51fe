from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import InputError, TableError
from adaptive.features.schema import ALL29, EXTRA, PAPER7
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.premodel.examples import front, read_examples

OWN = "image,a,b,best\n1,0.5,1,x\n2,0.25,2,y\n3,1,3,none\n4,2,4,x\n"


@pytest.fixture
def own(tmp_path):
    def write(text=OWN):
        path = tmp_path / "own.csv"
        path.write_text(text)
        return path

    return write


def outcome_table(features=(*ALL29, *EXTRA), version=1, **candidates):
    """A table of 40 images; a candidate is (how many it gets right, ms)."""
    rows = 40
    generator = np.random.default_rng(0)
    outcomes = {}
    for name, (right, ms) in candidates.items():
        hit = np.arange(rows) < right
        outcomes[name] = Outcomes(hit, hit, np.full(rows, 0.5), np.full(rows, float(ms)))
    return OutcomeTable(
        tuple(f"{row}.jpg" for row in range(rows)),
        np.zeros(rows, np.int64),
        tuple(features),
        generator.normal(size=(rows, len(features))),
        outcomes,
        np.ones(rows),
        np.ones(rows),
    )


@pytest.fixture
def measured(tmp_path):
    def write(**options):
        path = tmp_path / "outcomes.csv"
        outcome_table(**options).write(path)
        return path

    return write


def test_own_csv_levels_learn_what_is_best(own):
    examples = read_examples(own(), order=["x", "y"])
    assert examples.features == ("a", "b")
    assert examples.candidates == ("x", "y")
    np.testing.assert_array_equal(examples.X, [[0.5, 1], [0.25, 2], [1, 3], [2, 4]])
    np.testing.assert_array_equal(examples.outcomes, [[1, 0], [0, 1], [0, 0], [1, 0]])
    assert not examples.measured
    assert examples.schema_version is None


def test_order_is_the_users(own):
    examples = read_examples(own(), order=["y", "x"])
    assert examples.candidates == ("y", "x")
    np.testing.assert_array_equal(examples.outcomes, [[0, 1], [1, 0], [0, 0], [0, 1]])


def test_own_csv_features_can_be_named(own):
    assert read_examples(own(), "b", ["x", "y"]).X.tolist() == [[1], [2], [3], [4]]
    assert read_examples(own(), "b, a", ["x", "y"]).features == ("b", "a")
    assert read_examples(own(), "all", ["x", "y"]).features == ("a", "b")
    text = OWN.replace("image,a,b", "image,label,b").replace(",0.5,", ",cat,")
    assert read_examples(own(text), "b", ["x", "y"]).features == ("b",)


def test_own_csv_of_schema_features(own):
    header = ",".join(["image", *PAPER7, "colour", "best"])
    rows = [",".join([str(i), *map(str, range(8)), "xy"[i % 2]]) for i in range(4)]
    examples = read_examples(own("\n".join([header, *rows])), "paper7", ["x", "y"])
    assert examples.features == PAPER7


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("image,a\n1,2\n", {}, r"own\.csv has no column 'best'; it has \['image', 'a'\]"),
        ("a,best\n1,x\n", {}, "has no column 'image'"),
        ("image,best\n1,x\n", {}, "no column beside 'image' and 'best'; at least one feature"),
        (OWN.replace("2,0.25", "1,0.25"), {}, "line 3, column 'image' holds '1', which line 2"),
        (OWN.replace("0.25", "cat"), {}, "line 3, column 'a' holds 'cat'; a finite number"),
        (OWN.replace("0.25", "nan"), {}, "line 3, column 'a' holds 'nan'"),
        (OWN.replace("0.25", ""), {}, "line 3, column 'a' is empty"),
        (OWN.replace("none", ""), {}, "line 4, column 'best' is empty; it needs a value"),
        (OWN.replace("none", "a b"), {}, "line 4, column 'best' holds 'a b'; a candidate's name"),
        (OWN, {"order": None}, r"give --order with \['x', 'y'\], cheapest first"),
        (OWN, {"order": []}, "give --order"),
        (OWN, {"order": ["x"]}, "line 3, column 'best' holds 'y'; --order must name it too"),
        (OWN, {"order": ["x", "y", "z"]}, "--order names 'z', which does not occur in column"),
        (OWN, {"order": ["x", "y", "x"]}, "--order names 'x' twice"),
        (OWN, {"order": ["x", ""]}, "--order names ''"),
        (OWN, {"features": "a,c"}, r"--features names 'c', which .* has not; it has \['a', 'b'\]"),
        (OWN, {"features": "a,a"}, "--features names 'a' twice"),
        (OWN, {"features": ""}, "--features names ''"),
        (OWN, {"features": "paper7"}, "--features names 'n_keypoints', which"),
        (OWN, {"features": "paper7+bogus"}, "unknown"),
        ("image,a,best\n1,1,none\n", {}, "column 'best' holds 'none' alone"),
    ],
)
def test_own_csv_refused(own, text, options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        read_examples(own(text), **{"order": ["x", "y"], **options})
    assert "\n" not in str(caught.value)


def test_outcome_table_levels_learn_who_is_right(measured):
    path = measured(small=(20, 1), big=(30, 5))
    examples = read_examples(path)
    assert examples.measured
    assert examples.features == PAPER7
    assert examples.candidates == ("small", "big")
    assert examples.outcomes.sum(axis=0).tolist() == [20, 30]
    assert examples.left_out == {}
    table = OutcomeTable.read(path)
    np.testing.assert_array_equal(examples.X, table.feature_columns(PAPER7))


def test_outcome_table_without_paper7_gives_all_its_features(measured):
    examples = read_examples(measured(features=["u", "v"], small=(20, 1), big=(30, 5)))
    assert examples.features == ("u", "v")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", ALL29),
        ("extra", EXTRA),
        ("all+extra", (*ALL29, *EXTRA)),
        ("noise,hue1", ("noise", "hue1")),
    ],
)
def test_outcome_table_features_can_be_named(measured, spec, expected):
    path = measured(small=(20, 1), big=(30, 5))
    assert read_examples(path, spec).features == expected


def test_outcome_table_order_is_the_users_and_may_leave_out(measured):
    path = measured(small=(20, 1), big=(30, 5), slow=(10, 9))
    examples = read_examples(path, order=["slow", "small"])
    assert examples.candidates == ("slow", "small")
    assert examples.left_out == {"big": "not in --order"}
    with pytest.raises(InputError, match=r"--order names 'x', which does not occur in .*\.csv"):
        read_examples(path, order=["x", "small"])


def test_outcome_table_without_features_is_refused(measured):
    with pytest.raises(TableError, match="has no feature column"):
        read_examples(measured(features=(), small=(20, 1), big=(30, 5)))


def test_front_is_by_mean_time_without_the_dominated():
    table = outcome_table(
        big=(30, 5), slow=(30, 6), small=(20, 1), poor=(19, 4), twin=(20, 1), good=(20.5, 1)
    )
    kept, dominated = front(table)
    assert kept == ("good", "big")
    assert set(dominated) == {"slow", "small", "poor", "twin"}
    assert dominated["slow"] == "big is at least as fast and as accurate"


def test_front_keeps_the_first_of_equals():
    kept, dominated = front(outcome_table(one=(20, 1), two=(20, 1)))
    assert kept == ("one",)
    assert set(dominated) == {"two"}


def test_a_table_without_a_tuning_image_is_refused(tmp_path):
    """The name of this image alone puts it into another part."""
    path = tmp_path / "one.csv"
    path.write_text("image,f,a:iou,a:ms\ni00000.jpg,0.5,0.25,2\n")
    with pytest.raises(
        InputError, match=r"none of the 1 images of one[.]csv is of the tuning part"
    ):
        read_examples(path, split=Split())
