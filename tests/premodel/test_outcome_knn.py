from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import BundleError, InputError
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.registry import load_premodel
from adaptive.premodel.scaling import Scaling

PLAIN = Scaling("standard", np.ones(1), np.zeros(1))


def line(points, outcomes, k, weights="distance"):
    """One feature that is not rescaled."""
    table = PLAIN.grid(np.array(points, np.float64)[:, None])
    names = [f"net{j}" for j in range(np.shape(outcomes)[1])]
    return OutcomeKNN.from_arrays(["x"], names, PLAIN, table, outcomes, k, weights=weights)


def test_uniform_chances_are_the_neighbours_mean_outcome():
    premodel = line([0, 1, 2, 9], [[1, 0], [0, 0], [1, 0], [0, 1]], 3, "uniform")
    np.testing.assert_array_equal(premodel.predict(np.array([[1.0]])), [[2 / 3, 0]])


def test_distance_weights_fall_to_nothing_at_the_next_neighbour():
    premodel = line([0, 1, 2, 4], [[1], [0], [1], [0]], 3)
    # squared distances 0, 1, 4 of 16
    expected = (1 + 0.75) / (1 + 15 / 16 + 0.75)
    assert premodel.predict(np.array([[0.0]]))[0, 0] == pytest.approx(expected, abs=1e-9)
    told = premodel.explain(np.array([0.0]))
    weights = [neighbour["weight"] for neighbour in told["neighbours"]]
    assert weights == pytest.approx([1 / 2.6875, 0.9375 / 2.6875, 0.75 / 2.6875])
    assert "weight" not in line([0, 1], [[1], [0]], 1, "uniform").explain(np.zeros(1))


def test_which_of_several_at_the_kth_distance_is_taken_does_not_matter():
    points, outcomes = [0, -2, 2, 2, -2], np.array([[1], [0], [1], [0], [1]])
    chances = line(points, outcomes, 3).predict(np.array([[0.0]]))
    assert chances == line(points, outcomes[[0, 4, 3, 2, 1]], 3).predict(np.array([[0.0]]))
    assert chances[0, 0] == 1.0


def test_equally_far_neighbours_count_the_same():
    premodel = line([1, 1, 1, 1, 1], [[1], [1], [0], [0], [0]], 4)
    assert premodel.predict(np.array([[1.0], [5.0]])).tolist() == [[0.5], [0.5]]


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="2 rows are too few to weigh k = 2 neighbours by dist"):
        line([0, 1], [[1], [0]], 2)
    with pytest.raises(InputError, match=r"weights 'near' is not one of \['uniform', 'distance'\]"):
        line([0, 1], [[1], [0]], 1, "near")
    line([0, 1], [[1], [0]], 1).save(tmp_path / "p")
    header = tmp_path / "p" / "premodel.json"
    header.write_text(header.read_text().replace('"distance"', '"near"'))
    with pytest.raises(BundleError, match="weights 'near'"):
        load_premodel(tmp_path / "p")


def test_settings_survive():
    premodel = line([0, 1, 2], [[1], [0], [0]], 2).unfitted()
    assert (premodel.k, premodel.weights) == (2, "distance")
    assert repr(premodel).endswith("schema_version=None, weights='distance')")
