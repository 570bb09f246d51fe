"""Looks at calibration images, noted beside their table: every further one costs certainty.

A promise tested at delta is false with probability at most delta. Whoever asks the same images
again, since the first answer did not please, has two chances to be told what is false. By
Boole's inequality all promises made from these images hold together with probability at least
one minus the sum of the looks' deltas, whatever was asked and whatever led to asking it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from adaptive.errors import InputError
from adaptive.files import Fields, check_format, read_json, write_json

FORMAT = 1

#: So many images stand for all of a look, to find it again where the table has changed.
KEPT = 64


@dataclass(frozen=True)
class Look:
    """One question that was put to calibration images.

    Attributes
    ----------
    sample : short hashes of some of the images' names
    question : hash of all that the answer follows from
    delta : of the test
    words : what was asked, and what came of it
    """

    sample: tuple[str, ...]
    question: str
    delta: float
    words: str

    @classmethod
    def of(
        cls, images: Sequence[str], question: Mapping[str, Any], delta: float, words: str
    ) -> Look:
        """A look at these images; the same question has the same values."""
        text = json.dumps(question, sort_keys=True)
        sample = tuple(sorted(map(_short, images))[:KEPT])
        return cls(sample, hashlib.sha256(text.encode()).hexdigest(), delta, words)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "sample": list(self.sample),
            "question": self.question,
            "delta": self.delta,
            "words": self.words,
        }


def looks_path(table: Path) -> Path:
    """Where looks at a table's calibration images are noted: X.looks.json beside X.csv."""
    return table.with_suffix(".looks.json")


def read_looks(table: Path) -> list[Look]:
    """The looks at a table's images so far, oldest first.

    Raises
    ------
    InputError
        when the file cannot be read.
    """
    path = looks_path(table)
    if not path.exists():
        return []
    fields = Fields(read_json(path, "the looks'"), path.name)
    check_format(fields, FORMAT)
    found = []
    for entry in fields.get("looks", list):
        one = Fields(entry, f"a look in {path.name}")
        found.append(
            Look(
                one.texts("sample"),
                one.get("question", str),
                one.get("delta", float),
                one.get("words", str),
            )
        )
    return found


def earlier_looks(looks: Sequence[Look], images: Sequence[str], now: Look) -> list[Look]:
    """Those of `looks` that asked some of these images something else, each question once."""
    here = set(map(_short, images))
    other = {look.question: look for look in looks if not here.isdisjoint(look.sample)}
    other.pop(now.question, None)
    return list(other.values())


def note_look(table: Path, looks: Sequence[Look], now: Look) -> None:
    """Add a look to the file, unless the very same is there.

    Raises
    ------
    InputError
        when it cannot be written.
    """
    if any((look.question, look.sample) == (now.question, now.sample) for look in looks):
        return
    path = looks_path(table)
    try:
        write_json(path, {"format": FORMAT, "looks": [look.to_json() for look in (*looks, now)]})
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}") from exc


def looks_words(earlier: Sequence[Look], now: Look) -> str:
    """What a further look means, for a terminal."""
    sure = max(0.0, 1 - sum(look.delta for look in (*earlier, now)))
    asked = "; ".join(look.words for look in earlier)
    return (
        f"these calibration images were asked before ({asked}), so all that is promised from them "
        f"holds together with probability at least {100 * sure:.6g}%, no longer "
        f"{100 * (1 - now.delta):.6g}%; drops that are given in one call, such as "
        "--max-accuracy-drop 0.01,0.02,0.03, hold together without that loss"
    )


def _short(image: str) -> str:
    return hashlib.sha256(image.encode()).hexdigest()[:12]
