"""What an ONNX network costs, counted from the file: multiply-adds, parameters, shapes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Mapping

import onnx
from onnx import ModelProto

from adaptive.causes import reason
from adaptive.errors import InputError

Shape = tuple[int, ...]

#: Operators that multiply weights; all else is not counted.
WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class NetworkCounts:
    """What one image costs.

    Attributes
    ----------
    layers : multiply-adds of each layer, by the tensor that it makes, in the network's order
    parameters : numbers among the layers' weights and biases
    """

    layers: Mapping[str, int]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """Of all convolutions and matrix products; normalisation and pooling are not counted."""
        return sum(self.layers.values())


def count(model: ModelProto, name: str = "the network") -> NetworkCounts:
    """Count a network's multiply-adds and parameters for one image.

    A layer in eight bits counts like one in 32: what is multiplied are as many numbers.

    Raises
    ------
    InputError
        when the size of a layer cannot be told from the file.
    """
    shapes = shapes_of(model, name)
    weights = {i.name: tuple(i.dims) for i in model.graph.initializer}
    layers: dict[str, int] = {}
    parameters = 0
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        weight = weights.get(node.input[1]) or shapes.get(node.input[1])
        output = shapes.get(node.output[0])
        if weight is None or output is None:
            raise InputError(f"{name}: the size of layer {node.output[0]!r} cannot be told")
        if node.op_type == "Conv":
            each = prod(weight[1:])
        elif node.op_type == "MatMul" or not attribute(node, "transB", 0):
            each = weight[-2]
        else:
            each = weight[-1]
        layers[node.output[0]] = prod(output[1:]) * each
        parameters += prod(weight)
        if len(node.input) > 2 and node.input[2]:
            bias = weights.get(node.input[2]) or shapes.get(node.input[2]) or ()
            parameters += prod(bias)
    return NetworkCounts(layers, parameters)


def shapes_of(model: ModelProto, name: str = "the network") -> dict[str, Shape]:
    """Shapes of the tensors between layers for a batch of one image; unknown ones are left out."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    weights = {i.name for i in fixed.graph.initializer}
    for entry in fixed.graph.input:
        if entry.name not in weights and entry.type.tensor_type.shape.dim:
            entry.type.tensor_type.shape.dim[0].dim_value = 1
    for entry in fixed.graph.output:
        entry.type.tensor_type.ClearField("shape")
    try:
        known = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception as exc:  # its errors share no base class
        raise InputError(f"{name}: sizes cannot be told: {reason(exc)}") from exc
    found: dict[str, Shape] = {}
    for entry in [*known.graph.input, *known.graph.value_info, *known.graph.output]:
        sides = entry.type.tensor_type.shape.dim
        if entry.type.tensor_type.HasField("shape") and all(s.HasField("dim_value") for s in sides):
            found[entry.name] = tuple(s.dim_value for s in sides)
    return found


def attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    """The value of a node's attribute, or `default`."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default
