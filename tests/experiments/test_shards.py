from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fleet import same_outcomes, text_of

from adaptive.errors import InputError
from adaptive.experiments import imagery
from adaptive.experiments.assembled import upload
from adaptive.experiments.coordinator import carry_out
from adaptive.experiments.declared import Experiment, declared
from adaptive.experiments.engine import ShardEngine, Unreachable
from adaptive.experiments.local import LocalEngine
from adaptive.experiments.merge import merge
from adaptive.experiments.plan import ExperimentPlan, make_plan
from adaptive.experiments.shard import Result, Shard
from adaptive.experiments.store import FolderStore, StoreError, open_store
from adaptive.experiments.work import Stopped, Work
from adaptive.outcomes.table import OutcomeTable

BOARD = "a board"


class Here(ShardEngine):
    """Runs a shard where it is submitted; loses some, and cannot tell what waits."""

    def __init__(self, work: Work, lose: int = 0) -> None:
        self.work = work
        self.lose = lose
        self.sent: list[str] = []

    def submit(self, key: str, shard: Shard) -> None:
        self.sent.append(key)
        if self.lose:
            self.lose -= 1
            if self.lose % 2:
                raise Unreachable("gone")
            return
        self.work.perform(key)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def plan(experiment: Experiment, tmp_path: Path) -> ExperimentPlan:
    return make_plan(experiment, tmp_path / "made", BOARD)


def merged(plan: ExperimentPlan, store: FolderStore, output: Path) -> OutcomeTable:
    table = plan.tables[0]
    bundle, measure = table.assembled.bundle, table.measure
    merge(store, table.keys, table.times_key, bundle, measure, table.imagery.labels, output)
    return OutcomeTable.read(output)


def test_shards_that_were_lost_are_sent_again_and_the_outcomes_are_those_of_one_process(
    plan: ExperimentPlan, store: FolderStore, tmp_path: Path, alone: OutcomeTable
) -> None:
    upload(plan.tables[0].assembled, store)
    engine = Here(Work(store, tmp_path / "cache", BOARD), lose=3)
    assert carry_out(plan.shards(), store, engine, again_s=0.0, poll_s=0.01) == {}
    assert len(engine.sent) >= len(plan.shards()) + 3
    engine.work.close()
    table = merged(plan, store, tmp_path / "outcomes.csv")
    same_outcomes(table, alone)
    assert table.meta["times"]["images"] == 4
    again = Here(engine.work)
    carry_out(plan.shards(), store, again)
    assert again.sent == []
    # The same shard is the same bytes, but for what is told of the machine.
    key = plan.tables[0].keys[0]
    first = Result.from_bytes(store.get(f"results/{key}"))
    store.remove(f"results/{key}")
    assert engine.work.perform(key) == "done"
    assert engine.work.perform(key) == "there"
    second = Result.from_bytes(store.get(f"results/{key}"))
    engine.work.close()
    assert replace(first, origin={}).to_bytes() == replace(second, origin={}).to_bytes()


def test_times_are_refused_on_another_board(
    plan: ExperimentPlan, store: FolderStore, tmp_path: Path
) -> None:
    upload(plan.tables[0].assembled, store)
    engine = Here(Work(store, tmp_path / "cache", "another board"))
    failed = carry_out(plan.shards(), store, engine)
    engine.work.close()
    assert list(failed) == [plan.tables[0].times_key]
    assert "measured on 'a board', and this is 'another board'" in next(iter(failed.values()))
    table = merged(plan, store, tmp_path / "outcomes.csv")
    assert table.meta["times"]["images"] == 0
    assert "board" not in table.meta


def test_a_worker_that_is_told_to_stop_leaves_no_attempt(
    plan: ExperimentPlan, store: FolderStore, tmp_path: Path
) -> None:
    upload(plan.tables[0].assembled, store)
    key = plan.tables[0].keys[0]
    store.put(f"shards/{key}", plan.shards()[key].to_bytes())
    work = Work(store, tmp_path / "cache", BOARD, stopping=lambda: True)
    with pytest.raises(Stopped):
        work.perform(key)
    work.close()
    assert store.names(f"attempts/{key}") == set()
    assert not store.exists(f"results/{key}")


def test_a_shard_that_is_not_there_or_another_one_fails(
    store: FolderStore, plan: ExperimentPlan
) -> None:
    work = Work(store, board=BOARD)
    assert work.perform("nothing") == "failed"
    key = plan.tables[0].keys[0]
    store.put("shards/other", plan.shards()[key].to_bytes())
    assert work.perform("other") == "failed"
    store.put("shards/damaged", b"{")
    assert work.perform("damaged") == "failed"
    assert store.names("failed") == {"nothing", "other", "damaged"}


