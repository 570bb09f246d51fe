"""Which segments run when candidates are asked, in which order, and which of them need no head.

A whole network is one segment. An exit NET@3 is the last of three: asked first, it runs NET@1,
NET@2 and NET@3, and only its own head is wanted. What ran is not run again.
"""

from __future__ import annotations

from typing import Container, Iterable, Mapping, NamedTuple, Sequence

from adaptive.candidate import run_order


class Run(NamedTuple):
    """One segment to run: `headless` where an image only runs through it to a later exit."""

    segment: str
    headless: bool

    @property
    def step(self) -> str:
        """What it is called, among engines and times."""
        return through_key(self.segment) if self.headless else self.segment


def through_key(name: str) -> str:
    """What the run through an exit without its head is called, among engines and times."""
    return f"{name}:through"


class Segments:
    """The chains of some candidates, and the segments that exist without their heads too.

    Parameters
    ----------
    after : maps a candidate to the one whose state it continues, or None
    through : candidates that can be run through without their heads

    Raises
    ------
    InputError
        when `after` names a candidate that is not there, or runs in a circle.

    Attributes
    ----------
    chains : by candidate, the segments up to it, first one first
    runs : by candidate, what runs where it is asked first, in order
    """

    def __init__(self, after: Mapping[str, str | None], through: Iterable[str] = ()) -> None:
        self.chains = run_order(after)
        self.through = frozenset(through)
        self.runs = {name: tuple(self.needed(name, (), ())) for name in self.chains}

    def needed(self, name: str, asked: Container[str], passed: Container[str]) -> list[Run]:
        """What must still run, in order, so that `name` answers.

        Parameters
        ----------
        asked : segments that ran with their heads
        passed : segments that handed their state on, with or without an answer

        An exit that was run through without its head and is asked later is run once more.
        """
        *way, last = self.chains[name]
        runs = [Run(m, m in self.through) for m in way if m not in asked and m not in passed]
        return runs if last in asked else [*runs, Run(last, False)]

    def steps(self, path: Sequence[str]) -> list[list[Run]]:
        """What runs for each candidate of a path when they are asked one after the other."""
        asked: set[str] = set()
        passed: set[str] = set()
        found = []
        for name in path:
            runs = self.needed(name, asked, passed)
            asked.update(segment for segment, headless in runs if not headless)
            passed.update(segment for segment, _ in runs)
            found.append(runs)
        return found

    def run_through(self, ways: Iterable[Sequence[str]]) -> set[str]:
        """The segments that images on these paths run without their heads."""
        return {
            segment
            for way in ways
            for runs in self.steps(way)
            for segment, headless in runs
            if headless
        }
