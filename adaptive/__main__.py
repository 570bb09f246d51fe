"""`python -m adaptive`, for where the command itself is not on the path."""

from __future__ import annotations

from adaptive.cli import main

main()
