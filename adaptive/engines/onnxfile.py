"""The few facts of an ONNX file that must be known before a runtime opens it.

A board has no `onnx` package, so this walks the protocol-buffer wire format itself
(https://protobuf.dev/programming-guides/encoding/) over a memory map, skipping weights. Field
numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Union

from adaptive.errors import BundleError

Buffer = Union[mmap.mmap, memoryview]

# message kind -> {field number: kind of the message inside}
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


@dataclass(frozen=True)
class OnnxHeader:
    """`opset` of the default domain, and the file names of weights that are kept outside."""

    opset: int
    external: tuple[str, ...]


def read_header(path: Path) -> OnnxHeader:
    """Read opset and external file names without reading the weights.

    Raises
    ------
    BundleError
        when the file is no ONNX file.
    """
    opset = 0
    external: dict[str, None] = {}
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for kind, start, end in _messages(data, "model", 0, len(data)):
                if kind == "opset":
                    fields = dict(fields_of(data, start, end))
                    if text_of(data, fields.get(1)) in ("", "ai.onnx"):
                        version = fields.get(2)
                        opset = version if isinstance(version, int) else 0
                elif kind == "entry":
                    fields = dict(fields_of(data, start, end))
                    if text_of(data, fields.get(1)) == "location":
                        external[text_of(data, fields.get(2))] = None
    except OSError as exc:
        raise BundleError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, IndexError, RecursionError) as exc:
        raise BundleError(f"{path.name} is not an ONNX file") from exc
    if opset < 1:
        raise BundleError(f"{path.name} is not an ONNX file: it names no opset")
    return OnnxHeader(opset, tuple(external))


#: Names of the element types that networks of images read and hand on (TensorProto.DataType).
_ELEMENTS = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16"}


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output of a network; an axis of `shape` that is free is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """What a network reads and what it hands on, in their order."""

    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]


def read_signature(path: Path) -> Signature:
    """Read the network's inputs and outputs, without its weights.

    Raises
    ------
    BundleError
        when the file is no ONNX file.
    """
    found: dict[int, list[OnnxTensor]] = {11: [], 12: []}
    weights: set[str] = set()
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            whole = fields_of(data, 0, len(data))
            graphs = [v for n, v in whole if n == 7 and isinstance(v, tuple)]
            for number, value in (field for graph in graphs for field in fields_of(data, *graph)):
                if not isinstance(value, tuple):
                    continue
                if number == 5:  # weights, which old files list among the inputs too
                    weights.update(text_of(data, v) for n, v in fields_of(data, *value) if n == 8)
                elif number in found:
                    found[number].append(_tensor(data, *value))
    except OSError as exc:
        raise BundleError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, IndexError) as exc:
        raise BundleError(f"{path.name} is not an ONNX file") from exc
    inputs = tuple(entry for entry in found[11] if entry.name not in weights)
    return Signature(inputs, tuple(found[12]))


def _tensor(data: Buffer, start: int, end: int) -> OnnxTensor:
    """A ValueInfoProto: its name, and in its type the element type and the dimensions."""
    fields = dict(fields_of(data, start, end))
    inside = dict(fields_of(data, *_message(data, fields.get(2), 1)))
    kind, dimensions = inside.get(1), inside.get(2)
    shape: list[int | None] = []
    if isinstance(dimensions, tuple):
        for number, dimension in fields_of(data, *dimensions):
            if number == 1 and isinstance(dimension, tuple):
                size = dict(fields_of(data, *dimension)).get(1)
                shape.append(size if isinstance(size, int) else None)
    name = _ELEMENTS.get(kind, f"type {kind}") if isinstance(kind, int) else "no type"
    return OnnxTensor(text_of(data, fields.get(1)), name, tuple(shape))


def _message(data: Buffer, where: int | tuple[int, int] | None, number: int) -> tuple[int, int]:
    """Where the message under one field of another message lies."""
    value = dict(fields_of(data, *where)).get(number) if isinstance(where, tuple) else None
    if not isinstance(value, tuple):
        raise ValueError("an input or output that is no tensor")
    return value


def _messages(data: Buffer, kind: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Every message below one of `kind` that `_INSIDE` knows, as (kind, start, end)."""
    inside = _INSIDE.get(kind, {})
    for number, value in fields_of(data, start, end):
        if number in inside and isinstance(value, tuple):
            yield (inside[number], *value)
            yield from _messages(data, inside[number], *value)


def fields_of(
    data: Buffer, start: int, end: int
) -> Iterator[tuple[int, int | tuple[int, int] | None]]:
    """(field number, number or (start, end) of its bytes) for each field of one message."""
    position = start
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        value: int | tuple[int, int] | None = None
        if wire == 0:
            value, position = _varint(data, position)
        elif wire == 2:
            length, position = _varint(data, position)
            value, position = (position, position + length), position + length
        elif wire == 1:
            position += 8
        elif wire == 5:
            position += 4
        else:
            raise ValueError(f"wire type {wire}")
        if position > end or number == 0:
            raise ValueError("a field runs past the end of its message")
        yield number, value


def _varint(data: Buffer, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def text_of(data: Buffer, where: int | tuple[int, int] | None) -> str:
    """The text at (start, end); "" where there is none."""
    return bytes(data[where[0] : where[1]]).decode() if isinstance(where, tuple) else ""
