"""The worked example of docs/conditions.md, run as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "conditions"


@pytest.mark.slow
@pytest.mark.train
def test_a_folder_of_camera_images_becomes_conditions_and_a_policy(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    pytest.importorskip("onnx", reason="the example makes its networks with onnx")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in (("adaptive", " -m adaptive.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    told = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TZ": "UTC"}
    told["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), told.get("PYTHONPATH")]))
    work = tmp_path / "work"
    done = subprocess.run(
        ["sh", str(EXAMPLE / "run.sh"), str(work)], capture_output=True, text=True, env=told
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    out = done.stdout
    assert "2 conditions were found, without labels" in out
    assert "The premodel is used: networks change places with what it sees" in out
    conditions = json.loads((work / "certificate.json").read_text())["conditions"]
    (night,) = [n for n, looks in enumerate(conditions["looks"]) if "dark" in looks]
    calibration = conditions["counts"][night] / sum(conditions["counts"])
    assert 0.25 < calibration < 0.5  # two in five were made at night
    # Of the evening four in five were, and no label was needed to see it.
    said = [line for line in out.splitlines() if "; calibration had " in line]
    assert len(said) == 2  # by the router, and from its log
    for sentence in said:
        found = re.search(r'since .* UTC, (\d+)% of (\d+) images are "(.*)"; cal', sentence)
        assert found is not None, sentence
        assert 65 <= int(found[1]) <= 100
        assert found[3] == conditions["looks"][night]
    trained = json.loads((work / "premodel" / "premodel.json").read_text())["training"]
    assert [len(pictures) for pictures in trained["examples"]] == [2, 2]
    report = (work / "report.html").read_text(encoding="utf-8")
    assert "its share of the calibration images" in report
    assert report.count("data:image/jpeg") >= 8
    log = (work / "decisions.jsonl").read_text().splitlines()
    paths = [json.loads(line)["path"] for line in log]
    assert sum("night" in path for path in paths) > 30


def test_docs_show_the_commands_that_the_example_runs() -> None:
    shown = " ".join((ROOT / "docs" / "conditions.md").read_text().replace("\\\n", " ").split())
    commands = (EXAMPLE / "run.sh").read_text().replace("\\\n", " ").splitlines()
    own = [" ".join(line.split()) for line in commands if line.startswith("adaptive ")]
    assert len(own) == 7
    for command in own:
        assert command in shown
