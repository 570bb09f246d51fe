"""The asking side of the Open Inference Protocol v2: requests written, answers read.

What the answering side of this library does stands in `adaptive.serving.tensors`.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import Any, Mapping, Sequence, Tuple, Union

import numpy as np

from adaptive.errors import EngineError
from adaptive.files import Fields

#: Where the JSON of a message with binary data ends.
LENGTH_HEADER = "Inference-Header-Content-Length"

#: numpy's types by the protocol's names; BYTES are texts.
TYPES = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "UINT8": "|u1",
    "INT8": "|i1",
    "INT32": "<i4",
    "INT64": "<i8",
}

#: The protocol's names of what a network of images may read.
READS = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8"}

#: One tensor's values: an array, or of BYTES its elements.
Values = Union[np.ndarray, Sequence[bytes]]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as a model's metadata tell it; -1 in `shape` is free."""

    name: str
    datatype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class ModelInfo:
    """A model as its metadata tell it."""

    name: str
    versions: Tuple[str, ...]
    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[TensorInfo, ...]


def read_value(body: bytes, what: str) -> Any:
    """A JSON value.

    Raises
    ------
    EngineError
        when it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise EngineError(f"{what} is not JSON") from exc


def read_model(body: bytes) -> ModelInfo:
    """What a model's metadata say.

    Raises
    ------
    EngineError
        when they are not the protocol's.
    """
    try:
        entry = Fields(read_value(body, "the model's metadata"), "the model's metadata")
        tensors = [
            tuple(_tensor(value) for value in entry.get(name, list))
            for name in ("inputs", "outputs")
        ]
        versions = tuple(map(str, entry.get("versions", list, default=[]) or []))
        return ModelInfo(entry.get("name", str), versions, tensors[0], tensors[1])
    except ValueError as exc:
        raise EngineError(f"the model's metadata are not the protocol's: {exc}") from exc


def _tensor(value: object) -> TensorInfo:
    entry = Fields(value, "a tensor of the model")
    shape = entry.get("shape", list)
    if not all(isinstance(s, (int, str)) and str(s).lstrip("-").isdigit() for s in shape):
        raise EngineError(f"a tensor of the model has a shape of {str(shape)[:80]}")
    return TensorInfo(
        entry.get("name", str), entry.get("datatype", str), tuple(int(side) for side in shape)
    )


def write_request(
    name: str,
    datatype: str,
    shape: Sequence[int],
    values: Values,
    outputs: Sequence[str],
    binary: bool,
    classes: int = 0,
) -> tuple[bytes, dict[str, str]]:
    """The body of a request for inference, and its headers.

    Parameters
    ----------
    binary : values stand behind the JSON, here and in the answer
    classes : so many of the best classes as texts in place of each output; 0 asks for the values
    """
    entry: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": datatype}
    blob = b""
    if binary:
        blob = _packed(values, datatype)
        entry["parameters"] = {"binary_data_size": len(blob)}
    elif isinstance(values, np.ndarray):
        entry["data"] = values.ravel().tolist()
    else:
        entry["data"] = [base64.b64encode(value).decode() for value in values]
    wanted: list[dict[str, Any]] = []
    for output in outputs:
        parameters: dict[str, Any] = {"binary_data": True} if binary else {}
        if classes:
            parameters["classification"] = classes
        wanted.append({"name": output, **({"parameters": parameters} if parameters else {})})
    text = json.dumps({"inputs": [entry], "outputs": wanted}).encode()
    if not binary:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    return text + blob, headers


def _packed(values: Values, datatype: str) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype(TYPES[datatype], copy=False).tobytes()
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@dataclass(frozen=True)
class Inferred:
    """An answer: which model gave it, and its tensors by name."""

    model: str
    version: str
    tensors: Mapping[str, Values]


def read_answer(body: bytes, json_length: str | None) -> Inferred:
    """What a server answered to a request for inference.

    Raises
    ------
    EngineError
        when it is not the protocol's.
    """
    length = len(body)
    if json_length is not None:
        if not json_length.isdigit() or int(json_length) > len(body):
            raise EngineError(f"the answer's {LENGTH_HEADER} is {json_length[:20]!r}")
        length = int(json_length)
    try:
        answer = Fields(read_value(body[:length], "the answer"), "the answer")
        rest, tensors = memoryview(body)[length:], {}
        for value in answer.get("outputs", list):
            entry = Fields(value, "an output of the answer")
            values, taken = _values(entry, rest)
            tensors[entry.get("name", str)] = values
            rest = rest[taken:]
        version = answer.get("model_version", str, default="")
        return Inferred(answer.get("model_name", str), version, tensors)
    except EngineError:
        raise
    except (ValueError, TypeError, OverflowError) as exc:
        raise EngineError(f"the answer is not the protocol's: {exc}") from exc


def _values(entry: Fields, rest: memoryview) -> tuple[Values, int]:
    """One output's values, and how many of the bytes behind the JSON they took."""
    kind = entry.get("datatype", str)
    shape = [int(side) for side in entry.get("shape", list)]
    parameters = Fields(entry.get("parameters", dict, default={}) or {}, "an output's parameters")
    size = parameters.get("binary_data_size", int, default=None)
    if size is not None and not 0 <= size <= len(rest):
        raise EngineError(f"an output announces {size} bytes, and {len(rest)} follow the JSON")
    if kind == "BYTES":
        if size is not None:
            return _texts(rest[:size]), size
        return [str(text).encode() for text in entry.get("data", list)], 0
    if kind not in TYPES:
        raise EngineError(f"an output is {kind[:20]!r}; one of {list(TYPES)} can be read")
    if size is None:
        array = np.asarray(entry.get("data", list), dtype=TYPES[kind])
    else:
        array = np.frombuffer(rest[:size], dtype=TYPES[kind])
    if any(side < 0 for side in shape) or array.size != int(np.prod(shape, dtype=object)):
        raise EngineError(f"an output of shape {shape} has {array.size} values")
    return array.reshape(shape), size or 0


def _texts(data: memoryview) -> list[bytes]:
    found, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from("<I", data, position) if position + 4 <= len(data) else (-1,)
        position += 4
        if not 0 <= length <= len(data) - position:
            raise EngineError("the texts of an output end before their last one does")
        found.append(bytes(data[position : position + length]))
        position += length
    return found


def read_labels(texts: Sequence[bytes], count: int, skip: int = 0) -> tuple[str, ...] | None:
    """Class names by number, from the best classes as texts "score:number:label".

    Parameters
    ----------
    count : of classes; the first `skip` numbers are none

    Returns
    -------
    None where a name is missing or empty: then the server does not tell them.
    """
    names: dict[int, str] = {}
    for text in texts:
        parts = text.decode("utf-8", "replace").split(":", 2)
        if len(parts) == 3 and parts[1].isdigit() and parts[2]:
            names[int(parts[1]) - skip] = parts[2]
    found = [names.get(number) for number in range(count)]
    return None if None in found else tuple(str(name) for name in found)
