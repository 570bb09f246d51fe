"""The layers of an ONNX network that can be decomposed, and the nodes that they become."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from adaptive.errors import InputError
from adaptive.networks.compression.counting import Shape, attribute, shapes_of
from adaptive.networks.compression.tucker import (
    kept_by_pairs,
    kept_by_ranks,
    smallest_rank,
    smallest_ranks,
    tucker,
    two_factors,
)

#: (C', N') of a convolution of several positions, (rank,) of everything else.
Ranks = tuple[int, ...]


@dataclass(frozen=True)
class FactoredLayer:
    """What a layer becomes.

    Attributes
    ----------
    nodes, tensors : in the place of the layer's node and weights
    middle : the tensor that the last node reads
    last, bias : names of that node's weights and bias
    """

    nodes: tuple[NodeProto, ...]
    tensors: tuple[TensorProto, ...]
    middle: str
    last: str
    bias: str


class Layer:
    """A convolution or a dense layer with weights of its own.

    Parameters
    ----------
    node : of the graph
    weight : (N, C / groups, height, width) of a convolution, (N, C) of a dense layer
    bias : (N,)
    read, made : shapes of what it reads and makes, for one image
    """

    def __init__(
        self, node: NodeProto, weight: np.ndarray, bias: np.ndarray, read: Shape, made: Shape
    ) -> None:
        self.node = node
        self.name = node.output[0]
        self.weight = weight
        self.bias = bias
        self.read = read
        self.made = made
        self.groups = int(attribute(node, "group", 1))  # type: ignore[call-overload]
        self.strides: list[int] = list(attribute(node, "strides", [1, 1]))  # type: ignore[call-overload]

    @property
    def method(self) -> str:
        """ "tucker" for a convolution of several positions, "svd" for everything else."""
        several = self.weight.ndim == 4 and self.weight.shape[2] * self.weight.shape[3] > 1
        return "tucker" if several else "svd"

    @property
    def sides(self) -> tuple[int, int]:
        """Input and output channels of one group."""
        return self.weight.shape[1], self.weight.shape[0] // self.groups

    @property
    def full(self) -> Ranks:
        """The ranks at which nothing is lost."""
        return self.sides if self.method == "tucker" else (min(self.sides),)

    def of_groups(self) -> list[np.ndarray]:
        """The weights of each group."""
        return list(np.split(self.weight, self.groups))

    @cached_property
    def _kept(self) -> np.ndarray:
        if self.method == "tucker":
            return kept_by_pairs(self.of_groups())
        return kept_by_ranks([part.reshape(part.shape[:2]) for part in self.of_groups()])

    def ranks(self, share: float) -> Ranks:
        """The cheapest ranks that keep `share` of the weights' variance."""
        if self.method == "svd":
            return (smallest_rank(self._kept, share),)
        size = self.weight.shape[2] * self.weight.shape[3]
        return smallest_ranks(self._kept, size, share, float(np.prod(self.strides)))

    def products(self, ranks: Ranks | None = None) -> int:
        """Multiply-adds for one image, whole or at some ranks."""
        out = int(np.prod(self.made[2:]))
        inputs, outputs = self.sides
        if ranks is None:
            return int(out * self.groups * np.prod(self.weight.shape[1:]) * outputs)
        if self.method == "svd":
            return int(out * self.groups * ranks[0] * (inputs + outputs))
        before = int(np.prod(self.read[2:]))
        size = self.weight.shape[2] * self.weight.shape[3]
        left, right = ranks
        each = before * inputs * left + out * (left * right * size + right * outputs)
        return int(self.groups * each)

    def parts(self, ranks: Ranks) -> FactoredLayer:
        """The nodes and weights that this layer becomes.

        Raises
        ------
        InputError
            when there are too few or too many ranks, or one is out of its range.
        """
        if len(ranks) != len(self.full):
            raise InputError(
                f"layer {self.name!r} is decomposed at {len(self.full)} ranks, not at {ranks}"
            )
        if self.weight.ndim == 2:
            return self._dense(ranks[0])
        return self._tucker(ranks) if self.method == "tucker" else self._pointwise(ranks[0])

    def _tucker(self, ranks: Ranks) -> FactoredLayer:
        factors = [tucker(kernel, (ranks[0], ranks[1])) for kernel in self.of_groups()]
        weights = (
            np.concatenate([f.first[:, :, None, None] for f in factors]),
            np.concatenate([f.core for f in factors]),
            np.concatenate([f.last[:, :, None, None] for f in factors]),
        )
        return self._convolutions(weights, place=1)

    def _pointwise(self, rank: int) -> FactoredLayer:
        pairs = [two_factors(part.reshape(part.shape[:2]), rank) for part in self.of_groups()]
        weights = (
            np.concatenate([right[:, :, None, None] for _, right in pairs]),
            np.concatenate([left[:, :, None, None] for left, _ in pairs]),
        )
        # the first takes stride and padding, so that the second has less to do
        return self._convolutions(weights, place=0)

    def _convolutions(self, weights: Sequence[np.ndarray], place: int) -> FactoredLayer:
        """Convolutions in a row; the one at `place` keeps what the node's attributes say."""
        nodes, tensors = [], []
        source = self.node.input[0]
        final = len(weights) - 1
        for position, weight in enumerate(weights):
            name = f"{self.name}_weight{position}"
            target = self.name if position == final else f"{self.name}_part{position}"
            inputs = [source, name, *([f"{self.name}_bias"] if position == final else [])]
            if position == place:
                node = NodeProto()
                node.CopyFrom(self.node)
                del node.input[:], node.output[:]
                node.input.extend(inputs)
                node.output.append(target)
            else:
                ones = {"kernel_shape": [1, 1], "group": self.groups}
                node = helper.make_node("Conv", inputs, [target], **ones)
            node.name = f"{target}_conv"
            nodes.append(node)
            tensors.append(_tensor(weight, name))
            source = target
        tensors.append(_tensor(self.bias, f"{self.name}_bias"))
        return FactoredLayer(
            tuple(nodes),
            tuple(tensors),
            nodes[-1].input[0],
            nodes[-1].input[1],
            f"{self.name}_bias",
        )

    def _dense(self, rank: int) -> FactoredLayer:
        left, right = two_factors(self.weight, rank)
        first, last, bias = (f"{self.name}_{what}" for what in ("weight0", "weight1", "bias"))
        middle = f"{self.name}_part0"
        tensors = (_tensor(right, first), _tensor(left, last), _tensor(self.bias, bias))
        nodes = (
            helper.make_node("Gemm", [self.node.input[0], first], [middle], transB=1),
            helper.make_node("Gemm", [middle, last, bias], [self.name], transB=1),
        )
        return FactoredLayer(nodes, tensors, middle, last, bias)


