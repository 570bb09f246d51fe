"""What scikit-learn learned, asked by numpy alone: the same chances within 1e-9."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the comparison needs scikit-learn")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from adaptive.errors import AdaptiveError, InputError
from adaptive.premodel import fit
from adaptive.premodel.boosting import MOST_TREES, GradientBoosting
from adaptive.premodel.fit import TRAINERS, fit_estimator
from adaptive.premodel.logistic import STRENGTHS, Logistic
from adaptive.premodel.naive_bayes import SMOOTHING, NaiveBayes
from adaptive.premodel.svm import SVM
from adaptive.premodel.tree import DEPTHS, Tree

KINDS = (Tree, SVM, NaiveBayes, Logistic, GradientBoosting)
NAMES = tuple("abcd"), ("x", "y")


def images(rows=300, ties=False, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.lognormal(size=(rows, 4)) * [1, 1000, 1e-3, 10]
    if ties:
        X = np.round(X / X.std(axis=0))
    odds = np.stack([X[:, 0] - np.median(X[:, 0]), X[:, 3] / 10 - X[:, 0]], axis=1)
    return X, (odds + generator.normal(size=odds.shape) > 0).astype(np.uint8)


def scaled(premodel, X):
    return premodel._scaled(np.ascontiguousarray(X))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_chances_equal_scikit_learns(kind, ties):
    X, outcomes = images(ties=ties)
    premodel = kind(*NAMES)
    theirs = premodel.learn(X, outcomes)
    other = images(seed=1, ties=ties)[0]
    queries = np.vstack([X, other, -other, np.repeat(X[:1], 3, axis=0)])
    np.testing.assert_allclose(premodel.predict(queries), theirs(queries), rtol=0, atol=1e-9)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.data())
def test_any_small_table(data):
    kind = data.draw(st.sampled_from(KINDS))
    rows = data.draw(st.integers(10, 25))
    values = st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.1, 1e-4, 1e4, 1e30])
    X = data.draw(arrays(np.float64, (rows, 4), elements=values))
    outcomes = data.draw(arrays(np.int8, (rows, 2), elements=st.integers(0, 1)))
    premodel = kind(*NAMES)
    theirs = premodel.learn(X, outcomes)
    np.testing.assert_allclose(premodel.predict(X), theirs(X), rtol=0, atol=1e-9)


def test_logistic_is_scikit_learns_on_the_scaled_features():
    X, outcomes = images()
    premodel = Logistic(*NAMES, C=0.5).fit(X, outcomes)
    Z = scaled(premodel, X)
    for level in range(2):
        model = LogisticRegression(C=0.5, max_iter=1000).fit(Z, outcomes[:, level])
        np.testing.assert_allclose(
            premodel.predict(X)[:, level], model.predict_proba(Z)[:, 1], atol=1e-12
        )
    assert premodel.training_ == {}
    chosen = Logistic(*NAMES).fit(X, outcomes).training_["chosen"]
    assert chosen["C"] in STRENGTHS
    assert chosen["brier"][str(chosen["C"])] == min(chosen["brier"].values())


def test_naive_bayes_ranks_as_scikit_learns_and_is_calibrated():
    X, outcomes = images(rows=600)
    X = np.repeat(X, 3, axis=1)  # the same evidence three times: far too sure of itself
    names = [f"f{i}" for i in range(12)]
    premodel = NaiveBayes(names, NAMES[1]).fit(X, outcomes)
    Z = scaled(premodel, X)
    model = GaussianNB(var_smoothing=SMOOTHING).fit(Z, outcomes[:, 0])
    joint = model.predict_joint_log_proba(Z)
    theirs = model.predict_proba(Z)[:, 1]
    ours = premodel.predict(X)[:, 0]
    order = np.argsort(joint[:, 1] - joint[:, 0])
    assert (np.diff(ours[order]) >= -1e-9).all()
    assert ((ours - outcomes[:, 0]) ** 2).mean() < ((theirs - outcomes[:, 0]) ** 2).mean()


def test_svm_is_scikit_learns_and_its_chances_are_platts():
    X, outcomes = images()
    premodel = SVM(*NAMES).fit(X, outcomes)
    Z = scaled(premodel, X)
    machine = SVC(C=1.0, gamma=1 / 4)
    scores = premodel._scores(X)
    calibrated = CalibratedClassifierCV(
        machine, method="sigmoid", cv=KFold(5, shuffle=True, random_state=0), ensemble=False
    )
    for level in range(2):
        theirs = machine.fit(Z, outcomes[:, level]).decision_function(Z)
        np.testing.assert_allclose(scores[:, level], theirs, atol=1e-9)
        # other folds, so only about the same line
        platt = calibrated.fit(Z, outcomes[:, level]).predict_proba(Z)[:, 1]
        np.testing.assert_allclose(premodel.predict(X)[:, level], platt, atol=0.05)


def test_svm_of_many_images_learns_from_some(monkeypatch):
    monkeypatch.setattr("adaptive.premodel.svm.LARGEST_TABLE", 100)
    X, outcomes = images()
    premodel = SVM(*NAMES).fit(X, outcomes)
    assert len(premodel.arrays_["vector"]) <= 100
    assert premodel.training_ == {"chosen": {"rows": 100}}


def test_svm_without_a_support_vector_still_is_one(tmp_path):
    X, _ = images()
    premodel = SVM(*NAMES).fit(X, np.zeros((300, 2), int))
    assert len(premodel.arrays_["vector"]) == 1
    assert premodel.predict(X).max() < 0.01


def test_tree_is_a_classification_tree():
    X, outcomes = images()
    premodel = Tree(*NAMES, depth=3).fit(X, outcomes)
    model = DecisionTreeClassifier(max_depth=3, min_samples_leaf=20, random_state=0)
    theirs = np.stack([chances[:, 1] for chances in model.fit(X, outcomes).predict_proba(X)], 1)
    np.testing.assert_allclose(premodel.predict(X), theirs, atol=1e-12)
    told = premodel.explain(X[0])
    assert len(told["path"]) <= 3
    assert told["images"] >= 20
    assert {step["feature"] for step in told["path"]} <= set("abcd")
    assert Tree(*NAMES).fit(X, outcomes).training_["chosen"]["depth"] in DEPTHS


def test_tree_compares_in_single_precision():
    """1 + 1e-9 is 1 there: what scikit-learn sends left must go left here."""
    X = np.repeat([1.0, 1 + 1e-6], 30)[:, None]
    outcomes = np.repeat([0, 1], 30)[:, None]
    premodel = Tree(["a"], ["x"], depth=1).fit(X, outcomes)
    threshold = premodel.arrays_["threshold"][0]
    queries = threshold + np.linspace(-1e-7, 1e-7, 41)[:, None]
    theirs = premodel.learn(X, outcomes)
    np.testing.assert_array_equal(premodel.predict(queries), theirs(queries))


def test_boosting_tells_how_many_trees_it_took():
    X, outcomes = images()
    premodel = GradientBoosting(*NAMES).fit(X, outcomes)
    trees = premodel.training_["chosen"]["trees"]
    assert 1 <= trees <= MOST_TREES
    assert premodel.arrays_["root"].shape == (2, trees)
    assert sum(premodel.explain(X[0])["compared"].values()) > 0
    assert GradientBoosting(*NAMES, trees=3).fit(X, outcomes).arrays_["root"].shape == (2, 3)


def test_outcome_knn_is_scikit_learns_mean():
    X, outcomes = images()
    for weights in ("uniform", "distance"):
        trained = TRAINERS["outcome-knn"](X, outcomes, *NAMES, k=20, weights=weights)
        premodel = trained.premodel
        assert (trained.compared, trained.tied) == (300, 0)
        table = premodel.table_.astype(float)
        model = KNeighborsClassifier(21, algorithm="brute").fit(table, outcomes[:, 0])
        distances, rows = model.kneighbors(table)
        weight = np.ones((300, 20))
        if weights == "distance":
            weight = 1 - (distances[:, :-1] / distances[:, -1:]) ** 2
        mean = (outcomes[rows[:, :-1]] * weight[:, :, None]).sum(axis=1) / weight.sum(
            axis=1, keepdims=True
        )
        np.testing.assert_allclose(premodel.predict(X), mean, atol=1e-8)


@pytest.mark.parametrize("classifier", sorted(TRAINERS))
def test_every_trainer_drops_what_never_varies_and_compares(classifier):
    X, outcomes = images(rows=120)
    X = np.c_[X, np.full(120, 3.0)]
    trained = TRAINERS[classifier](X, outcomes, (*NAMES[0], "same"), NAMES[1], schema_version=1)
    assert trained.dropped == ("same",)
    assert trained.premodel.features == NAMES[0]
    assert trained.premodel.schema_version == 1
    assert trained.compared + trained.tied == 120
    for bad, sentence in (
        ({"outcomes": np.ones_like(outcomes)}, "the best candidate is 'x' on all 120 images"),
        ({"X": np.ones_like(X)}, "every feature has the same value"),
        ({"X": np.full_like(X, 1e101)}, "at most 1e.100 is allowed"),
    ):
        arguments = {"X": X, "outcomes": outcomes, **bad}
        with pytest.raises(InputError, match=sentence):
            TRAINERS[classifier](**arguments, features=tuple("abcde"), candidates=NAMES[1])


def test_a_difference_from_scikit_learn_is_an_error(monkeypatch):
    monkeypatch.setattr(fit, "TOLERANCE", -1.0)
    with pytest.raises(AdaptiveError, match="scikit-learn answers training image"):
        fit_estimator(Logistic, *images(), *NAMES)


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (Logistic, {"C": 0}, "C is 0; a finite number above 0"),
        (Logistic, {"C": np.inf}, "C is inf"),
        (Logistic, {"seed": -1}, "seed is -1; a whole number of at least 0"),
        (SVM, {"C": None}, "C is None"),
        (Tree, {"depth": 0}, "depth is 0; a whole number of at least 1"),
        (Tree, {"leaf_images": True}, "leaf_images is True"),
        (GradientBoosting, {"trees": 0}, "trees is 0"),
        (GradientBoosting, {"rate": -0.1}, "rate is -0.1"),
        (NaiveBayes, {"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        kind(*NAMES, **settings).fit(*images())


@pytest.mark.parametrize("kind", KINDS)
def test_nine_images_are_too_few(kind):
    X, outcomes = images()
    with pytest.raises(InputError, match=r"9 rows are too few; a .* premodel needs at least 10"):
        kind(*NAMES).fit(X[:9], outcomes[:9])
