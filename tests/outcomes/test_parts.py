from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.outcomes.parts import PARTS, Split

#: Where images lie in 0..1, computed once: the parts of people's images must never move.
PLACES = {
    ("ILSVRC2012_val_00000001.jpeg", 0): 0.6368533898214932,
    ("a.jpg", 0): 0.8915075238161024,
    ("été/ü.png", 0): 0.28862476894953587,
    ("", 0): 0.8943794394498068,
    ("ILSVRC2012_val_00000001.jpeg", 7): 0.6333518879692117,
    ("a.jpg", 7): 0.7302712911401268,
    ("été/ü.png", 7): 0.8084936562451716,
}
NAMES = ["ILSVRC2012_val_00000001.jpeg", "a.jpg", "été/ü.png", ""]
NAMES += [f"{row:03}.png" for row in range(12)]
ROWS = {
    0: ([2, 4, 9, 11, 12], [0, 5, 6, 8, 14, 15], [1, 3, 7, 10, 13]),
    7: ([6, 10, 11, 12, 15], [0, 1, 3, 4, 7, 8, 9, 14], [2, 5, 13]),
}


@pytest.mark.parametrize("seed", ROWS)
def test_rows_are_these_on_every_machine(seed):
    split = Split(seed=seed)
    assert tuple(split.rows(NAMES, part).tolist() for part in PARTS) == ROWS[seed]


@pytest.mark.parametrize(("name", "seed"), PLACES)
def test_an_image_changes_parts_at_its_place(name, seed):
    place = PLACES[name, seed]
    below, above = place - 1e-9, place + 1e-9
    assert Split(above, 1 - above, 0, seed).rows([name], "tune").tolist() == [0]
    assert Split(below, 1 - below, 0, seed).rows([name], "calibrate").tolist() == [0]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_rows_are_the_same_in_another_process(hash_seed):
    code = (
        "import json, sys; from adaptive.outcomes.parts import Split\n"
        "names = json.loads(sys.argv[1]); "
        "print(json.dumps([Split().rows(names, p).tolist() for p in ('tune', 'calibrate')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(NAMES)],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == list(ROWS[0][:2])


def test_parts_are_disjoint_and_cover_every_image():
    names = [f"{row}.jpg" for row in range(3000)]
    split = Split(0.4, 0.35, 0.25, 3)
    parts = [split.rows(names, part) for part in PARTS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))


def test_shares_are_about_those_asked_for():
    names = [f"{row}.jpg" for row in range(20_000)]
    for shares in ((0.5, 0.3, 0.2), (0.1, 0.8, 0.1), (1 / 3, 1 / 3, 1 / 3)):
        split = Split(*shares, seed=5)
        for part, share in zip(PARTS, shares):
            error = 4 * np.sqrt(share * (1 - share) / len(names))
            assert abs(len(split.rows(names, part)) / len(names) - share) < error


def test_adding_images_moves_none():
    few = [f"{row}.jpg" for row in range(300)]
    many = [f"more-{row}.jpg" for row in range(200)] + few
    for part in PARTS:
        before = {few[row] for row in Split().rows(few, part)}
        after = {many[row] for row in Split().rows(many, part)}
        assert before == {name for name in after if not name.startswith("more-")}


def test_seeds_split_independently():
    names = [f"{row}.jpg" for row in range(20_000)]
    first, second = (set(Split(seed=s).rows(names, "tune").tolist()) for s in (0, 1))
    assert abs(len(first & second) / len(names) - 0.25) < 0.015


def test_edges_take_all_or_none():
    names = [f"{row}.jpg" for row in range(500)]
    assert len(Split.parse("all").rows(names, "tune")) == 500
    assert len(Split.parse("all").rows(names, "test")) == 0
    split = Split.parse("0.5,0.5,0")
    assert len(split.rows(names, "test")) == 0
    assert len(split.rows([], "tune")) == 0


def test_parse_and_json_round_trip():
    split = Split.parse("0.6, 0.3, 0.1", seed=4)
    assert split == Split(0.6, 0.3, 0.1, 4)
    assert Split.from_json(json.loads(json.dumps(split.to_json()))) == split


@pytest.mark.parametrize("text", ["", "0.5", "0.5,0.5", "a,b,c", "0.5,0.3,0.3", "-0.1,0.6,0.5"])
def test_parse_refuses(text):
    with pytest.raises(InputError, match="three shares"):
        Split.parse(text)


@pytest.mark.parametrize("text", ["0,0.5,0.5", "nan,0.5,0.5", "inf,0,0"])
def test_a_split_without_a_tuning_part_is_refused(text):
    with pytest.raises(InputError, match="the first above 0"):
        Split.parse(text)


@pytest.mark.parametrize("values", [None, [], {}, {"tune": 1}, {"tune": "x", "calibrate": 0}])
def test_from_json_refuses(values):
    with pytest.raises(InputError, match="is no split"):
        Split.from_json(values)


def test_an_unknown_part_is_refused():
    with pytest.raises(InputError, match="part 'train' is not one of"):
        Split().rows(["a"], "train")
