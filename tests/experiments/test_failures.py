"""What breaks while an experiment runs, for real; then the outcomes are those of one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import pytest
from fleet import (
    BUCKET,
    HANG_S,
    KEYS,
    Flaky,
    Redis,
    Worker,
    find_s3,
    s3_server,
    same_outcomes,
    text_of,
    until,
    workers,
)

from adaptive.errors import AdaptiveError, InputError
from adaptive.experiments.assembled import upload
from adaptive.experiments.coordinator import carry_out
from adaptive.experiments.declared import Experiment, declared
from adaptive.experiments.engine import ShardEngine
from adaptive.experiments.local import LocalEngine
from adaptive.experiments.plan import ExperimentPlan, make_plan
from adaptive.experiments.run import run_plan
from adaptive.experiments.store import FolderStore, Store, StoreError, open_store
from adaptive.experiments.work import board_model
from adaptive.outcomes.table import OutcomeTable

pytestmark = pytest.mark.slow

HEARTBEAT_S = 3.0


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    with workers() as begin:
        yield begin


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def plan(experiment: Experiment, tmp_path: Path) -> ExperimentPlan:
    return make_plan(experiment, tmp_path / "made", board_model())


class Running:
    """A coordinator in a thread."""

    def __init__(
        self, plan: ExperimentPlan, store: Store, engine: ShardEngine, output: Path
    ) -> None:
        self.found: list[Any] = []

        def run() -> None:
            try:
                self.found.append(run_plan(plan, store, engine, output))
            except AdaptiveError as error:
                self.found.append(error)
            finally:
                engine.close()

        self.output = output
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def table(self) -> OutcomeTable:
        """The table that it made, once it is there."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        (found,) = self.found
        assert not isinstance(found, BaseException), found
        return OutcomeTable.read(self.output / "outcomes.csv")


def queue_engine(redis: Redis) -> ShardEngine:
    from adaptive.experiments.queue import QueueEngine

    return QueueEngine(redis.url, HEARTBEAT_S)


def begun(store: Store) -> bool:
    """Whether a worker is in the middle of a shard."""
    return any(store.names(f"attempts/{key}") for key in store.names("attempts"))


def options(redis: Redis, store: Store) -> list[object]:
    return ["--queue", redis.url, "--store", store.url, "--heartbeat", HEARTBEAT_S]


def test_a_worker_that_is_killed_in_mid_shard(
    plan: ExperimentPlan, store: FolderStore, redis: Redis, start: Any, tmp_path: Path, alone: Any
) -> None:
    doomed = start(*options(redis, store)).ready()
    running = Running(plan, store, queue_engine(redis), tmp_path / "out")
    until(lambda: begun(store), "a shard")
    doomed.kill()
    (key,) = [key for key in store.names("attempts") if store.names(f"attempts/{key}")]
    assert not store.exists(f"results/{key}")
    start(*options(redis, store))
    same_outcomes(running.table(), alone)
    assert store.exists(f"results/{key}")


def test_a_worker_that_is_told_to_stop_finishes_its_shard(
    plan: ExperimentPlan, store: FolderStore, redis: Redis, start: Any, tmp_path: Path, alone: Any
) -> None:
    first = start(*options(redis, store)).ready()
    running = Running(plan, store, queue_engine(redis), tmp_path / "out")
    until(lambda: begun(store), "a shard")
    (key,) = [key for key in store.names("attempts") if store.names(f"attempts/{key}")]
    assert first.stop() == 0
    assert store.exists(f"results/{key}")
    assert not begun(store)
    start(*options(redis, store))
    same_outcomes(running.table(), alone)


def test_a_worker_without_grace_puts_its_shard_back(
    plan: ExperimentPlan, store: FolderStore, redis: Redis, start: Any, tmp_path: Path, alone: Any
) -> None:
    first = start(*options(redis, store), "--grace", "0").ready()
    running = Running(plan, store, queue_engine(redis), tmp_path / "out")
    until(lambda: begun(store), "a shard")
    assert first.stop() == 0
    assert any("is put back" in line for line in first.lines), first.lines
    assert not begun(store)
    start(*options(redis, store))
    same_outcomes(running.table(), alone)


