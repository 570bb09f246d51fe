"""`adaptive wheelhouse`: the same command as `python -m adaptive.jetson.wheelhouse`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from adaptive.cli import group
from adaptive.errors import InputError
from adaptive.jetson.wheelhouse import TARGETS
from adaptive.jetson.wheelhouse import command as whole


def test_it_says_what_the_whole_command_says() -> None:
    said = CliRunner().invoke(group, ["wheelhouse", "--help"], prog_name="adaptive")
    own = CliRunner().invoke(whole, ["--help"], prog_name="adaptive wheelhouse")
    assert said.exit_code == own.exit_code == 0
    assert said.output == own.output
    assert all(target in said.output for target in TARGETS)


def test_wrong_arguments_are_refused_as_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["wheelhouse", "jetpack3", "-o", str(tmp_path / "w")])
    assert result.exit_code == 2
    assert "jetpack3" in result.output
    result = CliRunner().invoke(group, ["wheelhouse", "jetpack4"])
    assert result.exit_code == 2
    assert "--output" in result.output


def test_what_it_refuses_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        group, ["wheelhouse", "jetpack4", "-o", str(tmp_path / "w"), "--project", str(tmp_path)]
    )
    assert isinstance(result.exception, InputError)
    assert "neither a wheel of adaptive-serving nor the folder of its source" in str(
        result.exception
    )
    assert not (tmp_path / "w").exists()


def test_the_list_of_commands_needs_no_pip() -> None:
    code = (
        "import sys; from adaptive.cli import group; group.main(['--help'], standalone_mode=False);"
        "sys.exit('pip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"wheelhouse" in done.stdout
    assert done.returncode == 0, done.stderr
