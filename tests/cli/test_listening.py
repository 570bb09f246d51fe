"""Both commands that serve have one way to say where, to whom, and whether over TLS."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adaptive.cli.experiment import serve as serve_experiments
from adaptive.cli.serve import command as serve
from adaptive.errors import AdaptiveError

BOTH = pytest.mark.parametrize(
    ("command", "port"), [(serve, 8080), (serve_experiments, 8090)], ids=["images", "experiments"]
)
NEEDED = {serve: (), serve_experiments: ("--store", "store")}


@BOTH
def test_the_options_are_the_same(command: click.Command, port: int) -> None:
    found = {option.name: option for option in command.params}
    told = {
        name: (found[name].opts, found[name].envvar)
        for name in ("host", "port", "keys", "tls_cert", "tls_key")
    }
    assert told == {
        "host": (["--host"], "ADAPTIVE_HOST"),
        "port": (["--port"], "ADAPTIVE_PORT"),
        "keys": (["--keys"], "ADAPTIVE_KEYS"),
        "tls_cert": (["--tls-cert"], "ADAPTIVE_TLS_CERT"),
        "tls_key": (["--tls-key"], "ADAPTIVE_TLS_KEY"),
    }
    assert found["port"].default == port


@BOTH
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-key", "key.pem"], "--tls-key is of no use without --tls-cert"),
        (["--tls-cert", "nothing.pem"], "nothing.pem"),
        (["--keys", "nothing"], "nothing"),
        (["--host", "no.such.address.invalid", "--port", "0"], "no.such.address.invalid"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    command: click.Command,
    port: int,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, [*NEEDED[command], *words])
    assert isinstance(result.exception, AdaptiveError), result.output
    assert said in str(result.exception)
    assert not list(tmp_path.iterdir())
