"""The small ONNX models that a cut network becomes: one a segment, the tail, and the whole.

A segment on rows works on arrays (positions, channels): each convolution is a matrix product with
the window of each output laid out in a row. A segment on tiles works on (tiles, channels, rows,
columns): a convolution without padding, since the tile comes with its halo.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Tuple

import numpy as np

from adaptive.engines.tiles.cut import (
    WINDOWS,
    Access,
    Cut,
    TileSegment,
    side_of,
    window_of,
)
from adaptive.engines.tiles.cutting import TOGETHER
from adaptive.engines.tiles.graph import Node, write_model

#: What is added to a map's name where its channels stand last.
ROWS = "/rows"


class _Draft:
    """Nodes, inputs and constants of one model, while it is put together."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.nodes: List[Node] = []
        self.inputs: List[Tuple[str, np.dtype, Sequence[int | str]]] = []
        self.made: Dict[str, np.ndarray] = {}

    def shape(self, *sides: int) -> str:
        """The name of a constant shape."""
        name = "shape/" + ".".join(map(str, sides))
        self.made[name] = np.array(sides, np.int64)
        return name

    def nothing(self, dtype: np.dtype) -> str:
        """The name of a constant 0 of a type."""
        name = f"nothing/{np.dtype(dtype).name}"
        self.made[name] = np.zeros(1, dtype)
        return name

    def add(self, op: str, inputs: Iterable[str], output: str, **attributes: int | str) -> str:
        self.nodes.append(Node(op, tuple(inputs), (output,), attributes))
        return output

    def turn(self, name: str, perm: Tuple[int, ...], output: str) -> str:
        self.nodes.append(Node("Transpose", (name,), (output,), {"perm": perm}))
        return output

    def bytes(self, outputs: Sequence[str], declared: Sequence[bytes] = ()) -> bytes:
        nodes = [*self._constants(), *self.nodes]
        return write_model(self.cut.graph, nodes, self.inputs, outputs, self.made, declared)

    def _constants(self) -> List[Node]:
        """What makes the constants that are read, in the graph's order."""
        wanted = [name for node in self.nodes for name in node.inputs]
        made: set[str] = set()
        while wanted:
            name = wanted.pop()
            node = self.cut.constants.get(name)
            if node is not None and name not in made:
                made.update(node.outputs)
                wanted += node.inputs
        return [node for node in self.cut.graph.nodes if made.intersection(node.outputs)]


def segment_model(cut: Cut, segment: TileSegment) -> bytes:
    """A segment. It reads what its accesses gather, in their order, and gives rows.

    On rows an access is (positions, window, channels), on tiles (tiles, rows, columns, channels);
    each output is (positions, channels).
    """
    model, side = _Draft(cut), side_of(segment.shape)
    for read in segment.reads:
        channels, dtype = cut.shapes[read.base][0], cut.types[read.base]
        if segment.rows:
            size = read.window.kernel[0] * read.window.kernel[1]
            window: Sequence[int] = () if read.window.plain else (size,)
            model.inputs.append((read.name, dtype, ["n", *window, channels]))
        else:
            model.inputs.append(
                (read.name + ROWS, dtype, ["n", *read.window.reach(side), channels])
            )
            model.turn(read.name + ROWS, (0, 3, 1, 2), read.name)
    for node in segment.nodes:
        (_row_node if segment.rows else _tile_node)(model, segment, node)
    if segment.rows:
        return model.bytes(segment.outputs)
    for name in segment.outputs:
        turned = model.turn(name, (0, 2, 3, 1), name + "/turned")
        shape = model.shape(-1, cut.shapes[name][0])
        model.add("Reshape", (turned, shape), name + ROWS)
    return model.bytes([name + ROWS for name in segment.outputs])


def _read(model: _Draft, segment: TileSegment, node: Node) -> Access | None:
    """The window that a node looks at; None where it looks at one position."""
    if node.op not in WINDOWS:
        return None
    name = node.inputs[0]
    out = (1, 1, *segment.shape)
    window, _ = window_of(node, model.cut.shapes[name], out)
    if window.plain:
        return None
    (found,) = [
        read
        for read in segment.reads
        if (read.tensor, read.window, read.least) == (name, window, node.op == "MaxPool")
    ]
    return found


