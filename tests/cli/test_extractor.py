"""--extractor, from a table of features to the server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adaptive.cli import group
from adaptive.errors import InputError
from adaptive.features.provenance import read_beside
from adaptive.files import sha256
from adaptive.limits import UNLIMITED
from adaptive.outcomes.table import OutcomeTable
from adaptive.premodel.registry import load_premodel
from adaptive.routing.extractors import extractor_named
from adaptive.routing.generation import Generation, Settings

SOURCE = """
def own(image):
    return {"redness": float(image[:, :, 0].mean()), "spread": float(image.std())}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    """What a command prints that ends well, omissions or doubts apart."""
    result = run(*arguments)
    assert result.exit_code in (0, 1), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.output


def refused(*arguments: object) -> str:
    """The sentence that a command ends with."""
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


@pytest.fixture
def extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MODULE:FUNCTION of a module in the working folder."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield f"{name}:own"
    sys.modules.pop(name, None)


@pytest.fixture
def table(tiny_candidates: Path, tiny_images: Path, extractor: str) -> Path:
    given = ("--candidates", tiny_candidates, "--images", tiny_images)
    labels = ("--labels", tiny_images / "labels.csv")
    done("profile", *given, *labels, "--features", "noise", "--extractor", extractor, "-o", "x.csv")
    return Path("x.csv")


def test_features_become_columns_of_ones_own(tiny_images: Path, extractor: str) -> None:
    done("features", tiny_images / "000.png", "-o", "f.csv", "--features", "noise,contrast")
    done(
        "features", tiny_images / "000.png", "-o", "g.csv", "--features", "noise,contrast",
        "--extractor", extractor,
    )  # fmt: skip
    plain, with_own = (Path(name).read_text().splitlines() for name in ("f.csv", "g.csv"))
    assert with_own[0] == f"{plain[0]},redness,spread"
    assert with_own[1].startswith(plain[1] + ",")
    assert read_beside(Path("g.csv"))["features"] == ["noise", "contrast"]


def test_a_profile_has_them_with_their_times(table: Path, extractor: str) -> None:
    read = OutcomeTable.read(table)
    assert read.features == ("noise", "redness", "spread")
    assert read.own_features == ("redness", "spread")
    assert set(read.feature_ms) == set(read.features)
    assert read.meta["extractor"]["name"] == extractor
    module = extractor.partition(":")[0]
    assert read.meta["extractor"]["sha256"] == sha256(Path(f"{module}.py"))


def test_from_a_table_to_the_server(
    table: Path, tiny_candidates: Path, tiny_images: Path, extractor: str
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which training needs, is not installed")
    own = ("--extractor", extractor)
    train = ("train", table, "--classifier", "outcome-knn", "-k", 5, "--split", "all")
    said = done(*train, "--features", "redness,noise", *own, "-o", "premodel")
    assert f"features: redness is a column of your own, by {extractor}" in said
    assert load_premodel("premodel").training_["extractor"]["name"] == extractor
    given = ("--candidates", tiny_candidates, "--premodel", "premodel", "--table", table)
    said = done("bundle", *given, "-o", "bundle")
    assert "that computes them; serve, classify and detect have --extractor" in said

    image = tiny_images / "000.png"
    assert f"or a command --extractor {extractor}" in refused(
        "classify", "--bundle", "bundle", image
    )
    told = done("classify", "--bundle", "bundle", image, "--json", "--explain", *own)
    answer = json.loads(told.splitlines()[-1])
    assert set(answer["features"]) == {"redness", "noise"}

    said = done(
        "evaluate", "bundle", table, "--live", "--images", tiny_images, "--part", "all", *own
    )
    assert "live and replay agree on 90 of 90" in said

    settings = Settings(extractor=extractor_named(extractor))
    generation = Generation(Path("bundle"), settings, lambda bundle: None, lambda *told: None)
    served = generation.classify(image.read_bytes(), UNLIMITED, True, None)
    assert served.features == answer["features"]
    generation.retire()

    done("profile", "--latency-only", "bundle", "--limit", 5, *own, "-o", "times.csv")
    assert json.loads(Path("times.json").read_text())["feature_ms"]["redness"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("classify", "x.png", "--extractor", "nowhere:f"), "No module named 'nowhere'"),
        (("classify", "x.png", "--extractor", "f"), "names no function"),
        (("classify", "x.png", "--url", "http://x", "--extractor", "{}"), "--url asks a server"),
        (("evaluate", "b", "x.csv", "--extractor", "{}"), "--extractor goes with --live"),
        (("serve", "--extractor", "nowhere:f"), "No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    extractor: str, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refused(*(argument.format(extractor) for argument in arguments))


def test_an_extractor_that_does_not_fit_the_columns_is_refused(
    table: Path, extractor: str, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which training needs, is not installed")
    train = ("train", table, "--split", "all", "-o", "p", "--extractor")
    said = refused(*train, extractor, "--features", "noise")
    assert "the premodel learned from none; leave it out" in said
    other = tmp_path / f"other_{tmp_path.name.replace('-', '_')}.py"
    other.write_text("def f(image):\n    return {'redness': 1.0}\n")
    said = refused(*train, f"{other}:f", "--features", "redness,spread")
    sys.modules.pop(other.stem)
    assert "but the premodel also learned from your own columns ['spread']" in said
    assert not Path("p").exists()
