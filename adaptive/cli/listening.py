"""The options of every command that serves: at which address, to whom, and whether over TLS."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import click

from adaptive.errors import InputError

if TYPE_CHECKING:
    from adaptive.serving.keys import Keys
    from adaptive.serving.tls import CertificateFiles


@dataclass(frozen=True)
class Listening:
    """Where a command listens, and to whom.

    Attributes
    ----------
    host, port : the address; port 0 takes a free one
    keys : who may ask; everybody where there are none
    certificate : speaks TLS with it
    """

    host: str
    port: int
    keys: Keys | None
    certificate: CertificateFiles | None


def listening_options(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command --host, --port, --keys, --tls-cert and --tls-key, as one argument `listening`.

    Parameters
    ----------
    port : the default
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_listening(
            *arguments: Any,
            host: str,
            port: int,
            keys: Path | None,
            tls_cert: Path | None,
            tls_key: Path | None,
            **options: Any,
        ) -> Any:
            found = _listening(host, port, keys, tls_cert, tls_key)
            return command(*arguments, listening=found, **options)

        for option in _options(port):
            with_listening = option(with_listening)
        return with_listening

    return add


def _listening(
    host: str, port: int, keys: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> Listening:
    from adaptive.serving.keys import Keys
    from adaptive.serving.tls import CertificateFiles

    if tls_cert is None and tls_key is not None:
        raise InputError("--tls-key is of no use without --tls-cert")
    return Listening(
        host,
        port,
        None if keys is None else Keys(keys),
        None if tls_cert is None else CertificateFiles(tls_cert, tls_key),
    )


def _options(port: int) -> tuple[Callable[..., Any], ...]:
    """The last one first, as decorators are applied."""
    file = click.Path(path_type=Path)
    return (
        click.option(
            "--tls-key",
            type=file,
            metavar="FILE",
            help="Its private key (PEM), where that is not in the same file.",
        ),
        click.option(
            "--tls-cert",
            type=file,
            metavar="FILE",
            help="Speak TLS with this certificate chain (PEM).",
        ),
        click.option(
            "--keys",
            type=file,
            metavar="FILE",
            help="Ask for one of the bearer keys in FILE, one a line; it is read again when it "
            "changes.",
        ),
        click.option(
            "--port",
            default=port,
            show_default=True,
            type=click.IntRange(0, 65535),
            help="Port to listen at; 0 takes a free one, and the line printed says which.",
        ),
        click.option(
            "--host", default="127.0.0.1", show_default=True, help="Address to listen at."
        ),
    )
