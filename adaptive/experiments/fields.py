"""What may stand in an experiment file: tables, keys, the kind of each value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from adaptive.bundle.elsewhere import place_of
from adaptive.candidate import CHANNELS, LAYOUTS, RESIZES, check_name
from adaptive.engines.choose import ENGINES
from adaptive.errors import InputError
from adaptive.features.schema import resolve_names
from adaptive.images.scalings import read_scaling
from adaptive.outcomes.parts import Split
from adaptive.premodel.fit import TRAINERS

#: No number of a file is larger; infinity least of all.
LARGEST = 1e15


@dataclass(frozen=True)
class Field:
    """One key.

    Attributes
    ----------
    kind : str, bool, int or float (which takes whole numbers too)
    words : what is allowed, for errors
    grid : whether a list of values spans a grid
    least, most, above : limits of a number; `above` itself is not allowed
    among : the texts that are allowed, where only these are
    """

    kind: type
    words: str
    grid: bool = True
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    among: Sequence[str] = ()

    def problem(self, value: Any) -> str | None:
        """What is wrong with one value, in words; None where nothing is."""
        wanted: tuple[type, ...] = (int, float) if self.kind is float else (self.kind,)
        wrong = isinstance(value, bool) and self.kind is not bool
        if wrong or not isinstance(value, wanted):
            return f"is {_shown(value)}; {self.words} is needed"
        if isinstance(value, (int, float)) and self.kind is not bool:
            if abs(value) > LARGEST:
                return f"is too large; {self.words} is needed"
            outside = not self.least <= value <= self.most or value <= self.above
            return f"is {value}; {self.words} is needed" if outside else None
        if isinstance(value, str) and not value.strip():
            return f"is empty; {self.words} is needed"
        if isinstance(value, str) and "\0" in value:
            return "has a character of no text, \\u0000; leave it out"
        if self.among and value not in self.among:
            return f"is {_shown(value)}, which is not one of {list(self.among)}"
        return None


def _count(words: str, least: int = 1, grid: bool = True, most: int = 2**32 - 1) -> Field:
    return Field(int, f"a whole number of {least} or more ({words})", grid, least, most)


def _share(words: str) -> Field:
    return Field(float, f"a number between 0 and 1 ({words})", least=0, most=1)


def _above(words: str) -> Field:
    return Field(float, f"a number above 0 ({words})", above=0)


def _text(words: str, grid: bool = True, among: Sequence[str] = ()) -> Field:
    return Field(str, f"a text ({words})", grid, among=among)


ONE = {
    "name": _text("what the experiment is called", grid=False),
    "seed": _count("of the split and of what is drawn", 0),
}

DATA = {
    "images": _text("a folder of images, or its URL"),
    "labels": _text("a CSV with the columns image and label"),
    "limit": _count("images at most"),
    "unlabelled": Field(bool, "true or false (images have no labels)", grid=False),
}

CANDIDATES = {
    "folder": _text("a folder of candidates, or a bundle"),
    "labels": _text("a file of class names", grid=False),
    "reference": _text("a candidate's name", grid=False),
}

NETWORK = {
    "name": _text("what the candidate is called", grid=False),
    "file": _text("an ONNX file", grid=False),
    "zoo": _text("a network of `adaptive zoo list`", grid=False),
    "url": _text("a model on another server", grid=False),
    "like": _text("how pixels are scaled, such as imagenet", grid=False),
    "resize": _text("how an image is cut", grid=False, among=RESIZES),
    "channels": _text("order of colours", grid=False, among=CHANNELS),
    "layout": _text("order of axes", grid=False, among=LAYOUTS),
    "size": _count("pixels", grid=False, most=65_536),
    "output": _text("probabilities or logits", grid=False, among=("probabilities", "logits")),
}

MEASURE = {
    "features": _text("names of features or of a group"),
    "probabilities": Field(bool, "true or false (keep whole probability vectors)", grid=False),
    "threads": _count("threads inside a network"),
    "times": _count("images whose times are measured, 0 for none", 0, grid=False),
    "engine": _text("what runs the networks", among=("auto", *ENGINES)),
    "shard": _count("images a shard", grid=False, most=100_000),
}

POLICY = {
    "name": _text("what the policy is called", grid=False),
    "fixed": _text("a candidate's name"),
    "file": _text("a policy file"),
    "kind": _text("of policy", among=("fixed", "premodel", "cascade", "hybrid")),
    "premodel": _text("a classifier", among=("none", *TRAINERS)),
    "features": _text("those that the premodel reads"),
    "max_accuracy_drop": _share("quality below the reference's"),
    "confidence": Field(
        float, "a number between 0 and 1, neither included", above=0, most=0.999999
    ),
    "budget_ms": _above("mean milliseconds an image"),
    "budget_mj": _above("mean millijoules an image"),
    "deadline_ms": _above("milliseconds that 99% of images end within"),
    "faster": _above("times faster than the reference"),
}

RUN = {
    "queue": _text("redis://HOST:PORT/DB", grid=False),
    "store": _text("a folder, or a URL such as s3://BUCKET/PREFIX", grid=False),
    "board": _text("the model of the machine that times are measured on", grid=False),
    "jobs": _count("processes on this machine", grid=False),
    "output": _text("a folder for tables, policies and the report", grid=False),
}

REPORT = {
    "title": _text("of the report", grid=False),
    "split": _text("shares that tune, calibrate and test", grid=False),
    "folds": _count(
        "tune on all but one and answer that one, each in turn", 2, grid=False, most=20
    ),
}

#: what a policy is tuned for, or taken from; exactly one is needed
OBJECTIVES = (
    "fixed", "file", "max_accuracy_drop", "budget_ms", "budget_mj", "deadline_ms", "faster"
)  # fmt: skip

TABLES: Mapping[str, Mapping[str, Field]] = {
    "data": DATA,
    "candidates": CANDIDATES,
    "measure": MEASURE,
    "policy": POLICY,
    "run": RUN,
    "report": REPORT,
}

#: tables that may stand several times, as [[policy]]
SEVERAL = ("data", "policy")


def sense_of(table: str, key: str, value: Any) -> str | None:
    """What is wrong with a value of the right kind; None where nothing is."""
    try:
        if (table, key) == ("report", "split"):
            Split.parse(value)
        elif (table, key) == ("measure", "features"):
            resolve_names(value)
        elif (table, key) == ("candidates.network", "name"):
            check_name(value)
        elif (table, key) == ("candidates.network", "like"):
            read_scaling(value)
        elif (table, key) == ("candidates.network", "url"):
            place_of(value)
        elif key == "queue" and not value.startswith(("redis://", "rediss://", "unix://")):
            return f"is {value!r}; redis://HOST:PORT/DB is needed"
    except InputError as exc:
        return f"is {_shown(value)}: {exc}"
    return None


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a table"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
