"""An ONNX graph that can be read and written without the `onnx` package, which no board has.

Only what cutting needs is understood: names, operators, attributes that are numbers, and where
each node and weight lies in the file. Nodes and weights that are kept travel as the bytes that
they are. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from adaptive.engines.onnxfile import fields_of, text_of
from adaptive.errors import BundleError, EngineError

#: What an attribute may hold here: a number, numbers, or a text.
Attribute = Union[int, Tuple[int, ...], str]

#: Opsets whose operators are as cutting takes them to be.
OPSETS = range(11, 18)

_INT, _STRING, _TENSOR, _GRAPH, _INTS = 2, 3, 4, 5, 7


@dataclass(frozen=True)
class Node:
    """One operator of a graph.

    attributes : those that are whole numbers or texts
    rest : all but the names of its inputs and outputs, as it stands in the file; empty for one
        that was made here
    nested : whether it has graphs inside
    """

    op: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    rest: bytes = b""
    nested: bool = False

    def ints(self, name: str, default: Sequence[int]) -> Tuple[int, ...]:
        """An attribute of several whole numbers."""
        found = self.attributes.get(name, tuple(default))
        return found if isinstance(found, tuple) and found else tuple(default)

    def int(self, name: str, default: int) -> int:
        """An attribute that is one whole number."""
        found = self.attributes.get(name, default)
        return found if isinstance(found, int) else default

    def text(self, name: str, default: str) -> str:
        """An attribute that is a text."""
        found = self.attributes.get(name, default)
        return found if isinstance(found, str) else default

    def encoded(self) -> bytes:
        """The node as a NodeProto."""
        parts = [_bytes(1, name.encode()) for name in self.inputs]
        parts += [_bytes(2, name.encode()) for name in self.outputs]
        if self.rest:
            return b"".join([*parts, self.rest])
        parts.append(_bytes(4, self.op.encode()))
        for name, value in self.attributes.items():
            inside = _bytes(1, name.encode())
            if isinstance(value, str):
                inside += _bytes(4, value.encode()) + _number(20, _STRING)
            elif isinstance(value, tuple):
                inside += b"".join(_number(8, entry) for entry in value) + _number(20, _INTS)
            else:
                inside += _number(3, value) + _number(20, _INT)
            parts.append(_bytes(5, inside))
        return b"".join(parts)


@dataclass(frozen=True)
class Graph:
    """A network.

    weights : each initialiser's name, as a TensorProto
    inputs, outputs : names, without weights
    declared : each input's ValueInfoProto
    sizes : each initialiser's shape
    """

    name: str
    ir: int
    opset: int
    nodes: Tuple[Node, ...]
    weights: Mapping[str, bytes]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    declared: Mapping[str, bytes]
    sizes: Mapping[str, Tuple[int, ...]]


def read_graph(path: Path) -> Graph:
    """Read a whole network.

    Raises
    ------
    BundleError
        when the file is no ONNX file.
    EngineError
        when its opset, a weight in another file or a graph within the graph keeps it from being
        cut.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as exc:
        raise BundleError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        graph = _graph(path.name, data)
    except (ValueError, IndexError, UnicodeDecodeError) as exc:
        raise BundleError(f"{path.name} is not an ONNX file") from exc
    if graph.opset not in OPSETS:
        raise EngineError(
            f"{path.name} has opset {graph.opset}; a network is cut into tiles from opset "
            f"{OPSETS[0]} to {OPSETS[-1]}; export it again"
        )
    nested = [node.op for node in graph.nodes if node.nested]
    if nested:
        raise EngineError(
            f"{path.name} has an operator {nested[0]} with a graph inside, and cannot be cut "
            "into tiles"
        )
    return graph


def _graph(name: str, data: memoryview) -> Graph:
    ir = opset = 0
    nodes: List[Node] = []
    weights: Dict[str, bytes] = {}
    sizes: Dict[str, Tuple[int, ...]] = {}
    declared: Dict[str, bytes] = {}
    outputs: List[str] = []
    for number, value in fields_of(data, 0, len(data)):
        if number == 1 and isinstance(value, int):
            ir = value
        elif number == 8 and isinstance(value, tuple):
            inside = dict(fields_of(data, *value))
            if text_of(data, _span(inside.get(1))) in ("", "ai.onnx"):
                version = inside.get(2)
                opset = version if isinstance(version, int) else 0
        elif number == 7 and isinstance(value, tuple):
            for kind, where in fields_of(data, *value):
                if not isinstance(where, tuple):
                    continue
                raw = bytes(data[where[0] : where[1]])
                if kind == 1:
                    nodes.append(_node(data, where))
                elif kind == 5:
                    entry = dict(fields_of(data, *where))
                    if 13 in entry:
                        raise EngineError(
                            f"{name} keeps weights in another file, and cannot be cut into tiles; "
                            "save it as one file"
                        )
                    called = text_of(data, _span(entry.get(8)))
                    weights[called] = raw
                    sizes[called] = tuple(
                        side
                        for kind, value in fields_of(data, *where)
                        if kind == 1
                        for side in ([value] if isinstance(value, int) else _packed(data, value))
                    )
                elif kind == 11:
                    declared[text_of(data, _span(dict(fields_of(data, *where)).get(1)))] = raw
                elif kind == 12:
                    outputs.append(text_of(data, _span(dict(fields_of(data, *where)).get(1))))
    inputs = tuple(entry for entry in declared if entry not in weights)
    if not nodes or not opset:
        raise ValueError("no graph")
    kept = {entry: declared[entry] for entry in inputs}
    return Graph(name, ir, opset, tuple(nodes), weights, inputs, tuple(outputs), kept, sizes)


