"""Benchmarks use what a user may use: a private name that they need is a public one missing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

#: What `collections.namedtuple` documents as public.
OF_NAMED_TUPLES = ("_replace", "_asdict", "_fields", "_make")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def private_names(source: str) -> list[str]:
    """Names with a leading underscore that are imported, or taken from anything but `self`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            whole = getattr(node, "module", None) or ""
            names = [*whole.split("."), *(part for a in node.names for part in a.name.split("."))]
        elif isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            names = [] if own else [node.attr]
        found += [n for n in names if n.startswith("_") and not n.startswith("__")]
    return [name for name in found if name not in OF_NAMED_TUPLES]


def test_private_names_are_found() -> None:
    source = "from a._b import _c\nimport d._e\nx._f.g\nself._h\nself.i._j\nk.__l__\n"
    assert sorted(private_names(source)) == ["_b", "_c", "_e", "_f", "_j"]


@pytest.mark.parametrize(
    "path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda p: str(p.relative_to(BENCHMARKS))
)
def test_benchmark_uses_public_names(path: Path) -> None:
    assert private_names(path.read_text(encoding="utf-8")) == []
