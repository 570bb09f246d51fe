from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive import InputError, TableError
from adaptive.features.schema import SCHEMA
from adaptive.outcomes.table import Outcomes, OutcomeTable, probabilities_folder

ROWS = 6
HEADER = (
    "image,label,decode:ms,features:ms,contrast,"
    "a:top1,a:top5,a:confidence,a:ms,b@2:top1,b@2:top5,b@2:confidence,b@2:ms,b@2:mj"
)


def lines() -> list[str]:
    return [HEADER] + [
        f"{i}.jpg,{i % 3},1.5,0.2,0.{i},{i % 2},1,0.5,1.25,1,1,0.{i},2.5,3" for i in range(ROWS)
    ]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines()) + "\n")
    meta = {
        "format": 1,
        "rows": ROWS,
        "classes": 3,
        "schema": SCHEMA.to_json(),
        "candidates": [{"name": "a"}, {"name": "b@2", "after": None}],
        "feature_ms": {"contrast": 0.1},
    }
    path.with_suffix(".json").write_text(json.dumps(meta))
    probabilities_folder(path).mkdir()
    for name in ("a", "b@2"):
        np.save(probabilities_folder(path) / f"{name}.npy", np.full((ROWS, 3), 1 / 3, np.float16))
    return path


def change_json(path: Path, **changes: Any) -> None:
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **changes}))


def refused(path: Path, *says: str) -> None:
    with pytest.raises(TableError) as caught:
        OutcomeTable.read(path)
    for text in says:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def set_cell(path: Path, column: str, cell: str, row: int = 2) -> None:
    text = path.read_text().splitlines()
    cells = text[row + 1].split(",")
    cells[text[0].split(",").index(column)] = cell
    text[row + 1] = ",".join(cells)
    path.write_text("\n".join(text) + "\n")


def test_read(table: Path) -> None:
    read = OutcomeTable.read(table)
    assert read.images == tuple(f"{i}.jpg" for i in range(ROWS))
    assert read.candidates == ("a", "b@2")
    assert read.features == ("contrast",)
    np.testing.assert_array_equal(read.label, np.arange(ROWS) % 3)
    np.testing.assert_array_equal(read.quality("a"), np.arange(ROWS) % 2 == 1)
    np.testing.assert_allclose(read.X[:, 0], np.arange(ROWS) / 10)
    np.testing.assert_array_equal(read.of("b@2").mj, np.full(ROWS, 3.0))
    assert read.of("a").mj is None
    assert read.schema_version == SCHEMA.version
    assert read.probabilities_of("a").shape == (ROWS, 3)
    assert isinstance(read.probabilities["a"], np.memmap)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(",", ";"),
        lambda text: ("\ufeff" + text.replace(",", ";")).replace("\n", "\r\n") + "\r\n\r\n",
        lambda text: text.replace(",", " , "),
    ],
    ids=["bom", "crlf", "semicolons", "all", "spaces"],
)
def test_what_spreadsheets_write_is_accepted(edit: Callable[[str], str], table: Path) -> None:
    plain = OutcomeTable.read(table)
    table.write_bytes(edit(table.read_text()).encode())
    read = OutcomeTable.read(table)
    assert read.images == plain.images
    np.testing.assert_array_equal(read.of("b@2").ms, plain.of("b@2").ms)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    refused(tmp_path / "gone.csv", "gone.csv is missing; a CSV file is needed")
    refused(tmp_path, "cannot be read")
    path = tmp_path / "x.csv"
    for content, says in (
        (b"", "x.csv is empty; it needs a header line and at least one row"),
        (HEADER.encode(), "x.csv has a header but no row"),
        (b"image,label\nx,1\n", "x.csv is no outcome table: it has no column NAME:ms"),
        (b"\x89PNG\r\n\x1a\n", "x.csv, line 1 holds the byte 0x89, which is not UTF-8"),
        (b"PK\0\0", "x.csv, line 1 holds a NUL character; a CSV file is text"),
        (HEADER.encode() + b"\nx,1\n", "x.csv, line 2 has 2 cells; the header has 14 columns"),
    ):
        path.write_bytes(content)
        refused(path, says)


