"""A table of one's own, graded between 0 and 1, through train, tune, bundle and evaluate."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx_files import colour_network

from adaptive import Bundle
from adaptive.bundle.adding import Recipe, add_candidate
from adaptive.cli.bundle import command as bundle_command
from adaptive.cli.evaluate import command as evaluate_command
from adaptive.cli.train import command as train_command
from adaptive.cli.tune import command as tune_command
from adaptive.evaluation.replay import replay
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.files import read_policy
from adaptive.premodel.registry import load_premodel

COUNT = 400


def graded(path: Path, confidence: bool) -> Path:
    """Masks of two segmenters: the small one is poor on dark images, and `light` tells which."""
    draw = np.random.default_rng(0)
    light = draw.random(COUNT).round(4)
    columns: dict[str, Any] = {
        "image": [f"{number:04}.png" for number in range(COUNT)],
        "light": light,
        "small:iou": np.clip(0.2 + 0.7 * light + draw.normal(0, 0.05, COUNT), 0, 1).round(5),
        "small:ms": np.full(COUNT, 2.0),
        "large:iou": np.clip(0.85 + draw.normal(0, 0.05, COUNT), 0, 1).round(5),
        "large:ms": np.full(COUNT, 10.0),
    }
    if confidence:
        columns["small:confidence"] = np.clip(light + draw.normal(0, 0.1, COUNT), 0, 1).round(4)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values())])
    return path


def run(command: Any, *arguments: object) -> str:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.mark.parametrize("confidence", [True, False])
def test_a_graded_table_goes_through_all_four_commands(tmp_path: Path, confidence: bool) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    table = graded(tmp_path / "masks.csv", confidence)
    for name in ("small", "large"):
        network = colour_network(tmp_path / f"{name}.onnx", np.eye(3), 16)
        recipe = Recipe(output="logits")
        add_candidate(tmp_path / "nets", network, name, recipe, list("abc"), reference=True)
    premodel, policy, bundle = (tmp_path / n for n in ("premodel", "policy.json", "bundle"))
    trained = run(train_command, table, "-o", premodel, "--classifier", "outcome-knn")
    assert "iou on these images" in trained
    assert "top-1" not in trained
    asked = ("--premodel", premodel, "--kind", "premodel", "--budget-ms", 6, "-o", policy)
    assert "% iou, cross-validated" in run(tune_command, table, *asked)
    parts = ("--policy", policy, "--premodel", premodel, "--table", table)
    run(bundle_command, "--candidates", tmp_path / "nets", *parts, "-o", bundle)
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    said = run(evaluate_command, bundle, table, "--report", page, "--json", told)

    whole = OutcomeTable.read(table)
    test = whole.select(Split().rows(whole.images, "test"))
    found = json.loads(told.read_text())
    assert (found["part"], found["quality"], found["images"]) == ("test", "iou", len(test))
    for row, name in zip(found["fixed"], ("small", "large")):
        assert row["iou"]["value"] == pytest.approx(float(test.quality(name).mean()))
    done = replay(read_policy(policy, load_premodel(premodel)), test)
    assert found["policy"]["iou"]["value"] == pytest.approx(float(done.quality.mean()))
    best = np.maximum(test.quality("small"), test.quality("large")).mean()
    assert found["oracle"]["iou"]["value"] == pytest.approx(float(best))
    assert found["policy"]["iou"]["value"] > found["random_mix"]["iou"]["value"]
    assert "points of iou" in said
    text = page.read_text()
    assert "iou" in text
    for other in (said, text, told.read_text()):
        assert not re.search(r"top-?1|NaN", other), other[:200]
    assert Bundle.read(bundle).policy.kind == "premodel"


def test_a_promise_about_a_graded_table_is_by_betting(tmp_path: Path) -> None:
    table = graded(tmp_path / "masks.csv", True)
    policy, certificate = tmp_path / "policy.json", tmp_path / "certificate.json"
    asked = ("--max-accuracy-drop", 0.2, "--kind", "cascade", "-o", policy)
    said = run(tune_command, table, *asked, "--certificate", certificate)
    assert "iou is at most 20 points below large's" in said
    assert json.loads(certificate.read_text())["bound"] == "betting"
    exact = CliRunner().invoke(tune_command, [str(table), *map(str, asked), "--bound", "exact"])
    assert exact.exit_code != 0


def test_a_policy_is_evaluated_without_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    table = graded(tmp_path / "masks.csv", True)
    premodel, policy = tmp_path / "premodel", tmp_path / "policy.json"
    certificate = tmp_path / "certificate.json"
    run(train_command, table, "-o", premodel, "--classifier", "outcome-knn")
    asked = ("--premodel", premodel, "--max-accuracy-drop", 0.2, "-o", policy)
    run(tune_command, table, *asked, "--certificate", certificate)
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    given = ("--premodel", premodel, "--certificate", certificate)
    said = run(evaluate_command, policy, table, *given, "--report", page, "--json", told)

    whole = OutcomeTable.read(table)
    test = whole.select(Split().rows(whole.images, "test"))
    found = json.loads(told.read_text())
    assert (found["part"], found["images"]) == ("test", len(test))
    done = replay(read_policy(policy, load_premodel(premodel)), test)
    assert found["policy"]["iou"]["value"] == pytest.approx(float(done.quality.mean()))
    assert "Nothing says which images" not in said
    assert json.loads(certificate.read_text())["claim"].split(",")[0] in page.read_text()
    asked = ("--policy", "fixed:large", "--part", "all")
    other = run(evaluate_command, policy, table, "--premodel", premodel, *asked)
    assert f"{100 * whole.quality('large').mean():.2f}" in other


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(evaluate_command, [str(argument) for argument in arguments])
    assert done.exit_code != 0
    return f"{done.output}{done.exception}"


def test_a_policy_without_a_bundle_says_what_it_lacks(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    table = graded(tmp_path / "masks.csv", True)
    premodel, policy = tmp_path / "premodel", tmp_path / "policy.json"
    run(train_command, table, "-o", premodel, "--classifier", "outcome-knn")
    asked = ("--kind", "premodel", "--budget-ms", 6)
    run(tune_command, table, "--premodel", premodel, *asked, "-o", policy)
    assert "a premodel policy, which reads a premodel; give the one" in refused(policy, table)
    live = refused(policy, table, "--premodel", premodel, "--live", "--images", tmp_path)
    assert "--live runs a bundle's networks" in live
    folder = refused(tmp_path, table, "--premodel", premodel)
    assert "--premodel goes with a policy file" in folder
    named = ("--premodel", premodel, "--policy", "fixed:huge", "--part", "all")
    assert "'huge'" in refused(policy, table, *named)


def test_a_bag_of_words_is_many_columns(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    draw = np.random.default_rng(0)
    for words in (500, 600):
        bag = draw.random((COUNT, words)) < 0.1
        quality = np.clip(0.5 + 0.3 * bag[:, 3] + draw.normal(0, 0.05, COUNT), 0, 1).round(4)
        columns: dict[str, Any] = {
            "image": [f"sentence-{number}" for number in range(COUNT)],
            **{f"word_{number}": bag[:, number].astype(int) for number in range(words)},
            "small:chrf": quality,
            "small:ms": np.full(COUNT, 2.0),
            "large:chrf": np.full(COUNT, 0.75),
            "large:ms": np.full(COUNT, 9.0),
        }
        table = tmp_path / f"{words}.csv"
        with open(table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values())])
    premodel, asked = tmp_path / "premodel", ("--classifier", "naive-bayes")
    said = run(train_command, tmp_path / "500.csv", "-o", premodel, *asked)
    assert "word_10, word_11 and 488 more are columns of your own" in said
    assert len(load_premodel(premodel).features) == 500
    done = CliRunner().invoke(train_command, [str(tmp_path / "600.csv"), "-o", f"{premodel}2"])
    assert "at most 512 are allowed, so choose among them" in str(done.exception)
