"""A small detector as a candidate: its ONNX file, held against torch, and its manifest entry."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch

from adaptive.box_output import BoxOutput
from adaptive.candidate import Candidate, InputSpec
from adaptive.engines.engine import open_engine
from adaptive.errors import EngineError
from adaptive.files import sha256
from adaptive.networks.detectors.agreement import largest_difference
from adaptive.networks.detectors.as_onnx import AsItIs
from adaptive.networks.detectors.small import DESIGNS, SmallDetector, SmallFasterRCNN
from adaptive.networks.detectors.training import box_spec
from adaptive.networks.export import save_onnx

#: Largest difference between ONNX Runtime's and torch's answers, logits or shares of a side.
TOLERANCE = 1e-3

#: The same where weights are stored in 16 bits.
HALF_TOLERANCE = 0.1


def export_small_detector(
    network: SmallDetector,
    design: str,
    path: Path,
    size: int,
    classes: Sequence[str],
    half_weights: bool = False,
) -> tuple[Candidate, float]:
    """Write a detector as an ONNX file for scenes of `size` pixels, and check what it answers.

    half_weights : make the file small: weights in 16 bits, which are cast to 32 when it is loaded,
        and numbers for names

    Returns
    -------
    The manifest entry, and the largest difference on random images.

    Raises
    ------
    EngineError
        when ONNX Runtime cannot run it, or answers otherwise than torch.
    """
    network = copy.deepcopy(network).eval()
    if isinstance(network, SmallFasterRCNN):
        network.network.transform = AsItIs()  # scenes have the size that it scales to
    names, single = network.outputs, network.fixed_batch
    images = np.random.default_rng(0).integers(0, 256, (1 if single else 3, size, size, 3))
    inputs = torch.from_numpy(images.astype(np.uint8))
    free = {name: {0: "k"} for name in names} if single else None
    opset = DESIGNS[design].opset
    save_onnx(
        network, inputs[:1], path, opset, half_weights,
        outputs=names, axes=free, short_names=half_weights,
    )  # fmt: skip
    spec = box_spec(design, classes)
    output = BoxOutput(**{name: getattr(spec, name) for name in spec.__dataclass_fields__})
    read = InputSpec(size, "uint8", "NHWC", "stretch")
    candidate = Candidate(design, path.name, sha256(path), read, output)
    engine = open_engine(path, candidate, torch.get_num_threads())
    with torch.inference_mode():
        found: Any = network(inputs)
    expected = dict(zip(names, (part.numpy() for part in found)))
    answers = dict(zip(names, engine.run(inputs.numpy())))
    engine.close()
    scale = (float(size), float(size)) if single else (1.0, 1.0)
    difference = largest_difference(expected, answers, scale, chosen=single)
    tolerance = HALF_TOLERANCE if half_weights else TOLERANCE
    if not difference <= tolerance:
        raise EngineError(
            f"{design} as ONNX differs from torch by up to {difference:.2g} on random images; "
            f"no more than {tolerance} is allowed"
        )
    return candidate, difference
