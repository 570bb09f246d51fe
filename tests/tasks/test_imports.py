"""The room stands on values and numpy alone, so that it can be used without an engine."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import adaptive.tasks

FOLDER = Path(adaptive.tasks.__file__).parent
VALUES = {
    "adaptive.errors",
    "adaptive.files",
    "adaptive.csvfile",
    "adaptive.box_output",
    "adaptive.prediction",
}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_else_is_imported(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    own = {name for name in names if name.startswith("adaptive")}
    assert {n for n in own if not n.startswith("adaptive.tasks")} <= VALUES
    assert {name.partition(".")[0] for name in names - own} & {
        "onnxruntime", "flask", "torch", "PIL", "cv2", "pycocotools"
    } == set()  # fmt: skip
