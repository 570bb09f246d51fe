"""What is found out about a network before it is cut, by running it once."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np

from adaptive.engines.engine import OnnxEngine
from adaptive.engines.tiles.cutting import MOVES
from adaptive.engines.tiles.graph import Graph, Node, write_model
from adaptive.engines.tiles.sessions import open_session, run_session
from adaptive.errors import EngineError


def input_shape(dense: OnnxEngine, shape: Sequence[int] | None) -> Tuple[int, ...]:
    """The shape of a network's input, batch of one; `shape` says what the file leaves free.

    Raises
    ------
    EngineError
        when it has not one input of four axes, or sides stay free.
    """
    if len(dense.inputs) != 1:
        raise EngineError(
            f"{dense.name} reads {len(dense.inputs)} inputs {dense.inputs}; a network that is cut "
            "into tiles reads one"
        )
    named = dense.input_shapes[0]
    if len(named) != 4:
        raise EngineError(
            f"{dense.name} reads {dense.inputs[0]!r} of shape {named}; maps of four axes can be "
            "cut into tiles"
        )
    sides = list(named[1:] if shape is None else shape[-3:])
    free = [side for side in sides if not isinstance(side, int) or side < 1]
    if free:
        raise EngineError(
            f"{dense.name} leaves sides of its input free {named}; say which with shape="
        )
    return (1, *sides)


_NUMPY = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def probe(
    graph: Graph, dense: OnnxEngine, shape: Tuple[int, ...], threads: int
) -> Dict[str, np.ndarray]:
    """What every tensor of a network holds when it reads zeros."""
    kind = dense.input_types[0]
    if kind not in _NUMPY:
        raise EngineError(
            f"{dense.name} reads {kind}; a network that is cut into tiles reads {sorted(_NUMPY)}"
        )
    frame = np.zeros(shape, _NUMPY[kind])
    names = list(dict.fromkeys(name for node in graph.nodes for name in node.outputs if name))
    session = open_session(
        write_model(graph, graph.nodes, [], names, {}, list(graph.declared.values())),
        threads, graph.name, "the whole",
    )  # fmt: skip
    found = run_session(session, graph.name, "the whole", {graph.inputs[0]: frame})
    return {graph.inputs[0]: frame, **dict(zip(names, found))}


def moved(graph: Graph, probed: Dict[str, np.ndarray], threads: int) -> Dict[str, np.ndarray]:
    """Of each operator that moves pixels alone, which position each output shows.

    It is run on a map that holds the number of each position, and so by its own rules.
    """
    found = {}
    makers = {name: node for node in graph.nodes for name in node.outputs}
    for node in graph.nodes:
        if node.op not in MOVES or node.inputs[0] in graph.weights:
            continue
        before, after = probed[node.inputs[0]], probed[node.outputs[0]]
        if before.ndim != 4 or after.ndim != 4 or before.shape[:2] != after.shape[:2]:
            continue
        if node.op != "Slice" and node.text("mode", "nearest") != "nearest":
            continue
        needed: List[Node] = []
        wanted = [name for name in node.inputs[1:] if name]
        while wanted:
            maker = makers.get(wanted.pop())
            if maker is not None and maker not in needed:
                needed.insert(0, maker)
                wanted += maker.inputs
        if any(name in graph.inputs for maker in needed for name in maker.inputs):
            continue
        channels, rows, columns = before.shape[1:]
        ramp = np.arange(rows * columns, dtype=np.float32).reshape(1, 1, rows, columns)
        ramp = np.repeat(ramp, channels, axis=1)
        ordered = [entry for entry in graph.nodes if entry in needed]
        data = write_model(
            graph, [*ordered, node], [(node.inputs[0], ramp.dtype, ramp.shape)],
            node.outputs[:1], {},
        )  # fmt: skip
        session = open_session(data, threads, graph.name, node.op)
        (shown,) = run_session(session, graph.name, node.op, {node.inputs[0]: ramp})
        places = shown[0, 0].astype(np.intp)
        if shown.shape == after.shape and (shown[0] == places.astype(np.float32)).all():
            found[node.outputs[0]] = places.ravel()
    return found
