"""Running a bundle's networks on photos, each segment once for each photo."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Iterable, Mapping, NamedTuple, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import OutputSpec
from adaptive.checks import shown
from adaptive.engines.answers import run_checked
from adaptive.errors import InputError, UnreachableError
from adaptive.limits import Limits
from adaptive.policy.base import Policy
from adaptive.policy.history import Output
from adaptive.routing.photo import Found, Inputs, Photo
from adaptive.segments import Run, Segments, through_key

if TYPE_CHECKING:
    from adaptive.engines.choose import EngineChoice, Engines
    from adaptive.routing.detecting import Detector


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
        self.chains, self.runs = self.segments.chains, self.segments.runs
        self._candidates = {c.name: c for c in bundle.candidates}
        self._continued = {c.after for c in bundle.candidates}
        own = ((c.name, c.output) for c in bundle.candidates)
        self._outputs = {name: out for name, out in own if isinstance(out, OutputSpec)}
        self.remote = frozenset(c.name for c in bundle.candidates if c.remote is not None)
        self._detectors: Mapping[str, Detector] = {}
        if bundle.task == "detect":
            from adaptive.routing.detecting import detectors

            self._detectors = detectors(bundle)

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
        costs = [self._cost(run, unit) for run in self.runs[name]]
        return None if None in costs else float(sum(costs))  # type: ignore[arg-type]

    def _cost(self, run: Run, unit: str) -> float | None:
        candidate = self._candidates[run.segment]
        if run.headless and unit == "ms" and candidate.through and candidate.through.ms:
            return candidate.through.ms
        cost: float | None = getattr(candidate, unit)
        return cost

    def run(self, name: str, photos: Sequence[Photo]) -> Asked:
        """Ask a candidate about these photos; what already ran is not run again."""
        now = self.advance(self.runs[name], photos)
        return Asked(now, said(name, now))

    def ask(self, name: str, photo: Photo, left: Limits) -> Photo:
        """Ask a candidate on another server about one photo, within the time that is left.

        Returns
        -------
        Where it cannot be reached, the photo with the time that this took, and no answer.
        """
        began = perf_counter()
        try:
            (photo,) = self.advance_within(self.runs[name], [photo], [left])
        except UnreachableError:
            return photo.having_spent(name, (perf_counter() - began) * 1e3)
        return photo

    def advance_within(
        self, runs: Iterable[Run], photos: Sequence[Photo], left: Iterable[Limits]
    ) -> list[Photo]:
        """`advance`, where another server must answer while all of these leave time.

        Raises
        ------
        UnreachableError
            when it does not.
        """
        from adaptive.engines.remote import within

        with within(min(float(np.min(each.remaining_ms)) for each in left)):
            return self.advance(runs, photos)

    def elsewhere(self) -> dict[str, Any]:
        """Where candidates on other servers stand, by name, as JSON values."""
        told = ((name, getattr(self.engines.get(name), "status", None)) for name in self.remote)
        return {name: status() for name, status in sorted(told) if status is not None}

    def needed(self, name: str, photo: Photo) -> list[Run]:
        """What must still run for a photo so that `name` answers, in order."""
        return self.segments.needed(name, photo.done, photo.carried)

    def advance(
        self, runs: Iterable[Run], photos: Sequence[Photo], again: bool = False
    ) -> list[Photo]:
        """Run segments on photos one after the other, each on all that lack it at once.

        Making an image's tensor is charged to the first that reads it, and is done here, so that
        `execute` is given what a network reads.

        Parameters
        ----------
        runs : in an order in which each finds what it continues from
        again : run them also on photos for which they ran before
        """
        now = list(photos)
        for run in runs:
            name, candidate = run.segment, self._candidates[run.segment]
            places: list[int] = []
            rows: list[Inputs] = []
            prepared: list[float] = []
            for place, photo in enumerate(now):
                if name in (photo.carried if run.headless else photo.done) and not again:
                    continue
                began = perf_counter()
                if candidate.after is None:
                    rows.append((photo.image.tensor(candidate.input),))
                else:
                    rows.append(photo.carried[candidate.after])
                prepared.append((perf_counter() - began) * 1e3)
                places.append(place)
            if not places:
                continue
            for place, ms, found in zip(places, prepared, self.execute(run, rows)):
                photo = now[place]
                if found.raw is not None:
                    found = self._detectors[name].read(found, photo.image)
                carried = photo.carried
                if name in self._continued:
                    carried = {**carried, name: found.state}
                spent = {**photo.ms, run.step: ms + found.ms}
                if found.output is None:
                    passed = (*photo.passed, name)
                    now[place] = photo._replace(ms=spent, carried=carried, passed=passed)
                else:
                    done = {**photo.done, name: found.output}
                    together = {**photo.together, name: found.together}
                    now[place] = Photo(photo.image, spent, done, together, carried, photo.passed)
        return now

    def execute(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        """Run one segment on what it reads of each image, and say what it found for each.

        Raises
        ------
        EngineError
            when the network fails, or answers with what its manifest entry does not say.
        """
        if run.segment in self._detectors:
            return self._detectors[run.segment].run(self.engines[run.step], rows)
        began = perf_counter()
        count, segment = len(rows), run.segment
        inputs = rows[0] if count == 1 else [np.concatenate(arrays) for arrays in zip(*rows)]
        output = None if run.headless else self._outputs[segment]
        continued = segment in self._continued
        values, states = run_checked(self.engines[run.step], inputs, output, continued, run.step)
        if count == 1:
            alone = None
            if values is not None:
                best = int(values.argmax())  # far quicker than the maximum of a single row
                alone = Output(values[0, best : best + 1], values)
            return [Found(alone, states, (perf_counter() - began) * 1e3, 1)]
        outputs: list[Output | None] = [None] * count
        if values is not None:
            confidence = np.maximum.reduce(values, axis=1)
            outputs = [Output(confidence[i : i + 1], values[i : i + 1]) for i in range(count)]
        spent = (perf_counter() - began) * 1e3 / count
        return [
            Found(output, tuple(state[i : i + 1] for state in states), spent, count)
            for i, output in enumerate(outputs)
        ]

    def plain(self) -> Networks:
        """The same, and whoever is told of runs is told of none."""
        return Networks(self.bundle, self.engines)

    def warm_up(self, names: Iterable[str], photo: Photo) -> None:
        """Run whatever is open for these candidates once, alone and without telling anybody."""
        members = {member for name in names for member in self.chains[name]}
        plain = self.plain()
        for member in sorted(members, key=lambda m: len(self.chains[m])):
            runs = [r for r in (Run(member, False), Run(member, True)) if r.step in self.engines]
            with suppress(UnreachableError):
                (photo,) = plain.advance(runs, [photo], again=True)

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
    confidence = np.concatenate([o.confidence for o in outputs])
    if outputs[0].boxes is not None:
        return Output(confidence, None, tuple(found for o in outputs for found in o.boxes or ()))
    if outputs[0].probabilities is None:  # answers of their own, which no policy reads
        return Output(confidence)
    return Output(
        confidence,
        np.concatenate([o.probabilities for o in outputs]),  # type: ignore[misc]
    )