@pytest.mark.parametrize("column", [c for c in HEADER.split(",") if c not in ("contrast",)])
def test_a_missing_column_is_named(column: str, table: Path) -> None:
    position = HEADER.split(",").index(column)
    kept = [[c for i, c in enumerate(x.split(",")) if i != position] for x in lines()]
    table.write_text("\n".join(",".join(cells) for cells in kept) + "\n")
    if column.endswith(":mj"):
        assert OutcomeTable.read(table).of("b@2").mj is None
    elif column.endswith(":top1"):  # then the others belong to nobody
        name = column[: -len(":top1")]
        refused(table, f"column '{name}:top5' belongs to no candidate of the table")
    else:
        refused(table, f"has no column {column!r}; it has ")


def test_a_duplicate_column_or_image_is_named(table: Path) -> None:
    table.write_text(table.read_text().replace("contrast", "label", 1))
    refused(table, "x.csv, line 1: columns 2 and 5 are both called 'label'")
    table.write_text("\n".join(lines()).replace("4.jpg", "1.jpg"))
    refused(table, "line 6, column 'image' holds '1.jpg', which line 3 has already")


@pytest.mark.parametrize("column", [c for c in HEADER.split(",") if c != "image"])
@pytest.mark.parametrize("cell", ["text", "nan", "NaN", "inf", "-inf", "", "1e999", "1_0", "0x1"])
def test_what_is_no_number_is_refused(column: str, cell: str, table: Path) -> None:
    set_cell(table, column, cell)
    found = f"holds {cell!r}" if cell else "is empty"
    refused(table, f"x.csv, line 4, column {column!r} {found}; a finite number is needed")


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("a:top1", "2", "only 0 and 1 are allowed"),
        ("a:top1", "0.5", "only 0 and 1 are allowed"),
        ("b@2:top5", "-1", "only 0 and 1 are allowed"),
        ("a:ms", "0", "a number above 0 is needed"),
        ("a:ms", "-1", "a number above 0 is needed"),
        ("b@2:mj", "0", "a number above 0 is needed"),
        ("a:confidence", "1.01", "at most 1.0001 is allowed"),
        ("a:confidence", "-0.01", "at least 0 is needed"),
        ("decode:ms", "-1", "at least 0 is needed"),
        ("features:ms", "-1", "at least 0 is needed"),
        ("label", "-1", "at least 0 is needed"),
        ("label", "1.5", "a class index, a whole number >= 0"),
        ("label", "3", "at most 2 is allowed"),
        ("label", "1e300", "at most 2 is allowed"),
    ],
)
def test_numbers_out_of_range_are_refused(column: str, cell: str, says: str, table: Path) -> None:
    set_cell(table, column, cell)
    refused(table, f"x.csv, line 4, column {column!r} holds {cell!r}; {says}")


def test_a_label_no_network_could_have_is_refused_without_json(table: Path) -> None:
    table.with_suffix(".json").unlink()
    set_cell(table, "label", "1e300")
    refused(table, "line 4, column 'label' holds '1e300'; at most")


@pytest.mark.parametrize("row", ["x,1", "x," * 20, ""])
def test_a_ragged_row_is_refused(row: str, table: Path) -> None:
    text = lines()
    table.write_text("\n".join([*text[:3], row, *text[3:]]) + "\n")
    refused(table, "x.csv, line 4 has ", "the header has 14 columns")


@pytest.mark.parametrize("name", ["..", "a b", "a/b", "", "none", "decode", "features"])
def test_a_column_of_no_candidate_is_refused(name: str, table: Path) -> None:
    table.write_text(table.read_text().replace("a:", f"{name}:"))
    refused(table, "x.csv")


