"""A network that is cut: segments, the maps and windows that they read, and a dense tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, List, Mapping, Sequence, Tuple

import numpy as np

from adaptive.engines.tiles.graph import Graph, Node

#: Operators that look at a window.
WINDOWS = frozenset(["Conv", "MaxPool", "AveragePool"])


@dataclass(frozen=True)
class Window:
    """What an operator looks at: sides, steps, distances, and the zeros before a map."""

    kernel: Tuple[int, int] = (1, 1)
    stride: Tuple[int, int] = (1, 1)
    dilation: Tuple[int, int] = (1, 1)
    before: Tuple[int, int] = (0, 0)

    @property
    def plain(self) -> bool:
        """Whether it is one position at its own place."""
        return self == Window()

    def reach(self, tile: int) -> Tuple[int, int]:
        """Rows and columns that a square tile of outputs looks at."""
        rows, columns = (
            (tile - 1) * step + (side - 1) * apart + 1
            for side, step, apart in zip(self.kernel, self.stride, self.dilation)
        )
        return rows, columns


@dataclass(frozen=True)
class Access:
    """A map that a segment reads, and how.

    tensor : as the segment's operators call it
    base : the map that is kept, of which `tensor` may be a view
    least : what stands outside of the map is the lowest number instead of 0
    """

    tensor: str
    base: str
    window: Window
    least: bool = False

    @property
    def name(self) -> str:
        """Of the segment's input."""
        if self.window.plain:
            return self.tensor
        w = self.window
        sides = [*w.kernel, *w.stride, *w.dilation, *w.before, int(self.least)]
        return self.tensor + "/" + ".".join(map(str, sides))


@dataclass(frozen=True)
class TileSegment:
    """Some operators that run together on tiles.

    number : in the order in which they run
    level : how many segments lie before it at least
    shape : rows and columns of its maps
    outputs : maps that are kept, since others read them
    rows : whether it works on single positions, as rows of channels; else on square tiles
    """

    number: int
    level: int
    shape: Tuple[int, int]
    nodes: Tuple[Node, ...]
    reads: Tuple[Access, ...]
    outputs: Tuple[str, ...]
    rows: bool

    @property
    def name(self) -> str:
        """Of its first operator's output, as messages give it."""
        return self.nodes[0].outputs[0]


@dataclass(frozen=True)
class MapView:
    """A map that shows another's pixels elsewhere.

    source : index ndarray (rows * columns,) into the positions of `base`
    nodes : that make it of `base`
    """

    base: str
    source: np.ndarray
    nodes: Tuple[Node, ...]


@dataclass(frozen=True)
class Cut:
    """A network in segments and a dense tail.

    source : the network's input
    last : maps whose channels stand last; those of all others come before rows and columns
    shapes : channels, rows and columns of each map
    views : of maps that only show another
    constants : nodes that read weights alone
    tail : nodes that run densely on what the segments keep, and give the network's outputs
    reads : maps that the tail reads
    why : why the tail begins where it does: an operator's name and what about it
    """

    graph: Graph
    source: str
    last: FrozenSet[str]
    shapes: Mapping[str, Tuple[int, int, int]]
    types: Mapping[str, np.dtype]
    views: Mapping[str, MapView]
    constants: Mapping[str, Node]
    sizes: Mapping[str, Tuple[int, ...]]
    segments: Tuple[TileSegment, ...]
    tail: Tuple[Node, ...]
    reads: Tuple[str, ...]
    why: str


class Refusal(Exception):
    """Why a node cannot be cut."""


def window_of(
    node: Node, shape: Tuple[int, int, int], out: Sequence[int]
) -> Tuple[Window, Tuple[int, int]]:
    """What a convolution or pooling looks at, and by how much that leaves the map's end.

    shape : channels, rows and columns of what it reads
    out : shape of what it gives
    """
    sides = node.ints("kernel_shape", ())
    if len(sides) != 2:
        raise Refusal("has no kernel of two axes")
    stride, dilation = node.ints("strides", (1, 1)), node.ints("dilations", (1, 1))
    pads = node.ints("pads", (0, 0, 0, 0))
    auto = node.text("auto_pad", "NOTSET")
    before: List[int] = []
    after: List[int] = []
    for axis in (0, 1):
        reach = (out[axis + 2] - 1) * stride[axis] + (sides[axis] - 1) * dilation[axis] + 1
        if auto in ("NOTSET", ""):
            first = pads[axis]
        elif auto == "VALID":
            first = 0
        else:
            total = max(reach - shape[axis + 1], 0)
            first = total // 2 if auto == "SAME_UPPER" else (total + 1) // 2
        before.append(first)
        after.append(reach - first - shape[axis + 1])
    window = Window(
        (sides[0], sides[1]), (stride[0], stride[1]), (dilation[0], dilation[1]),
        (before[0], before[1]),
    )  # fmt: skip
    return window, (after[0], after[1])


#: Sides that a tile may have, the best first, for maps of at least so many rows.
SIDES = ((96, (8, 7, 6, 5, 4)), (0, (4, 5, 7, 6, 3, 8)))


def side_of(shape: Tuple[int, int]) -> int:
    """A tile's side: one that divides the map's where there is one, or else 4."""
    (sides,) = [sides for least, sides in SIDES if min(shape) >= least][:1]
    for side in sides:
        if shape[0] % side == 0 and shape[1] % side == 0:
            return side
    return min(4, max(shape))
