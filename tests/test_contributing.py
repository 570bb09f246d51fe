"""CONTRIBUTING.md names files and commands that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]*(?:\.(?:py|md|html|json)|/))`", GUIDE))
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert len(named) > 20
    # Named after the folder in the same sentence.
    assert [name for name in missing if not (ROOT / "adaptive/tuning" / name).exists()] == []
    for name in re.findall(r"`((?:[\w]+/)+)NAME\.py`", GUIDE):
        assert (ROOT / name).is_dir()


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("adaptive/policy/files.py", ("POLICIES",)),
        ("adaptive/policy/base.py", ("start", "next", "settings", "needs_features")),
        ("tests/policy/test_policies.py", ("MAKE",)),
        ("adaptive/engines/engine.py", ("OpenEngine",)),
        ("adaptive/engines/choose.py", ("ENGINES", "_makers")),
        ("tests/engines/test_engine_contract.py", ("CASES",)),
        ("premodel/estimator.py", ("Estimator", "SETTINGS", "ARRAYS")),
        ("premodel/registry.py", ("KINDS",)),
        ("premodel/fit.py", ("TRAINERS",)),
        ("tests/premodel/conftest.py", ("CLASSES",)),
        ("features/extract.py", ("STAGES",)),
        ("features/schema.py", ("EXTRA",)),
        ("adaptive/images/decode.py", ("FORMATS",)),
    ],
)
def test_names_that_it_tells_to_extend_are_there(file: str, names: tuple[str, ...]) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in names:
        assert f"`{name}" in GUIDE or f"{name}`" in GUIDE
        assert re.search(rf"^\s*(?:def |class )?{name}\b", text, re.M), (file, name)
