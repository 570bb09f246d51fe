"""Seeing a network run before it serves: on one made-up image, and on two at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.candidate import Candidate, InputSpec, OutputSpec, class_output
from adaptive.engines.answers import handed_on
from adaptive.engines.engine import OpenEngine, in_parts
from adaptive.engines.wanted import Wanted
from adaptive.errors import EngineError

#: An image's outputs in a batch may differ by this share of their range from those alone: other
#: kernels round otherwise, at 16 bits by half a percent.
APART = 0.02

#: A softmax's sum may be off by so much, for rounding.
_SUM = 0.05


@dataclass(frozen=True)
class Proof:
    """What a network did with made-up images.

    Attributes
    ----------
    alone : why it must be given one image at a time; None where it need not, and where its file
        says so
    doubt : what its answers have that its manifest entry does not say; None where they agree
    """

    alone: str | None = None
    doubt: str | None = None


class OneByOne:
    """An engine whose network is given one image at a time, whatever the batch.

    Parameters
    ----------
    engine : runs it
    """

    def __init__(self, engine: OpenEngine) -> None:
        self.engine = engine
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.input_shapes, self.output_shapes = engine.input_shapes, engine.output_shapes
        self.input_types, self.output_types = engine.input_types, engine.output_types

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run one batch; see Engine.run."""
        return in_parts(self.engine.run, inputs, 1)

    def close(self) -> None:
        """Free what the engine holds."""
        self.engine.close()


def prove(
    opened: Mapping[str, OpenEngine], wanted: Sequence[Wanted], strict: bool = True
) -> dict[str, Proof]:
    """Run made-up images through networks, a segment on what the one before it hands on.

    Parameters
    ----------
    strict : what does not run at all is refused; else it is left to whoever runs it

    Raises
    ------
    EngineError
        when one does not run or answers with what is not finite, and `strict`; when an exit
        hands on what has no row for each image.
    """
    proofs: dict[str, Proof] = {}
    states: dict[str, list[tuple[np.ndarray, ...]]] = {}
    continued = {entry.candidate.after for entry in wanted}
    for entry in wanted:
        candidate, engine = entry.candidate, opened[entry.key]
        if candidate.after is None:
            rows: list[tuple[np.ndarray, ...]] = [(t,) for t in made_up(candidate.input)]
        elif candidate.after in states:
            rows = states[candidate.after]
        else:
            continue  # what it continues is open elsewhere, or did not run
        goes_on = candidate.name in continued
        run = getattr(engine, "attempt", engine.run)
        if isinstance(candidate.output, BoxOutput):
            _try_boxes(candidate, engine, rows[0])
            continue
        try:
            alone = run(*rows[0])
            _require_finite(alone, entry.key)
        except EngineError:
            if strict:
                raise
            continue
        answers = 0 if entry.through else 1
        handed = handed_on(alone[answers:], 1, entry.key) if goes_on else ()
        compared = len(alone) if goes_on else 1
        both, why = _together(run, rows, alone[:compared])
        if goes_on:
            # Where the two cannot run together, the second one's state is made alone.
            second = run(*rows[1]) if both is None else [output[:1] for output in both]
            states[candidate.name] = [handed, tuple(second[answers:])]
        doubt = None
        if not entry.through:
            doubt = doubt_of((alone if both is None else both)[0], class_output(candidate))
        proofs[entry.key] = Proof(why, doubt)
    return proofs


class Unbatched(OneByOne):
    """An engine whose network takes one image without an axis for a batch."""

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run one image; see Engine.run."""
        return self.engine.run(*(values[0] for values in inputs))


def single(engine: OpenEngine) -> OpenEngine:
    """The engine itself; one image after the other where its file takes no more."""
    if [len(shape) for shape in engine.input_shapes] == [3]:
        return Unbatched(engine)
    fixed = [shape for shape in engine.input_shapes if shape and shape[0] == 1]
    return OneByOne(engine) if fixed else engine


def _try_boxes(candidate: Candidate, engine: OpenEngine, row: Sequence[np.ndarray]) -> None:
    """Have a detector's outputs decoded, so that another decoder's are refused at once."""
    from adaptive.tasks.placement import stretched
    from adaptive.tasks.reading import Reading

    assert isinstance(candidate.output, BoxOutput)
    outputs = dict(zip(engine.outputs, engine.run(*row)))
    sides = candidate.input.sides
    try:
        Reading.of(candidate.output).boxes(outputs, sides, stretched(sides, sides))
    except EngineError as error:
        raise EngineError(f"candidate {candidate.name!r}: {error}") from error


def made_up(spec: InputSpec) -> list[np.ndarray]:
    """Inputs of two images that have nothing in common."""
    from adaptive.images.preprocess import normalised

    draw = np.random.default_rng(0)
    found = []
    for colour in ((210, 120, 30), (20, 100, 230)):
        pixels = draw.normal(colour, 25, (*spec.sides, 3))
        found.append(normalised(np.clip(pixels, 0, 255).astype(np.uint8), spec))
    return found


def doubt_of(answers: np.ndarray, output: OutputSpec) -> str | None:
    """What raw answers, one row an image, have that the manifest entry does not say."""
    rows = np.asarray(answers, np.float64).reshape(len(answers), -1)
    sums = rows.sum(axis=1)
    within = bool((rows >= -1e-3).all() and (rows <= 1 + 1e-3).all())
    if output.kind == "logits" and within and bool((np.abs(sums - 1) < 0.01).all()):
        return (
            "its answers lie between 0 and 1 and sum to 1, which are probabilities, but its "
            "manifest entry says logits, so that its confidences come out too low; write "
            '"kind": "probabilities"'
        )
    if output.kind == "probabilities" and within and bool((np.abs(sums - 1) > _SUM).any()):
        off = sums[int(np.abs(sums - 1).argmax())]
        return (
            f"its answers sum to {off:.4g}, but its manifest entry says probabilities, which sum "
            "to 1; they are scaled until they do. Where they are sigmoids of one class each, "
            'export what the sigmoid reads, and write "kind": "logits"'
        )
    return None


def _together(
    run: Callable[..., list[np.ndarray]],
    rows: Sequence[tuple[np.ndarray, ...]],
    alone: Sequence[np.ndarray],
) -> tuple[list[np.ndarray] | None, str | None]:
    """The outputs of the second image and the first one together, or why not to run them so."""
    try:
        both = run(*map(np.concatenate, zip(rows[1], rows[0])))
    except EngineError:
        return None, "its network takes one image at a time"
    for one, two in zip(alone, both):
        if len(getattr(two, "shape", ())) != len(one.shape) or len(two) != 2:
            return None, "its network takes one image at a time"
        two = np.asarray(two, np.float64)
        if np.abs(two[1:] - one).max(initial=0) > APART * np.ptp(two) + 1e-6:
            return None, "its answer to an image depends on the others in the batch"
    return list(both), None


def _require_finite(outputs: Sequence[Any], key: str) -> None:
    for output in outputs:
        floats = isinstance(output, np.ndarray) and output.dtype.kind == "f"
        if floats and not np.isfinite(output).all():
            raise EngineError(f"network {key!r} answers a made-up image with infinities or NaN")