def test_a_redis_that_is_killed_and_starts_empty(
    plan: ExperimentPlan, store: FolderStore, redis: Redis, start: Any, tmp_path: Path, alone: Any
) -> None:
    start(*options(redis, store)).ready()
    running = Running(plan, store, queue_engine(redis), tmp_path / "out")
    until(lambda: begun(store), "a shard")
    redis.kill()
    time.sleep(1)
    redis.start()
    same_outcomes(running.table(), alone)


def test_two_coordinators_and_two_workers(
    plan: ExperimentPlan, store: FolderStore, redis: Redis, start: Any, tmp_path: Path, alone: Any
) -> None:
    for _ in range(2):
        start(*options(redis, store))
    both = [
        Running(plan, store, queue_engine(redis), tmp_path / f"out{number}") for number in (1, 2)
    ]
    for running in both:
        same_outcomes(running.table(), alone)


def test_a_store_that_answers_503_for_a_while(
    plan: ExperimentPlan,
    redis: Redis,
    start: Any,
    tmp_path: Path,
    alone: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if find_s3() is None:
        pytest.skip(
            "there is no S3 server: name SeaweedFS's weed in ADAPTIVE_WEED, or moto_server in "
            "ADAPTIVE_MOTO"
        )
    pytest.importorskip("s3fs", reason="needs the extra fleet")
    folder = tmp_path / "s3"
    folder.mkdir()
    with s3_server(folder) as address:
        flaky = Flaky(address)
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": flaky.url}.items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{BUCKET}/tried")
        start(*options(redis, store)).ready()
        running = Running(plan, store, queue_engine(redis), tmp_path / "out")
        until(lambda: store.names("attempts"), "a shard")
        flaky.down = True
        until(lambda: flaky.refused > 8, "refusals")
        flaky.down = False
        same_outcomes(running.table(), alone)
        flaky.close()


def test_a_redis_that_wants_a_password_is_bad_input_and_none_is_told(
    redis: Redis, store: FolderStore
) -> None:
    import redis as client

    from adaptive.experiments.queue import QueueEngine, work_queue

    client.Redis.from_url(redis.url).config_set("requirepass", "of-the-tests")

    def url(password: str) -> str:
        return redis.url.replace("://", f"://:{password}@")

    for wrong in (redis.url, url("another")):
        engine = QueueEngine(wrong)
        with pytest.raises(InputError, match=r"refuses: .*; a password stands in the address"):
            engine.waiting()
        engine.close()
        with pytest.raises(InputError, match="refuses") as caught:
            work_queue(wrong, store)
        assert "another" not in str(caught.value)
    engine = QueueEngine(url("of-the-tests"))
    assert engine.waiting() == set()
    engine.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_says_so(
    number: int, photos: Path, tiny_candidates: Path, tmp_path: Path, redis: Redis
) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(text_of(photos, tiny_candidates))
    store = ["--store", str(tmp_path / "store")]
    line = [sys.executable, "-m", "adaptive.cli", "experiment"]
    # Nobody works on that queue, so that it is told to stop in the middle.
    process = subprocess.Popen(
        [*line, "run", str(file), "--queue", redis.url, *store], stderr=subprocess.PIPE, text=True
    )
    engine = queue_engine(redis)
    try:
        until(engine.waiting, "a shard in the queue")
        process.send_signal(number)
        told = process.communicate(timeout=HANG_S)[1]
    finally:
        process.kill()
        process.communicate()
        engine.close()
    assert process.returncode == 130, told
    assert "stopped; the same command goes on from there" in told
    assert "Traceback" not in told
    status = subprocess.run([*line, "status", str(file), *store], capture_output=True, text=True)
    assert "tried: stopped: it was told to; 0 of 5 shards done, 0 begun, 0 failed" in status.stdout


