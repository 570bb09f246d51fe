"""Extractors by name, what tells one from another, and that only what is named is imported."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive import Bundle, InputError, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.files import sha256
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.routing.extractors import changed, check_apart, extractor_named, names_of, origin_of

SOURCE = """
__version__ = "1.2"


def spread(image):
    return {"spread": float(image.std())}


class Spreads:
    def __call__(self, image):
        return {"spread": float(image.std())}


several = Spreads()
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of a user's own in the working folder, under a name that no other test has."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("form", ["{}:spread", "{}.py:spread", "./{}.py:spread", "{}:several"])
def test_a_function_is_found_by_module_or_file(module: str, form: str) -> None:
    found = extractor_named(form.format(module))
    assert names_of(found) == ("spread",)
    origin = origin_of(found)
    function = "Spreads" if "several" in form else "spread"
    assert origin == {
        "name": f"{module}:{function}",
        "version": "1.2",
        "sha256": sha256(Path(f"{module}.py")),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spread", "extractor 'spread' names no function; MODULE:FUNCTION"),
        (":spread", "names no function"),
        ("no_such_module:f", "cannot be imported: No module named 'no_such_module'"),
        ("{}:nothing", "has no 'nothing'"),
        ("{}:number", "cannot call its 'number'"),
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("broken.py:f", "cannot be imported: no such luck"),
        ("json.py:f", "another module is called 'json' already; rename the file"),
    ],
)
def test_what_cannot_be_an_extractor_is_one_sentence(module: str, text: str, words: str) -> None:
    Path("broken.py").write_text("raise OSError('no such luck')\n")
    Path("json.py").write_text("f = print\n")
    with pytest.raises(InputError) as refused:
        extractor_named(text.format(module))
    assert words in str(refused.value)
    assert "broken" not in sys.modules


def test_the_working_folder_takes_no_installed_module_s_place(module: str) -> None:
    extractor_named(f"{module}:spread")
    assert sys.path[-1] == str(Path.cwd())


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (None, "the extractor gave None; a mapping"),
        ({}, "the extractor gave {}; a mapping"),
        ({"a:b": 1.0}, "without ':'"),
        ({"a": "x"}, "the extractor gave 'x' as feature 'a'; a finite number is needed"),
    ],
)
def test_names_that_cannot_be_columns_are_refused(gives: object, words: str) -> None:
    with pytest.raises(InputError) as refused:
        names_of(lambda image: gives)  # type: ignore[arg-type, return-value]
    assert words in str(refused.value)


def test_own_features_beside_the_library_s_have_names_of_their_own() -> None:
    check_apart(("mine",), ("noise",))
    with pytest.raises(InputError, match=r"the extractor gives \['noise'\], which are computed"):
        check_apart(("noise",), ("noise", "contrast"))


def test_another_source_or_version_is_told(module: str) -> None:
    found = extractor_named(f"{module}:spread")
    trained = origin_of(found)
    assert changed(found, trained) is None
    assert changed(found, None) is None
    other = {**trained, "sha256": "0" * 64}
    said = changed(found, other)
    assert said is not None
    assert f"the extractor {module}:spread has another source ({trained['sha256'][:12]})" in said
    assert "(000000000000); if it computes other numbers, train again" in said
    said = changed(found, {**trained, "version": "1.1"})
    assert said is not None
    assert "has another version (1.2)" in said
    assert "(1.1)" in said


@pytest.fixture
def bundle(tiny_candidates: Path, tmp_path: Path, module: str) -> Path:
    """One whose premodel was trained with an extractor."""
    draw = np.random.default_rng(0)
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    table, outcomes = scaling.grid(draw.normal(size=(20, 1))), draw.integers(0, 2, (20, 2))
    premodel = KNNChain.from_arrays(["spread"], ["cheap", "strong"], scaling, table, outcomes, 5)
    premodel.training_ = {
        "extractor": {"name": "mine:spread", "sha256": sha256(Path(f"{module}.py"))}
    }
    policy = ByPremodel(("cheap", "strong"), premodel)
    write_bundle(tmp_path / "bundle", Bundle.read(tiny_candidates), policy)
    return tmp_path / "bundle"


def test_a_bundle_that_names_an_extractor_imports_nothing(bundle: Path, module: str) -> None:
    Path("mine.py").write_text("raise SystemExit('imported')\n")
    Bundle.read(bundle)
    with pytest.raises(InputError, match="or a command --extractor mine:spread"):
        Router.load(bundle)
    assert "mine" not in sys.modules


def test_loading_says_where_the_extractor_is_another_program(
    bundle: Path, module: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Router.load(bundle, extractor=extractor_named(f"{module}:spread")).close()
        assert caplog.text == ""
        Router.load(bundle, extractor=lambda image: {"spread": 1.0}).close()
    assert "has another source" in caplog.text
