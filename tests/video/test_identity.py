"""A store of identities: who is matched, what is kept, and what is really gone."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from adaptive.errors import BundleError, InputError
from adaptive.video.identified import Embedder, identify
from adaptive.video.identity import EmbeddingNetwork, IdentityStore, editing
from adaptive.video.identity_tuning import (
    fewest_persons,
    impostors,
    promise,
    rates,
    tune_thresholds,
)

CHEAP, DEAR = EmbeddingNetwork("cheap", "a" * 64, 4), EmbeddingNetwork("dear", "b" * 64, 4)
EAST, NORTH, UP = np.eye(4, dtype=np.float32)[:3]


def made(cheap: float = 0.2, dear: float = 0.4) -> IdentityStore:
    return IdentityStore([CHEAP, DEAR], {"cheap": cheap, "dear": dear})


def both(vector: np.ndarray) -> Dict[str, np.ndarray]:
    return {"cheap": vector, "dear": vector}


def test_the_nearest_under_the_threshold_is_matched_and_not_the_first() -> None:
    store = made(cheap=0.5)
    store.add("ann", both(EAST))
    store.add("bob", both(NORTH))
    between = 0.75 * EAST + NORTH  # 1 - cosine is 0.4 from ann and 0.2 from bob
    found = store.match("cheap", between)
    assert found is not None
    assert found.name == "bob"
    assert found.distance == pytest.approx(0.2, abs=1e-6)
    assert store.match("cheap", UP) is None


def test_lengths_do_not_count_and_a_network_without_threshold_matches_nobody() -> None:
    store = IdentityStore([CHEAP, DEAR], {"cheap": 0.1})
    store.add("ann", {"cheap": 5 * EAST, "dear": EAST})
    assert store.match("cheap", 0.01 * EAST) == ("ann", pytest.approx(0, abs=1e-6))
    assert store.match("dear", EAST) is None


def test_a_mean_moves_by_a_fifteenth() -> None:
    store = made()
    store.add("ann", {"cheap": EAST})
    store.update("ann", both(NORTH))
    near = store.nearest("cheap", EAST)
    assert near is not None
    mean = np.array([14, 1]) / 15
    assert near.distance == pytest.approx(1 - mean[0] / np.linalg.norm(mean), abs=1e-6)
    assert store.nearest("dear", NORTH) == ("ann", pytest.approx(0, abs=1e-6))
    assert store.names() == {"ann": 2}


def test_rename_and_merge() -> None:
    store = made()
    assert store.add_unknown(both(EAST)) == "unknown-1"
    store.add("bob", both(NORTH))
    store.update("bob", both(NORTH))
    store.update("bob", both(NORTH))
    store.rename("unknown-1", "ann")
    assert store.names() == {"ann": 1, "bob": 3}
    with pytest.raises(InputError, match="has a 'bob' already; merge the two"):
        store.rename("ann", "bob")
    store.merge("ann", "bob")
    assert store.names() == {"bob": 4}
    near = store.nearest("dear", NORTH)
    assert near is not None
    assert near.distance == pytest.approx(1 - 3 / np.sqrt(10), abs=1e-6)
    with pytest.raises(InputError, match=r"the store has no 'ann'; it has \['bob'\]"):
        store.merge("ann", "bob")


def test_what_is_forgotten_is_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "people.npz"
    store = made()
    secret = np.array([0.3, -0.8, 0.5, 0.12], np.float32)
    store.add("Zaphod", both(secret))
    store.add("ann", both(EAST))
    store.save(path)
    unit = (secret / np.linalg.norm(secret)).tobytes()
    assert unit in path.read_bytes()
    assert b"Zaphod" in path.read_bytes()
    with editing(path) as opened:
        opened.forget("Zaphod")
    for file in tmp_path.iterdir():
        assert b"Zaphod" not in file.read_bytes()
        assert unit not in file.read_bytes()
    left = IdentityStore.read(path)
    assert left.names() == {"ann": 1}
    assert left.match("dear", secret) is None
    assert path.stat().st_mode & 0o077 == 0  # nobody else may read it


def test_a_store_comes_back_as_it_was(tmp_path: Path) -> None:
    store = made()
    store.set_thresholds({"cheap": 0.125}, {"claim": "a promise"})
    store.add("ann", {"dear": EAST})
    store.add_unknown(both(NORTH))
    store.forget("unknown-1")
    store.save(tmp_path / "s")
    again = IdentityStore.read(tmp_path / "s")
    assert again.networks == store.networks
    assert again.thresholds == {"cheap": 0.125}
    assert again.certificate == {"claim": "a promise"}
    assert again.nearest("cheap", EAST) is None  # only the dear one has seen her
    assert again.nearest("dear", EAST) == ("ann", 0.0)
    assert again.add_unknown(both(UP)) == "unknown-2"  # a number is not given twice


def test_another_networks_embeddings_are_refused() -> None:
    store = made()
    store.check_networks([CHEAP, DEAR])
    other = EmbeddingNetwork("cheap", "c" * 64, 4)
    with pytest.raises(InputError, match="are of another network 'cheap'"):
        store.check_networks([other])
    with pytest.raises(InputError, match=r"no embeddings of network 'x'; it has \['cheap'"):
        store.check_networks([EmbeddingNetwork("x", "a" * 64, 4)])
    with pytest.raises(InputError, match="has 3 numbers"):
        store.add("ann", {"cheap": np.ones(3)})
    with pytest.raises(InputError, match="length 0"):
        store.add("ann", {"cheap": np.zeros(4)})
    with pytest.raises(InputError, match="no embeddings of network 'x'"):
        store.match("x", EAST)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(InputError, match="there is no store"):
        IdentityStore.read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BundleError, match="is no store of identities"):
        IdentityStore.read(path)
    with path.open("wb") as file:
        np.savez(file, about=np.array([{}], object))
    with pytest.raises(BundleError, match="is no store of identities"):
        IdentityStore.read(path)
    about = np.frombuffer(json.dumps({"format": 9}).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, about=about)
    with pytest.raises(BundleError, match="has format 9"):
        IdentityStore.read(path)


def test_one_process_changes_a_store_at_a_time(tmp_path: Path) -> None:
    made().save(tmp_path / "s")
    refused = pytest.raises(InputError, match="another process changes")
    with editing(tmp_path / "s"), refused, editing(tmp_path / "s"):
        pass


def test_nothing_is_written_when_a_change_fails(tmp_path: Path) -> None:
    made().save(tmp_path / "s")
    change = editing(tmp_path / "s")
    with contextlib.suppress(InputError), change as store:
        store.add("ann", both(EAST))
        store.forget("bob")
    assert len(IdentityStore.read(tmp_path / "s")) == 0


def embedders(log: list[str]) -> list[Embedder]:
    """Networks that take the crop's first pixel for the embedding; the cheap one sees two axes."""

    def run(name: str, axes: int):
        def embed(crop: np.ndarray) -> tuple[np.ndarray]:
            log.append(name)
            found = np.full(4, 0.01, np.float32)
            found[:axes] += crop[0, 0, :axes]
            return (found,)

        return embed

    return [Embedder(CHEAP, run("cheap", 2)), Embedder(DEAR, run("dear", 3))]


