"""A folder of candidates of which one runs on another server, a real `adaptive serve`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptive.bundle.adding import Recipe
from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.bundle.elsewhere import Wire, add_remote
from adaptive.policy.base import Policy

#: The served network sees 16 x 16 pixels, which then pass its own cutting unchanged.
SIDE = 16


def with_cloud(candidates: Path, url: str, folder: Path, **wire: Any) -> Path:
    """Copy whole networks of a folder, and add the server's "strong" as "cloud"."""
    from shutil import copytree

    copytree(candidates, folder)
    address = f"{url}/v2/models/strong/versions/1"
    given = Wire(**{"encoding": "png", "timeout_ms": 10_000.0, **wire})
    add_remote(folder, address, "cloud", Recipe(size=SIDE), wire=given)
    return folder


def cloud_bundle(candidates: Path, url: str, folder: Path, policy: Policy, **wire: Any) -> Path:
    """A bundle with such a candidate."""
    source = Bundle.read(with_cloud(candidates, url, folder.with_name(f"{folder.name}-c"), **wire))
    names = [*policy.candidates, "strong"]
    kept = replace(source, candidates=tuple(c for c in source.candidates if c.name in names))
    write_bundle(folder, kept, policy)
    return folder
