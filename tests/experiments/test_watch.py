"""`adaptive experiment run --watch`: what is looked at, and that changes are run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fleet import HANG_S, text_of, until

from adaptive.cli import experiment as cli
from adaptive.experiments.watched import stamps_of

if sys.version_info < (3, 11):
    pytest.importorskip("tomli", reason="Python before 3.11 reads TOML by the package tomli")


@pytest.fixture
def file(photos: Path, tiny_candidates: Path, tmp_path: Path) -> Path:
    """An experiment beside copies of its images and candidates."""
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copytree(tiny_candidates, tmp_path / "candidates")
    file = tmp_path / "tried.toml"
    file.write_text(text_of(tmp_path / "photos", tmp_path / "candidates", more="[run]\njobs = 1"))
    return file


def test_all_that_is_named_counts_and_nothing_that_a_run_writes(file: Path) -> None:
    here = file.parent
    text = file.read_text().replace(f'"{here / "photos"}"', f'"{here}"')
    policy = '\n[[policy]]\nfile = "kept/policy.json"\n'
    (here / "kept").mkdir()
    (here / "kept" / "policy.json").write_text("{}")
    file.write_text(text + 'store = "mine"\n' + policy)
    seen = [stamps_of(file, [here / "given"])]

    def look() -> bool:
        """Whether something changed since the last look."""
        seen.append(stamps_of(file, [here / "given"]))
        return seen[-1] != seen[-2]

    assert not look()
    for own in ("tried.experiment/outcomes.csv", "mine/results/key", "given/results/key"):
        path = here / own
        path.parent.mkdir(parents=True)
        path.write_text("written by the run")
        # The folder that holds it got another date, which is that of the images here.
        os.utime(here, ns=(0, 0))
        seen.append(stamps_of(file, [here / "given"]))
        path.write_text("written again")
        assert not look(), own
    for named in ("photos/000.png", "photos/labels.csv", "candidates/strong.onnx",
                  "kept/policy.json", "tried.toml"):  # fmt: skip
        path = here / named
        path.write_bytes(path.read_bytes() + b"\n")
        assert look(), named
    (here / "photos" / "deep").mkdir()
    (here / "photos" / "deep" / "new.png").touch()
    assert look()
    (here / "photos" / "deep" / "new.png").unlink()
    assert look()


def test_what_changes_during_a_run_is_run_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    def run(experiment: Any, *_: object) -> None:
        runs.append(experiment.text)
        if len(runs) == 1:
            file.write_text(file.read_text() + "# changed\n")
        else:
            raise KeyboardInterrupt

    def sleep(seconds: float) -> None:
        assert seconds == 0, "nobody saw that the file changed"

    monkeypatch.setattr(cli, "_run", run)
    monkeypatch.setattr(time, "sleep", sleep)
    result = CliRunner().invoke(cli.command, ["run", str(file), "--watch"])
    assert len(runs) == 2, result.exception
    assert runs[1].endswith("# changed\n")


@pytest.mark.slow
def test_a_real_one_runs_what_changed_alone_outlives_a_wrong_file_and_ends(file: Path) -> None:
    line = [sys.executable, "-m", "adaptive.cli", "experiment", "run", str(file), "--watch"]
    told = file.parent / "told"
    with open(told, "w") as log:
        process = subprocess.Popen(
            line,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:

        def again(count: int) -> str:
            """What was said, once it was waited for a change so often."""
            until(
                lambda: told.read_text().count("watching ") == count or process.poll() is not None,
                f"run {count}",
                HANG_S,
            )
            assert process.poll() is None, told.read_text()
            return told.read_text()

        assert "5 shards, 0 of them done before" in again(1)
        image = file.parent / "photos" / "001.png"
        image.write_bytes((file.parent / "photos" / "004.png").read_bytes())
        # Another image in one shard, and in that with times: four are measured, 001 is not one.
        assert "5 shards, 4 of them done before" in again(2)
        right = file.read_text()
        file.write_text(right.replace('fixed = "strong"', 'fixd = "strong"'))
        assert "'fixd' is not known in [policy]" in again(3)
        file.write_text(right)
        assert "5 shards, 5 of them done before" in again(4)
        process.send_signal(signal.SIGINT)
        process.wait(HANG_S)
        assert "Traceback" not in told.read_text()
    finally:
        process.kill()
        process.wait()
