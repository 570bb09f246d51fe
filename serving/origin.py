"""Where a request comes from: what a server without keys lets this machine alone do."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Mapping


def from_here(environ: Mapping[str, Any]) -> bool:
    """Whether a request comes from this machine itself, and through no proxy on it.

    Behind a proxy everybody comes from this machine; such a request says who sent it.
    """
    forwarded = environ.get("HTTP_X_FORWARDED_FOR") or environ.get("HTTP_FORWARDED")
    return not forwarded and _is_local(environ.get("REMOTE_ADDR", ""))


def from_another_site(environ: Mapping[str, Any]) -> bool:
    """Whether a browser says that a page of another site sent it, or its Host may be bent here."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    named = environ.get("HTTP_HOST")
    return site not in (None, "same-origin", "none") or not _is_named_locally(named)


def _is_named_locally(host: str | None) -> bool:
    """Whether a Host is an address or localhost, and no name that may be bent to this machine."""
    if host is None:
        return True  # which no browser sends
    name = re.sub(r":[0-9]*$", "", host).strip("[]").rstrip(".").lower()
    if name.rpartition(".")[2] == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
