"""What a decoder makes of a network's outputs, before any box is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, NamedTuple, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import EngineError

#: A network's outputs for one image, by name, in the network's order.
Outputs = Mapping[str, NDArray[Any]]


class Frame(NamedTuple):
    """What a decoder is told of the network.

    Attributes
    ----------
    size : (height, width) of the input, pixels
    classes : how many the network knows
    """

    size: Tuple[int, int]
    classes: int


@dataclass(frozen=True, eq=False)
class Chances:
    """Boxes that may be of any class.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4), x1 y1 x2 y2 in pixels of the network's input
    chances : ndarray of shape (n, classes), 0..1
    """

    boxes: NDArray[Any]
    chances: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Boxes of one class each.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4), x1 y1 x2 y2 in pixels of the network's input
    scores : ndarray of shape (n,), 0..1
    classes : ndarray of shape (n,), as the network numbers them; below 0 means no box
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    classes: NDArray[Any]


Raw = Union[Chances, Chosen]


def sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)), without overflow."""
    half: NDArray[Any] = np.tanh(values * 0.5)
    return half * 0.5 + 0.5


def softmax(values: NDArray[Any]) -> NDArray[Any]:
    """Exponentials along the last axis, scaled to sum to one, without overflow."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: NDArray[Any] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def named(outputs: Outputs, name: str) -> NDArray[Any]:
    """One output by its name.

    Raises
    ------
    EngineError
        when the network has none of that name.
    """
    if name not in outputs:
        raise EngineError(f"the network has no output {name!r}; it has {list(outputs)}")
    return outputs[name]


def shapes(outputs: Outputs) -> str:
    """The outputs in words: each name and its shape."""
    return ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())


def cells(size: Tuple[int, int], strides: Tuple[int, ...]) -> Tuple[NDArray[Any], NDArray[Any]]:
    """The grid of a network that answers for every cell, coarser with each stride.

    Returns
    -------
    column and row of each cell, shape (n, 2), and its stride in pixels, shape (n, 1); levels
    one after the other, row by row, float32
    """
    height, width = size
    places, steps = [], []
    for stride in strides:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.mgrid[:rows, :columns].astype(np.float32)
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(places), np.concatenate(steps)
