"""`adaptive wheelhouse`: all wheels that a board needs, for one without a network."""

from __future__ import annotations

from adaptive.jetson.wheelhouse import command

__all__ = ["command"]
