from __future__ import annotations

import numpy as np
import pytest

from adaptive.csvfile import BLOCK, read_csv
from adaptive.errors import TableError

GOOD = "image,a,b,best\n1.jpg,0.5,1e3,x\n2.jpg,-2,3,none\n"


@pytest.fixture
def csv(tmp_path):
    def write(content):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        ("\ufeff" + GOOD.replace(",", ";")).replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace("1.jpg", '"1.jpg"').replace("0.5", '"0.5"'),
        GOOD.replace(",", ", "),
        GOOD.replace(",", "\t"),
        "\n" + GOOD,
        "\ufeff\r\n \t\r\n" + GOOD.replace("\n", "\r\n"),
        "sep=;\n" + GOOD.replace(",", ";"),
        '\ufeff"sep=;"\r\n' + GOOD.replace(",", ";").replace("\n", "\r\n"),
        "SEP=,\n" + GOOD,
        "sep=|\n\n" + GOOD.replace(",", "|"),
        "sep=\t\n" + GOOD.replace(",", "\t"),
    ],
    ids=[
        "plain",
        "crlf",
        "cr",
        "bom",
        "semicolon",
        "all",
        "no-end",
        "blank-end",
        "quotes",
        "spaces",
        "tabs",
        "blank-begin",
        "blank-crlf",
        "excel",
        "excel-crlf",
        "excel-comma",
        "excel-bar",
        "excel-tab",
    ],
)
def test_read_csv_accepts_what_programs_write(csv, content):
    columns = read_csv(csv(content))
    assert columns.header == ("image", "a", "b", "best")
    assert columns.unique("image") == ["1.jpg", "2.jpg"]
    assert columns.filled("best") == ["x", "none"]
    np.testing.assert_array_equal(columns.matrix(["b", "a"]), [[1000, 0.5], [3, -2]])
    assert len(columns) == 2


def test_read_csv_quoted_cells_keep_separators_and_line_numbers(csv):
    columns = read_csv(csv('image,a\n"one, two",1\n"three\nfour",2\nfive,x\n'))
    assert columns.text("image") == ["one, two", "three\nfour", "five"]
    with pytest.raises(TableError, match=r"t\.csv, line 5, column 'a' holds 'x'"):
        columns.numbers("a")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "t.csv is empty; it needs a header line and at least one row"),
        ("\n\n", "t.csv is empty"),
        ("sep=;\n", "t.csv is empty"),
        (",,\n1,2,3\n", "line 1: column 1 has no name"),
        ("\n\nimage,a,a\n1,2,3\n", "line 3: columns 2 and 3 are both called 'a'"),
        ("\nimage,a\n1,2\n3\n", "line 4 has 1 cells; the header has 2 columns"),
        ("sep=;\nimage;a\n\n3;4\n", "line 3 has 0 cells"),
        ('\n\nimage,a\n"1,2\n', "line 4 is not CSV"),
        ("image\n".encode("utf-16"), "line 1 holds the byte 0xff, which is not UTF-8"),
        ("image\n".encode("utf-16-le"), "line 1 holds a NUL character"),
        ("image,a\n", "t.csv has a header but no row"),
        ("image,a,a\n1,2,3\n", "line 1: columns 2 and 3 are both called 'a'"),
        ("image,,a\n1,2,3\n", "line 1: column 2 has no name"),
        ("image,a\n1,2\n3\n", "line 3 has 1 cells; the header has 2 columns"),
        ("image,a\n1,2\n3,4,5\n", "line 3 has 3 cells"),
        ("image,a\n\n3,4\n", "line 2 has 0 cells"),
        (b"image,a\n1,2\n\xff,4\n", "line 3 holds the byte 0xff, which is not UTF-8"),
        ("image,a\n1,2\0\n", "line 2 holds a NUL character"),
        ('image,a\n"1,2\n', "is not CSV"),
        ("image,a\n" + "x" * 200_000 + ",1\n", "line 2 is not CSV: field larger"),
        ("x" * 200_000 + "\n1\n", "line 1 is not CSV: field larger"),
    ],
)
def test_read_csv_refuses_with_the_place(csv, content, sentence):
    with pytest.raises(TableError) as caught:
        read_csv(csv(content))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_are_counted_from_the_first_of_the_file(csv):
    columns = read_csv(csv("\nsep=;\n\nimage;a\n1.jpg;x\n"))
    with pytest.raises(TableError, match=r"t\.csv, line 5, column 'a' holds 'x'"):
        columns.numbers("a")


def test_paths_of_one_file_are_alike(csv):
    columns = read_csv(csv("image\na/0.png\n1.png\n./a//0.png\n"))
    assert columns.unique("image") == ["a/0.png", "1.png", "./a//0.png"]
    with pytest.raises(TableError) as caught:
        columns.unique("image", path=True)
    assert str(caught.value).endswith(
        "line 4, column 'image' holds './a//0.png', which line 2 has already as 'a/0.png'; each "
        "may occur once"
    )


