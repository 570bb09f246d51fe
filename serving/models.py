"""Which models the server offers under the Open Inference Protocol, and what they answer with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adaptive.serving.protocols import ROUTER
from adaptive.serving.tensors import INPUT

#: The one version that a model has: that of the bundle that is served.
VERSION = "1"

#: How many of the best classes the router tells.
TOP = 5

PLATFORM = "adaptive"


@dataclass(frozen=True)
class OutputTensor:
    """One output of a model: so many values an image, FP32 or BYTES."""

    name: str
    datatype: str
    width: int


def outputs_of(model: str, classes: int) -> tuple[OutputTensor, ...]:
    """What a model answers with."""
    label = OutputTensor("label", "BYTES", 1)
    if model != ROUTER:
        return label, OutputTensor("probabilities", "FP32", classes)
    top = min(TOP, classes)
    return (
        label,
        OutputTensor("candidate", "BYTES", 1),
        OutputTensor("labels", "BYTES", top),
        OutputTensor("scores", "FP32", top),
    )


def metadata(model: str, classes: int) -> dict[str, Any]:
    """A model's metadata, as the protocol wants it."""
    return {
        "name": model,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1, 1]}],
        "outputs": [
            {"name": o.name, "datatype": o.datatype, "shape": [-1, o.width]}
            for o in outputs_of(model, classes)
        ],
    }


def config(model: str, classes: int, max_batch: int) -> dict[str, Any]:
    """A model's configuration, as Triton words it."""
    types = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
    return {
        "name": model,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": max_batch,
        "input": [{"name": INPUT, "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [
            {"name": o.name, "data_type": types[o.datatype], "dims": [o.width]}
            for o in outputs_of(model, classes)
        ],
    }
