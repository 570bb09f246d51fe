"""Options of `adaptive serve` from the environment and from a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from adaptive.cli.serve import command as serve
from adaptive.cli.settings import configurable
from adaptive.errors import InputError

if sys.version_info < (3, 11):
    pytest.importorskip("tomli", reason="Python before 3.11 reads TOML by the package tomli")


@configurable
@click.command()
@click.argument("bundle", required=False)
@click.option("--port", type=click.IntRange(0, 65535), default=8080)
@click.option("--batch-window-ms", type=float, default=0.0)
@click.option("--log", "log_path", type=click.Path(path_type=Path))
@click.option("--models", type=click.Choice(("all", "policy")), default="all")
@click.option("--allow-fallback", is_flag=True)
def program(**values: Any) -> None:
    click.echo(repr(sorted(values.items())))


DEFAULT = {
    "bundle": None,
    "port": 8080,
    "batch_window_ms": 0.0,
    "log_path": None,
    "models": "all",
    "allow_fallback": False,
}


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(program, list(arguments), env=environment)


def seen(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output.strip()


def values(**changed: Any) -> str:
    return repr(sorted({**DEFAULT, **changed}.items()))


def test_every_option_may_come_from_the_environment() -> None:
    assert seen(run()) == values()
    assert seen(
        run(
            ADAPTIVE_BUNDLE="b",
            ADAPTIVE_PORT="0",
            ADAPTIVE_BATCH_WINDOW_MS="2.5",
            ADAPTIVE_LOG="x",
            ADAPTIVE_MODELS="policy",
            ADAPTIVE_ALLOW_FALLBACK="1",
        )
    ) == values(
        bundle="b",
        port=0,
        batch_window_ms=2.5,
        log_path=Path("x"),
        models="policy",
        allow_fallback=True,
    )


def test_the_command_line_comes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(
        'bundle = "b"\nport = 1\nbatch-window-ms = 2\nlog = "x"\nallow_fallback = true\n'
    )
    config = str(file)
    told = {"bundle": "b", "batch_window_ms": 2.0, "log_path": Path("x"), "allow_fallback": True}
    assert seen(run("--config", config)) == values(port=1, **told)
    assert seen(run(ADAPTIVE_CONFIG=config, ADAPTIVE_PORT="2")) == values(port=2, **told)
    assert seen(run("--port", "3", "--config", config, ADAPTIVE_PORT="2")) == values(port=3, **told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "sets 'prot', which is none of \\['allow-fallback', 'batch-window-ms'"),
        ("port = 70000", "port = 70000 cannot be; a whole number of 0 or more, 65535 at most"),
        ("port = true", "port = True cannot be"),
        ('models = "some"', "one of \\['all', 'policy'\\] is needed"),
        ('allow-fallback = "yes"', "true or false is needed"),
        ("port = [1]", "cannot be"),
        ("port =", "is not TOML"),
        ('config = "other.toml"', "sets 'config'"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "serve.toml").write_text(text)
    result = run("--config", str(tmp_path / "serve.toml"))
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=said):
        raise result.exception


def test_a_missing_file_is_said() -> None:
    assert "--config names a TOML file" in str(run("--config", "/nowhere/serve.toml").exception)


def test_without_a_reader_of_toml_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serve.toml").write_text("port = 1\n")
    for module in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, module, None)
    result = run("--config", str(tmp_path / "serve.toml"))
    assert "pip install tomli, or set options in the environment" in str(result.exception)


def test_serve_has_a_variable_for_every_option() -> None:
    variables = {str(parameter.envvar) for parameter in serve.params}
    assert {"ADAPTIVE_BUNDLE", "ADAPTIVE_MAX_BODY_MB", "ADAPTIVE_TLS_CERT"} <= variables
    assert all(name.startswith("ADAPTIVE_") for name in variables)
    assert len(variables) == len(serve.params)


def test_serve_reads_them(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(f'bundle = "{tmp_path}/nothing"\nport = 0\n')
    result = CliRunner().invoke(serve, ["--config", str(tmp_path / "serve.toml")])
    assert f"{tmp_path}/nothing is no folder" in str(result.exception)


@pytest.mark.slow
def test_the_package_runs_and_explains_itself() -> None:
    told = []
    for arguments in (["-h"], ["serve", "-h"]):
        line = [sys.executable, "-m", "adaptive", *arguments]
        told.append(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    assert told[0].startswith("Usage: adaptive ")
    assert "candidates" in told[0]
    assert "--config FILE.toml" in told[1]
