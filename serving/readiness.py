"""Whether a server can answer images at full speed."""

from __future__ import annotations


class Readiness:
    """Whether `/readyz` says yes, shared by the application and whoever runs it.

    `problem` is None when images can be answered at full speed, else one sentence that says why
    not. Images are answered either way: what is not ready is slow, or about to leave.
    """

    def __init__(self, problem: str | None = None) -> None:
        self.problem = problem

    def __repr__(self) -> str:
        return f"Readiness({self.problem!r})"
