"""Whether a layer is faster decomposed, measured on this machine, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter, thread_time
from typing import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from adaptive.files import read_json, write_json
from adaptive.networks.compression.layers import FactoredLayer, Layer, Ranks, whole
from adaptive.networks.precision import open_session

#: Runs of each that are timed, after two that are not.
RUNS = 15


def clock_of(threads: int) -> Callable[[], float]:
    """What times a network: of one thread its processor time, of several the clock on the wall.

    Processor time is disturbed less by other work on the machine.
    """
    return thread_time if threads == 1 else perf_counter


class LayerTimes:
    """Measures layers, and remembers what it measured.

    Parameters
    ----------
    file : JSON that what was measured is kept in; None keeps it in memory alone
    threads : inside a layer
    """

    def __init__(self, file: Path | None = None, threads: int = 1, runs: int = RUNS) -> None:
        self._file = file
        self._threads = threads
        self._runs = runs
        self._known: dict[str, list[float]] = {}
        if file is not None and file.exists():
            found = read_json(file, "the layers' times")
            if found.get("threads") == threads:
                self._known = found["ms"]

    def ms(self, layer: Layer, ranks: Ranks) -> tuple[float, float]:
        """Median milliseconds of a layer whole and decomposed, taken in turns."""
        key = json.dumps(
            [layer.read, list(layer.weight.shape), layer.groups, layer.strides, list(ranks)]
        )
        if key not in self._known:
            self._known[key] = self._measure(layer, layer.parts(ranks))
            if self._file is not None:
                write_json(self._file, {"threads": self._threads, "ms": self._known})
        own, smaller = self._known[key]
        return own, smaller

    def _measure(self, layer: Layer, parts: FactoredLayer) -> list[float]:
        clock = clock_of(self._threads)
        sessions = [
            open_session(_alone(layer, one).SerializeToString(), self._threads)
            for one in (whole(layer), parts)
        ]
        image = np.random.default_rng(0).normal(size=layer.read).astype(np.float32)
        spent = np.empty((self._runs + 2, 2))
        for row in spent:
            for place, session in enumerate(sessions):
                began = clock()
                session.run(None, {"read": image})
                row[place] = (clock() - began) * 1e3
        return [float(value) for value in np.median(spent[2:], axis=0)]


def _alone(layer: Layer, parts: FactoredLayer) -> onnx.ModelProto:
    """A network of these nodes and nothing else."""
    nodes = []
    for node in parts.nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        for names in (copy.input, copy.output):
            for place, name in enumerate(names):
                if name == layer.node.input[0]:
                    names[place] = "read"
        nodes.append(copy)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("read", TensorProto.FLOAT, list(layer.read))],
        [helper.make_tensor_value_info(layer.name, TensorProto.FLOAT, list(layer.made))],
        list(parts.tensors),
    )
    opsets: Sequence[onnx.OperatorSetIdProto] = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)
