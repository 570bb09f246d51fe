"""Running a bundle's networks on photos, each at most once for each photo."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from adaptive.bundle import Bundle
from adaptive.candidate import Candidate, run_order
from adaptive.errors import AdaptiveError
from adaptive.photo import Photo
from adaptive.policy.base import Output


class Networks:
    """A bundle's networks, open.

    Parameters
    ----------
    bundle : says how each is fed and which continues which
    engines : something that runs each candidate's network, by name
    """

    def __init__(self, bundle: Bundle, engines: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.chains = run_order({c.name: c.after for c in bundle.candidates})
        self.engines = dict(engines)

    @classmethod
    def open(cls, bundle: Bundle, names: Iterable[str], threads: int) -> Networks:
        """Open the networks of these candidates, and those that they continue from.

        Raises
        ------
        EngineError
            when the runtime refuses one.
        """
        from adaptive.serving.engine import open_engine

        networks = cls(bundle, {})
        try:
            for name in dict.fromkeys(m for n in names for m in networks.chains[n]):
                candidate = bundle.candidate(name)
                path = bundle.folder / candidate.file
                networks.engines[name] = open_engine(path, candidate, threads)
        except AdaptiveError:
            networks.close()
            raise
        return networks

    def cost(self, name: str, unit: str) -> float | None:
        """Mean ms or mj of a candidate that is asked first; None where the bundle has none."""
        costs = [getattr(self.bundle.candidate(n), unit) for n in self.chains[name]]
        return None if None in costs else float(sum(costs))

    def run(self, name: str, photos: Sequence[Photo]) -> Output:
        """What a candidate says of these photos; what already ran is not run again."""
        for member in self.chains[name]:
            fresh = [p for p in photos if member not in p.done]
            if fresh:
                self._run(self.bundle.candidate(member), fresh)
        outputs = [p.done[name] for p in photos]
        if len(outputs) == 1:
            return outputs[0]
        return Output(
            np.concatenate([o.confidence for o in outputs]),
            np.concatenate([o.probabilities for o in outputs]),  # type: ignore[misc]
        )

    def close(self) -> None:
        """Close the engines."""
        for engine in self.engines.values():
            engine.close()

    def _run(self, candidate: Candidate, photos: Sequence[Photo]) -> None:
        from adaptive.serving.engine import probabilities

        began = perf_counter()
        if candidate.after is None:
            inputs = [_joined([p.tensor(candidate.input) for p in photos])]
        else:
            carried = [p.carried[candidate.after] for p in photos]
            inputs = [_joined([c[i] for c in carried]) for i in range(len(carried[0]))]
        answer, *states = self.engines[candidate.name].run(*inputs)
        values = probabilities(answer, candidate.output)
        confidence = values.max(axis=1)
        spent = (perf_counter() - began) * 1e3 / len(photos)
        for row, photo in enumerate(photos):
            own = slice(row, row + 1)
            photo.done[candidate.name] = Output(confidence[own], values[own])
            photo.carried[candidate.name] = [state[own] for state in states]
            photo.ms[candidate.name] += spent


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