def _row_node(model: _Draft, segment: TileSegment, node: Node) -> None:
    read, out = _read(model, segment, node), node.outputs[0]
    if node.op == "Conv":
        weight, rest = node.inputs[1], [name for name in node.inputs[2:] if name]
        of = node.inputs[0]
        if read is not None:
            size = read.window.kernel[0] * read.window.kernel[1]
            shape = model.shape(-1, size * model.cut.shapes[read.base][0])
            of = model.add("Reshape", (read.name, shape), out + "/window")
        turned = model.turn(weight, (0, 2, 3, 1), out + "/turned")
        flat = model.shape(model.cut.shapes[out][0], -1)
        matrix = model.add("Reshape", (turned, flat), out + "/matrix")
        # ONNX Runtime 1.11 fuses an activation only into a product that adds something
        added = rest or [model.nothing(model.cut.types[node.inputs[0]])]
        model.add("Gemm", (of, matrix, *added), out, transB=1)
    elif node.op in WINDOWS:
        if read is None:
            model.add("Identity", node.inputs[:1], out)
            return
        op = "ReduceMax" if node.op == "MaxPool" else "ReduceMean"
        model.nodes.append(Node(op, (read.name,), (out,), {"axes": (1,), "keepdims": 0}))
    elif node.op in TOGETHER | {"PRelu"}:
        inputs = [_channelwise(model, name) for name in node.inputs]
        model.nodes.append(Node(node.op, tuple(inputs), node.outputs, node.attributes, node.rest))
    else:
        model.nodes.append(node)


def _channelwise(model: _Draft, name: str) -> str:
    """A constant of one number, or of one a channel, as it is combined with rows."""
    if name not in model.cut.sizes or not model.cut.sizes[name]:
        return name
    flat = name + "/flat"
    if all(flat not in node.outputs for node in model.nodes):
        model.add("Reshape", (name, model.shape(-1)), flat)
    return flat


def _tile_node(model: _Draft, segment: TileSegment, node: Node) -> None:
    read = _read(model, segment, node)
    if read is None:
        model.nodes.append(node)
        return
    kept = {
        name: value
        for name, value in node.attributes.items()
        if name not in ("pads", "auto_pad", "ceil_mode")
    }
    inputs = (read.name, *node.inputs[1:])
    model.nodes.append(Node(node.op, inputs, node.outputs[:1], kept))


def tail_model(cut: Cut) -> bytes:
    """From maps, as rows (1, rows, columns, channels), to the network's outputs."""
    model = _Draft(cut)
    for name in cut.reads:
        channels, rows, columns = cut.shapes[name]
        if name in cut.last:
            model.inputs.append((name, cut.types[name], [1, rows, columns, channels]))
            continue
        model.inputs.append((name + ROWS, cut.types[name], [1, rows, columns, channels]))
        model.turn(name + ROWS, (0, 3, 1, 2), name)
    model.nodes += cut.tail
    made = {name for node in cut.tail for name in node.outputs}
    outputs = []
    for name in cut.graph.outputs:
        outputs.append(name if name in made else model.add("Identity", (name,), name + "/out"))
    return model.bytes(outputs)


def filling_model(cut: Cut) -> bytes:
    """The whole network, giving its outputs and then every map that is kept, as rows."""
    model = _Draft(cut)
    model.nodes += [n for n in cut.graph.nodes if not set(n.outputs) & set(cut.constants)]
    outputs = list(cut.graph.outputs)
    for segment in cut.segments:
        for name in segment.outputs:
            if name in cut.last:
                outputs.append(model.add("Identity", (name,), name + ROWS))
            else:
                outputs.append(model.turn(name, (0, 2, 3, 1), name + ROWS))
    return model.bytes(outputs, list(cut.graph.declared.values()))
