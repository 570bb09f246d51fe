"""An ONNX network as a torch module, so that a candidate can be trained on and cut smaller.

Only what image classifiers are made of is known. Exported networks carry their batch
normalisation folded into the convolutions; training without it is slow and brittle, so it is put
back behind each convolution, with the mean and variance of the images at hand and so scaled that
the network computes what it computed. Exporting folds it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn

from adaptive.candidate import Candidate, InputSpec, OutputSpec, class_output
from adaptive.errors import InputError
from adaptive.networks.compression.counting import shapes_of
from adaptive.networks.precision import unpacked

Attributes = Mapping[str, Any]
Operator = Callable[[Attributes, Sequence[Any]], Tensor]


@dataclass(frozen=True)
class GraphStep:
    """One node: who computes it, from what, and what comes out.

    Attributes
    ----------
    layer : key of the module that computes it; None for an operator without weights
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    layer: str | None


class OnnxNetwork(nn.Module):
    """A network that computes what an ONNX file computes, with weights that can be trained.

    `layers` holds its convolutions, normalisations and linear layers; `names` says for each key
    which tensor of the file it makes.

    Raises
    ------
    InputError
        when the file has an operator, or a form of one, that is not known here.
    """

    def __init__(self, model: ModelProto, name: str = "the network") -> None:
        super().__init__()
        model = unpacked(model)
        weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        shapes = shapes_of(model, name)
        self.source = next(i.name for i in model.graph.input if i.name not in weights)
        self.answer = model.graph.output[0].name
        self.layers = nn.ModuleDict()
        self.names: dict[str, str] = {}
        self.steps: list[GraphStep] = []
        told: set[str] = set()
        for node in model.graph.node:
            if node.op_type == "Constant":
                (value,) = (a.t for a in node.attribute if a.name == "value")
                weights[node.output[0]] = numpy_helper.to_array(value)
                continue
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            key = None
            inputs = tuple(node.input)
            pads = list(attributes.get("pads", ()))
            if node.op_type == "Conv" and pads[:2] != pads[2:]:  # TensorFlow's SAME
                padded = f"{node.output[0]}_padded"
                self.steps.append(GraphStep("Pad", inputs[:1], (padded,), {"pads": pads}, None))
                inputs, attributes = (padded,), {**attributes, "pads": [0, 0, 0, 0]}
            layer = _layer(node, attributes, weights, name)
            if layer is not None:
                key = f"layer{len(self.layers)}"
                self.layers[key] = layer
                self.names[key] = node.output[0]
                inputs = inputs[:1]
            elif node.op_type == "Reshape":
                attributes = {"row": _row_shape(node, shapes, name)}
                inputs = inputs[:1]
            elif node.op_type in _TOLD and all(n in weights for n in inputs[1:] if n):
                # numbers that say what to do are no tensors: nothing is read while it computes
                attributes = {**attributes, "told": [weights.get(n) for n in inputs[1:]]}
                told.update(inputs[1:])  # kept as buffers all the same, so that states stay alike
                inputs = inputs[:1]
            elif node.op_type not in OPERATORS or node.op_type == "Pad":
                raise InputError(
                    f"{name} has the operator {node.op_type}, which cannot be trained here; "
                    f"known are {sorted({*OPERATORS, *_LAYERS} - {'Pad'})}"
                )
            step = GraphStep(node.op_type, inputs, tuple(node.output), attributes, key)
            self.steps.append(step)
        read = told | {name for step in self.steps for name in step.inputs}
        self._constants: dict[str, str] = {}
        for number, (one, value) in enumerate(weights.items()):
            if one in read:
                self._constants[one] = f"constant{number}"
                self.register_buffer(f"constant{number}", torch.tensor(np.array(value)))

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {one: getattr(self, at) for one, at in self._constants.items()}
        values[self.source] = x
        for step in self.steps:
            arguments = [values[name] if name else None for name in step.inputs]
            if step.layer is not None:
                result = self.layers[step.layer](arguments[0])
            else:
                result = OPERATORS[step.operator](step.attributes, arguments)
            if len(step.outputs) == 1:
                values[step.outputs[0]] = result
            else:
                values.update(zip(step.outputs, result))
        answer: Tensor = values[self.answer]
        return answer

    def convolutions(self) -> dict[str, nn.Conv2d]:
        """The convolutions by their keys, in the network's order."""
        found = {}
        for key, layer in self.layers.items():
            if isinstance(layer, nn.Sequential):
                layer = layer[0]
            if isinstance(layer, nn.Conv2d):
                found[key] = layer
        return found

    def last(self) -> str:
        """The key of the last layer with weights, which makes the answer."""
        return [
            step.layer
            for step in self.steps
            if step.layer and not isinstance(self.layers[step.layer], nn.BatchNorm2d)
        ][-1]

    def normalised(self) -> set[str]:
        """Keys of the convolutions that have batch normalisation behind them already."""
        read = {s.inputs[0] for s in self.steps if s.operator == "BatchNormalization"}
        return {key for key, name in self.names.items() if name in read}

    @torch.no_grad()
    def put_normalisation_back(self, batches: Iterable[Tensor]) -> None:
        """Put batch normalisation behind each convolution, the last layer's aside.

        The network answers as before in evaluation mode.

        batches : inputs of this network, whose means and variances are taken
        """
        wanted = {
            key: layer
            for key, layer in self.convolutions().items()
            if key != self.last()
            and key not in self.normalised()
            and isinstance(layer, nn.Conv2d)
            and layer is self.layers[key]
        }
        sums = {
            key: torch.zeros(2, layer.out_channels, device=layer.weight.device)
            for key, layer in wanted.items()
        }
        seen = dict.fromkeys(wanted, 0)

        def look(key: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(_: nn.Module, __: Any, output: Tensor) -> None:
                sums[key][0] += output.sum(dim=(0, 2, 3))
                sums[key][1] += output.square().sum(dim=(0, 2, 3))
                seen[key] += output.numel() // output.shape[1]

            return hook

        hooks = [layer.register_forward_hook(look(key)) for key, layer in wanted.items()]
        try:
            self.eval()
            for batch in batches:
                self(batch)
        finally:
            for one in hooks:
                one.remove()
        for key, layer in wanted.items():
            mean = sums[key][0] / seen[key]
            variance = (sums[key][1] / seen[key] - mean.square()).clamp_min(1e-6)
            norm = nn.BatchNorm2d(layer.out_channels, device=layer.weight.device)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
            self.layers[key] = nn.Sequential(layer, norm)


class Classifier(nn.Module):
    """Takes photographs as `train` does, uint8 (n, height, width, 3), and gives logits."""

    mean: Tensor
    factor: Tensor

    def __init__(self, network: nn.Module, candidate: Candidate) -> None:
        super().__init__()
        spec = candidate.input
        check_trainable(spec, candidate.name)
        self.network = network
        self._spec = spec
        self._output: OutputSpec = class_output(candidate)
        scale, zero = spec.scale or 1.0, (0.0, 0.0, 0.0)
        self.register_buffer("mean", torch.tensor(spec.mean or zero).view(1, 1, 1, 3))
        std = torch.tensor(spec.std or (1.0, 1.0, 1.0)).view(1, 1, 1, 3)
        self.register_buffer("factor", 1 / std)
        self._scale = float(scale)

    def own_network(self) -> OnnxNetwork:
        """The network itself.

        Raises
        ------
        InputError
            when it is of another kind.
        """
        if not isinstance(self.network, OnnxNetwork):
            raise InputError(f"{type(self.network).__name__} did not come from an ONNX file")
        return self.network

    def inputs(self, images: Tensor) -> Tensor:
        """Photographs as the network itself reads them."""
        x = images.flip(3) if self._spec.channels == "BGR" else images
        if self._spec.dtype != "uint8":
            x = (x.float() / self._scale - self.mean) * self.factor
        return x.permute(0, 3, 1, 2) if self._spec.layout == "NCHW" else x

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.network(self.inputs(images)).float()
        answer = answer.flatten(1)
        if self._output.background:
            answer = answer[:, 1:]
        return answer.clamp_min(1e-9).log() if self._output.kind == "probabilities" else answer


def check_trainable(spec: InputSpec, name: str) -> None:
    """Refuse inputs that images cannot be held in memory for."""
    if spec.dtype == "float16" or spec.sides[0] != spec.sides[1]:
        raise InputError(
            f"{name} reads {spec.dtype} of {spec.sides[0]} x {spec.sides[1]}; only networks that "
            "read squares of uint8 or float32 can be trained here"
        )


def _layer(
    node: NodeProto, attributes: Attributes, weights: Mapping[str, np.ndarray], name: str
) -> nn.Module | None:
    """The module with this node's weights; None where it has none of its own."""
    build = _LAYERS.get(node.op_type)
    if build is None:
        return None
    held = [weights.get(one) for one in node.input[1:] if one]
    if not held or any(value is None for value in held):
        if node.op_type == "MatMul":
            return None
        raise InputError(f"{name}: layer {node.output[0]!r} computes its weights; they must stand")
    return build(attributes, [torch.tensor(np.array(value)) for value in held])


@torch.no_grad()
def _convolution(attributes: Attributes, weights: Sequence[Tensor]) -> nn.Module:
    weight = weights[0]
    if weight.ndim != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise InputError("a convolution over images with its padding in numbers is needed")
    groups = int(attributes.get("group", 1))
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        tuple(attributes.get("strides", [1, 1])),
        tuple(attributes.get("pads", [0, 0])[:2]),
        tuple(attributes.get("dilations", [1, 1])),
        groups,
        bias=len(weights) > 1,
    )
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(weights[1])
    return layer


