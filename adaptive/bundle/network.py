"""What an ONNX file says of its network, and what one run of it shows."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from adaptive.candidate import DTYPES
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import InputError

#: How ONNX Runtime calls the types that an image may have.
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}

#: Pixel values are tried in these ranges: a softmax answers with probabilities in each.
_RANGES = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))

#: How far probabilities may lie outside 0..1, and their sum from 1.
_OUTSIDE, _SUM = 1e-3, 1e-2


@dataclass(frozen=True)
class NetworkFacts:
    """A network as its file, or the server that has it, tells it.

    Attributes
    ----------
    dtype, layout, size : of its input, as `InputSpec` has them
    one_by_one : whether its batch axis is fixed at one image
    width : numbers that it answers with for an image; 0 where they are no row of classes
    kind : "probabilities" or "logits", by what it answered; "" where each lies in 0..1 and they
        do not sum to 1, or where there is no row
    labels : class names; empty where none are told
    teller : for messages
    """

    dtype: str
    layout: str
    size: int | tuple[int, int]
    one_by_one: bool
    width: int
    kind: str
    labels: tuple[str, ...] = ()
    teller: str = "the file"


def read_network(
    path: Path, size: int | tuple[int, int] | None = None, layout: str | None = None
) -> NetworkFacts:
    """Read what the file says, and run the network on made-up pixels.

    Parameters
    ----------
    size, layout : for a file that leaves them open

    Raises
    ------
    InputError
        when a candidate cannot be like this, the file leaves something open that is not given,
        or it says otherwise.
    EngineError
        when ONNX Runtime cannot load or run it.
    """
    engine = OnnxEngine(path)
    try:
        return _facts(engine, path.name, size, layout)
    finally:
        engine.close()


def _facts(
    engine: OnnxEngine, name: str, size: int | tuple[int, int] | None, layout: str | None
) -> NetworkFacts:
    if len(engine.inputs) != 1:
        raise InputError(f"{name} reads {engine.inputs}; a candidate reads one input, the image")
    kind = engine.input_types[0]
    if kind not in _TYPES:
        raise InputError(f"{name} reads {kind}; a candidate reads one of {list(DTYPES)}")
    declared = engine.input_shapes[0]
    shape = [side if isinstance(side, int) and side > 0 else None for side in declared]
    if len(shape) != 4:
        raise InputError(
            f"{name} reads an input of {len(shape)} axes, {declared}; images have "
            "four: batch, channels, height, width"
        )
    if shape[0] not in (None, 1):
        raise InputError(f"{name} has a fixed batch axis of {shape[0]}; export it free, or with 1")
    layout = _layout(shape, name, layout)
    sides = _sides(shape[1:3] if layout == "NHWC" else shape[2:], name, size)
    height, width = sides
    tensor = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
    rows = _answers(engine, tensor, _TYPES[kind])
    return NetworkFacts(
        _TYPES[kind],
        layout,
        height if height == width else sides,
        shape[0] == 1,
        0 if rows is None else rows.shape[1],
        "" if rows is None else kind_of(rows),
        labels_inside(engine.metadata),
    )


def _layout(shape: Sequence[int | None], name: str, given: str | None) -> str:
    fits = {"NCHW": shape[1], "NHWC": shape[3]}
    certain = [layout for layout, channels in fits.items() if channels == 3]
    possible = [layout for layout, channels in fits.items() if channels in (3, None)]
    if not possible:
        raise InputError(
            f"{name} reads images of shape {list(shape)}; a candidate reads three channels, at "
            "the second axis or the last"
        )
    if given is not None:
        if given not in possible:
            raise InputError(f"{name} reads images of shape {list(shape)}, which is {possible[0]}")
        return given
    if len(certain) == 1:
        return certain[0]
    raise InputError(
        f"{name} reads images of shape {list(shape)}, which does not say where the channels are; "
        "give --layout NCHW or NHWC"
    )


def _sides(
    declared: Sequence[int | None], name: str, given: int | tuple[int, int] | None
) -> tuple[int, int]:
    if given is None:
        if None in declared:
            raise InputError(
                f"{name} takes images of any size; give --size with the pixels that it was "
                "trained at, such as 224"
            )
        return declared[0], declared[1]  # type: ignore[return-value]
    sides = given if isinstance(given, tuple) else (given, given)
    if any(have not in (None, side) for have, side in zip(declared, sides)):
        raise InputError(
            f"{name} takes images of {declared[0]}x{declared[1]} pixels (height x width), not of "
            f"{sides[0]}x{sides[1]}; leave --size out"
        )
    return sides


def _answers(engine: OnnxEngine, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
    """Its first output on made-up pixels, a row each; None where that is no row of classes."""
    random = np.random.default_rng(0)
    rows = []
    for low, high in _RANGES if dtype != "uint8" else _RANGES[:1] * 3:
        pixels = random.uniform(low, high, shape).astype(dtype)
        answer: Any = engine.run(pixels)[0]
        if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f" or answer.ndim < 2:
            return None
        if len(answer) != 1 or answer.size != max(answer.shape[1:]) or answer.size < 2:
            return None
        rows.append(answer.reshape(-1).astype(float))
    return np.array(rows)


def kind_of(rows: np.ndarray) -> str:
    """What rows of answers are: "probabilities", "logits", or "" where that is not certain."""
    if not np.isfinite(rows).all() or rows.min() < -_OUTSIDE or rows.max() > 1 + _OUTSIDE:
        return "logits"
    return "probabilities" if np.abs(rows.sum(axis=1) - 1).max() <= _SUM else ""


def labels_inside(metadata: dict[str, str]) -> tuple[str, ...]:
    """Class names that an exporter wrote into the file as `names`: a list, or a dict by index."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)