def test_a_column_of_an_unknown_candidate_is_refused(table: Path) -> None:
    table.write_text(table.read_text().replace("contrast", "vgg:ms", 1))
    refused(table, "x.csv: column 'vgg:ms' belongs to no candidate of the table ['a', 'b@2']")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "x.json has format 2; this version of adaptive reads up to 1"),
        ({"format": None}, "x.json has no 'format'"),
        ({"rows": 5}, "x.csv has 6 rows, but x.json was written for 5"),
        ({"rows": "6"}, "x.json: 'rows' is str '6', not a whole number"),
        ({"schema": {"version": 2}}, "x.json is of feature schema version 2, but this library"),
        ({"schema": {**SCHEMA.to_json(), "crop_side": 64}}, "x.json has crop_side 64 in its"),
        ({"schema": []}, "x.json: 'schema' is list [], not an object"),
        ({"candidates": {}}, "x.json: 'candidates' is dict {}, not a list"),
        ({"candidates": [3]}, "x.json: candidate must be an object, not int 3"),
        ({"candidates": [{"name": ".."}]}, "'..' is no candidate name"),
        ({"candidates": [{"name": "a", "after": ["x"]}]}, "'after' is list ['x'], not a string"),
        ({"candidates": [{"name": "a", "after": "gone"}]}, "x.json: candidate 'a' comes after"),
        (
            {"candidates": [{"name": "a", "after": "b@2"}, {"name": "b@2", "after": "a"}]},
            "x.json: 'after' runs in a circle",
        ),
        ({"feature_ms": [1]}, "x.json: 'feature_ms' is list [1], not an object"),
        ({"feature_ms": {"contrast": "fast"}}, "x.json: feature_ms: 'contrast' is str 'fast'"),
        ({"feature_ms": {"contrast": -1}}, "x.json: feature_ms: 'contrast' is -1, below 0"),
        ({"classes": 4}, "a.npy has 3 numbers an image; the table has 4 classes"),
        ({"classes": 2}, "column 'label' holds '2'; at most 1 is allowed"),
        ({"classes": 0}, "x.json has 0 classes; 1 or more are needed"),
        ({"classes": 3.0}, "x.json: 'classes' is float 3.0, not a whole number"),
        ({"board": float("nan")}, "x.json holds NaN; numbers must be finite"),
    ],
)
def test_what_lies_beside_is_checked(changes: dict[str, Any], says: str, table: Path) -> None:
    change_json(table, **changes)
    refused(table, says)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "\0"])
def test_json_that_is_none(content: str, table: Path) -> None:
    table.with_suffix(".json").write_text(content)
    refused(table, "x.json")


def test_json_may_be_missing(table: Path) -> None:
    table.with_suffix(".json").unlink()
    read = OutcomeTable.read(table)
    assert read.schema_version is None
    assert read.feature_ms == {}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((ROWS - 1, 3), np.float16), "a.npy has shape (5, 3) of float16; the table needs"),
        (np.zeros((ROWS + 1, 3), np.float16), "a.npy has shape (7, 3)"),
        (np.zeros((ROWS, 4), np.float16), "a.npy has 4 numbers an image; the table has 3 classes"),
        (np.zeros((ROWS, 0), np.float16), "a.npy"),
        (np.zeros(ROWS, np.float16), "a.npy has shape (6,)"),
        (np.zeros((ROWS, 3), np.int64), "a.npy has shape (6, 3) of int64"),
        (np.zeros((ROWS, 3), "S1"), "a.npy has shape (6, 3) of |S1"),
    ],
)
def test_probabilities_of_another_shape(values: np.ndarray, says: str, table: Path) -> None:
    np.save(probabilities_folder(table) / "a.npy", values)
    refused(table, says)


def test_probabilities_of_different_lengths_without_json(table: Path) -> None:
    table.with_suffix(".json").unlink()
    np.save(probabilities_folder(table) / "a.npy", np.zeros((ROWS, 4), np.float16))
    refused(table, "holds probabilities of different lengths: {'a': 4, 'b@2': 3}")
    np.save(probabilities_folder(table) / "a.npy", np.zeros((ROWS, 2), np.float16))
    refused(table, "a.npy has 2 numbers an image; the table has a label 2")


def trap() -> bytes:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os._exit, (99,)

    return pickle.dumps(Trap())


def npy(header: str) -> bytes:
    data = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(data).to_bytes(2, "little") + data


def object_array(path: Path) -> None:
    np.save(path, np.array([{"a": 1}] * ROWS))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        trap(),
        b"\x93NUMPY",
        b"a text",
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (6, 3), }"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (6, "),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (6, 3), }") + trap(),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (6, 10000000000000000000000), }"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (6, -3), }") + bytes(99),
        npy("(" * 5000),
        npy("__import__('os')._exit(98)"),
    ],
)
def test_a_foreign_file_is_refused_and_no_pickle_is_read(content: bytes, table: Path) -> None:
    (probabilities_folder(table) / "a.npy").write_bytes(content)
    refused(table, "a.npy")


