from __future__ import annotations

import sys

import numpy as np
import pytest

from adaptive.premodel.boosting import GradientBoosting
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.logistic import Logistic
from adaptive.premodel.mixture import Mixture
from adaptive.premodel.naive_bayes import NaiveBayes
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.scaling import Scaling
from adaptive.premodel.svm import SVM
from adaptive.premodel.tree import Tree


def chain_of(X, outcomes, k=5, kind="standard", schema_version=None):
    """A fitted chain without scikit-learn: the scaling computed by numpy."""
    X = np.asarray(X, np.float64)
    spread = X.std(axis=0) if kind == "standard" else 1 / np.ptp(X, axis=0)
    offset = X.mean(axis=0) if kind == "standard" else -X.min(axis=0) * spread
    scaling = Scaling(kind, spread, offset)
    outcomes = np.asarray(outcomes)
    return KNNChain.from_arrays(
        [f"f{i}" for i in range(X.shape[1])],
        [f"net{j}" for j in range(outcomes.shape[1])],
        scaling,
        scaling.grid(X),
        outcomes,
        k,
        schema_version,
    )


def random_chain(rows=200, features=4, candidates=3, seed=0, **options):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, features))
    outcomes = generator.integers(0, 2, (rows, candidates))
    return chain_of(X, outcomes, **options), X


def random_trees(generator, trees, depth, features):
    """Nodes of full trees, the roots first, every child after its parent."""
    inner = trees * (2**depth - 1)
    count = inner + trees * 2**depth
    own = np.arange(count)
    child = np.stack([trees + 2 * own, trees + 2 * own + 1], axis=1)
    child[inner:] = own[inner:, None]
    return {
        "feature": generator.integers(0, features, count),
        "threshold": generator.normal(size=count).astype(np.float32).astype(np.float64),
        "child": child,
    }


def random_arrays(kind, X, candidates, generator):
    """Arrays such as training gives, for every kind that is made of arrays."""
    width = X.shape[1]
    scaling = {"scale": X.std(axis=0), "offset": X.mean(axis=0)}
    platt = {
        "intercept": generator.normal(size=candidates),
        "slope": generator.uniform(0, 2, candidates),
        "shift": generator.normal(size=candidates),
    }
    if kind is Logistic:
        coefficient = generator.normal(size=(candidates, width))
        return {**scaling, "coefficient": coefficient, "intercept": platt["intercept"]}
    if kind is NaiveBayes:
        return {
            **scaling,
            "mean": generator.normal(size=(candidates, 2, width)),
            "variance": generator.uniform(0.5, 2, (candidates, 2, width)),
            "prior": platt.pop("intercept"),
            **platt,
        }
    if kind is Mixture:
        factor = np.tril(generator.uniform(-0.3, 0.3, (4, width, width)))
        factor[:, range(width), range(width)] = generator.uniform(0.5, 2, (4, width))
        return {
            "floor": np.zeros(width),
            **scaling,
            "weight": np.array([0.4, 0.3, 0.2, 0.1]),
            "mean": generator.normal(size=(4, width)),
            "factor": factor,
            "rate": generator.uniform(0.1, 0.9, (4, candidates)),
        }
    if kind is SVM:
        vector = Scaling("standard", scaling["scale"], scaling["offset"]).grid(X[:50])
        coefficient = generator.normal(size=(candidates, 50))
        return {**scaling, "vector": vector, "coefficient": coefficient, **platt}
    if kind is Tree:
        nodes = random_trees(generator, 1, 3, width)
        chance = generator.uniform(size=(15, candidates))
        return {**nodes, "chance": chance, "images": np.full(15, 20)}
    trees = 7
    nodes = random_trees(generator, candidates * trees, 2, width)
    return {
        **nodes,
        "value": generator.normal(size=len(nodes["feature"])),
        "root": np.arange(candidates * trees).reshape(candidates, trees),
        "intercept": platt["intercept"],
    }


def random_premodel(kind, rows=200, features=4, candidates=3, seed=0):
    """A premodel of any kind that is fitted without scikit-learn, and some images."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, features))
    names = [f"f{i}" for i in range(features)], [f"net{j}" for j in range(candidates)]
    if issubclass(kind, KNNChain):
        scaling = Scaling("standard", X.std(axis=0), X.mean(axis=0))
        outcomes = generator.integers(0, 2, (rows, candidates))
        settings = {"k": 5} if kind is KNNChain else {"k": 20, "weights": "distance"}
        return kind.from_arrays(*names, scaling, scaling.grid(X), outcomes, **settings), X
    return kind.from_arrays(*names, random_arrays(kind, X, candidates, generator)), X


#: every kind of premodel
CLASSES = (KNNChain, OutcomeKNN, Tree, SVM, NaiveBayes, Logistic, GradientBoosting, Mixture)


@pytest.fixture(name="random_premodel")
def _random_premodel():
    return random_premodel


@pytest.fixture(params=CLASSES, ids=[kind.kind for kind in CLASSES])
def kind(request):
    """Each kind of premodel, as its class."""
    return request.param


@pytest.fixture(name="chain_of")
def _chain_of():
    return chain_of


@pytest.fixture(name="random_chain")
def _random_chain():
    return random_chain


@pytest.fixture
def adaptive(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    from adaptive.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaptive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def own_csv(tmp_path):
    """A user's CSV with a column that tells which candidate is best, and one that is noise."""

    def write(rows=120, name="own.csv", seed=0):
        generator = np.random.default_rng(seed)
        lines = ["image,sharpness,noise,best"]
        for row in range(rows):
            best = ["small", "big", "none"][row % 3]
            sharpness = {"small": 1.0, "big": 5.0, "none": 9.0}[best] + generator.normal() * 0.3
            lines.append(f"{row}.jpg,{sharpness:.5f},{generator.normal():.5f},{best}")
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
