"""The Python of the page on detection runs, and its tables name what there is."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import pytest

from adaptive.tasks import decoding
from adaptive.tasks.signals import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "detection.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ENTRIES = re.findall(r"\| `(BoxSpec\(.*?\))` \|", PAGE)


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_run(block: str) -> None:
    before = set(decoding.DECODERS)
    try:
        exec(compile(block, "docs/detection.md", "exec"), {})
        added = set(decoding.DECODERS) - before
    finally:
        decoding.DECODERS.pop("mine", None)
    assert added == ({"mine"} if '"mine"' in block else set())


def test_there_are_examples_and_entries() -> None:
    assert (len(BLOCKS), len(ENTRIES)) == (3, 5)


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_can_be_meant(entry: str) -> None:
    labels = [str(number) for number in range(80)]
    known = {"BoxSpec": decoding.BoxSpec, "class_map": decoding.class_map, "labels": labels}
    assert eval(entry, known).decoder in decoding.DECODERS


@pytest.mark.parametrize("name", sorted(decoding.DECODERS))
def test_every_decoder_stands_there_with_its_options(name: str) -> None:
    decoder = decoding.DECODERS[name]
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    options = [
        p.name for p in signature(decoder.decode).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    assert [option for option in options if f"`{option}`" not in row] == []
    assert row.rstrip(" |").endswith(f"| {decoder.iou:g}")


def test_every_signal_stands_there() -> None:
    assert [name for name in NAMES if f"`{name}`" not in PAGE] == []
