"""Where numbers under a feature's name come from: this library, or somebody's own columns.

A name says nothing: a user's own `noise` may be another quantity in another unit. What this
library computed is known by the schema that stands beside a table, in `X.json`; everything else
is a user's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from adaptive.errors import InputError
from adaptive.features.schema import SCHEMA, Schema
from adaptive.files import Fields, read_json, write_json

FORMAT = 1

#: who computed the features of a table: what `--features-from` takes
SOURCES = ("adaptive", "own")


def own_among(names: Sequence[str], about: Mapping[str, Any]) -> tuple[str, ...]:
    """Those columns of a table that this library did not compute.

    Parameters
    ----------
    about : the content of the table's `X.json`; where it names no schema, all are a user's own
    """
    if not isinstance(about.get("schema"), dict):
        return tuple(names)
    listed = about.get("features")
    computed = set(SCHEMA.names) & set(SCHEMA.names if listed is None else listed)
    return tuple(name for name in names if name not in computed)


def described(about: Mapping[str, Any], source: str | None) -> Mapping[str, Any]:
    """What is known about a table where a user says who computed its features; None says nothing.

    Parameters
    ----------
    source : one of `SOURCES`
    """
    if source is None:
        return about
    rest = {key: value for key, value in about.items() if key not in ("schema", "features")}
    return rest if source == "own" else {**rest, "schema": SCHEMA.to_json()}


def schema_of(names: Sequence[str], about: Mapping[str, Any]) -> int | None:
    """The version of the schema under which some columns were computed; None for a user's own.

    Raises
    ------
    InputError
        where a user's own column beside this library's bears the name of one of its features,
        so that nobody could tell them apart later.
    """
    own = own_among(names, about)
    if len(own) == len(names):
        return None
    for name in own:
        if name in SCHEMA.names:
            raise InputError(
                f"column {name!r} is your own, but bears the name of a feature of this library "
                "and stands beside others of it; rename it"
            )
    version: int = about["schema"]["version"]
    return version


def write_beside(table: Path, names: Sequence[str]) -> None:
    """Say in `X.json` that this library computed these columns of `X.csv`."""
    about = {"format": FORMAT, "features": list(names), "schema": SCHEMA.to_json()}
    write_json(beside(table), about)


def beside(table: Path) -> Path:
    """Where what is known about the table is written."""
    return table.with_suffix(".json")


def read_beside(table: Path) -> dict[str, Any]:
    """What `X.json` says about the features of `X.csv`; {} where it is none of ours, or missing.

    Raises
    ------
    InputError
        when the features were computed under another schema than this library's.
    """
    path = beside(table)
    if path == table or not path.is_file():
        return {}
    try:
        about = read_json(path, "what is known about the features")
    except InputError:
        return {}  # a file of the user's own, which happens to be called so
    if not isinstance(about.get("schema"), dict):
        return {}
    Schema.from_json(about["schema"], path.name)
    Fields(about, path.name).texts("features", default=())
    return about
