from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptive.errors import InputError
from adaptive.features.provenance import (
    described,
    own_among,
    read_beside,
    schema_of,
    write_beside,
)
from adaptive.features.schema import SCHEMA

MADE = {"schema": SCHEMA.to_json(), "features": ["contrast", "noise"]}


@pytest.mark.parametrize(
    ("about", "own"),
    [
        ({}, ("contrast", "hue1", "mine")),
        ({"features": ["contrast"]}, ("contrast", "hue1", "mine")),
        (MADE, ("hue1", "mine")),
        ({"schema": SCHEMA.to_json()}, ("mine",)),
        ({**MADE, "features": None}, ("mine",)),
        ({**MADE, "features": ["mine"]}, ("contrast", "hue1", "mine")),
    ],
)
def test_a_column_is_ours_only_where_the_file_says_that_we_computed_it(about, own) -> None:
    assert own_among(("contrast", "hue1", "mine"), about) == own


def test_a_user_may_say_who_computed_the_numbers() -> None:
    assert own_among(("noise", "mine"), described({}, "adaptive")) == ("mine",)
    assert own_among(("noise", "mine"), described(MADE, "own")) == ("noise", "mine")
    assert described(MADE, None) == MADE


def test_the_schema_follows_from_the_columns() -> None:
    assert schema_of(("contrast", "noise"), MADE) == SCHEMA.version
    assert schema_of(("contrast", "mine"), MADE) == SCHEMA.version
    assert schema_of(("mine",), MADE) is None
    assert schema_of(("hue1",), MADE) is None
    assert schema_of(("contrast",), {}) is None
    with pytest.raises(InputError, match="column 'hue1' is your own, but bears the name"):
        schema_of(("contrast", "hue1"), MADE)


def test_what_is_written_beside_a_table_is_read_again(tmp_path: Path) -> None:
    table = tmp_path / "X.csv"
    assert read_beside(table) == {}
    write_beside(table, ("noise",))
    assert own_among(("noise", "contrast"), read_beside(table)) == ("contrast",)


@pytest.mark.parametrize("text", ["my own notes", "[1]", '{"schema": "sql"}', '{"a": NaN}'])
def test_a_users_own_file_beside_the_table_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "X.json").write_text(text)
    assert read_beside(tmp_path / "X.csv") == {}


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    other = {"schema": {**SCHEMA.to_json(), "version": 7}, "features": ["noise"]}
    (tmp_path / "X.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="json is of feature schema version 7"):
        read_beside(tmp_path / "X.csv")
    (tmp_path / "X.json").write_text(json.dumps({**MADE, "features": [1]}))
    with pytest.raises(InputError, match="'features' holds 1, not a string"):
        read_beside(tmp_path / "X.csv")
