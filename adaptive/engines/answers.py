"""What a network answered, checked where it enters: probabilities, and what the next exit reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence

import numpy as np

from adaptive.candidate import OutputSpec
from adaptive.errors import EngineError

if TYPE_CHECKING:
    from adaptive.engines.engine import Engine


#: How far the sum of probabilities may lie from one, for rounding.
_SUM = 1e-4

#: How far a network's own probabilities may lie outside 0..1, for rounding.
_ROUNDING = 1e-2


class Answered(NamedTuple):
    """What a network answered to a batch.

    Attributes
    ----------
    probabilities : ndarray (n, classes), float32; None of a segment without its head
    states : what the next exit reads, batch axis first; none where nothing goes on from here
    """

    probabilities: np.ndarray | None
    states: tuple[np.ndarray, ...]


def run_checked(
    engine: Engine,
    inputs: Sequence[np.ndarray],
    output: OutputSpec | None,
    continued: bool,
    name: str,
) -> Answered:
    """Run a network on one batch, and check what it answers.

    Parameters
    ----------
    output : what the manifest says of its answer; None where it runs without its head
    continued : whether an exit goes on from it. Where none does, further outputs are nobody's,
        whatever they are.
    name : of the network, for messages

    Raises
    ------
    EngineError
        when the network fails, or answers with what its manifest entry does not say.
    """
    found = engine.run(*inputs)
    values = None
    if output is not None:
        answer, *found = found
        values = probabilities(answer, output)
    states = handed_on(found, len(inputs[0]), name) if continued else ()
    return Answered(values, states)


def probabilities(raw: np.ndarray, output: OutputSpec) -> np.ndarray:
    """A network's raw answer as probabilities of shape (n, classes), float32.

    Logits go through a softmax first; a background class is dropped after it. What does not sum
    to one then is scaled until it does, so that every signal lies in 0..1; where all is zero, no
    class is any likelier than another.

    Raises
    ------
    EngineError
        when the answer has another width than `output` says, is not finite, or is said to be
        probabilities and is not within 0..1.
    """
    # The ufuncs' own reductions: half the time of the methods, on arrays this small.
    values = raw if raw.ndim == 2 else raw.reshape(len(raw), math.prod(raw.shape[1:]))
    values = values.astype(np.float32, copy=False)
    if values.shape[1] != output.width:
        raise EngineError(
            f"a network answered with {values.shape[1]} numbers an image; its manifest entry "
            f"says {output.width}"
        )
    if not np.logical_and.reduce(np.isfinite(values), axis=None):
        low, high = values.min(initial=0), values.max(initial=0)
        raise EngineError(f"a network answered with numbers from {low} to {high}, not finite ones")
    if output.kind == "logits":
        values = values - np.maximum.reduce(values, axis=1, keepdims=True)
        np.exp(values, out=values)
        values /= np.add.reduce(values, axis=1, keepdims=True)
    else:
        low, high = values.min(initial=0), values.max(initial=0)
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise EngineError(
                f"a network answered with numbers from {low:g} to {high:g}; its manifest entry "
                "says probabilities, which lie between 0 and 1"
            )
        if low < 0 or high > 1:
            values = values.clip(0, 1)
    if output.background:
        values = values[:, 1:]
    elif output.kind == "logits":
        return values
    sums = np.add.reduce(values, axis=1, keepdims=True)
    if not np.logical_and.reduce(np.abs(sums - 1) <= _SUM, axis=None):
        values = np.where(sums > 1e-12, values / np.maximum(sums, 1e-12), 1 / output.classes)
    return values.astype(np.float32, copy=False)


def handed_on(found: Sequence[Any], count: int, name: str) -> tuple[np.ndarray, ...]:
    """A network's further outputs, which the next exit reads, if they have a row for each image.

    Raises
    ------
    EngineError
        when one has not.
    """
    for position, state in enumerate(found, 1):
        shape = getattr(state, "shape", None)
        if not shape or shape[0] != count:
            what = type(state).__name__ if shape is None else f"of shape {tuple(shape)}"
            raise EngineError(
                f"further output {position} of {name!r}, which the next exit reads, is {what} for "
                f"{count} images; its first axis must be the batch"
            )
    return tuple(found)
