from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fleet import same_outcomes, text_of

from adaptive.bundle.bundle import Bundle
from adaptive.errors import InputError
from adaptive.experiments import imagery
from adaptive.experiments.assembled import download, upload
from adaptive.experiments.coordinator import carry_out, why_failed
from adaptive.experiments.declared import Experiment, declared
from adaptive.experiments.engine import ShardEngine, Unreachable
from adaptive.experiments.imagery import ImagesAway
from adaptive.experiments.local import LocalEngine
from adaptive.experiments.merge import merge
from adaptive.experiments.plan import ExperimentPlan, make_plan
from adaptive.experiments.shard import Result, Shard
from adaptive.experiments.store import FolderStore, StoreError, answered, open_store
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


def test_results_of_several_versions_are_noted(
    plan: ExperimentPlan, store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = plan.tables[0]
    upload(table.assembled, store)
    work = Work(store, tmp_path / "cache", BOARD)
    for key, version in zip(table.keys[:2], ("0.1.0", "0.2.0")):
        monkeypatch.setattr("adaptive.experiments.work.package_version", lambda v=version: v)
        store.put(f"shards/{key}", plan.shards()[key].to_bytes())
        assert work.perform(key) == "done"
    work.close()
    arguments = (table.assembled.bundle, table.measure, table.imagery.labels, tmp_path / "o.csv")
    for keys, noted in ((table.keys[:1], 0), (table.keys[:2], 1)):
        notes = merge(store, keys, None, *arguments).notes
        assert len([n for n in notes if "versions 0.1.0, 0.2.0 of" in n]) == noted


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
    with pytest.raises(ImagesAway, match="the place of images s3://b does not answer: 503"):
        there(["there"], fails=9)


def test_images_that_stay_away_are_tried_three_times_and_then_told_of(
    plan: ExperimentPlan, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(root: str, names: object) -> object:
        raise ImagesAway(f"the place of images {root} does not answer: 503")

    key = plan.tables[0].keys[0]
    store.put(f"shards/{key}", plan.shards()[key].to_bytes())
    upload(plan.tables[0].assembled, store)
    work = Work(store, store.root / "cache", BOARD)
    with monkeypatch.context() as patched:
        patched.setattr("adaptive.experiments.work.fetched", away)
        for _ in range(3):
            with pytest.raises(ImagesAway):
                work.perform(key)
        assert work.perform(key) == "failed"
    assert "3 tries failed: the place of images" in why_failed(key, store)
    # A new run forgives it, and the images are back.
    assert carry_out({key: plan.shards()[key]}, store, Here(work)) == {}
    work.close()


def test_keys_that_this_machine_lacks_do_not_come_by_waiting() -> None:
    class NoCredentialsError(Exception):
        """As S3's client calls it."""

    def ask() -> None:
        raise NoCredentialsError("Unable to locate credentials")

    with pytest.raises(StoreError, match="Unable to locate credentials"):
        answered(ask, "the store", patience_s=1e9)


def test_a_reference_is_taken_and_an_unknown_one_refused(
    photos: Path, tiny_candidates: Path, tmp_path: Path, store: FolderStore
) -> None:
    def planned(name: str) -> ExperimentPlan:
        text = text_of(photos, tiny_candidates)
        text = text.replace("[candidates]\n", f"[candidates]\nreference = '{name}'\n")
        return make_plan(declared(text, tmp_path), tmp_path / "made", BOARD)

    names = Bundle.read(tiny_candidates).names
    plans = {name: planned(name) for name in names}
    assert len({p.tables[0].assembled.key for p in plans.values()}) == len(names)
    for name, plan in plans.items():
        assembled = plan.tables[0].assembled
        assert assembled.bundle.reference == name
        upload(assembled, store)
        assert download(assembled.key, store, tmp_path / "cache").reference == name
    with pytest.raises(InputError, match="'nobody' is none of the candidates"):
        planned("nobody")


def test_a_policy_of_an_unknown_candidate_is_refused_before_anything_runs(
    photos: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    text = text_of(photos, tiny_candidates, more="[[policy]]\nfixed = 'nobody'\n")
    with pytest.raises(InputError, match="policy fixed-nobody: 'nobody' is none of the candidates"):
        make_plan(declared(text, tmp_path), tmp_path / "made", BOARD)


def test_labels_of_images_that_are_not_there_are_told_of(
    photos: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    def planned(lines: str) -> ExperimentPlan:
        table = tmp_path / "labels.csv"
        table.write_text(f"image,label\n{lines}")
        text = text_of(photos, tiny_candidates).replace(str(photos / "labels.csv"), str(table))
        return make_plan(declared(text, tmp_path), tmp_path / "made", BOARD)

    plan = planned("000.png,0\ngone.png,0\n001.png,1\n")
    assert plan.tables[0].imagery.names == ("000.png", "001.png")
    assert plan.omitted == (f"1 of 3 labelled images are not in {photos}: gone.png",)
    with pytest.raises(InputError, match="names images that are not in"):
        planned("a.png,0\nb.png,0\n")


def test_a_long_plan_names_its_first_shards(plan: ExperimentPlan) -> None:
    table = plan.tables[0]
    shards = tuple(replace(table.shards[0], root=str(n), images=(str(n),)) for n in range(500))
    long = replace(table, shards=shards, keys=tuple(s.key for s in shards), times=None)
    lines = replace(plan, tables=(long,)).lines({long.keys[0], long.keys[499]})
    assert len(lines) == 2 + 100 + 1 + len(plan.policies)
    assert lines[2].endswith("done")
    assert lines[102] == "    and 400 more, 1 of them done"