def test_arrays_of_objects_and_archives_are_refused(table: Path) -> None:
    path = probabilities_folder(table) / "a.npy"
    object_array(path)
    refused(table, "a.npy is no array of probabilities")
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros((ROWS, 3), np.float16))
    refused(table, "a.npy is no array of probabilities")


def test_probabilities_that_are_not_there(table: Path) -> None:
    (probabilities_folder(table) / "a.npy").unlink()
    read = OutcomeTable.read(table)
    with pytest.raises(InputError, match="no probabilities of 'a'; profile again with --prob"):
        read.probabilities_of("a")
    assert read.probabilities_of("b@2").shape == (ROWS, 3)


# Writing, selecting and costs

NAMES = st.lists(
    st.from_regex(r"[A-Za-z0-9._-]{1,8}(@[0-9]{1,2})?", fullmatch=True).filter(
        lambda n: n not in ("decode", "features", "premodel", "total", "none") and set(n) != {"."}
    ),
    min_size=1,
    max_size=3,
    unique=True,
)


@given(NAMES, st.integers(1, 20), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_written_and_read_back_is_equal(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], n: int, seed: int, mj: bool
) -> None:
    draw = np.random.default_rng(seed)

    def times() -> np.ndarray:
        return draw.integers(1, 10**7, n) / 1e4

    outcomes = {
        name: Outcomes(
            draw.integers(0, 2, n).astype(bool),
            draw.integers(0, 2, n).astype(bool),
            draw.random(n, np.float32).astype(np.float64),
            times(),
            times() if mj else None,
            names[i - 1] if i else None,
        )
        for i, name in enumerate(names)
    }
    written = OutcomeTable(
        tuple(f'folder {i}/é, "{i}".jpg' for i in range(n)),
        draw.integers(0, 5, n),
        ("contrast", "noise"),
        draw.normal(size=(n, 2)).astype(np.float32).astype(np.float64),
        outcomes,
        times(),
        times(),
        meta={
            "schema": SCHEMA.to_json(),
            "candidates": [{"name": x, "after": o.after} for x, o in outcomes.items()],
        },
    )
    path = tmp_path_factory.mktemp("written") / "x.csv"
    written.write(path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["x.csv", "x.json"]
    read = OutcomeTable.read(path)
    assert (read.images, read.features) == (written.images, written.features)
    assert read.candidates == tuple(names)
    for have, want in (
        (read.label, written.label),
        (read.X, written.X.astype(np.float64)),
        (read.decode_ms, written.decode_ms),
        (read.features_ms, written.features_ms),
    ):
        np.testing.assert_allclose(have, want, rtol=1e-8, atol=0)
    for name, o in outcomes.items():
        got = read.of(name)
        assert got.after == o.after
        for part in ("quality", "top5", "ms"):
            np.testing.assert_array_equal(getattr(got, part), getattr(o, part))
        # Nine digits tell every 32-bit float from its neighbours, so thresholds fall alike.
        np.testing.assert_array_equal(
            got.confidence.astype(np.float32), o.confidence.astype(np.float32)
        )
        assert (got.mj is None) == (o.mj is None)


@pytest.mark.parametrize("name", ["x.json", "x", "x.probs", "x.CSV"])
def test_a_table_is_called_csv(name: str, table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} must be called NAME.csv"):
        OutcomeTable.read(table).write(tmp_path / "out" / name)


def test_a_failed_write_leaves_nothing_behind(table: Path, tmp_path: Path) -> None:
    read = OutcomeTable.read(table)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match="JSON"):
        replace(read, meta={"threads": float("nan")}).write(out / "x.csv")
    assert list(out.iterdir()) == []


def test_select_takes_rows_with_their_probabilities(table: Path) -> None:
    values = np.random.default_rng(0).random((ROWS, 3)).astype(np.float16)
    np.save(probabilities_folder(table) / "a.npy", values)
    read = OutcomeTable.read(table)
    some = read.select(np.array([5, 1, 3])).select(np.array([True, False, True]))
    assert some.images == ("5.jpg", "3.jpg")
    np.testing.assert_array_equal(some.probabilities_of("a"), values[[5, 3]])
    np.testing.assert_array_equal(some.probabilities_of("a", np.array([1])), values[[3]])
    np.testing.assert_array_equal(some.X, read.X[[5, 3]])
    np.testing.assert_array_equal(some.of("b@2").mj, [3, 3])
    assert len(some) == 2