def crop(*pixel: int) -> np.ndarray:
    return np.array(pixel, np.uint8).reshape(1, 1, 3)


def test_cheap_networks_go_first_and_the_oracle_last() -> None:
    log: list[str] = []
    store, ways = made(), embedders(log)
    first = identify(store, ways, crop(200, 0, 0), learn=True)
    assert first == ("unknown-1", None, None, ("cheap", "dear"), True)
    again = identify(store, ways, crop(180, 0, 0), learn=True)
    assert (again.name, again.by, again.path) == ("unknown-1", "cheap", ("cheap",))
    named = identify(store, ways, crop(0, 200, 0), oracle=lambda _: "bob", learn=True)
    assert (named.name, named.by, named.path) == ("bob", "oracle", ("cheap", "dear"))
    log.clear()
    assert identify(store, ways, crop(0, 190, 0)).name == "bob"
    assert log == ["cheap"]
    assert store.names() == {"bob": 1, "unknown-1": 2}


def test_without_learning_a_store_is_only_read() -> None:
    store = made()
    answer = identify(store, embedders([]), crop(0, 0, 200))
    assert (answer.name, answer.by, answer.new) == (None, None, False)
    assert len(store) == 0
    assert answer.to_json()["distance"] is None


def people(count: int, seed: int, spread: float = 0.3) -> tuple[dict[str, np.ndarray], list[str]]:
    """Six photographs each of persons who lie at random in 32 dimensions."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count, 32))
    rows = np.repeat(centres, 6, axis=0)
    names = [f"p{n:03d}" for n in range(count) for _ in range(6)]
    cheap = rows + generator.normal(scale=3 * spread, size=rows.shape)
    dear = rows + generator.normal(scale=spread, size=rows.shape)
    return {"cheap": cheap, "dear": dear}, names


def test_thresholds_keep_false_matches_at_the_rate() -> None:
    embeddings, names = people(40, 0)
    chosen = tune_thresholds(embeddings, names, 0.05)
    found = rates(embeddings, names, chosen)
    assert found.false.value <= 0.05
    for name, rows in embeddings.items():
        share = float(np.mean(impostors(rows, names) <= chosen[name]))
        assert share == pytest.approx(0.025, abs=1 / len(names))  # and no lower than need be
    assert found.right.value > 0.95
    assert sum(found.stopped.values()) == pytest.approx(found.right.value + found.wrong.value)


def test_rates_are_those_of_taking_each_photograph_out_of_a_store() -> None:
    embeddings, names = people(6, 4, spread=0.5)
    names[-6:] = ["alone", *names[-5:]]  # who has one photograph is nowhere without it
    thresholds = {"cheap": 0.25, "dear": 0.2}
    found = rates(embeddings, names, thresholds)
    answers: list[str | None] = []
    by: list[str] = []
    for place in range(len(names)):
        apart: dict[str, str | None] = {}
        for network, rows in embeddings.items():
            units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            near = {}
            for name in set(names):
                own = [u for n, u in enumerate(units) if n != place and names[n] == name]
                if own:
                    mean = np.mean(own, axis=0)
                    near[name] = 1 - mean @ units[place] / np.linalg.norm(mean)
            best = min(near, key=lambda name: near[name])
            apart[network] = best if near[best] <= thresholds[network] else None
        by += [network for network in apart if apart[network] is not None][:1]
        answers.append(apart["cheap"] or apart["dear"])
    right = [answer == name for answer, name in zip(answers, names)]
    wrong = [answer not in (name, None) for answer, name in zip(answers, names)]
    assert 0 < sum(right) < len(names)
    assert found.right.value == pytest.approx(np.mean(right))
    assert found.wrong.value == pytest.approx(np.mean(wrong))
    assert found.stopped == {n: pytest.approx(by.count(n) / len(names)) for n in embeddings}


def test_a_promise_needs_many_persons_and_breaks_rarely() -> None:
    embeddings, names = people(200, 1)
    chosen = tune_thresholds(embeddings, names, 0.01)
    few, few_names = people(5, 2)
    said = promise(few, few_names, chosen, 0.01)
    assert not said.holds
    assert "persons are needed" in said.words()
    many, many_names = people(100, 3)
    said = promise(many, many_names, chosen, 0.1)
    assert said.holds
    assert said.words().startswith("With probability at least 95%, at most 10%")
    assert said.seen <= 0.1
    loose = dict.fromkeys(chosen, 0.9)
    assert not promise(many, many_names, loose, 0.1).holds


def test_the_fewest_persons_are_the_fewest() -> None:
    for rate, delta in ((0.05, 0.05), (0.01, 0.1)):
        fewest = fewest_persons(rate, delta)
        assert fewest >= np.log(1 / delta) / -np.log(1 - rate) - 1
        assert fewest <= 2 * np.log(1 / delta) / rate
