"""Torch networks to ONNX files that a board's runtime (opset 16 at most) can read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Iterator, Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from adaptive.files import written_aside

OPSET = 13


def export_network(network: nn.Module, path: Path, size: int, half_weights: bool = True) -> Path:
    """Write `network`, which takes uint8 images (n, size, size, 3), as an ONNX file.

    Batch normalisation is folded by the exporter; the batch axis is free and called `n`.
    With `half_weights` the weights are stored in 16 bits and cast back in the graph: half the
    file, the same speed, since a CPU computes in 32 bits anyway.
    """
    example = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    return save_onnx(network, example, path, half_weights=half_weights)


def save_onnx(
    network: nn.Module,
    example: Tensor,
    path: Path,
    opset: int = OPSET,
    half_weights: bool = False,
    source: str = "images",
    outputs: Sequence[str] = ("logits",),
    axes: Mapping[str, Mapping[int, str]] | None = None,
    short_names: bool = False,
) -> Path:
    """Write `network`, in evaluation mode, as an ONNX file, whole or not at all.

    The graph is the one that `network` runs on `example`, with the first axis free and called
    `n`. Its input is called `source`, and what it returns is called `outputs`. Where other axes
    are free, `axes` names them. With `short_names` the values within are numbered.

    Raises
    ------
    RuntimeError
        torch's own, when a layer has no counterpart in `opset`.
    """
    with written_aside(path) as aside:
        with warnings.catch_warnings():
            # The TorchScript exporter is the one that still writes opset 13 without conversion.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Torchvision's detectors hold functions that are scripted, and index with what a
            # filter gives, which is never negative.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "Exporting aten::index", UserWarning)
            # Shape checks of torchvision's networks, which depend on the image's size alone.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            torch.onnx.export(
                network.cpu().eval(),
                (example,),
                str(aside),
                opset_version=opset,
                input_names=[source],
                output_names=list(outputs),
                dynamic_axes=(
                    {name: {0: "n"} for name in (source, *outputs)}
                    if axes is None
                    else {name: dict(free) for name, free in axes.items()}
                ),
                dynamo=False,
            )
        model = onnx.load(str(aside))
        if half_weights:
            store_half(model)
        if short_names:
            number_names(model)
        model.ir_version = min(model.ir_version, 8)  # the newest that ONNX Runtime 1.11 reads
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(aside))
    return path


def store_half(model: onnx.ModelProto, smallest: int = 256) -> None:
    """Store each float32 weight of at least `smallest` elements in 16 bits, cast in the graph."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < smallest or np.abs(values).max() > 65_000:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for position, node in enumerate(casts):
        model.graph.node.insert(position, node)


def number_names(model: onnx.ModelProto) -> None:
    """Number what a network's nodes hand on, and leave nodes unnamed.

    The exporter names each by the module that it is in, which is a tenth of the file of a small
    network of many nodes. What the whole reads and hands over, and its weights, keep their names.
    """
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    kept.update(weight.name for weight in model.graph.initializer)
    graphs = list(_graphs(model.graph))
    made = (name for graph in graphs for node in graph.node for name in node.output)
    short: dict[str, str] = {}
    for name in made:
        if name and name not in kept:
            short.setdefault(name, f"v{len(short)}")
    for graph in graphs:
        del graph.value_info[:]
        for value in graph.output:
            value.name = short.get(value.name, value.name)
        for node in graph.node:
            node.ClearField("name")
            node.ClearField("doc_string")
            node.input[:] = [short.get(name, name) for name in node.input]
            node.output[:] = [short.get(name, name) for name in node.output]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those within its nodes, however deep."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
