"""Images that nobody has labelled: agreement with the reference, and what is promised of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from lights import DAY, candidates, frames
from PIL import Image

from adaptive.cli import group
from adaptive.errors import InputError
from adaptive.evaluation.replay import replay
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.files import read_policy


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(group, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(group, [str(a) for a in arguments])
    assert isinstance(done.exception, InputError), done.output
    return str(done.exception)


def test_the_references_answer_is_the_label(
    tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    output = tmp_path / "x.csv"
    said = run(
        *("profile", "--candidates", tiny_candidates, "--images", tiny_images, "--unlabelled"),
        *("--features", "contrast", "-o", output),
    )
    assert "90 images, 4 candidates" in said
    assert "cheap:agreement" in output.read_text().splitlines()[0]
    table = OutcomeTable.read(output)
    assert table.agrees_with == "strong"
    rows = [tiny_table.images.index(name) for name in table.images]
    reference = tiny_table.probabilities_of("strong").argmax(axis=1)[rows]
    assert np.array_equal(table.label, reference)
    for name in table.candidates:
        own = tiny_table.probabilities_of(name).argmax(axis=1)[rows]
        assert np.array_equal(table.quality(name), own == reference)


def test_what_does_not_fit_is_refused(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    images = ("--images", tiny_images)
    profile = ("profile", "--candidates", tiny_candidates, *images, "--unlabelled")
    output = ("-o", tmp_path / "x.csv")
    labels = ("--labels", tiny_images / "labels.csv")
    assert "leave it or --labels out" in refused(*profile, *labels, *output)
    assert "neither --labels nor --unlabelled" in refused(*profile, "--latency-only")
    nobody = candidates(tmp_path / "nobody", reference=None)
    profile = ("profile", "--candidates", nobody, *images, "--unlabelled")
    assert "names no reference" in refused(*profile, *output)
    (tmp_path / "empty").mkdir()
    profile = ("profile", "--candidates", tiny_candidates, "--unlabelled")
    assert "no images in" in refused(*profile, "--images", tmp_path / "empty", *output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "nobody"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables of the same images, with labels and without."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "images").mkdir()
    pixels, label = frames(DAY, 700, 5)
    lines = ["image,label"]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,{label[number]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    profile = ("profile", "--candidates", candidates(folder / "candidates"))
    profile += ("--images", folder / "images", "--features", "contrast,hue1")
    run(*profile, "--labels", folder / "labels.csv", "-o", folder / "labelled.csv")
    run(*profile, "--unlabelled", "-o", folder / "unlabelled.csv")
    return folder


@pytest.mark.slow
def test_both_promises_beside_each_other(both: Path, tmp_path: Path) -> None:
    """One of top-1 by labels, and one of agreement, from which one of top-1 follows."""
    split = ("--split", "0.4,0.4,0.2")
    promised, promises = {}, {}
    for name in ("labelled", "unlabelled"):
        policy, promise = tmp_path / f"{name}-policy.json", tmp_path / f"{name}-promise.json"
        said = run(
            *("tune", both / f"{name}.csv", "-o", policy, "--certificate", promise, *split),
            *("--max-accuracy-drop", "0.05", "--reference", "slow"),
        )
        assert str(json.loads(promise.read_text())["claim"]) in said
        promised[name], promises[name] = said, json.loads(promise.read_text())
    assert "top-1 is at most 5 points below slow's on images like them" in promised["labelled"]
    for sentence in (
        "With probability at least 95% over the",
        "the answer differs from slow's on at most 5% of images like them",
        "So, whatever the right answers are, top-1 is at most 5 points below slow's.",
    ):
        assert sentence in promised["unlabelled"]
    assert promises["unlabelled"]["gains"] == 0
    assert promises["unlabelled"]["losses"] == promises["unlabelled"]["disagreements"]
    # What follows for top-1 is true on every image set, since an answer that agrees loses nothing.
    policy = read_policy(tmp_path / "unlabelled-policy.json")
    labelled = OutcomeTable.read(both / "labelled.csv")
    unlabelled = OutcomeTable.read(both / "unlabelled.csv")
    drop = labelled.quality("slow").mean() - replay(policy, labelled).quality.mean()
    differ = 1 - replay(policy, unlabelled).quality.mean()
    assert drop <= differ <= 0.05


@pytest.mark.slow
def test_every_command_takes_the_table(both: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    table, premodel, policy = both / "unlabelled.csv", tmp_path / "premodel", tmp_path / "p.json"
    run("train", table, "-o", premodel, "--features", "contrast,hue1")
    run("tune", table, "--premodel", premodel, "-o", policy, "--budget-ms", 2)
    bundle = tmp_path / "bundle"
    run(
        *("bundle", "--candidates", both / "candidates", "--premodel", premodel),
        *("--policy", policy, "--table", table, "-o", bundle),
    )
    said = run("evaluate", bundle, table, "--report", tmp_path / "report.html")
    assert "agreement %" in said
    assert "top-1" not in said
    assert "agreement" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_another_reference_or_quality_is_refused(both: Path, tmp_path: Path) -> None:
    tune = ("tune", both / "unlabelled.csv", "-o", tmp_path / "p.json", "--max-accuracy-drop", 0.1)
    assert "holds agreement with 'slow'" in refused(*tune, "--reference", "fast")
    moved = tmp_path / "moved.csv"
    rows = (both / "labelled.csv").read_text().replace("\n", "\nother-")
    moved.write_text(rows[: rows.rindex("other-")])
    said = refused(*tune, "--calibrate", moved)
    assert "the table that tunes holds agreement, and the one that calibrates top-1" in said
    assert [p.name for p in tmp_path.iterdir()] == ["moved.csv"]
