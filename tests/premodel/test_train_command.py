from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from adaptive.features.schema import PAPER7
from adaptive.installed import pip_line
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.premodel.base import first_yes
from adaptive.premodel.registry import load_premodel


def test_without_scikit_learn_nothing_is_written(adaptive, own_csv, tmp_path, monkeypatch):
    for module in ("sklearn", "sklearn.preprocessing", "sklearn.neighbors"):
        monkeypatch.setitem(sys.modules, module, None)
    code, _, err = adaptive("train", own_csv(), "-o", tmp_path / "p", "--order", "small,big")
    assert code == 2
    assert pip_line("premodel") in err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--order", "small"], "column 'best' holds 'big'; --order must name it too"),
        ([], "give --order with ['big', 'small'], cheapest first"),
        (["--order", "small,big,huge"], "--order names 'huge'"),
        (["--order", "small,big", "--features", "blur"], "--features names 'blur'"),
        (["--order", "small,big", "-k", "0"], "0 is not in the range x>=1"),
        (["--order", "small,big", "--folds", "1"], "1 is not in the range x>=2"),
        (["--order", "small,big", "--scaling", "robust"], "'robust' is not one of"),
        (["--order", "small,big", "--classifier", "oracle"], "'oracle' is not one of"),
        (
            ["--order", "small,big", "--classifier", "tree", "-k", "3"],
            "-k is for --classifier knn, outcome-knn and mixture only",
        ),
        (
            ["--order", "small,big", "--classifier", "svm", "--scaling", "minmax"],
            "--scaling is for --classifier knn and outcome-knn only",
        ),
        (["--order", "small,big", "--ms-per-point", "1"], "is for --features auto-cost"),
        (["--order", "small,big", "--ms-per-point", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_bad_options_exit_2_and_write_nothing(adaptive, own_csv, tmp_path, arguments, sentence):
    path = own_csv()
    code, _, err = adaptive("train", path, "-o", tmp_path / "p", *arguments)
    assert code == 2
    assert sentence in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.csv"]


def test_bad_output_exits_2(adaptive, own_csv, tmp_path):
    path = own_csv()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    order = ["--order", "small,big"]
    code, _, err = adaptive("train", path, "-o", tmp_path / "mine", *order)
    assert (code, "exists; give --force to replace it" in err) == (2, True)
    code, _, err = adaptive("train", path, "-o", tmp_path / "mine", "--force", *order)
    assert (code, "--force replaces only a premodel" in err) == (2, True)
    code, _, err = adaptive("train", path, "-o", path, "--force", *order)
    assert (code, "is no premodel" in err) == (2, True)
    code, _, err = adaptive("train", path, "-o", tmp_path / "no" / "p", *order)
    assert (code, "does not exist" in err) == (2, True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_missing_table_exits_2(adaptive, tmp_path):
    code, _, err = adaptive("train", tmp_path / "no.csv", "-o", tmp_path / "p")
    assert (code, "no.csv is missing" in err) == (2, True)


@pytest.mark.slow
class TestWithScikitLearn:
    @pytest.fixture(autouse=True)
    def _needs(self):
        pytest.importorskip("sklearn", reason="training needs scikit-learn")

    def test_own_csv_gives_a_premodel_and_a_report(self, adaptive, own_csv, tmp_path):
        path, output = own_csv(), tmp_path / "p"
        code, out, err = adaptive("train", path, "-o", output, "--order", "small,big")
        assert (code, err) == (0, "")
        assert "knn_chain on 120 images, 2 features, asked in this order: small, big" in out
        assert "checked against scikit-learn on 120 of these images: identical" in out
        assert "best candidate chosen: 100.0% (always 'small': 33.3%)" in out
        assert f"saved {output}" in out
        premodel = load_premodel(output)
        choice = first_yes(premodel.predict(np.array([[1.0, 0], [5.0, 0], [9.0, 0]])))
        assert choice.tolist() == [0, 1, -1]
        assert premodel.schema_version is None
        report = json.loads((output / "report.json").read_text())
        assert report["accuracy"] == 1.0
        assert report["training"] == premodel.training_
        assert report["training"]["source"] == "own.csv"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["own.csv", "p"]

    def test_force_replaces_a_premodel(self, adaptive, own_csv, tmp_path):
        path, output = own_csv(), tmp_path / "p"
        arguments = ["train", path, "-o", output, "--order", "small,big"]
        assert adaptive(*arguments)[0] == 0
        code, _, err = adaptive(*arguments, "-k", "3")
        assert (code, "give --force" in err) == (2, True)
        assert load_premodel(output).k == 5
        assert adaptive(*arguments, "-k", "3", "--force", "--scaling", "minmax")[0] == 0
        assert (load_premodel(output).k, load_premodel(output).scaling) == (3, "minmax")

    def test_semicolons_bom_and_crlf_train_the_same(self, adaptive, own_csv, tmp_path):
        path = own_csv()
        other = tmp_path / "other.csv"
        text = path.read_text().replace(",", ";").replace("\n", "\r\n")
        other.write_bytes(("\ufeff" + text).encode())
        for source, output in ((path, "p"), (other, "q")):
            assert (
                adaptive("train", source, "-o", tmp_path / output, "--order", "small,big")[0] == 0
            )
        for name in ("table.npy", "outcomes.npy"):
            assert (tmp_path / "p" / name).read_bytes() == (tmp_path / "q" / name).read_bytes()

    def test_a_constant_column_is_dropped_with_a_warning(self, adaptive, own_csv, tmp_path):
        path = own_csv()
        lines = path.read_text().splitlines()
        lines = [lines[0].replace(",best", ",same,best")] + [
            ",7,".join(line.rsplit(",", 1)) for line in lines[1:]
        ]
        path.write_text("\n".join(lines))
        code, _, err = adaptive("train", path, "-o", tmp_path / "p", "--order", "small,big")
        assert code == 0
        assert err == "warning: column 'same' never varies; it is dropped\n"
        assert load_premodel(tmp_path / "p").features == ("sharpness", "noise")
        assert load_premodel(tmp_path / "p").training_["dropped"] == ["same"]

    @pytest.mark.parametrize(
        ("text", "arguments", "sentence"),
        [
            ("image,a,best\n1,1,x\n2,2,y\n", [], "own.csv: 2 rows are fewer than k = 5"),
            ("image,a,best\n1,1,x\n2,2,x\n", ["-k", "1"], "the best candidate is 'x' on all 2"),
            ("image,a,best\n1,1,x\n2,1,y\n", ["-k", "1"], "every feature has the same value"),
            ("image,a,best\n1,1,x\n2,1e200,y\n", ["-k", "1"], "at most 1e+100 is allowed"),
            ("image,a,best\n1,1,x\n2,2,y\n3,3,y\n", ["-k", "1"], "5 folds of 3 images are asked"),
            (
                "image,a,best\n1,1,x\n2,2,y\n3,3,y\n4,3,x\n5,3,x\n",
                [],
                "with one of 5 parts held out, 4 rows are fewer than k = 5",
            ),
        ],
    )
    def test_bad_data_exits_2(self, adaptive, tmp_path, text, arguments, sentence):
        path = tmp_path / "own.csv"
        path.write_text(text)
        order = "x" if ",y\n" not in text else "x,y"
        code, _, err = adaptive("train", path, "-o", tmp_path / "p", "--order", order, *arguments)
        assert code == 2
        assert sentence in err
        assert err.count("\n") == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["own.csv"]

    def test_outcome_table_gives_top1_too(self, adaptive, tmp_path):
        generator = np.random.default_rng(0)
        X = generator.normal(size=(150, 7))
        outcomes = {}
        for name, least, ms in (("small", 0.0, 1.0), ("slow", 0.5, 9.0), ("big", -1.0, 5.0)):
            right = X[:, 0] > least
            outcomes[name] = Outcomes(right, right, np.full(150, 0.5), np.full(150, ms))
        images = tuple(f"{row}.jpg" for row in range(150))
        once = np.ones(150)
        OutcomeTable(images, np.zeros(150, int), PAPER7, X, outcomes, once, once).write(
            tmp_path / "t.csv"
        )
        code, out, _ = adaptive("train", tmp_path / "t.csv", "-o", tmp_path / "p")
        assert code == 0
        assert "left out: slow (small is at least as fast and as accurate)" in out
        assert "asked in this order: small, big" in out
        assert "always big" in out
        assert load_premodel(tmp_path / "p").features == PAPER7
        report = json.loads((tmp_path / "p" / "report.json").read_text())
        assert set(report["top1"]) == {"chain", "always small", "always big", "oracle"}
        assert report["training"]["learned"] == "NAME:top1"

    @pytest.fixture
    def measured(self, tmp_path):
        """An outcome table of real features: contrast tells the outcomes, the hues nothing."""
        rows = 500
        generator = np.random.default_rng(0)
        names = ("contrast", "noise", "hue1", "hue2")
        X = generator.normal(size=(rows, 4))
        X[:, 1] = X[:, 0] + 0.1 * X[:, 1]
        outcomes = {}
        for name, least, ms in (("small", 0.0, 1.0), ("big", -1.0, 5.0)):
            right = X[:, 0] + generator.normal(0, 0.3, rows) > least
            outcomes[name] = Outcomes(right, right, np.full(rows, 0.5), np.full(rows, ms))
        once = np.ones(rows)

        def write(**meta):
            path = tmp_path / "t.csv"
            images = tuple(f"{row}.jpg" for row in range(rows))
            OutcomeTable(
                images, np.zeros(rows, int), names, X, outcomes, once, once, meta=meta
            ).write(path)
            return path

        return write

    @pytest.mark.parametrize(
        ("classifier", "kind"),
        [
            ("outcome-knn", "outcome_knn"),
            ("tree", "tree"),
            ("svm", "svm"),
            ("naive-bayes", "naive_bayes"),
            ("logistic", "logistic"),
            ("gradient-boosting", "gradient_boosting"),
        ],
    )
    def test_every_classifier(self, adaptive, measured, tmp_path, classifier, kind):
        arguments = ["train", measured(), "--features", "contrast,hue1", "-o", tmp_path / "p"]
        code, out, err = adaptive(*arguments, "--classifier", classifier, "--folds", "2")
        assert (code, err) == (0, "")
        assert f"{kind} on " in out
        assert "checked against scikit-learn on" in out
        premodel = load_premodel(tmp_path / "p")
        assert premodel.kind == kind
        assert np.ptp(premodel.predict(np.array([[-1.0, 0], [2.0, 0]]))[:, 0]) > 0.5
        report = json.loads((tmp_path / "p" / "report.json").read_text())
        assert report["chances"]["small"]["auc"] > 0.85
        assert report["chances"]["small"]["brier"] < report["chances"]["small"]["base"]
        assert set(premodel.training_) >= {"source", "split", "sha256"}

    def test_features_auto_sees_only_the_tuning_part(self, adaptive, measured, tmp_path):
        path = measured()
        code, out, _ = adaptive("train", path, "-o", tmp_path / "p", "--features", "auto")
        assert code == 0
        assert "the features were chosen on the same" in out.splitlines()[-1]
        assert "with contrast" in out or "with noise" in out
        premodel = load_premodel(tmp_path / "p")
        assert len({"contrast", "noise"} & set(premodel.features)) == 1
        report = json.loads((tmp_path / "p" / "report.json").read_text())
        assert report["selection"]["features"] == list(premodel.features)
        assert report["selection"]["rows"] == report["rows"] < 300
        assert report["selection"]["steps"][0]["action"] == "drop"
        assert premodel.training_["selected_by"] == "auto"

    def test_features_auto_cost_prefers_the_cheap(self, adaptive, measured, tmp_path):
        each = {"contrast": 0.02, "noise": 2.0, "hue1": 0.1, "hue2": 0.1}
        path = measured(feature_ms=each)
        arguments = ["train", path, "--features", "auto-cost"]
        code, out, _ = adaptive(*arguments, "-o", tmp_path / "p")
        assert code == 0
        assert "one point is worth 0.04 ms" in out
        assert load_premodel(tmp_path / "p").features == ("contrast",)
        code, out, _ = adaptive(*arguments, "-o", tmp_path / "q", "--ms-per-point", "0.0001")
        assert code == 0
        assert "no feature pays for its time" in out
        report = json.loads((tmp_path / "q" / "report.json").read_text())
        assert report["selection"]["ms_per_point"] == 0.0001

    def test_features_auto_cost_needs_times(self, adaptive, measured, own_csv, tmp_path):
        for arguments in ([measured()], [own_csv(), "--order", "small,big"]):
            output = tmp_path / "p"
            code, _, err = adaptive("train", *arguments, "-o", output, "--features", "auto-cost")
            assert code == 2
            assert "auto-cost needs the time of each feature" in err
            assert not output.exists()

    def test_features_auto_works_on_ones_own_csv(self, adaptive, own_csv, tmp_path):
        arguments = ["train", own_csv(), "-o", tmp_path / "p", "--order", "small,big"]
        code, _, err = adaptive(*arguments, "--features", "auto")
        assert (code, err) == (0, "")
        assert load_premodel(tmp_path / "p").features == ("sharpness",)

    def test_in_a_process_of_its_own(self, own_csv, tmp_path):
        command = [sys.executable, "-c", "from adaptive.cli import main; main()", "train"]
        done = subprocess.run(
            [*command, str(own_csv()), "-o", str(tmp_path / "p"), "--order", "small,big"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert load_premodel(tmp_path / "p").candidates == ("small", "big")

    def test_features_from_says_whose_the_columns_are(self, adaptive, own_csv, tmp_path):
        path, order = own_csv(), ["--order", "small,big"]
        code, out, _ = adaptive("train", path, "-o", tmp_path / "p", *order)
        assert code == 0
        assert "features: sharpness, noise are columns of your own; Router.load needs an" in out
        assert "note: noise also is the name of a feature of this library; if `adaptive" in out
        assert load_premodel(tmp_path / "p").own_features == ("sharpness", "noise")
        said = ["--features-from", "adaptive"]
        code, _, err = adaptive("train", path, "-o", tmp_path / "r", *order, *said)
        assert load_premodel(tmp_path / "r").own_features == ("sharpness",)
        said += ["--features", "sharpness"]
        code, _, err = adaptive("train", path, "-o", tmp_path / "s", *order, *said)
        assert (code, "none of ['sharpness'] is a feature of this library" in err) == (2, True)

    def test_a_file_of_adaptive_features_tells_by_itself(self, adaptive, own_csv, tmp_path):
        from adaptive.features.provenance import write_beside

        path = own_csv()
        write_beside(path, ("noise",))
        for option, own in (([], ("sharpness",)), (["own"], ("sharpness", "noise"))):
            said = ["--features-from", *option] if option else []
            code, out, _ = adaptive(
                "train", path, "-o", tmp_path / "p", "--order", "small,big", "--force", *said
            )
            assert (code, f"features: {', '.join(own)} " in out) == (0, True)
            premodel = load_premodel(tmp_path / "p")
            assert (premodel.own_features, premodel.training_["own_features"]) == (own, list(own))
        (tmp_path / "own.json").write_text("no JSON")
        assert adaptive("train", path, "-o", tmp_path / "q", "--order", "small,big")[0] == 0
        assert load_premodel(tmp_path / "q").schema_version is None

    def test_the_end_says_whether_the_premodel_tells_anything(self, adaptive, own_csv, tmp_path):
        path, order = own_csv(), ["--order", "small,big"]
        code, out, _ = adaptive("train", path, "-o", tmp_path / "p", *order)
        assert code == 0
        last = out.splitlines()[-1]
        assert last == (
            "The premodel tells something about images that it has not seen: best candidate chosen "
            "for 100.0% (always 'small', the cheapest, 33.3%), Brier 0.001 (base rate 0.222), "
            "AUC 1.00 (guessing 0.50)."
        )
        told = json.loads((tmp_path / "p" / "report.json").read_text())["telling"]
        assert (told["verdict"], told["words"]) == ("something", last)

        noise = [*order, "--features", "noise"]
        code, out, _ = adaptive("train", path, "-o", tmp_path / "q", *noise)
        assert code == 0
        last = out.splitlines()[-1]
        assert last.startswith("The premodel is not shown to tell anything about images that it ")
        told = json.loads((tmp_path / "q" / "report.json").read_text())["telling"]
        assert told["verdict"] == "nothing"
        assert told["brier"] > told["base"]
