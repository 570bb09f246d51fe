"""An option whose value is one of ours, or a name that another installed package adds."""

from __future__ import annotations

from typing import Any, Sequence

import click

from adaptive.plugins import names


class OpenChoice(click.Choice):  # type: ignore[type-arg]
    """`click.Choice`, and what stands under an entry point; that is looked up only on demand.

    Parameters
    ----------
    group : of entry points, see `adaptive.plugins`
    """

    def __init__(self, choices: Sequence[str], group: str) -> None:
        super().__init__(choices)
        self.group = group

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value itself, or click's error."""
        if value not in self.choices and value in names(self.group):
            return value
        return super().convert(value, param, ctx)
