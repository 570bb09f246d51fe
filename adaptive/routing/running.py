"""Running a bundle's networks on photos, each segment once for each photo."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import Candidate
from adaptive.checks import shown
from adaptive.engines.proof import handed_on
from adaptive.errors import InputError
from adaptive.policy.base import Output, Policy
from adaptive.routing.photo import Photo
from adaptive.segments import Run, Segments, through_key

if TYPE_CHECKING:
    from adaptive.engines.choose import EngineChoice, Engines


#: What a network reads of one image: arrays whose first axis is a batch of one.
Inputs = Tuple[np.ndarray, ...]


class Found(NamedTuple):
    """What one segment found of one image.

    Attributes
    ----------
    output : what it said; None where it ran without its head
    state : what the next exit reads
    ms : the image's share of the run
    together : how many images the run was on
    """

    output: Output | None
    state: Inputs
    ms: float
    together: int


class Asked(NamedTuple):
    """Photos after a candidate was asked, and what it said of them."""

    photos: list[Photo]
    output: Output


class Networks:
    """A bundle's networks, open.

    Parameters
    ----------
    bundle : says how each is fed and which continues which
    engines : something that runs each candidate's network, by name; under "NET@1:through" what
        runs that exit's segment without its head
    """

    #: which engine runs them, and why, where they were opened here
    choice: EngineChoice | None = None

    #: by network, what its answers have that its manifest entry does not say
    doubts: Mapping[str, str] = MappingProxyType({})

    def __init__(self, bundle: Bundle, engines: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.engines = dict(engines)
        self.segments = Segments(
            {c.name: c.after for c in bundle.candidates},
            (c.name for c in bundle.candidates if through_key(c.name) in self.engines),
        )
        self.chains = self.segments.chains
        self._candidates = {c.name: c for c in bundle.candidates}
        self._continued = {c.after for c in bundle.candidates}

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        names: Iterable[str],
        threads: int,
        ways: Iterable[Sequence[str]] = (),
        whole: bool = True,
        engines: Engines | None = None,
    ) -> Networks:
        """Open the networks of these candidates, and those that they continue from.

        Parameters
        ----------
        ways : paths that images take; an exit that one of them runs through is opened without
            its head
        whole : open such an exit with its head too, even if `names` has it not
        engines : opens them; by the best engine that really runs when left out

        Raises
        ------
        EngineError
            when the runtime refuses one.
        """
        from adaptive.engines.choose import Engines
        from adaptive.engines.wanted import Wanted

        segments = Segments(
            {c.name: c.after for c in bundle.candidates},
            (c.name for c in bundle.candidates if c.through is not None),
        )
        asked = list(names)
        through = segments.run_through(ways)
        wanted: list[Wanted] = []
        for name in dict.fromkeys(m for n in asked for m in segments.chains[n]):
            candidate = bundle.candidate(name)
            if whole or name in asked or name not in through:
                wanted.append(Wanted(name, bundle.folder, candidate))
            if name in through and candidate.through is not None:
                wanted.append(Wanted(through_key(name), bundle.folder, candidate, True))
        opener = engines or Engines()
        networks = cls(bundle, opener.open(wanted, threads))
        networks.choice = opener.choice
        networks.doubts = dict(opener.doubts)
        return networks

    def check_open(self, names: Iterable[str], ways: Iterable[Sequence[str]]) -> None:
        """Refuse engines of which one is missing that images on these ways may need.

        Raises
        ------
        InputError
            that names those that are missing.
        """
        alone = [[name] for name in names]
        needed = [
            run for way in (*alone, *ways) for runs in self.segments.steps(way) for run in runs
        ]
        keys = [through_key(run.segment) if run.headless else run.segment for run in needed]
        missing = [key for key in dict.fromkeys(keys) if key not in self.engines]
        if missing:
            raise InputError(
                f"there is no engine for {missing}, which the policy or an audit may ask; there "
                f"are engines for {list(self.engines)}"
            )

    def cost(self, name: str, unit: str) -> float | None:
        """Mean ms or mj of a candidate that is asked first; None where the bundle has none."""
        costs = [self._cost(run, unit) for run in self.segments.needed(name, (), ())]
        return None if None in costs else float(sum(costs))  # type: ignore[arg-type]

    def _cost(self, run: Run, unit: str) -> float | None:
        candidate = self._candidates[run.segment]
        if run.headless and unit == "ms" and candidate.through and candidate.through.ms:
            return candidate.through.ms
        cost: float | None = getattr(candidate, unit)
        return cost

    def run(self, name: str, photos: Sequence[Photo]) -> Asked:
        """Ask a candidate about these photos; what already ran is not run again."""
        now = list(photos)
        needs = [self.needed(name, photo) for photo in photos]
        for member in self.chains[name]:
            run = Run(member, member != name and member in self.segments.through)
            rows = [row for row, own in enumerate(needs) if run in own]
            if rows:
                for row, photo in zip(rows, self.advance(run, [now[row] for row in rows])):
                    now[row] = photo
        return Asked(now, said(name, now))

    def needed(self, name: str, photo: Photo) -> list[Run]:
        """What must still run for a photo so that `name` answers, in order."""
        return self.segments.needed(name, photo.done, photo.carried)

    def advance(self, run: Run, photos: Sequence[Photo]) -> list[Photo]:
        """Run one segment on photos, all at once; what it continues from must have run.

        Making an image's tensor is charged to the first that reads it, and is done here, so that
        `execute` is given what a network reads.
        """
        return self._advance(run, photos, self.execute)

    def execute(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        """Run one segment on what it reads of each image, and say what it found for each.

        Raises
        ------
        EngineError
            when the network fails, or answers with what its manifest entry does not say.
        """
        from adaptive.engines.engine import probabilities

        began = perf_counter()
        inputs = [_joined(arrays) for arrays in zip(*rows)]
        found = self.engines[run.step].run(*inputs)
        outputs: list[Output | None] = [None] * len(rows)
        if not run.headless:
            answer, *found = found
            values = probabilities(answer, self._candidates[run.segment].output)
            confidence = np.maximum.reduce(values, axis=1)
            outputs = [Output(confidence[i : i + 1], values[i : i + 1]) for i in range(len(rows))]
        # Where nothing goes on from here, further outputs are nobody's, whatever they are.
        states = handed_on(found, len(rows), run.step) if run.segment in self._continued else ()
        spent = (perf_counter() - began) * 1e3 / len(rows)
        return [
            Found(output, tuple(state[i : i + 1] for state in states), spent, len(rows))
            for i, output in enumerate(outputs)
        ]

    def warm_up(self, names: Iterable[str], photo: Photo) -> None:
        """Run whatever is open for these candidates once, alone and without telling anybody."""
        members = {member for name in names for member in self.chains[name]}
        for member in sorted(members, key=lambda m: len(self.chains[m])):
            for run in (Run(member, False), Run(member, True)):
                if run.step in self.engines:
                    (photo,) = self._advance(run, [photo], partial(Networks.execute, self))

    def _advance(
        self,
        run: Run,
        photos: Sequence[Photo],
        execute: Callable[[Run, Sequence[Inputs]], list[Found]],
    ) -> list[Photo]:
        candidate = self._candidates[run.segment]
        rows, prepared = [], []
        for photo in photos:
            began = perf_counter()
            rows.append(_inputs(candidate, photo))
            prepared.append((perf_counter() - began) * 1e3)
        return [
            _after(run, photo, ran, ms)
            for photo, ran, ms in zip(photos, execute(run, rows), prepared)
        ]

    def close(self) -> None:
        """Close the engines."""
        for engine in self.engines.values():
            engine.close()


def checked(engines: Any) -> Mapping[str, Any]:
    """Engines by name as they were handed over, or an InputError for what is none."""
    if not isinstance(engines, Mapping):
        raise InputError(f"engines {shown(engines)} is no mapping from a candidate to its engine")
    for name, engine in engines.items():
        lacks = [verb for verb in ("run", "close") if not callable(getattr(engine, verb, None))]
        if lacks:
            raise InputError(
                f"the engine for {name!r}, {shown(engine)}, has no {' and no '.join(lacks)}; an "
                "engine is an object with run(*inputs) -> outputs and close()"
            )
    return engines


def ways_of(policy: Policy) -> list[list[str]]:
    """The longest paths that images may take through a policy, as names."""
    return [[policy.candidates[position] for position in way] for way in policy.ways()]


def said(name: str, photos: Sequence[Photo]) -> Output:
    """What a candidate that ran for all these photos said of them."""
    outputs = [photo.done[name] for photo in photos]
    if len(outputs) == 1:
        return outputs[0]
    return Output(
        np.concatenate([o.confidence for o in outputs]),
        np.concatenate([o.probabilities for o in outputs]),  # type: ignore[misc]
    )


def _inputs(candidate: Candidate, photo: Photo) -> Inputs:
    """What a candidate reads of one photo."""
    if candidate.after is None:
        return (photo.tensor(candidate.input),)
    return photo.carried[candidate.after]


def _after(run: Run, photo: Photo, ran: Found, prepared_ms: float) -> Photo:
    """The photo with what a segment found."""
    ms = prepared_ms + ran.ms
    if ran.output is None:
        return photo.run_through(run.segment, ran.state, ms)
    return photo.answered(run.segment, ran.output, ran.state, ms, ran.together)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