@torch.no_grad()
def _normalisation(attributes: Attributes, weights: Sequence[Tensor]) -> nn.Module:
    gamma, beta, mean, variance = weights
    layer = nn.BatchNorm2d(len(gamma), eps=float(attributes.get("epsilon", 1e-5)))
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.weight.copy_(gamma)
    layer.bias.copy_(beta)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
    return layer


@torch.no_grad()
def _linear(attributes: Attributes, weights: Sequence[Tensor]) -> nn.Module:
    weight = weights[0] if attributes.get("transB", 0) else weights[0].T
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0:
        raise InputError("a Gemm that scales or turns its input cannot be trained here")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=len(weights) > 1)
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(weights[1] * float(attributes.get("beta", 1.0)))
    return layer


_LAYERS: dict[str, Callable[[Attributes, Sequence[Tensor]], nn.Module]] = {
    "Conv": _convolution,
    "BatchNormalization": _normalisation,
    "Gemm": _linear,
    "MatMul": _linear,
}


def _row_shape(node: NodeProto, shapes: Mapping[str, Sequence[int]], name: str) -> list[int]:
    """The shape, without the batch, of what is reshaped: one row an image, however it lies."""
    target = shapes.get(node.output[0], ())[1:]
    if len(target) == 1:
        return [-1]
    if not target or sum(side > 1 for side in target) > 1:
        raise InputError(
            f"{name} reshapes to {node.output[0]!r}, more than one row an image; only flattening "
            "can be trained here"
        )
    row = [-1 if side > 1 else 1 for side in target]
    return row if -1 in row else [-1, *row[1:]]