def _span(value: int | Tuple[int, int] | None) -> Tuple[int, int] | None:
    return value if isinstance(value, tuple) else None


def _node(data: memoryview, where: Tuple[int, int]) -> Node:
    names: Dict[int, List[str]] = {1: [], 2: []}
    op = domain = ""
    attributes: Dict[str, Attribute] = {}
    nested = False
    kept: List[bytes] = []
    for number, value in fields_of(data, *where):
        if not isinstance(value, tuple):
            continue
        if number in names:
            names[number].append(text_of(data, value))
            continue
        kept.append(_bytes(number, bytes(data[value[0] : value[1]])))
        if number == 4:
            op = text_of(data, value)
        elif number == 7:
            domain = text_of(data, value)
        elif number == 5:
            name, held, inside = _attribute(data, value)
            nested |= inside
            if held is not None:
                attributes[name] = held
    if domain not in ("", "ai.onnx"):
        op = f"{domain}.{op}"
    rest = b"".join(kept)
    return Node(op, tuple(names[1]), tuple(names[2]), attributes, rest, nested)


def _attribute(data: memoryview, where: Tuple[int, int]) -> Tuple[str, Attribute | None, bool]:
    name, nested = "", False
    ints: List[int] = []
    one: Attribute | None = None
    for number, value in fields_of(data, *where):
        if number == 1:
            name = text_of(data, _span(value))
        elif number == 3 and isinstance(value, int):
            one = _signed(value)
        elif number == 4 and isinstance(value, tuple):
            one = bytes(data[value[0] : value[1]]).decode("utf-8", "replace")
        elif number == 8:
            ints += [value] if isinstance(value, int) else _packed(data, _span(value))
        elif number in (6, 11):
            nested = True
    if ints:
        one = tuple(map(_signed, ints))
    return name, one, nested


def _packed(data: memoryview, where: Tuple[int, int] | None) -> List[int]:
    """Whole numbers that stand one after the other; each has its high bit where it goes on."""
    found, value, shift = [], 0, 0
    for byte in b"" if where is None else bytes(data[where[0] : where[1]]):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


# Writing -------------------------------------------------------------------------------------


def write_model(
    graph: Graph,
    nodes: Sequence[Node],
    inputs: Sequence[Tuple[str, np.dtype, Sequence[int | str]]],
    outputs: Sequence[str],
    made: Mapping[str, np.ndarray],
    declared: Sequence[bytes] = (),
) -> bytes:
    """A model of some of a graph's nodes, with the weights that they read.

    Parameters
    ----------
    nodes : in the order in which they run
    inputs : name, type and shape of each; an axis that is free is a text
    outputs : names; ONNX Runtime finds their types
    made : constants beside the graph's own weights
    declared : inputs that are as in the graph
    """
    read = {name for node in nodes for name in node.inputs}
    parts = [_bytes(1, node.encoded()) for node in nodes]
    parts.append(_bytes(2, b"part"))
    parts += [_bytes(5, raw) for name, raw in graph.weights.items() if name in read]
    parts += [_bytes(5, tensor(name, array)) for name, array in made.items() if name in read]
    parts += [_bytes(11, raw) for raw in declared]
    parts += [_bytes(11, _declaration(*entry)) for entry in inputs]
    parts += [_bytes(12, _bytes(1, name.encode())) for name in outputs]
    opset = _bytes(1, b"") + _number(2, graph.opset)
    # up to IR 3 each weight has to stand among the inputs; 4 is the first that has it otherwise
    ir = max(graph.ir, 4)
    return _number(1, ir) + _bytes(8, opset) + _bytes(7, b"".join(parts))


#: Element types by their number in onnx.proto.
_TYPES = {
    np.dtype(np.float32): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int64): 7,
    np.dtype(np.float16): 10,
}


def tensor(name: str, array: np.ndarray) -> bytes:
    """An array as a TensorProto."""
    dims = b"".join(_number(1, side) for side in array.shape)
    raw = np.ascontiguousarray(array).tobytes()
    return dims + _number(2, _TYPES[array.dtype]) + _bytes(8, name.encode()) + _bytes(9, raw)


def _declaration(name: str, dtype: np.dtype, shape: Sequence[int | str]) -> bytes:
    dims = [
        _number(1, side) if isinstance(side, int) else _bytes(2, side.encode()) for side in shape
    ]
    inside = _number(1, _TYPES[np.dtype(dtype)])
    inside += _bytes(2, b"".join(_bytes(1, dim) for dim in dims))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, inside))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