def test_costs(table: Path) -> None:
    change_json(
        table,
        candidates=[{"name": "a"}, {"name": "b@2", "after": "a"}],
        feature_ms={"contrast": 0.1},
    )
    read = OutcomeTable.read(table)
    np.testing.assert_allclose(read.ms("b@2"), 1.25 + 2.5)
    np.testing.assert_allclose(read.ms("a"), 1.25)
    np.testing.assert_allclose(read.features_cost(("contrast",)), 0.2)
    np.testing.assert_array_equal(read.features_cost(()), np.zeros(ROWS))
    two = replace(
        read,
        features=("contrast", "noise"),
        X=np.zeros((ROWS, 2)),
        meta={**read.meta, "feature_ms": {"contrast": 0.1, "noise": 0.3}},
    )
    np.testing.assert_allclose(two.features_cost(("contrast",)), 0.2 / 4)
    unknown = replace(two, meta={})
    np.testing.assert_allclose(unknown.features_cost(("contrast",)), 0.2)


def test_unknown_names_are_errors_that_list_what_there_is(table: Path) -> None:
    read = OutcomeTable.read(table)
    with pytest.raises(InputError, match=r"'vgg' is not in the outcome table; it has \['a', 'b@2'"):
        read.of("vgg")
    with pytest.raises(InputError, match=r"no features \['noise'\]; it has \['contrast'\]"):
        read.feature_columns(("contrast", "noise"))


def test_what_candidates_share_of_preparing_an_image_is_charged_once(tmp_path: Path) -> None:
    """a and b read the same, c sees the same pixels in another form, d sees other pixels."""
    spec = {"size": 8, "resize": "stretch", "dtype": "uint8", "mean": None}
    inputs = {"a": spec, "b": dict(spec), "c": {**spec, "dtype": "float32"}}
    inputs["d"] = {**spec, "size": 16}
    ones = np.ones(3)
    right = ones > 0
    outcomes = {
        name: Outcomes(right, right, ones, ones * 10, scale=ones * 4, normalise=ones * 2)
        for name in inputs
    }
    # e goes on from a, and has nothing to prepare.
    outcomes["e"] = Outcomes(right, right, ones, ones * 7, after="a")
    entries: list[dict[str, Any]] = [{"name": n, "input": i} for n, i in inputs.items()]
    meta = {"candidates": [*entries, {"name": "e", "after": "a", "input": None}]}
    names = ("x.png", "y.png", "z.png")
    table = OutcomeTable(
        names, np.zeros(3, int), (), np.zeros((3, 0)), outcomes, ones, ones, meta=meta
    )
    table.write(tmp_path / "x.csv")
    for held in (table, OutcomeTable.read(tmp_path / "x.csv"), table.select(np.array([2, 0]))):
        for path, step in {
            ("a",): 10, ("a", "b"): 4, ("b", "a"): 4, ("a", "c"): 6, ("c", "b"): 6, ("a", "d"): 10,
            ("c", "a", "b"): 4, ("d", "c", "a"): 6, ("e",): 17, ("b", "e"): 11, ("a", "e"): 7,
        }.items():  # fmt: skip
            np.testing.assert_allclose(held.step_ms(path), step)
        np.testing.assert_allclose(held.path_ms(("c", "a", "b", "e")), 10 + 6 + 4 + 7)
    # A table from before these columns were there charges each candidate whole.
    before = {n: replace(o, scale=None, normalise=None) for n, o in outcomes.items()}
    np.testing.assert_allclose(replace(table, outcomes=before).path_ms(("a", "b")), 20)
    np.testing.assert_allclose(replace(table, meta={}).path_ms(("a", "b")), 20)
    (tmp_path / "x.json").write_text(
        (tmp_path / "x.json").read_text().replace('"size": 8', '"size": [8]', 1)
    )
    assert OutcomeTable.read(tmp_path / "x.csv").step_ms(("a", "b"))[0] == 10
