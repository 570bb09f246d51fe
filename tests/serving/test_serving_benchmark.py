"""The benchmark of the server runs and counts; its numbers are for quiet machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_benchmark_writes_machine_versions_settings_and_results(tmp_path):
    output = tmp_path / "out.json"
    command = [sys.executable, str(BENCHMARKS / "serving.py"), "adaptive", "bentoml"]
    tiny = ["--rounds", "1", "--seconds", "0.2", "--repeats", "1", "--json", str(output)]
    # An interpreter that is not there, so that one peer is missing for sure.
    without = ["--python", f"bentoml={tmp_path / 'no-python'}"]
    measures = ["--measure", "speed", "drops"]
    run = subprocess.run(
        [*command, *tiny, *without, *measures], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(output.read_text())
    assert found["machine"]["cores"] >= 1
    assert found["settings"]["rounds"] == 1
    assert set(found["versions"]) == {"adaptive"}
    assert found["measures"]["bentoml"] == "not installed"
    ours = found["measures"]["adaptive"]
    assert ours["speed"]["requests_per_s"] > 0
    assert ours["speed"]["failed"] == 0
    ratio = found["results"]["adaptive: requests, of the limit"]
    assert (ratio["better"], len(ratio["samples"])) == ("higher", 1)
    assert ratio["samples"][0] > 0
    assert ours["speed"]["p99_ms_4"] >= ours["speed"]["p50_ms_4"] > 0
    assert ours["drops"]["asked"] > 0
    assert (ours["drops"]["dropped"], ours["drops"]["exit"], ours["drops"]["left"]) == (0, 0, 0)