def _pooled(
    kind: Callable[..., Tensor], attributes: Attributes, x: Tensor, **options: Any
) -> Tensor:
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        low = float("-inf") if kind is nn.functional.max_pool2d else None
        if low is None:
            raise InputError("an average over a border that is not the same on both sides")
        x = nn.functional.pad(x, (left, right, top, bottom), value=low)
        top = left = 0
    ceil = bool(attributes.get("ceil_mode", 0))
    return kind(x, kernel, strides, (top, left), ceil_mode=ceil, **options)


def _averaged(attributes: Attributes, inputs: Sequence[Any]) -> Tensor:
    counted = bool(attributes.get("count_include_pad", 0))
    return _pooled(nn.functional.avg_pool2d, attributes, inputs[0], count_include_pad=counted)


def _mean(attributes: Attributes, inputs: Sequence[Any]) -> Tensor:
    axes = attributes.get("axes") or attributes.get("told", inputs[1:])[0].tolist()
    kept = bool(attributes.get("keepdims", 1))
    result: Tensor = inputs[0].mean(dim=tuple(axes), keepdim=kept)
    return result


def _clip(attributes: Attributes, inputs: Sequence[Any]) -> Tensor:
    bounds = (*attributes.get("told", inputs[1:]), None, None)[:2]
    low, high = (None if value is None else float(value) for value in bounds)
    result: Tensor = inputs[0].clamp(low, high)
    return result


