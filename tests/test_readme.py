from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_readme_s_program_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    program = re.search(r"```python\n(.*?)```", text, re.S)
    assert program is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.group(1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"\S+ 0\.\d+ by \S+ via \(", done.stdout)
    assert "'total'" in done.stdout


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for target in links:
        assert "://" in target or (ROOT / target).exists(), target


def test_every_command_of_the_readme_exists() -> None:
    from adaptive.cli import COMMANDS

    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^adaptive (\w+)", text, re.M)) | {"serve", "zoo"}
    assert named <= set(COMMANDS)
