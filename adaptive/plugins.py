"""What other installed packages add under a name: policies, engines, premodels.

A package that says in its pyproject.toml

    [project.entry-points."adaptive.policies"]
    coin = "my_package:Coin"

makes the policy `coin` known to every command. Nothing is looked up, and nothing of another
package is imported, before a name is met that this library does not know.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from adaptive.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

POLICIES, ENGINES, PREMODELS = "adaptive.policies", "adaptive.engines", "adaptive.premodels"

Found = TypeVar("Found")


def add(known: dict[str, Any], name: str, own: object, what: str) -> None:
    """Put one more under its name.

    what : what it is, for the error

    Raises
    ------
    InputError
        when another one has that name.
    """
    there = known.setdefault(name, own)
    if there is not own:
        title = getattr(there, "__name__", repr(there))
        raise InputError(f"{what} {name!r} is there already: {title}")


def find(
    known: dict[str, Found], group: str, name: str, fits: Callable[[Any], bool]
) -> Found | None:
    """What is known under a name, here or in another installed package; None without.

    Raises
    ------
    InputError
        as `plugin`.
    """
    if name not in known:
        found = plugin(group, name, fits)
        if found is None:
            return None
        known[name] = found
    return known[name]


def names(group: str) -> list[str]:
    """What installed packages add to a group, sorted."""
    return sorted({entry.name for entry in _entries(group)})


def plugin(group: str, name: str, fits: Callable[[Any], bool]) -> Any:
    """What an installed package offers under a name, or None where none does.

    Parameters
    ----------
    fits : whether what was found is of the right kind

    Raises
    ------
    InputError
        when it cannot be imported, or is something else.
    """
    entry = next((entry for entry in _entries(group) if entry.name == name), None)
    if entry is None:
        return None
    try:
        found = entry.load()
    except Exception as exc:  # another package's module may fail in any way
        raise InputError(
            f"{name!r} of {group} is {entry.value}, which cannot be imported: {exc}"
        ) from exc
    if not fits(found):
        raise InputError(
            f"{name!r} of {group} is {entry.value}, which is nothing that can stand under that name"
        )
    return found


def _entries(group: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points  # some 20 ms, which a start need not take

    if sys.version_info >= (3, 10):
        return list(entry_points(group=group))
    return list(entry_points().get(group, ()))
