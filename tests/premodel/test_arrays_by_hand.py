"""Premodels made of arrays by hand: what they compute, and what they refuse; no scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.premodel.boosting import GradientBoosting
from adaptive.premodel.logistic import Logistic
from adaptive.premodel.naive_bayes import NaiveBayes
from adaptive.premodel.svm import SVM
from adaptive.premodel.tree import Tree

PLAIN = {"scale": np.ones(2), "offset": np.zeros(2)}
STUMP = {"feature": [1, 0, 0], "threshold": [0.5, 0, 0], "child": [[1, 2], [1, 1], [2, 2]]}

GOOD = {
    Logistic: {**PLAIN, "coefficient": [[1.0, -2.0]], "intercept": [0.5]},
    NaiveBayes: {
        **PLAIN,
        "mean": [[[0.0, 0.0], [1.0, 0.0]]],
        "variance": np.ones((1, 2, 2)),
        "prior": [0.0],
        "slope": [0.5],
        "shift": [0.25],
    },
    SVM: {
        **PLAIN,
        "vector": [[0, 0], [4096, 0]],
        "coefficient": [[1.0, -1.0]],
        "intercept": [0.5],
        "slope": [2.0],
        "shift": [0.0],
    },
    Tree: {**STUMP, "chance": [[0.5], [0.25], [0.75]], "images": [100, 50, 50]},
    GradientBoosting: {
        **STUMP,
        "value": [0.0, -1.0, 2.0],
        "root": [[0, 0, 1]],
        "intercept": [0.5],
    },
}


def made(kind, **changes):
    return kind.from_arrays(["u", "v"], ["x"], {**GOOD[kind], **changes})


def odds(chance):
    return math.log(chance / (1 - chance))


@pytest.mark.parametrize(
    ("kind", "image", "log_odds"),
    [
        (Logistic, [1.0, 0.25], 0.5 + 1.0 - 0.5),
        (NaiveBayes, [0.75, 9.0], 0.25 + 0.5 * (0.75**2 - 0.25**2) / 2),
        (SVM, [0.0, 1.0], 2 * (0.5 + math.exp(-0.5) - math.exp(-1.0))),
        (GradientBoosting, [0.0, 0.5], 0.5 - 3.0),
        (GradientBoosting, [0.0, 0.6], 0.5 + 2 + 2 - 1),
        (Tree, [9.0, 0.5], odds(0.25)),
        (Tree, [9.0, 0.6], odds(0.75)),
    ],
)
def test_chances_are_what_the_arrays_say(kind, image, log_odds):
    chances = made(kind).predict(np.array([image]))
    assert odds(chances[0, 0]) == pytest.approx(log_odds, abs=1e-12)


def test_explanations_add_up():
    x = np.array([1.0, 0.25])
    for kind in (Logistic, NaiveBayes):
        premodel = made(kind)
        terms = premodel.explain(x)["log_odds"]["x"]
        assert list(terms) == [("intercept" if kind is Logistic else "prior"), "u", "v"]
        if kind is Logistic:
            assert sum(terms.values()) == pytest.approx(odds(premodel.predict(x[None])[0, 0]))
    assert made(Tree).explain(x) == {
        "choice": None,
        "chances": {"x": 0.25},
        "path": [{"feature": "v", "value": 0.25, "threshold": 0.5, "above": False}],
        "images": 50,
    }
    assert made(GradientBoosting).explain(x)["compared"] == {"u": 0, "v": 2}
    assert made(SVM).explain(x)["support_vectors"][0]["row"] == 1


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (Logistic, {"scale": np.ones(3)}, r"array 'scale' has shape \(3,\); \(2,\) is needed"),
        (Logistic, {"scale": np.array([1.0, 0.0])}, "a scale that is not above 0"),
        (Logistic, {"intercept": [np.nan]}, "array 'intercept' holds NaN or an infinity"),
        (Logistic, {"coefficient": [[1.0]]}, "array 'coefficient' has shape"),
        (NaiveBayes, {"variance": np.zeros((1, 2, 2))}, "'variance' holds a number that is not"),
        (NaiveBayes, {"variance": np.full((1, 2, 2), 5e-324)}, "too small to divide by"),
        (SVM, {"vector": [[0, 1 << 22], [0, 0]]}, "'vector' must hold whole numbers from"),
        (SVM, {"vector": [[0, 0.5], [0, 0]]}, "array 'vector' does not fit into <i4"),
        (SVM, {"vector": np.zeros((0, 2)), "coefficient": np.zeros((1, 0))}, "none of them 0"),
        (SVM, {"coefficient": [[1.0]]}, r"'coefficient' has shape \(1, 1\); \(1, 2\) is needed"),
        (Tree, {"feature": [2, 0, 0]}, "'feature' must hold columns from 0 to 1"),
        (Tree, {"feature": [-1, 0, 0]}, "'feature' must hold columns from 0 to 1"),
        (Tree, {"child": [[1, 3], [1, 1], [2, 2]]}, "array 'child' must hold"),
        (Tree, {"child": [[1, 2], [0, 0], [2, 2]]}, "array 'child' must hold"),
        (Tree, {"child": [[0, 2], [1, 1], [2, 2]]}, "array 'child' must hold"),
        (Tree, {"chance": [[0.5], [0.25], [1.75]]}, "'chance' must hold numbers from 0 to 1"),
        (Tree, {"chance": [[0.5], [0.25]]}, "array 'chance' has shape"),
        (GradientBoosting, {"root": [[0, 3]]}, "'root' must hold nodes from 0 to 2"),
        (GradientBoosting, {"value": [0, 1e308, 1e308]}, "too large to add up"),
    ],
)
def test_arrays_that_cannot_be_are_refused(kind, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        made(kind, **changes)


def test_repr_names_what_matters():
    assert repr(made(Tree)) == (
        "Tree(2 features, candidates=('x',), depth=None, leaf_images=20, seed=0, "
        "schema_version=None)"
    )
