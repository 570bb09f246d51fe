"""Write tiny ONNX files without the onnx package, which a board does not have.

Only what the tests need of the protocol-buffer wire format and of onnx.proto.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Sequence

import numpy as np

_DTYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(number(1, d) for d in values.shape)
    return (
        dims + number(2, _DTYPES[values.dtype.name]) + block(8, name) + block(9, values.tobytes())
    )


def external_tensor(name: str, shape: Sequence[int], location: str) -> bytes:
    dims = b"".join(number(1, d) for d in shape)
    entry = block(1, "location") + block(2, location)
    return dims + number(2, 1) + block(8, name) + block(13, entry) + number(14, 1)


def ints(name: str, values: Sequence[int]) -> bytes:
    body = b"".join(number(8, v % (1 << 64)) for v in values)
    return block(1, name) + body + number(20, 7)


def integer(name: str, value: int) -> bytes:
    return block(1, name) + number(3, value % (1 << 64)) + number(20, 2)


def real(name: str, value: float) -> bytes:
    return block(1, name) + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes) -> bytes:
    body = b"".join(block(1, i) for i in inputs) + b"".join(block(2, o) for o in outputs)
    return body + block(4, kind) + b"".join(block(5, a) for a in attributes)


def value(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(block(1, block(2, d) if isinstance(d, str) else number(1, d)) for d in shape)
    return block(1, name) + block(2, block(1, number(1, _DTYPES[dtype]) + block(2, dims)))


def model(
    path: Path,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    weights: Sequence[bytes] = (),
    opset: int = 13,
) -> Path:
    graph = b"".join(block(1, n) for n in nodes) + block(2, "graph")
    graph += b"".join(block(5, w) for w in weights)
    graph += b"".join(block(11, i) for i in inputs) + b"".join(block(12, o) for o in outputs)
    path.write_bytes(number(1, 8) + block(7, graph) + block(8, block(1, "") + number(2, opset)))
    return path


def colour_network(
    path: Path,
    weights: np.ndarray,
    size: int,
    dtype: str = "uint8",
    layout: str = "NHWC",
    softmax: bool = False,
    opset: int = 13,
) -> Path:
    """Mean colour of the image, times `weights` (3, classes), as logits or probabilities."""
    nhwc = layout == "NHWC"
    shape: list[int | str] = ["n", size, size, 3] if nhwc else ["n", 3, size, size]
    nodes = [
        node("Cast", ["images"], ["pixels"], integer("to", 1)),
        node(
            "ReduceMean",
            ["pixels"],
            ["colour"],
            ints("axes", [1, 2] if nhwc else [2, 3]),
            integer("keepdims", 0),
        ),
        node("MatMul", ["colour", "weights"], ["logits" if softmax else "answer"]),
    ]
    if softmax:
        nodes.append(node("Softmax", ["logits"], ["answer"], integer("axis", 1)))
    return model(
        path,
        nodes,
        [value("images", dtype, shape)],
        [value("answer", "float32", ["n", weights.shape[1]])],
        [tensor("weights", weights.astype(np.float32))],
        opset,
    )


def first_exit(path: Path, weights: np.ndarray, size: int) -> Path:
    """The first segment of a network with two exits: its answer, and the state to go on from."""
    return model(
        path,
        [
            node("Cast", ["images"], ["pixels"], integer("to", 1)),
            node("ReduceMean", ["pixels"], ["state"], ints("axes", [1, 2]), integer("keepdims", 0)),
            node("MatMul", ["state", "weights"], ["answer"]),
        ],
        [value("images", "uint8", ["n", size, size, 3])],
        [value("answer", "float32", ["n", 3]), value("state", "float32", ["n", 3])],
        [tensor("weights", weights.astype(np.float32))],
    )


def second_exit(path: Path, weights: np.ndarray) -> Path:
    """The second segment: reads the first one's state."""
    return model(
        path,
        [node("MatMul", ["state", "weights"], ["answer"])],
        [value("state", "float32", ["n", 3])],
        [value("answer", "float32", ["n", 3])],
        [tensor("weights", weights.astype(np.float32))],
    )


def box_network(path: Path, boxes: np.ndarray, size: int, batch: int | str = 1) -> Path:
    """A detector of fixed boxes (3, 4): that of class c is as sure as channel c is bright.

    batch : first axis of its input; 0 for none
    """
    axes = [1, 2] if batch else [0, 1]
    return model(
        path,
        [
            node("Cast", ["images"], ["pixels"], integer("to", 1)),
            node("ReduceMean", ["pixels"], ["colour"], ints("axes", axes), integer("keepdims", 0)),
            node("Mul", ["colour", "shares"], ["scores"]),
            node("Identity", ["corners"], ["boxes"]),
        ],
        [value("images", "uint8", [*([batch] if batch else []), size, size, 3])],
        [value("boxes", "float32", [3, 4]), value("scores", "float32", [3, 3])],
        [
            tensor("shares", np.eye(3, dtype=np.float32) / 255),
            tensor("corners", boxes.astype(np.float32)),
        ],
    )
