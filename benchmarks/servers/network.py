"""What all servers serve: a small photograph, and a network of about 0.6 ms.

The network's weights are drawn by chance; what it says means nothing, what it costs does.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from onnx_files import integer, ints, model, node, tensor, value

from adaptive.bundle.bundle import Bundle, write_bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import sha256
from adaptive.policy.fixed import Fixed

SIDE = 32
CLASSES = 10

#: Channels of the convolutions of 3 x 3, and their strides.
LAYERS = ((3, 32, 1), (32, 64, 2), (64, 64, 1), (64, 96, 2), (96, 128, 1))


def photograph(side: int = 96, seed: int = 0) -> bytes:
    """A JPEG of a few KB, with edges and some noise."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3)).astype(np.uint8))
    pixels = np.asarray(coarse.resize((side, side), Image.BICUBIC), float)
    noisy = np.clip(pixels + generator.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def write_network(path: Path) -> Path:
    """Images (n, 32, 32, 3), uint8, to logits (n, 10)."""
    generator = np.random.default_rng(1)
    nodes = [
        node("Cast", ["images"], ["pixels"], integer("to", 1)),
        node("Transpose", ["pixels"], ["0"], ints("perm", [0, 3, 1, 2])),
    ]
    weights = []
    for k, (inward, outward, stride) in enumerate(LAYERS):
        scale = (2 / (9 * inward)) ** 0.5 / (100 if k == 0 else 1)
        drawn = generator.normal(0, scale, (outward, inward, 3, 3)).astype(np.float32)
        weights.append(tensor(f"w{k}", drawn))
        nodes.append(
            node(
                "Conv",
                [str(k), f"w{k}"],
                [f"c{k}"],
                ints("kernel_shape", [3, 3]),
                ints("pads", [1, 1, 1, 1]),
                ints("strides", [stride, stride]),
            )
        )
        nodes.append(node("Relu", [f"c{k}"], [str(k + 1)]))
    width = LAYERS[-1][1]
    head = generator.normal(0, 0.3, (width, CLASSES)).astype(np.float32)
    weights.append(tensor("head", head))
    nodes += [
        node("GlobalAveragePool", [str(len(LAYERS))], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"], integer("axis", 1)),
        node("MatMul", ["flat", "head"], ["logits"]),
    ]
    return model(
        path,
        nodes,
        [value("images", "uint8", ["n", SIDE, SIDE, 3])],
        [value("logits", "float32", ["n", CLASSES])],
        weights,
    )


def write_served(folder: Path) -> tuple[Path, Path]:
    """A bundle whose policy always asks the one network; and the network's file."""
    candidates = folder / "candidates"
    candidates.mkdir(parents=True)
    file = write_network(candidates / "small.onnx")
    own = Candidate(
        "small",
        file.name,
        sha256(file),
        InputSpec(SIDE, "uint8", "NHWC", "cover"),
        OutputSpec(CLASSES, "logits"),
        ms=0.6,
    )
    labels = [f"class {k}" for k in range(CLASSES)]
    write_candidates(candidates, [own], labels)
    bundle = folder / "bundle"
    write_bundle(bundle, Bundle.read(candidates), Fixed(("small",)))
    return bundle, file
