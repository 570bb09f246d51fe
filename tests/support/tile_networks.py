"""Small networks of every kind that is cut into tiles, and clips that change here and there."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
import onnx_files as onnx


class Layers:
    """A network that is written layer by layer; each gives the name of its map.

    shape : channels, rows and columns of the input
    """

    def __init__(self, shape: Sequence[int], seed: int = 0, opset: int = 13) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = tuple(shape)
        self.opset = opset
        self.nodes: list[bytes] = []
        self.weights: list[bytes] = []
        self.channels = {"images": shape[0]}
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"map{self.count}"

    def weight(self, values: np.ndarray) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(onnx.tensor(name, np.ascontiguousarray(values)))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.random.normal(size=shape) * scale).astype(np.float32)

    def node(self, kind: str, inputs: Sequence[str], channels: int, *attributes: bytes) -> str:
        name = self.name()
        self.nodes.append(onnx.node(kind, inputs, [name], *attributes))
        self.channels[name] = channels
        return name

    def conv(
        self,
        of: str,
        channels: int,
        kernel: Sequence[int] = (3, 3),
        stride: Sequence[int] = (1, 1),
        dilation: Sequence[int] = (1, 1),
        group: int = 1,
        pads: Sequence[int] | None = None,
        bias: bool = True,
        auto: str | None = None,
    ) -> str:
        read = self.channels[of]
        size = read // group * kernel[0] * kernel[1]
        inputs = [of, self.weight(self.normal(channels, read // group, *kernel, scale=size**-0.5))]
        if bias:
            inputs.append(self.weight(self.normal(channels)))
        attributes = [
            onnx.ints("kernel_shape", kernel),
            onnx.ints("strides", stride),
            onnx.ints("dilations", dilation),
            onnx.integer("group", group),
        ]
        if auto is not None:
            attributes.append(onnx.block(1, "auto_pad") + onnx.block(4, auto) + onnx.number(20, 3))
        else:
            given = [k // 2 for k in kernel] * 2 if pads is None else pads
            attributes.append(onnx.ints("pads", given))
        return self.node("Conv", inputs, channels, *attributes)

    def pool(
        self,
        kind: str,
        of: str,
        kernel: Sequence[int],
        stride: Sequence[int],
        pads: Sequence[int] = (0, 0, 0, 0),
    ) -> str:
        attributes = [
            onnx.ints("kernel_shape", kernel),
            onnx.ints("strides", stride),
            onnx.ints("pads", pads),
        ]
        return self.node(kind, [of], self.channels[of], *attributes)

    def one(self, kind: str, *of: str) -> str:
        return self.node(kind, of, self.channels[of[0]])

    def norm(self, of: str) -> str:
        count = self.channels[of]
        inputs = [of, *(self.weight(self.normal(count)) for _ in range(3))]
        inputs.append(self.weight(np.abs(self.normal(count)) + 0.5))
        return self.node("BatchNormalization", inputs, count)

    def concat(self, *of: str) -> str:
        return self.node("Concat", of, sum(self.channels[o] for o in of), onnx.integer("axis", 1))

    def larger(self, of: str) -> str:
        """Twice the size, the nearest pixel."""
        scales = self.weight(np.array([1, 1, 2, 2], np.float32))
        none = self.weight(np.zeros(0, np.float32))
        mode = onnx.block(1, "mode") + onnx.block(4, "nearest") + onnx.number(20, 3)
        turned = onnx.block(1, "coordinate_transformation_mode")
        turned += onnx.block(4, "asymmetric") + onnx.number(20, 3)
        nearest = onnx.block(1, "nearest_mode") + onnx.block(4, "floor") + onnx.number(20, 3)
        return self.node("Resize", [of, none, scales], self.channels[of], mode, turned, nearest)

    def head(self, of: str, classes: int = 5) -> str:
        attributes = [onnx.ints("axes", (2, 3)), onnx.integer("keepdims", 0)]
        mean = self.node("ReduceMean", [of], self.channels[of], *attributes)
        weight = self.weight(self.normal(self.channels[of], classes))
        return self.node("MatMul", [mean, weight], classes)

    def write(self, path: Path, *outputs: str) -> Path:
        shown = [onnx.block(1, name) for name in outputs]
        given = [onnx.value("images", "float32", ["n", *self.shape])]
        return onnx.model(path, self.nodes, given, shown, self.weights, self.opset)


def bottlenecks(path: Path, side: int = 24, channels: int = 16) -> Path:
    """A stem, pooling, two residual blocks with a 1x3 and a 3x1 kernel, and a head."""
    net = Layers((3, side, side))
    x = net.one("Relu", net.conv("images", channels, (3, 3), (2, 2)))
    x = net.pool("MaxPool", x, (3, 3), (1, 1), (1, 1, 1, 1))
    for kernel in ((1, 3), (3, 1)):
        y = net.one("Relu", net.conv(x, channels, (1, 1)))
        y = net.one("Relu", net.norm(net.conv(y, channels, kernel)))
        x = net.one("Relu", net.one("Add", net.conv(y, channels, (1, 1)), x))
    return net.write(path, net.head(x))


def clip(shape: Sequence[int], frames: int, seed: int = 0, side: int = 5) -> list[np.ndarray]:
    """Frames (1, channels, rows, columns) of which each changes a patch of the one before."""
    random = np.random.default_rng(seed)
    frame = random.normal(size=(1, *shape)).astype(np.float32)
    found = []
    for _ in range(frames):
        found.append(frame)
        frame = frame.copy()
        y, x = (int(random.integers(0, max(1, s - side + 1))) for s in shape[1:])
        patch = frame[:, :, y : y + side, x : x + side]
        patch[...] = random.normal(size=patch.shape)
    return found