def test_an_unreadable_candidate_and_image_are_told_of_and_the_rest_goes_on(
    photos: Path, tiny_candidates: Path, tmp_path: Path, store: FolderStore, alone: OutcomeTable
) -> None:
    from adaptive.files import read_json, sha256, write_json

    folder = tmp_path / "candidates"
    shutil.copytree(tiny_candidates, folder)
    whole = (folder / "cheap.onnx").read_bytes()
    # Its manifest entry fits, its header can be read, and no runtime takes it.
    (folder / "cheap.onnx").write_bytes(
        whole.replace(b"MatMul", b"MatMal").replace(b"Gemm", b"Gemn")
    )
    manifest = read_json(folder / "manifest.json", "manifest")
    manifest["candidates"][0]["sha256"] = sha256(folder / "cheap.onnx")
    write_json(folder / "manifest.json", manifest)
    told = declared(text_of(photos, folder), tmp_path)
    plan = make_plan(told, tmp_path / "made", board_model())
    engine = LocalEngine(store, 1, board_model())
    ran = run_plan(plan, store, engine, tmp_path / "out")
    engine.close()
    assert sum(line.startswith("candidate cheap: ") for line in ran.omitted) == 1
    assert sum(line.startswith("021.png: ") for line in ran.omitted) == 1
    assert len(ran.omitted) == 2
    table = OutcomeTable.read(tmp_path / "out" / "outcomes.csv")
    assert table.candidates == ("strong", "net@1", "net@2")
    assert (table.quality("strong") == alone.quality("strong")).all()


def test_a_shard_that_kills_its_workers_is_given_up_after_three(
    plan: ExperimentPlan, store: FolderStore, redis: Redis, start: Any, tmp_path: Path
) -> None:
    key = plan.tables[0].keys[1]
    for number in range(3):
        store.put(f"attempts/{key}/{number}", b"")
    start(*options(redis, store))
    upload(plan.tables[0].assembled, store)
    failed: Mapping[str, str] = carry_out(plan.shards(), store, queue_engine(redis))
    assert list(failed) == [key]
    assert "3 workers began on it and vanished" in failed[key]
    assert len(store.names("results")) == len(plan.shards()) - 1


def test_a_disk_that_fills_stops_the_run_and_what_is_done_stays(
    plan: ExperimentPlan, tmp_path: Path, alone: OutcomeTable
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        store = FolderStore(disk / "store")
        filler = disk / "filler"

        class Filling(LocalEngine):
            """Fills the disk before the first shard runs."""

            def submit(self, key: str, shard: Any) -> None:
                if not filler.exists():
                    with open(filler, "wb", buffering=0) as file:
                        try:
                            while True:
                                file.write(b"0" * 4096)
                        except OSError:
                            pass
                super().submit(key, shard)

        engine = Filling(store, 1, board_model())
        with pytest.raises(StoreError, match="No space left on device"):
            run_plan(plan, store, engine, tmp_path / "out")
        engine.close()
        assert not [p for p in store.root.rglob(".*") if p.is_file()]
        filler.unlink()
        filler.touch()
        line = ["mount", "-o", "remount,size=20m", str(disk)]
        subprocess.run(line, check=True)
        again = LocalEngine(store, 2, board_model())
        run_plan(plan, store, again, tmp_path / "out")
        again.close()
        same_outcomes(OutcomeTable.read(tmp_path / "out" / "outcomes.csv"), alone)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_command_line_runs_resumes_and_reports(
    photos: Path, tiny_candidates: Path, tmp_path: Path, alone: OutcomeTable
) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(text_of(photos, tiny_candidates))

    def adaptive(*words: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "adaptive.cli", "experiment", *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True)

    first = adaptive("run", file)
    assert first.returncode == 1, first.stderr  # one image cannot be read
    assert "left out: 021.png" in first.stderr
    assert "5 shards, 0 of them done before" in first.stdout
    output = tmp_path / "tried.experiment"
    same_outcomes(OutcomeTable.read(output / "outcomes.csv"), alone)
    shutil.rmtree(output / "policies")
    again = adaptive("run", file)
    assert "5 shards, 5 of them done before" in again.stdout
    reported = adaptive("report", file)
    assert "fixed-strong" in reported.stdout
    status = adaptive("status", "--store", output / "store")
    assert "tried: done; 5 of 5 shards done" in status.stdout
    file.write_text(text_of(photos, tiny_candidates, more="[report]\nfolds = 1\n[rum]\n"))
    wrong = adaptive("check", file)
    assert wrong.returncode == 2
    assert "folds is 1" in wrong.stderr
    assert "'rum' is not known here" in wrong.stderr
