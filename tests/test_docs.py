"""The site's order: every page has its place, and says in its first line what it is for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
#: A link in a page to another place of the documentation.
LINK = re.compile(r"\]\(([\w.-]*\.md)?(?:#([\w-]+))?\)")


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in links."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_page_has_a_place_in_the_order() -> None:
    placed = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert len(placed) == len(set(placed))
    assert sorted(placed) == PAGES, "a page stands under `nav` in mkdocs.yml, once"


def test_every_command_is_in_the_table_of_commands() -> None:
    from adaptive.cli import COMMANDS

    table = re.findall(r"^\|.*\|$", (ROOT / "docs" / "commands.md").read_text(), re.M)
    assert sorted(re.findall(r"`([\w-]+)`", "\n".join(table))) == sorted(COMMANDS)


def test_every_option_of_serve_is_in_one_table() -> None:
    from adaptive.cli.serve import command

    text = (ROOT / "docs" / "serving.md").read_text()
    table = text[text.index("| flag |") :].split("\n\n")[0]
    named = set(re.findall(r"`(--[\w-]+)`", table))
    options = {name for option in command.params for name in option.opts if name[:2] == "--"}
    assert options <= named, options - named


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_first_what_it_is_for(name: str) -> None:
    title, _, first = (ROOT / "docs" / name).read_text().split("\n")[:3]
    assert title.startswith("# ")
    assert re.match(r"[A-Z`].{20,}", first), f"{name} begins with {first!r}"


@pytest.mark.parametrize("name", PAGES)
def test_a_link_into_a_page_finds_its_heading(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    for page, anchor in LINK.findall(text):
        if anchor:
            assert anchor in anchors((ROOT / "docs" / (page or name)).read_text()), (page, anchor)


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocs_click"):
        pytest.importorskip(package, reason="the site needs the extra docs")
    done = subprocess.run(
        [str(ROOT / ".ci" / "docs"), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    commands = (tmp_path / "site" / "commands.html").read_text()
    assert "--max-accuracy-drop" in commands
    assert "/v1/classify" in (tmp_path / "site" / "http.html").read_text()
