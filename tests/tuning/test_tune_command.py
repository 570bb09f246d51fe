"""`adaptive tune` as it is called: exit codes, what is written, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import Outcomes, OutcomeTable, table_hash
from adaptive.policy.files import read_policy
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling


def make_table(path, n=600, seed=0, energy=False):
    """Three networks of rising cost whose confidences tell whether they are right."""
    generator = np.random.default_rng(seed)
    hard = generator.normal(0, 1, n)
    outcomes = {}
    for name, skill, ms in (("small", 0.6, 1.0), ("medium", 0.9, 3.0), ("large", 1.2, 8.0)):
        clear = 1.2 * skill - 0.7 * hard + generator.normal(0, 0.4, n)
        outcomes[name] = Outcomes(
            clear > 0,
            clear > -0.5,
            1 / (1 + np.exp(-2 * np.abs(clear))),
            np.full(n, ms),
            np.full(n, 3 * ms) if energy else None,
        )
    table = OutcomeTable(
        tuple(f"{seed}-{row}.jpg" for row in range(n)),
        generator.integers(0, 5, n),
        ("hardness", "other"),
        np.column_stack([hard, generator.normal(size=n)]),
        outcomes,
        np.ones(n),
        np.full(n, 0.02),
    )
    table.write(path)
    return table


def make_premodel(folder, table_path, training=None):
    """A chain that says it was trained on the tuning part of the table."""
    table = OutcomeTable.read(table_path)
    part = table.select(Split().rows(table.images, "tune"))
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    premodel = KNNChain.from_arrays(
        ["hardness"],
        list(table.candidates),
        scaling,
        scaling.grid(part.feature_columns(("hardness",))),
        np.column_stack([part.quality(n) for n in table.candidates]).astype(np.uint8),
    )
    if training is None:
        training = {"sha256": table_hash(table_path), "split": Split().to_json()}
    premodel.training_ = training
    premodel.save(folder)
    return folder


@pytest.fixture
def tune(monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""
    from adaptive.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaptive", "tune", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def path(tmp_path):
    make_table(tmp_path / "X.csv")
    return tmp_path / "X.csv"


def written(folder):
    return sorted(p.name for p in folder.iterdir() if p.suffix not in (".csv",))


def test_budget_writes_a_policy_alone(tune, path, tmp_path):
    code, out, err = tune(path, "-o", tmp_path / "policy.json", "--budget-ms", 2)
    assert (code, err) == (0, "")
    assert "images tune" in out
    assert "% top-1, cross-validated" in out
    assert written(tmp_path) == ["X.json", "policy.json"]
    policy = read_policy(tmp_path / "policy.json")
    assert policy.kind == "cascade"
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'policy.json'}: {policy.words()}"
    assert " 0 of them" not in out
    assert set(policy.candidates) <= {"small", "medium", "large"}


def test_no_policy_is_left_where_its_promise_cannot_be_written(tune, path, tmp_path, monkeypatch):
    def full(*_):
        raise InputError("certificate.json: No space left on device")

    monkeypatch.setattr("adaptive.cli.tune.write_json", full)
    output = tmp_path / "policy.json"
    code, _, err = tune(path, "-o", output, "--max-accuracy-drop", 0.08)
    assert code == 2
    assert "No space left" in err
    assert not output.exists()


@pytest.mark.parametrize("bound", ["betting", "exact", "score"])
def test_a_promise_is_written_beside_the_policy(tune, path, tmp_path, bound):
    output = tmp_path / "policy.json"
    code, out, _ = tune(path, "-o", output, "--max-accuracy-drop", 0.08, "--bound", bound)
    assert code == 0
    assert "With probability at least 95%" in out
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["bound"] == bound
    assert certificate["epsilon"] == 0.08
    assert certificate["delta"] == pytest.approx(0.05)
    assert certificate["reference"] == "large"
    assert certificate["p_value"] <= 0.05
    assert certificate["split"] == Split().to_json()
    assert certificate["hashes"]["table"] == table_hash(path)
    assert certificate["images"] == len(
        Split().rows([f"0-{row}.jpg" for row in range(600)], "calibrate")
    )


def test_the_same_call_writes_the_same_files(tune, path, tmp_path):
    for name in ("a", "b"):
        code, _, _ = tune(
            path,
            *("-o", tmp_path / f"{name}.json", "--max-accuracy-drop", 0.08),
            *("--certificate", tmp_path / f"{name}-promise.json"),
        )
        assert code == 0
    for kind in ("", "-promise"):
        one, other = (tmp_path / f"{name}{kind}.json" for name in ("a", "b"))
        assert one.read_text() == other.read_text()


def test_infeasible_exits_1_and_writes_nothing_but_the_look(tune, path, tmp_path):
    output = tmp_path / "policy.json"
    code, out, err = tune(
        path, "-o", output, "--max-accuracy-drop", 0.001, "--kind", "cascade", "--confidence", 0.999
    )
    assert (code, err) == (1, "")
    assert "infeasible: on " in out
    assert "more labelled images in all" in out
    assert written(tmp_path) == ["X.json", "X.looks.json"]


def test_existing_files_need_force(tune, path, tmp_path):
    output, promise = tmp_path / "policy.json", tmp_path / "certificate.json"
    output.write_text("mine")
    code, _, err = tune(path, "-o", output, "--budget-ms", 3)
    assert (code, output.read_text()) == (2, "mine")
    assert "exists; give --force" in err
    code, _, _ = tune(path, "-o", output, "--budget-ms", 3, "--force")
    assert code == 0
    assert read_policy(output)
    promise.write_text("mine")
    other = tmp_path / "other.json"
    code, _, err = tune(path, "-o", other, "--max-accuracy-drop", 0.08)
    assert (code, promise.read_text(), other.exists()) == (2, "mine", False)
    assert "certificate.json exists" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give one of --max-accuracy-drop"),
        (["--budget-ms", "3", "--max-accuracy-drop", "0.1"], "give one of --max-accuracy-drop"),
        (["--budget-ms", "0.5"], "the cheapest candidate, small, takes 1"),
        (["--budget-mj", "9"], "holds no energies"),
        (["--max-accuracy-drop", "2"], "an accuracy drop of 2.0 is not between -1 and 1"),
        (
            ["--max-accuracy-drop", "0.1", "--confidence", "1"],
            "--confidence 1 is not above 0",
        ),
        (["--max-accuracy-drop", "0.1", "--confidence", "nan"], "--confidence nan is not above 0"),
        (["--max-accuracy-drop", "0.1", "--bound", "wald"], "'wald' is not one of"),
        (["--max-accuracy-drop", "0.1", "--split", "all"], "no images calibrate"),
        (["--budget-ms", "3", "--split", "half"], "--split 'half' is neither"),
        (["--budget-ms", "3", "--split", "0.05,0.9,0.05"], "tuning images are too few"),
        (["--budget-ms", "3", "--reference", "huge"], "'huge'"),
        (["--budget-ms", "3", "--kind", "hybrid"], "hybrid"),
        (["--budget-ms", "3", "--premodel", "nowhere"], "nowhere is no folder"),
    ],
)
def test_bad_input_exits_2_and_writes_nothing(tune, path, tmp_path, arguments, sentence):
    code, _, err = tune(path, "-o", tmp_path / "policy.json", *arguments)
    assert code == 2
    assert sentence in err
    assert written(tmp_path) == ["X.json"]


def test_a_table_that_is_none_exits_2(tune, tmp_path):
    (tmp_path / "own.csv").write_text("image,best\na.jpg,small\n")
    for table in ("own.csv", "missing.csv"):
        code, _, err = tune(tmp_path / table, "-o", tmp_path / "policy.json", "--budget-ms", 3)
        assert code == 2
        assert err.startswith("adaptive: ")
    assert written(tmp_path) == []


def test_calibration_images_must_be_others(tune, path, tmp_path):
    make_table(tmp_path / "other.csv", seed=1)
    table = OutcomeTable.read(tmp_path / "other.csv")
    names = ("0-7.jpg", *table.images[1:])
    replace(table, images=names).write(tmp_path / "overlapping.csv")
    arguments = ("-o", tmp_path / "policy.json", "--max-accuracy-drop", 0.08, "--calibrate")
    code, _, err = tune(path, *arguments, tmp_path / "overlapping.csv")
    assert code == 2
    assert "1 images both tune and calibrate, such as '0-7.jpg'" in err
    assert not (tmp_path / "policy.json").exists()
    code, out, _ = tune(path, *arguments, tmp_path / "other.csv")
    assert code == 0
    assert "600 images tune, 600 calibrate" in out


def test_a_premodel_with_another_split_is_refused(tune, path, tmp_path):
    pytest.importorskip("sklearn")
    premodel = make_premodel(tmp_path / "premodel", path)
    arguments = (path, "-o", tmp_path / "policy.json", "--budget-ms", 3, "--premodel", premodel)
    code, _, err = tune(*arguments, "--split", "0.6,0.2,0.2")
    assert code == 2
    assert "is not the split that the premodel was trained with" in err
    assert not (tmp_path / "policy.json").exists()
    code, _, _ = tune(*arguments, "--split", "0.5,0.3,0.2")
    assert code == 0


def test_a_premodel_brings_its_own_split(tune, path, tmp_path):
    pytest.importorskip("sklearn")
    own = Split(0.7, 0.2, 0.1, 9)
    training = {"sha256": table_hash(path), "split": own.to_json()}
    premodel = make_premodel(tmp_path / "premodel", path, training)
    code, out, _ = tune(
        path, "-o", tmp_path / "policy.json", "--budget-ms", 3, "--premodel", premodel
    )
    assert code == 0
    names = OutcomeTable.read(path).images
    tuned, calibrating = (len(own.rows(names, part)) for part in ("tune", "calibrate"))
    assert f"{tuned} images tune, {calibrating} calibrate" in out


def test_a_hybrid_can_be_asked_for(tune, path, tmp_path):
    make_table(tmp_path / "before.csv", seed=5)
    premodel = make_premodel(tmp_path / "premodel", tmp_path / "before.csv")
    code, out, _ = tune(
        path,
        *("-o", tmp_path / "policy.json", "--budget-ms", 4, "--kind", "hybrid"),
        *("--premodel", premodel),
    )
    assert code == 0
    assert "only hybrid policies were asked for" in out
    assert json.loads((tmp_path / "policy.json").read_text())["kind"] == "hybrid"


def test_energy_budget(tune, tmp_path):
    make_table(tmp_path / "X.csv", energy=True)
    code, _, _ = tune(tmp_path / "X.csv", "-o", tmp_path / "policy.json", "--budget-mj", 9)
    assert code == 0
    assert (tmp_path / "policy.json").exists()


def test_as_a_program(path, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "adaptive.cli", "tune", str(path), "--budget-ms", "0.1"),
            *("-o", str(tmp_path / "policy.json")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("adaptive: a mean cost of 0.1 cannot be met")
    assert written(tmp_path) == ["X.json"]


def test_unsure_answers_can_be_left_to_a_person(tune, path, tmp_path):
    output = tmp_path / "policy.json"
    arguments = ("-o", output, "--max-accuracy-drop", 0.08, "--abstain-below", 0.7)
    code, out, _ = tune(path, *arguments)
    assert code == 0
    policy = read_policy(output)
    assert policy.abstain_below == 0.7
    assert "with scores below 0.7 left to a person it answers" in out
    assert "these scores are not calibrated" in out  # this table holds no probabilities
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["abstain_below"] == 0.7
    assert "with a score below 0.7, its best guess is counted" in certificate["claim"]
    code, _, err = tune(path, "-o", tmp_path / "b.json", "--budget-ms", 3, "--abstain-below", 60)
    assert code == 2
    assert "--abstain-below 60 is not between 0 and 1" in err


def test_a_second_question_to_the_same_images_is_noticed(tune, path, tmp_path):
    """Infeasible at a point, then certified at eight: not at 95% any more."""
    output = tmp_path / "policy.json"
    first = (path, "-o", output, "--max-accuracy-drop", 0.001)
    code, out, _ = tune(*first)
    assert code == 1
    assert "were asked before" not in out
    code, out, _ = tune(path, "-o", output, "--max-accuracy-drop", 0.08)
    assert code == 0
    assert "were asked before (0.001 at 95%: infeasible), so all that is promised" in out
    assert "holds together with probability at least 90%, no longer 95%" in out
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["claim"].startswith("With probability at least 90% over")
    assert certificate["earlier"] == pytest.approx(0.05)
    assert certificate["delta"] == pytest.approx(0.05)
    # The same question again has the same answer and costs nothing.
    code, out, _ = tune(path, "-o", output, "--max-accuracy-drop", 0.08, "--force")
    assert "at least 90%, no longer 95%" in out
    assert len(json.loads((tmp_path / "X.looks.json").read_text())["looks"]) == 2
    # A budget promises nothing and looks at no calibration image.
    code, out, _ = tune(path, "-o", tmp_path / "b.json", "--budget-ms", 3)
    assert "were asked before" not in out


def test_looks_follow_the_images_and_not_the_file(tune, path, tmp_path):
    tune(path, "-o", tmp_path / "a.json", "--max-accuracy-drop", 0.001)
    more = OutcomeTable.read(path)
    other = tmp_path / "more"
    other.mkdir()
    make_table(tmp_path / "other.csv", n=600, seed=3)
    (tmp_path / "X.looks.json").rename(tmp_path / "other.looks.json")
    _, out, _ = tune(tmp_path / "other.csv", "-o", tmp_path / "b.json", "--max-accuracy-drop", 0.08)
    assert "were asked before" not in out  # other images
    (tmp_path / "other.looks.json").rename(other / "X.looks.json")
    keep = np.flatnonzero(np.arange(600) % 4 > 0)
    more.select(keep).write(other / "X.csv")
    _, out, _ = tune(other / "X.csv", "-o", tmp_path / "c.json", "--max-accuracy-drop", 0.08,
                     "--certificate", tmp_path / "c-promise.json")  # fmt: skip
    assert "were asked before" in out  # three quarters of the same


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 9, "looks": []}'])
def test_looks_that_cannot_be_read_are_left_alone_and_said(tune, path, tmp_path, text):
    (tmp_path / "X.looks.json").write_text(text)
    code, out, _ = tune(path, "-o", tmp_path / "a.json", "--max-accuracy-drop", 0.08)
    assert code == 0
    assert "other looks at these calibration images are not known" in out
    assert (tmp_path / "X.looks.json").read_text() == text


def test_drops_of_one_call_hold_together(tune, path, tmp_path):
    arguments = (path, "-o", tmp_path / "a.json", "--max-accuracy-drop", "0.001,0.08,0.12")
    code, out, _ = tune(*arguments)
    assert code == 0
    assert "tested as one family: 12 points at a mean cost of" in out
    assert "0.1 points infeasible" in out
    smallest = json.loads((tmp_path / "certificate.json").read_text())
    assert smallest["epsilon"] == 0.08
    assert smallest["claim"].startswith("With probability at least 95%")
    code, out, _ = tune(*arguments, "--take", 0.12, "--force")
    taken = json.loads((tmp_path / "certificate.json").read_text())
    assert taken["epsilon"] == 0.12
    assert "were asked before" not in out
    assert taken["claim"].startswith("With probability at least 95%")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-accuracy-drop", "a,0.1"], "--max-accuracy-drop 'a,0.1' is neither a number nor"),
        (["--max-accuracy-drop", "0.1", "--take", "0.2"], "0.2 is not one of the drops"),
        (["--budget-ms", "3", "--take", "0.2"], "--take chooses one of the drops"),
    ],
)
def test_wrong_drops_exit_2(tune, path, tmp_path, arguments, sentence):
    code, _, err = tune(path, "-o", tmp_path / "policy.json", *arguments)
    assert code == 2
    assert sentence in err
    assert written(tmp_path) == ["X.json"]
