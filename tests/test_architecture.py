"""The import graph: which room may lean on which, and no circle anywhere.

Imports inside functions and those for typing alone count as well.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: folder at the root -> package
FOLDERS = {
    "adaptive": "adaptive",
    "features": "adaptive.features",
    "premodel": "adaptive.premodel",
    "serving": "adaptive.serving",
    "jetson": "adaptive.jetson",
}

#: Modules of `adaptive/` itself, which are values; `adaptive` is the public face.
VALUES = {
    "box_output",
    "candidate",
    "causes",
    "checks",
    "columns",
    "csvfile",
    "csvlines",
    "errors",
    "files",
    "imagefiles",
    "installed",
    "intervals",
    "limits",
    "opencv",
    "plugins",
    "prediction",
    "remote",
    "segments",
    "tomlfile",
}

#: Each room may import those above it, and itself. docs/architecture.md draws the same.
ORDER = (
    "values",
    "features",
    "tasks",
    "outcomes",
    "premodel",
    "policy",
    "images",
    "client",
    "engines",
    "bundle",
    "evaluation",
    "tuning",
    "monitoring",
    "jetson",
    "video",
    "routing",
    "measuring",
    "networks",
    "report",
    "serving",
    "experiments",
    "cli",
    "face",
)

#: What only some rooms may import, of packages that are not ours.
RESERVED = {
    "flask": {"experiments", "networks", "serving"},
    "uvicorn": {"serving"},
    "prometheus_client": {"serving"},
    "urllib3": {"client", "networks"},
    "click": {"cli", "jetson", "networks"},
    "torch": {"cli", "networks"},
    "onnxruntime": {"engines", "networks", "jetson"},
    "tensorrt": {"engines"},
    "jinja2": {"report", "serving"},
    "cv2": {"values", "images"},  # the rest takes it from adaptive.opencv; see images/decoder.py
}


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            if folder == "serving" and "deploy" in path.relative_to(root).parts:
                continue  # what checks a chart is no part of the package
            parts = path.relative_to(root / folder).with_suffix("").parts
            if parts and (root / folder / parts[0]).is_symlink():
                continue
            name = ".".join((package, *parts))
            found[name[: -len(".__init__")] if parts[-1] == "__init__" else name] = path
    return found


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def graph_of(root: Path) -> dict[str, set[str]]:
    """For each module, the modules of the package that it imports."""
    modules = modules_of(root)
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        graph[name] = set()
        for whole in imported(path):
            part = whole if whole in modules else whole.rpartition(".")[0]
            if part in modules and part != name:
                graph[name].add(part)
    return graph


def room_of(module: str) -> str:
    """The room that a module stands in."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__main__":
        return "face"
    return "values" if len(parts) == 2 and parts[1] in VALUES else parts[1]


def rooms_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """For each room, the other rooms that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, others in graph.items():
        found[room_of(module)] |= {room_of(o) for o in others} - {room_of(module)}
    return dict(found)


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """Names that import each other in a circle, or nothing."""
    left = {name: set(others) for name, others in graph.items()}
    while True:
        free = [name for name, others in left.items() if not others & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    if not left:
        return []
    way = [min(left)]
    while way[-1] not in way[:-1]:
        way.append(min(left[way[-1]] & left.keys()))
    return way[way.index(way[-1]) :]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return graph_of(ROOT)


def test_no_files_import_each_other_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert circle_of(graph) == []


def test_no_rooms_import_each_other_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert circle_of(rooms_of(graph)) == []


def test_every_room_has_its_place(graph: dict[str, set[str]]) -> None:
    assert {room_of(module) for module in graph} == set(ORDER)


def test_rooms_lean_only_on_those_before_them(graph: dict[str, set[str]]) -> None:
    place = {room: number for number, room in enumerate(ORDER)}
    wrong = [
        f"{module} imports {other}"
        for module, others in sorted(graph.items())
        for other in sorted(others)
        if place[room_of(other)] > place[room_of(module)]
    ]
    assert wrong == []


def test_engines_and_images_know_no_policy(graph: dict[str, set[str]]) -> None:
    rooms = rooms_of(graph)
    for room in ("engines", "images"):
        assert not rooms[room] & {"policy", "premodel", "outcomes"}


def test_nothing_inside_imports_the_public_face(graph: dict[str, set[str]]) -> None:
    assert [module for module, others in graph.items() if "adaptive" in others] == []


@pytest.mark.parametrize("package", sorted(RESERVED))
def test_foreign_packages_stay_in_their_rooms(package: str) -> None:
    using = {
        room_of(name)
        for name, path in modules_of(ROOT).items()
        if any(whole.split(".")[0] == package for whole in imported(path))
    }
    assert using
    assert using <= RESERVED[package]


def test_no_two_classes_share_a_name() -> None:
    where = defaultdict(list)
    for name, path in modules_of(ROOT).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(name)
    assert {name: places for name, places in where.items() if len(places) > 1} == {}


def test_the_architecture_page_lists_the_rooms_in_this_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row in ORDER] == [room for room in ORDER if room != "face"]


def test_a_circle_is_found_wherever_the_import_stands(tmp_path: Path) -> None:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "premodel" / "one.py").write_text("from adaptive.features import two\n")
    (tmp_path / "features" / "two.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from adaptive.serving.three import Three\n"
    )
    (tmp_path / "serving" / "three.py").write_text(
        "def late():\n    import adaptive.premodel.one\n"
    )
    found = circle_of(graph_of(tmp_path))
    assert len(found) == 4
    assert set(found) == {
        "adaptive.premodel.one",
        "adaptive.features.two",
        "adaptive.serving.three",
    }
    (tmp_path / "serving" / "three.py").write_text("def late():\n    import json\n")
    assert circle_of(graph_of(tmp_path)) == []
