"""A command's options from the environment and from a TOML file as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping, TypeVar

import click

from adaptive.errors import InputError
from adaptive.tomlfile import parse_toml

PREFIX = "ADAPTIVE_"

Command = TypeVar("Command", bound=click.Command)


def configurable(command: Command) -> Command:
    """Let every option be set by ADAPTIVE_NAME and in the file that --config names.

    The command line comes first, then the environment, the file, and the default.
    """
    for parameter in command.params:
        parameter.envvar = PREFIX + setting_of(parameter).upper().replace("-", "_")
    command.params.append(
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            is_eager=True,
            expose_value=False,
            envvar=f"{PREFIX}CONFIG",
            callback=_reader(command),
            help="Options by their names, in TOML, such as port = 8080; paths are as on the "
            f"command line. Each may be set in the environment too, such as {PREFIX}PORT.",
        )
    )
    return command


def setting_of(parameter: click.Parameter) -> str:
    """What an option or argument is called in a file: as on the command line, without dashes."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len).lstrip("-")
    return str(parameter.name)


def _reader(command: click.Command) -> Callable[[click.Context, click.Parameter, Any], None]:
    def read(context: click.Context, _: click.Parameter, path: Path | None) -> None:
        if path is None:
            return
        known = {setting_of(p): p for p in command.params if setting_of(p) != "config"}
        values: dict[str, Any] = {}
        for name, value in read_toml(path).items():
            parameter = known.get(name.replace("_", "-"))
            if parameter is None:
                raise InputError(f"{path} sets {name!r}, which is none of {sorted(known)}")
            if not _fits(parameter, value):
                raise InputError(f"{path}: {name} = {value!r} cannot be; {_wanted(parameter)}")
            values[str(parameter.name)] = value
        context.default_map = {**(context.default_map or {}), **values}

    return read


def _fits(parameter: click.Parameter, value: object) -> bool:
    """Whether the command line could have meant a value."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return isinstance(value, bool)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return False
    try:
        parameter.type(str(value), parameter, None)
    except click.ClickException:
        return False
    return True


def _wanted(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "true or false is needed"
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return f"one of {list(kind.choices)} is needed"
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        whole = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        least = "" if kind.min is None else f" of {kind.min} or more"
        most = "" if kind.max is None else f", {kind.max} at most"
        return f"{whole}{least}{most} is needed"
    return "a text is needed"


def read_toml(path: Path) -> Mapping[str, Any]:
    """A TOML file's table.

    Raises
    ------
    InputError
        when it is no TOML, or this Python has nothing that reads it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is not there; --config names a TOML file") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not TOML: {exc}") from exc
    return parse_toml(text, str(path), f", or set options in the environment, such as {PREFIX}PORT")