def layers_of(model: ModelProto, name: str = "the network") -> list[Layer]:
    """The layers of more than 8 channels on both sides whose weights stand in the file."""
    weights = {i.name: i for i in model.graph.initializer if i.data_type == TensorProto.FLOAT}
    shapes = shapes_of(model, name)
    found = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in weights:
            continue
        read, made = shapes.get(node.input[0]), shapes.get(node.output[0])
        biased = [n for n in node.input[2:] if n]
        if read is None or made is None or any(n not in weights for n in biased):
            continue
        weight = numpy_helper.to_array(weights[node.input[1]])
        if node.op_type != "Conv":
            if len(read) != 2 or weight.ndim != 2 or _scaled(node):
                continue
            weight = weight if attribute(node, "transB", 0) else weight.T
        elif weight.ndim != 4:
            continue
        bias = numpy_helper.to_array(weights[biased[0]]) if biased else np.zeros(weight.shape[0])
        if bias.shape != (weight.shape[0],):
            continue
        layer = Layer(node, weight, bias.astype(np.float32), read, made)
        if min(layer.sides) > 8:
            found.append(layer)
    return found


def decomposed(
    model: ModelProto, layers: Sequence[Layer], ranks: Mapping[str, Ranks]
) -> tuple[ModelProto, dict[str, FactoredLayer]]:
    """A copy of the network with the layers that `ranks` names decomposed, and their parts.

    Raises
    ------
    InputError
        when `ranks` names no layer that can be decomposed, or a rank is out of range.
    """
    known = {layer.name: layer for layer in layers}
    unknown = sorted(set(ranks) - set(known))
    if unknown:
        raise InputError(
            f"the network has no layer {unknown[0]!r} that can be decomposed; it has {len(known)}, "
            "each called by the tensor that it makes"
        )
    made = {name: known[name].parts(wanted) for name, wanted in ranks.items()}
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes += made[node.output[0]].nodes if node.output[0] in made else [node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    tensors = [i for i in model.graph.initializer if i.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    for parts in made.values():
        graph.initializer.extend(parts.tensors)
    onnx.checker.check_model(result)
    return result, made


def _scaled(node: NodeProto) -> bool:
    return attribute(node, "transA", 0) != 0 or any(
        attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")
    )


def _tensor(values: np.ndarray, name: str) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)


def whole(layer: Layer) -> FactoredLayer:
    """The layer as it is, as parts of one node."""
    node = NodeProto()
    node.CopyFrom(layer.node)
    weight, bias = f"{layer.name}_weight", f"{layer.name}_bias"
    del node.input[:]
    node.input.extend([layer.node.input[0], weight, bias])
    values = layer.weight
    if node.op_type == "MatMul":
        node = helper.make_node("Gemm", list(node.input), [layer.name], transB=1)
    elif node.op_type == "Gemm" and not attribute(node, "transB", 0):
        values = values.T
    tensors = (_tensor(values, weight), _tensor(layer.bias, bias))
    return FactoredLayer((node,), tensors, layer.node.input[0], weight, bias)
