"""The option of every command that may compute features of a user's own: by which function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import click

if TYPE_CHECKING:
    from adaptive.routing.extractors import Extractor


class ExtractorName(click.ParamType):  # type: ignore[type-arg]
    """MODULE:FUNCTION or FILE.py:FUNCTION, imported when it is named and never otherwise."""

    name = "extractor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Import it."""
        from adaptive.routing.extractors import extractor_named

        return extractor_named(value) if isinstance(value, str) else value


def extractor_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command --extractor."""
    return click.option("--extractor", type=ExtractorName(), metavar="MODULE:FUNCTION", help=help)


def told(extractor: Extractor) -> str:
    """Which function computes the features, and from which file."""
    from adaptive.routing.extractors import origin_of

    origin = origin_of(extractor)
    about = [f"version {origin['version']}"] if "version" in origin else []
    about += [f"SHA-256 {origin['sha256'][:12]}…"] if "sha256" in origin else []
    return f"extractor {origin['name']}" + (f" ({', '.join(about)})" if about else "")
