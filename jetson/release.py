"""Which Linux for Tegra (L4T) and JetPack a board runs."""

from __future__ import annotations

import re

from adaptive.jetson.sysfs import Sysfs

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")

#: L4T -> JetPack, from NVIDIA's archive (developer.nvidia.com/embedded/jetpack-archive). A
#: release that is not listed is told by its L4T number alone.
_JETPACK = {
    "32.5.0": "4.5",
    "32.5.1": "4.5.1",
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
}


def parse_release(text: str) -> dict[str, str]:
    """`l4t` and, where it is known, `jetpack`, from the text of /etc/nv_tegra_release."""
    found = _RELEASE.search(text)
    if found is None:
        return {}
    parts = [found[1], *found[2].split(".")]
    l4t = ".".join([*parts, "0", "0"][:3])
    jetpack = _JETPACK.get(l4t)
    return {"l4t": l4t} if jetpack is None else {"l4t": l4t, "jetpack": jetpack}


def release(sysfs: Sysfs) -> dict[str, str]:
    """`l4t` and `jetpack` of this machine; empty where it is no Jetson."""
    return parse_release(sysfs.text("etc/nv_tegra_release") or "")
