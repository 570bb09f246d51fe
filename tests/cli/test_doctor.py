"""`adaptive doctor` says what works here and how to mend what does not."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from adaptive.cli import doctor
from adaptive.engines import providers
from adaptive.errors import MissingExtra
from adaptive.installed import pip_line


def test_a_working_installation_answers_an_image() -> None:
    done = CliRunner().invoke(doctor.command, ["--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.output)
    assert content["ok"] is True
    states = {finding["name"]: finding["state"] for finding in content["findings"]}
    assert [states[name] for name in ("packages", "opencv", "engine onnx", "answer")] == ["ok"] * 4
    assert {"extra premodel", "extra train", "cameras", "board", "power"} <= set(states)


def test_what_is_missing_comes_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise MissingExtra("running a network", "onnxruntime", "cpu")

    monkeypatch.setattr(providers, "listed_providers", absent)
    monkeypatch.setattr(doctor, "LOOKS", (doctor._python, doctor._engines))
    done = CliRunner().invoke(doctor.command, [])
    assert done.exit_code == 1
    assert "wrong   engine onnx  ONNX Runtime is not installed" in done.output
    assert f"-> {pip_line('cpu')}" in done.output
    assert done.output.endswith("images cannot be answered here\n")
