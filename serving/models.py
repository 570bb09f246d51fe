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
    """One output of a model: so many values an image, FP32, INT64 or BYTES.

    `boxes` says that it has a row for each box, and not for each image.
    """

    name: str
    datatype: str
    width: int
    boxes: bool = False

    def shape(self) -> list[int]:
        """As metadata tell it, -1 for what is free."""
        if not self.boxes:
            return [-1, self.width]
        return [-1] if self.width == 1 else [-1, self.width]


#: What a model that finds boxes answers with; it takes one image a request.
BOXES = (
    OutputTensor("boxes", "FP32", 4, True),
    OutputTensor("scores", "FP32", 1, True),
    OutputTensor("classes", "INT64", 1, True),
    OutputTensor("labels", "BYTES", 1, True),
)


def outputs_of(model: str, classes: int, task: str = "classify") -> tuple[OutputTensor, ...]:
    """What a model answers with."""
    if task == "detect":
        return BOXES if model != ROUTER else (*BOXES, OutputTensor("candidate", "BYTES", 1))
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


def metadata(model: str, classes: int, task: str = "classify") -> dict[str, Any]:
    """A model's metadata, as the protocol wants it."""
    return {
        "name": model,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1, 1]}],
        "outputs": [
            {"name": o.name, "datatype": o.datatype, "shape": o.shape()}
            for o in outputs_of(model, classes, task)
        ],
    }


def config(model: str, classes: int, max_batch: int, task: str = "classify") -> dict[str, Any]:
    """A model's configuration, as Triton words it; 0 images a batch where it takes no batches."""
    types = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}
    detects = task == "detect"
    return {
        "name": model,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0 if detects else max_batch,
        "input": [{"name": INPUT, "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [
            {
                "name": o.name,
                "data_type": types[o.datatype],
                "dims": o.shape() if o.boxes else [o.width],
            }
            for o in outputs_of(model, classes, task)
        ],
    }
