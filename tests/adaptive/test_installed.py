"""The line that installs an extra fits how this package was installed."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from adaptive.errors import MissingExtra
from adaptive.installed import NAME, pip_line


class _Distribution:
    def __init__(self, noted: object) -> None:
        self.noted = noted

    def locate_file(self, path: str) -> str:
        return "/elsewhere/site-packages"

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.noted is None else json.dumps(self.noted)


@pytest.mark.parametrize(
    ("noted", "line"),
    [
        (None, "pip install 'adaptive-serving[train]'"),
        (
            {"url": "file:///home/me/my%20code", "dir_info": {}},
            "pip install '/home/me/my code[train]'",
        ),
        (
            {"url": "file:///home/me/code", "dir_info": {"editable": True}},
            "pip install -e '/home/me/code[train]'",
        ),
        (
            {"url": "file:///tmp/adaptive.whl", "archive_info": {}},
            "pip install '/tmp/adaptive.whl[train]'",
        ),
        (
            {"url": "https://host/adaptive.whl", "archive_info": {}},
            "pip install 'adaptive-serving[train] @ https://host/adaptive.whl'",
        ),
        ([], "pip install 'adaptive-serving[train]'"),
    ],
)
def test_an_extra_comes_from_where_the_package_came(
    monkeypatch: pytest.MonkeyPatch, noted: object, line: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [_Distribution(noted)])
    assert pip_line("train") == line
    assert str(MissingExtra("this", "that", "train")) == (
        f"this needs that, which is not installed: {line}"
    )


def test_a_checkout_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import adaptive.installed

    root = Path(adaptive.installed.__file__).resolve().parent.parent
    built = _Distribution(None)  # what building leaves in the checkout
    monkeypatch.setattr(built, "locate_file", lambda path: str(root), raising=False)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [built])
    wanted = f"-e '{root}[cpu]'" if (root / "pyproject.toml").is_file() else f"'{NAME}[cpu]'"
    assert pip_line("cpu") == f"pip install {wanted}"