def test_a_key_follows_what_is_read_and_not_where_it_lies(
    photos: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    def keys(photos: Path, candidates: Path, **changed: object) -> tuple[str, ...]:
        text = text_of(photos, candidates)
        for old, new in changed.items():
            text = text.replace(old.replace("_is", " ="), str(new))
        return make_plan(declared(text, tmp_path), tmp_path / "made", BOARD).tables[0].keys

    first = keys(photos, tiny_candidates)
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)  # with the files' dates
    assert keys(moved, tiny_candidates) == first
    (moved / "007.png").write_bytes((photos / "008.png").read_bytes())
    changed = keys(moved, tiny_candidates)
    assert [one == other for one, other in zip(first, changed)] == [True, False, True, True]
    other = tmp_path / "other"
    shutil.copytree(tiny_candidates, other)
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace('"crop"', '"stretch"'))
    assert not set(keys(photos, other)) & set(first)
    assert not set(keys(photos, tiny_candidates, paper7="all")) & set(first)


def test_results_that_are_damaged_are_refused() -> None:
    whole = Result({"a": np.arange(3)}, ("x",)).to_bytes()
    assert Result.from_bytes(whole).arrays["a"].tolist() == [0, 1, 2]
    for content in (b"", whole[:40], b"PK" + whole[2:60]):
        with pytest.raises(InputError, match="no result of a shard"):
            Result.from_bytes(content)


def test_a_folder_is_a_store(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path / 'store'}")
    assert store.names("results") == set()
    with pytest.raises(KeyError):
        store.get("results/a")
    store.put("results/a", b"1")
    store.put("results/a", b"2")
    assert store.get("results/a") == b"2"
    assert store.names("results") == {"a"}
    assert store.exists("results/a")
    store.remove("results/a")
    store.remove("results/a")
    assert not store.exists("results/a")


def test_an_address_that_fsspec_does_not_know_is_refused() -> None:
    pytest.importorskip("fsspec", reason="needs the extra fleet")
    with pytest.raises(InputError, match="cannot be reached"):
        open_store("nonsense://there")


def test_memory_is_a_store_too(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs the extra fleet")
    store = open_store(f"memory://{tmp_path.name}")
    assert store.names("results") == set()
    store.put("results/a", b"1")
    assert store.get("results/a") == b"1"
    assert store.names("results") == {"a"}
    with pytest.raises(KeyError):
        store.get("results/b")
    store.remove("results/a")
    store.remove("results/a")
    assert not store.exists("results/a")


def test_what_cannot_be_run_on_this_machine_ends_a_local_run_with_a_sentence(
    plan: ExperimentPlan, store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(plan.tables[0].assembled, store)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    own = tmp_path / f"adaptive-worker-{os.getuid()}"

    def ran() -> None:
        engine = LocalEngine(store, 1, BOARD)
        try:
            carry_out(plan.shards(), store, engine, poll_s=0.01)
        finally:
            engine.close()

    own.mkdir()
    (own / "candidates").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="shards cannot be run here"):
        ran()
    own.rename(tmp_path / "moved")
    own.symlink_to(tmp_path / "moved")
    with pytest.raises(InputError, match="is not this user's alone"):
        ran()


class Bucket:
    """What fsspec says of a place that fails a few times, and has one file that nobody may read."""

    def __init__(self, fails: int) -> None:
        self.fails = fails

    def cat(self, paths: list[str], on_error: str) -> dict[str, object]:
        assert on_error == "return"
        self.fails -= 1
        busy = OSError("503 Slow Down")
        answers = {
            "b/there": b"1",
            "b/gone": FileNotFoundError(),
            "b/locked": PermissionError("403"),
        }
        return {path: busy if self.fails >= 0 else answers[path] for path in paths}


def test_images_elsewhere_are_waited_for_and_one_that_nobody_may_read_fails_its_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adaptive.experiments.store.time.sleep", lambda _: None)

    def there(names: list[str], fails: int) -> list[str]:
        bucket = Bucket(fails)
        monkeypatch.setattr(imagery, "file_system", lambda root: (bucket, "b"))
        with imagery.fetched("s3://b", names) as folder:
            return sorted(path.name for path in folder.iterdir())

    assert there(["there", "gone"], fails=2) == ["there"]
    with pytest.raises(InputError, match="s3://b/locked cannot be fetched: 403"):
        there(["there", "locked"], fails=0)
    monkeypatch.setattr("adaptive.experiments.store.PATIENCE_S", 0.0)
    with pytest.raises(StoreError, match="the place of images s3://b does not answer: 503"):
        there(["there"], fails=9)
