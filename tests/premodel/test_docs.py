from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "premodel.md"


def test_the_pages_example_runs(adaptive, own_csv, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    monkeypatch.chdir(tmp_path)
    own_csv(name="photos.csv")
    text = PAGE.read_text(encoding="utf-8")
    command = re.search(r"^adaptive (train .*)$", text, re.MULTILINE)
    code, out, _ = adaptive(*command.group(1).split())
    assert code == 0
    assert "\nsaved premodel\n" in out
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), {})
    assert "[ 0 -1]" in capsys.readouterr().out
