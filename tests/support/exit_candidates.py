"""A folder of candidates with three exits that can be run through without their heads.

All networks look at an image's mean colour. The exits multiply it by one matrix after another;
each is surer than the one before it, so that images stop at all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx_files import colour_network, integer, ints, model, node, tensor, value

from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec, Through
from adaptive.files import sha256

COLOURS = ("blue", "green", "red")
EXITS = ("deep@1", "deep@2", "deep@3")

#: Columns are blue, green, red; rows are the image's red, green, blue.
EXACT = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
TURN = np.array([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]], np.float32)


def segment(path: Path, first: bool, answer: bool, state: bool, weights: np.ndarray) -> Path:
    """A segment that reads images or a state (n, 3) and turns it."""
    if first:
        nodes = [
            node("Cast", ["images"], ["pixels"], integer("to", 1)),
            node("ReduceMean", ["pixels"], ["mean"], ints("axes", [1, 2]), integer("keepdims", 0)),
        ]
        source = value("images", "uint8", ["n", 8, 8, 3])
    else:
        nodes, source = [], value("mean", "float32", ["n", 3])
    nodes.append(node("MatMul", ["mean", "turn"], ["state"]))
    outputs = []
    if answer:
        nodes.append(node("MatMul", ["state", "weights"], ["answer"]))
        outputs.append(value("answer", "float32", ["n", 3]))
    if state:
        outputs.append(value("state", "float32", ["n", 3]))
    matrices = [tensor("turn", TURN), tensor("weights", weights.astype(np.float32))]
    return model(path, nodes, [source], outputs, matrices[: 1 + answer])


def exit_candidates(folder: Path, through: bool = True) -> Path:
    """Write the exits, and two whole networks, with their manifest into `folder`."""
    spec = InputSpec(8, "uint8", "NHWC", "stretch")
    normal = InputSpec(16, "float32", "NCHW", "crop", (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), 255.0)
    colour_network(folder / "cheap.onnx", EXACT * 0.04, 8)
    colour_network(folder / "strong.onnx", EXACT * 40, 16, "float32", "NCHW", softmax=True)

    def candidate(name: str, file: str, own: InputSpec, kind: str, **more: Any) -> Candidate:
        return Candidate(name, file, sha256(folder / file), own, OutputSpec(3, kind), **more)

    found = [
        candidate("cheap", "cheap.onnx", spec, "logits", mj=1.0),
        candidate("strong", "strong.onnx", normal, "probabilities", mj=9.0),
    ]
    for k, name in enumerate(EXITS):
        last = k == len(EXITS) - 1
        segment(folder / f"{name}.onnx", k == 0, True, not last, EXACT * 0.05 * (k + 1))
        more: dict[str, Any] = {"mj": 2.0, "after": EXITS[k - 1] if k else None}
        if through and not last:
            short = segment(folder / f"{name}.through.onnx", k == 0, False, True, EXACT)
            more["through"] = Through(short.name, sha256(short))
        found.append(candidate(name, f"{name}.onnx", spec, "logits", **more))
    write_candidates(folder, found, COLOURS, reference="strong")
    return folder