def _split(attributes: Attributes, inputs: Sequence[Any]) -> Any:
    sizes = attributes.get("split") or attributes.get("told", inputs[1:])[0].tolist()
    return inputs[0].split(tuple(int(s) for s in sizes), dim=attributes.get("axis", 0))


def _sliced(attributes: Attributes, inputs: Sequence[Any]) -> Tensor:
    x, told = inputs[0], [list(value) for value in attributes.get("told", inputs[1:])]
    starts, ends = told[:2]
    axes = told[2] if len(told) > 2 else range(len(starts))
    for start, end, axis in zip(starts, ends, axes):
        size = x.shape[axis]
        first = start + size if start < 0 else start
        last = min(end + size if end < 0 else end, size)
        x = x.narrow(axis, first, last - first)
    result: Tensor = x
    return result


def _padded(attributes: Attributes, inputs: Sequence[Any]) -> Tensor:
    top, left, bottom, right = attributes["pads"]
    return nn.functional.pad(inputs[0], (left, right, top, bottom))


def _cast(attributes: Attributes, inputs: Sequence[Any]) -> Tensor:
    if attributes["to"] != onnx.TensorProto.FLOAT:
        raise InputError("a cast to anything but 32-bit numbers cannot be trained here")
    result: Tensor = inputs[0].float()
    return result


#: Operators whose further inputs are numbers that say what to do.
_TOLD = ("Clip", "ReduceMean", "Slice", "Split")

#: Operators without weights, by their names in ONNX.
OPERATORS: dict[str, Operator] = {
    "Add": lambda a, x: x[0] + x[1],
    "AveragePool": _averaged,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, x: torch.cat(list(x), dim=a["axis"]),
    "Div": lambda a, x: x[0] / x[1],
    "Dropout": lambda a, x: x[0],
    "Flatten": lambda a, x: x[0].flatten(1),
    "GlobalAveragePool": lambda a, x: x[0].mean(dim=(2, 3), keepdim=True),
    "Identity": lambda a, x: x[0],
    "LeakyRelu": lambda a, x: nn.functional.leaky_relu(x[0], a.get("alpha", 0.01)),
    "MaxPool": lambda a, x: _pooled(nn.functional.max_pool2d, a, x[0]),
    "Mul": lambda a, x: x[0] * x[1],
    "Pad": _padded,
    "ReduceMean": _mean,
    "Relu": lambda a, x: x[0].relu(),
    "Reshape": lambda a, x: x[0].flatten(1).reshape(len(x[0]), *a["row"]),
    "Sigmoid": lambda a, x: x[0].sigmoid(),
    "Slice": _sliced,
    "Softmax": lambda a, x: x[0].softmax(dim=a.get("axis", -1)),
    "Split": _split,
    "Squeeze": lambda a, x: x[0].flatten(1),
    "Sub": lambda a, x: x[0] - x[1],
    "Transpose": lambda a, x: x[0].permute(a["perm"]),
}
