from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from adaptive.errors import BundleError
from adaptive.premodel.registry import KINDS, load_premodel

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def saved(tmp_path, random_chain):
    chain, _ = random_chain(rows=20, features=2, candidates=2, k=3, schema_version=1)
    chain.save(tmp_path / "p")
    return tmp_path / "p"


def edit(folder, **changes):
    path = folder / "premodel.json"
    header = json.loads(path.read_text())
    header.update(changes)
    path.write_text(json.dumps({k: v for k, v in header.items() if v != "gone"}))


def test_folder_holds_json_and_arrays_that_say_what_they_are(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "outcomes.npy",
        "premodel.json",
        "table.npy",
    ]
    header = json.loads((saved / "premodel.json").read_text())
    assert header["format"] == 1
    assert header["kind"] == "knn_chain"
    assert header["features"] == ["f0", "f1"]
    assert header["candidates"] == ["net0", "net1"]
    assert (header["k"], header["rows"], header["schema_version"]) == (3, 20, 1)
    assert sorted(header["scaling"]) == ["kind", "offset", "scale"]
    outcomes = np.load(saved / "outcomes.npy", allow_pickle=False)
    assert header["balance"] == dict(zip(["net0", "net1"], outcomes.mean(axis=0)))
    assert np.load(saved / "table.npy", allow_pickle=False).dtype == np.int32


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_trained_elsewhere_predicts_the_same_here(kind):
    """Trained by scikit-learn 1.9 on 60 random images; its own chances written down there."""
    premodel = load_premodel(GOLDEN / kind)
    assert premodel.kind == kind
    expected = json.loads((GOLDEN / "kinds.json").read_text())
    X, theirs = np.array(expected["X"]), np.array(expected["chances"][kind])
    assert len(X) == len(theirs) == 12
    np.testing.assert_allclose(premodel.predict(X), theirs, rtol=0, atol=1e-9)


def test_training_elsewhere_predicts_the_same_here():
    """Trained by scikit-learn on another machine; chances written down there."""
    premodel = load_premodel(GOLDEN / "premodel")
    expected = json.loads((GOLDEN / "chances.json").read_text())
    X = np.array(expected["X"])
    np.testing.assert_array_equal(premodel.predict(X), np.array(expected["chances"]))
    assert [premodel.explain(x)["choice"] for x in X] == expected["choices"]


SCALING = {"kind": "standard", "scale": [1.0, 1.0], "offset": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "has format 2; this version of adaptive reads up to 1"),
        ({"format": "1"}, "'format' is str '1', not a whole number"),
        ({"format": "gone"}, "has no 'format'"),
        ({"kind": "forest"}, r"has kind 'forest'; it must be one of \['gradient_boosting', 'knn_"),
        ({"kind": "gone"}, "has no 'kind'"),
        ({"features": "f0"}, "'features' is str 'f0', not a list"),
        ({"features": [1, 2]}, "'features' holds 1, not a string"),
        ({"features": []}, "0 features"),
        ({"features": ["f0", "f0"]}, "feature 'f0' occurs twice"),
        ({"features": ["f0"]}, r"int32 of shape \(20, 2\); int32 of shape \(20, 1\) is needed"),
        ({"candidates": ["net0"]}, r"uint8 of shape \(20, 1\) is needed"),
        ({"candidates": ["net0", "../x"]}, "is no candidate name"),
        ({"k": 21}, "20 rows are fewer than k = 21"),
        ({"k": 0}, "k is 0"),
        ({"k": 3.0}, "'k' is float 3.0, not a whole number"),
        ({"rows": 19}, r"int32 of shape \(19, 2\) is needed"),
        ({"rows": -1}, "-1 rows"),
        ({"rows": 10**30}, "is needed"),
        ({"schema_version": "1"}, "'schema_version' is str '1', not a whole number"),
        ({"scaling": {**SCALING, "kind": "robust"}}, "'robust' is not one of"),
        ({"scaling": {**SCALING, "scale": [1.0]}}, r"the scaling has \(1,\) and \(2,\) numbers"),
        ({"scaling": {**SCALING, "scale": [1.0, 0.0]}}, "a scale that is not above 0"),
        ({"scaling": {**SCALING, "scale": [1.0, "a"]}}, "holds 'a', not a number"),
        ({"scaling": [1]}, "'scaling' is list"),
        ({"training": [1]}, "'training' is list"),
    ],
)
def test_load_refuses_a_header_that_does_not_fit(saved, changes, sentence):
    edit(saved, **changes)
    with pytest.raises(BundleError, match=sentence) as caught:
        load_premodel(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": NaN}', "\xff"])
def test_load_refuses_a_header_that_is_no_json_object(saved, text):
    (saved / "premodel.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"premodel\.json"):
        load_premodel(saved)


@pytest.mark.parametrize("name", ["premodel.json", "table.npy", "outcomes.npy"])
def test_load_refuses_missing_and_linked_files(saved, name):
    moved = saved.parent / name
    os.replace(saved / name, moved)
    with pytest.raises(BundleError, match=f"'{name}' is not in"):
        load_premodel(saved)
    (saved / name).symlink_to(moved)
    with pytest.raises(BundleError, match="symbolic link"):
        load_premodel(saved)


def test_load_refuses_what_is_no_folder(tmp_path):
    with pytest.raises(BundleError, match="is no folder; a premodel is a folder with"):
        load_premodel(tmp_path / "nowhere")


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def object_array(path):
    np.save(path, np.array([Trap()], object))


def bare_pickle(path):
    path.write_bytes(pickle.dumps(Trap()))


def archive(path):
    with open(path, "wb") as file:
        np.savez(file, table=np.zeros((20, 2), np.int32))


def promises_more_than_it_holds(path):
    with open(path, "wb") as file:
        header = {"descr": "<i4", "fortran_order": False, "shape": (1 << 40, 2)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"1234")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-4])


def floats(path):
    np.save(path, np.zeros((20, 2)))


def off_the_grid(path):
    np.save(path, np.full((20, 2), 1 << 30, np.int32))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "spoil",
    [
        object_array,
        bare_pickle,
        archive,
        promises_more_than_it_holds,
        cut_short,
        floats,
        off_the_grid,
        empty,
    ],
)
def test_load_refuses_an_altered_table_and_runs_nothing(saved, spoil, monkeypatch):
    monkeypatch.chdir(saved.parent)
    spoil(saved / "table.npy")
    with pytest.raises(BundleError) as caught:
        load_premodel(saved)
    assert "\n" not in str(caught.value)
    assert not (saved.parent / "sprung").exists()


def test_load_refuses_outcomes_other_than_0_and_1(saved):
    np.save(saved / "outcomes.npy", np.full((20, 2), 2, np.uint8))
    with pytest.raises(BundleError, match="the outcome of 'net0' on image 0 is 2"):
        load_premodel(saved)


def test_load_reads_a_big_header_order_and_fortran_arrays(saved, random_chain):
    table = np.load(saved / "table.npy")
    before = load_premodel(saved).predict(np.ones((1, 2)))
    np.save(saved / "table.npy", np.asfortranarray(table))
    np.testing.assert_array_equal(load_premodel(saved).predict(np.ones((1, 2))), before)


def test_a_write_that_fails_leaves_nothing(tmp_path, random_chain):
    chain, _ = random_chain(rows=20)
    chain.training_ = {"accuracy": float("nan")}
    with pytest.raises(ValueError, match="JSON"):
        chain.save(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []
