"""Make what the example of docs/conditions.md starts from: a camera by day and by night.

    python examples/conditions/camera.py FOLDER

FOLDER/camera     images without labels, as the camera took them: two in five at night
FOLDER/labelled   others that somebody labelled, in labels.csv: a disc, a ring or a cross
FOLDER/evening    what it takes later: four in five at night
FOLDER/candidates three small networks: `day` and `night` learned one condition each, and are
                  quick; `both` learned both, is better than the two together, and takes longer

By day things are darker than the ground; by infrared light they are brighter, and there is noise.
Everything is made here, by numpy and one seed. It needs the package onnx.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import sha256

LABELS = ("disc", "ring", "cross")
SIDE = 96

#: network -> side of its input, hidden units, and whether it learns by day and by night
NETWORKS = {"day": (12, 400, (0,)), "night": (12, 400, (1,)), "both": (24, 2400, (0, 1))}


def picture(label: int, night: bool, generator: np.random.Generator) -> np.ndarray:
    """One image of the camera, (96, 96, 3), uint8."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2.0
    x, y = x - generator.uniform(-12, 12), y - generator.uniform(-12, 12)
    size = generator.uniform(20, 30)
    away = np.hypot(x, y)
    if label == 0:
        thing = away < size
    elif label == 1:
        thing = (away < size) & (away > 0.55 * size)
    else:
        thing = (np.minimum(abs(x), abs(y)) < 0.22 * size) & (np.maximum(abs(x), abs(y)) < size)
    if night:
        ground, colour = 18 + generator.uniform(-6, 6), 26 + generator.uniform(-4, 8)
        light = np.where(thing, ground + colour, ground)[:, :, None] * np.ones(3)
        noise = 7.0
    else:
        ground = generator.uniform(150, 210, 3)
        light = np.where(thing[:, :, None], ground * generator.uniform(0.45, 0.75, 3), ground)
        noise = 2.0
    light = light + 8 * (x / SIDE)[:, :, None]  # the lamp stands at one side
    seen = light + noise * generator.normal(size=light.shape)
    return np.asarray(np.clip(seen, 0, 255).astype(np.uint8))


def pictures(
    count: int, night: float, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images, their labels, and whether each was taken at night."""
    labels = generator.integers(0, len(LABELS), count)
    dark = generator.random(count) < night
    return [picture(int(a), bool(b), generator) for a, b in zip(labels, dark)], labels, dark


def made_network(
    path: Path,
    side: int,
    hidden: int,
    images: list[np.ndarray],
    labels: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """Least squares on random hidden units, as an ONNX network from pixels to logits."""
    small = [Image.fromarray(image).resize((side, side), Image.BILINEAR) for image in images]
    X = np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])
    X -= X.mean(axis=1, keepdims=True)
    X /= X.std(axis=1, keepdims=True) + 1e-3
    first = generator.normal(0, 1 / np.sqrt(X.shape[1]), (X.shape[1], hidden)).astype(np.float32)
    inner = np.maximum(X @ first, 0)
    wanted = 6.0 * (np.eye(len(LABELS))[labels] - 1 / len(LABELS))
    gram = inner.T @ inner + 3.0 * np.eye(hidden)
    second = np.linalg.solve(gram, inner.T @ wanted).astype(np.float32)
    axes = {"axes": [1], "keepdims": 1}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"], axis=1),
        helper.make_node("Div", ["flat", "white"], ["shares"]),
        helper.make_node("ReduceMean", ["shares"], ["mean"], **axes),
        helper.make_node("Sub", ["shares", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["variance"], **axes),
        helper.make_node("Sqrt", ["variance"], ["deviation"]),
        helper.make_node("Add", ["deviation", "least"], ["spread"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "first"], ["units"]),
        helper.make_node("Relu", ["units"], ["inner"]),
        helper.make_node("MatMul", ["inner", "second"], ["logits"]),
    ]
    weights = {
        "white": np.array([255], np.float32),
        "least": np.array([1e-3], np.float32),
        "first": first,
        "second": second,
    }
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=7), str(path))


def make(folder: Path, seed: int = 0) -> None:
    """Write the four folders."""
    generator = np.random.default_rng(seed)
    for name in ("camera", "labelled", "evening", "candidates"):
        (folder / name).mkdir(parents=True)
    for name, count, night in (("camera", 300, 0.4), ("evening", 60, 0.8), ("labelled", 700, 0.4)):
        images, labels, _ = pictures(count, night, generator)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{number:03}.png")
    with open(folder / "labelled" / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows((f"{row:03}.png", LABELS[label]) for row, label in enumerate(labels))
    found = []
    images, labels, dark = pictures(1600, 0.5, generator)
    for name, (side, hidden, nights) in NETWORKS.items():
        rows = np.flatnonzero(np.isin(dark, nights))
        path = folder / "candidates" / f"{name}.onnx"
        made_network(path, side, hidden, [images[r] for r in rows], labels[rows], generator)
        pixels = InputSpec(side, "uint8", "NHWC", "stretch")
        output = OutputSpec(len(LABELS), "logits")
        found.append(Candidate(name, path.name, sha256(path), pixels, output))
    write_candidates(folder / "candidates", found, LABELS, reference="both")


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        sys.exit("give one argument, a folder that does not exist yet")
    make(Path(sys.argv[1]))