@pytest.mark.parametrize(
    "cell", ["1e999", "-1e999", "nan", "1_000", "0x10", "\u0661", "\u22125", "5%"]
)
def test_what_is_no_finite_number_is_refused(csv, cell):
    columns = read_csv(csv(f"a\n1\n{cell}\n"))
    with pytest.raises(
        TableError, match=r"line 3, column 'a' holds .*; a finite number is needed$"
    ):
        columns.numbers("a")


def test_a_decimal_comma_is_told_what_to_do(csv):
    for content in ('a,b\n"1,5",2\n', "a;b\n1,5;2\n"):
        with pytest.raises(TableError, match="a finite number is needed, with a decimal point"):
            read_csv(csv(content)).numbers("a")


def test_read_csv_missing_file_and_folder(tmp_path):
    with pytest.raises(TableError, match=r"no\.csv is missing"):
        read_csv(tmp_path / "no.csv")
    with pytest.raises(TableError, match="cannot be read"):
        read_csv(tmp_path)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("abc", "holds 'abc'"),
        ("nan", "holds 'nan'"),
        ("-inf", "holds '-inf'"),
        ("1e999", "holds '1e999'"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("1_000", "holds '1_000'"),
        ("٣", "holds '٣'"),
        ("0x1f", "holds '0x1f'"),
        ("y" * 100, "holds 'yyy...'"),
    ],
)
def test_numbers_refuses_what_is_no_finite_number(csv, cell, found):
    columns = read_csv(csv(f"image,a\n1,2\n2,{cell}\n"))
    with pytest.raises(TableError) as caught:
        columns.numbers("a")
    assert f"t.csv, line 3, column 'a' {found}" in str(caught.value).replace("y" * 57, "yyy")
    assert "a finite number is needed" in str(caught.value)


def test_numbers_hints_at_the_decimal_point(csv):
    columns = read_csv(csv("image;a\n1;2,5\n"))
    with pytest.raises(TableError, match="with a decimal point"):
        columns.numbers("a")


def test_numbers_limits(csv):
    columns = read_csv(csv("image,ms,p\n1,1,0.5\n2,0,1.5\n"))
    with pytest.raises(TableError, match="line 3, column 'ms' holds '0'; a number above 0 is"):
        columns.numbers("ms", above=0)
    with pytest.raises(TableError, match=r"line 3, column 'p' holds '1\.5'; at most 1 is allowed"):
        columns.numbers("p", at_least=0, at_most=1)
    with pytest.raises(TableError, match=r"line 2, column 'p' holds '0\.5'; at least 1 is needed"):
        columns.numbers("p", at_least=1)
    with pytest.raises(TableError, match=r"line 2, column 'p' holds '0\.5'; only 0 and 1 are"):
        columns.flags("p")
    assert columns.flags("ms").dtype == np.uint8


def test_unique_names_both_lines(csv):
    columns = read_csv(csv("image,a\nx,1\ny,2\nx,3\n"))
    with pytest.raises(TableError, match="line 4, column 'image' holds 'x', which line 2 has"):
        columns.unique("image")


def test_filled_and_missing_columns(csv):
    columns = read_csv(csv("image,a\nx,1\n,2\n"))
    with pytest.raises(TableError, match="line 3, column 'image' is empty; it needs a value"):
        columns.unique("image")
    with pytest.raises(TableError, match=r"has no column 'b'; it has \['image', 'a'\]"):
        columns.need(["a", "b"])


def test_many_rows_keep_their_cells_and_lines(csv):
    rows = 2 * BLOCK + 3
    lines = [f"{i}.jpg,{i}.5" for i in range(rows)]
    columns = read_csv(csv("image,a\n" + "\n".join(lines) + "\n\n"))
    assert len(columns) == rows
    assert columns.unique("image") == [f"{i}.jpg" for i in range(rows)]
    np.testing.assert_array_equal(columns.numbers("a"), np.arange(rows) + 0.5)
    wrong = BLOCK + 7
    lines[wrong] = f"{wrong}.jpg,many"
    columns = read_csv(csv("image,a\n" + "\n".join(lines)))
    with pytest.raises(TableError, match=f"line {wrong + 2}, column 'a' holds 'many'"):
        columns.numbers("a")
    lines[wrong] = "5.jpg,0"
    columns = read_csv(csv("image,a\n" + "\n".join(lines)))
    with pytest.raises(TableError, match=rf"line {wrong + 2}, .*'5\.jpg', which line 7 has"):
        columns.unique("image")
    lines[wrong] = "5.jpg"
    with pytest.raises(TableError, match=f"line {wrong + 2} has 1 cells"):
        read_csv(csv("image,a\n" + "\n".join(lines)))


def test_a_quote_that_never_ends_and_an_empty_only_column(csv):
    with pytest.raises(TableError, match="line 3 is not CSV"):
        read_csv(csv('image\n"a\nb'))
    columns = read_csv(csv('image\n""\nb\n'))
    assert columns.text("image") == ["", "b"]
    with pytest.raises(TableError, match="line 2, column 'image' is empty"):
        columns.filled("image")
