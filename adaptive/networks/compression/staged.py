"""A network run piece by piece over many images, holding only what is still read."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import onnx
from onnx import ModelProto, helper

from adaptive.networks.precision import open_session


class StagedRun:
    """Runs the nodes of a network in their order, as far as it is told.

    The weights of nodes that have not run yet may still be changed.

    Parameters
    ----------
    model : the network; its initialisers are read when the nodes that read them run
    images : its inputs, one array (1, ...) an image
    threads : inside an operator
    """

    def __init__(
        self, model: ModelProto, images: Sequence[np.ndarray], threads: int = 1, batch: int = 8
    ) -> None:
        self._model = model
        self._threads = threads
        self._at = 0
        weights = {i.name for i in model.graph.initializer}
        source = next(i.name for i in model.graph.input if i.name not in weights)
        batches = [
            np.concatenate(images[first : first + batch]) for first in range(0, len(images), batch)
        ]
        self._live: dict[str, list[np.ndarray]] = {source: batches}
        self._makers = {
            name: position for position, node in enumerate(model.graph.node) for name in node.output
        }
        self._readers: dict[str, int] = {}
        for position, node in enumerate(model.graph.node):
            for name in node.input:
                self._readers[name] = position

    def value(
        self, name: str, pick: Callable[[np.ndarray], np.ndarray] = lambda values: values
    ) -> np.ndarray:
        """A tensor of all images, shape (n, ...); runs the nodes that come before.

        Ask for tensors in the network's order: what nothing reads any more is forgotten.

        pick : what is wanted of each batch of it, where the whole would be large
        """
        end = self._makers.get(name, -1) + 1
        if end > self._at:
            self._run(end, name)
        return np.concatenate([pick(values) for values in self._live[name]])

    def _run(self, end: int, wanted: str) -> None:
        graph = self._model.graph
        nodes = list(graph.node)[self._at : end]
        made = {name for node in nodes for name in node.output if name}
        read = {name for node in nodes for name in node.input if name}
        sources = [name for name in self._live if name in read]
        kept = [n for n in made if n == wanted or self._readers.get(n, -1) >= end]
        weights = [i for i in graph.initializer if i.name in read]
        piece = helper.make_graph(
            nodes,
            "piece",
            [
                helper.make_tensor_value_info(
                    name,
                    helper.np_dtype_to_tensor_dtype(self._live[name][0].dtype),
                    ["n", *self._live[name][0].shape[1:]],
                )
                for name in sources
            ],
            [onnx.ValueInfoProto(name=name) for name in kept],
            weights,
        )
        model = helper.make_model(
            piece, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        session = open_session(model.SerializeToString(), self._threads)
        results: dict[str, list[np.ndarray]] = {name: [] for name in kept}
        for number in range(len(next(iter(self._live.values())))):
            given = {name: self._live[name][number] for name in sources}
            for name, value in zip(kept, session.run(kept, given)):
                results[name].append(value)
        self._at = end
        self._live = {
            name: values
            for name, values in {**self._live, **results}.items()
            if name == wanted or self._readers.get(name, -1) >= end
        }
