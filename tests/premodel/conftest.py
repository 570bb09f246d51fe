from __future__ import annotations

import sys

import numpy as np
import pytest

from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling


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
