"""How this package was installed, and the line that adds one of its extras to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAME = "adaptive-serving"

#: What each extra is for, and a module that it brings.
EXTRAS = {
    "cpu": ("networks on the processor", "onnxruntime"),
    "gpu": ("networks on an NVIDIA device", "onnxruntime"),
    "premodel": ("adaptive train", "sklearn"),
    "train": ("the zoo, quantising and training networks", "torch"),
}


def pip_line(extra: str) -> str:
    """The command that installs an extra into the Python that runs, from where this one came.

    From a checkout or a wheel that is its path; this project is not on the package index.
    """
    where, editable = origin()
    flag = "-e " if editable else ""
    return f"pip install {flag}'{_requirement(where, extra)}'"


def origin() -> tuple[str, bool]:
    """Path or address that this package was installed from, "" where nobody noted it.

    Returns
    -------
    That, and whether changes there take effect at once.
    """
    from importlib import metadata

    root = Path(__file__).resolve().parent.parent
    # Building leaves a note of its own in a checkout, which does not tell of an installation.
    found = [
        one
        for one in metadata.distributions(name=NAME)
        if Path(str(one.locate_file(""))).resolve() != root
    ]
    if not found and (root / "pyproject.toml").is_file():  # run from the checkout, not installed
        return str(root), True
    noted = found[0].read_text("direct_url.json") if found else None
    try:
        told = json.loads(noted or "{}")
        url, editable = str(told.get("url", "")), bool(told.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return "", False
    parts = urlsplit(url)
    return (unquote(parts.path) if parts.scheme == "file" else url), editable


def _requirement(where: str, extra: str) -> str:
    if not where:
        return f"{NAME}[{extra}]"
    if "://" in where:
        return f"{NAME}[{extra}] @ {where}"
    return f"{where}[{extra}]"


def python_line() -> str:
    """Which Python runs, and where this package lies."""
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{version} ({sys.executable}), adaptive in {Path(__file__).resolve().parent}"
