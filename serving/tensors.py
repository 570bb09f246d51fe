"""Requests and answers of the Open Inference Protocol v2: JSON, and its binary extension.

A tensor's values stand in the JSON, or, with `parameters.binary_data_size`, behind it: the header
`Inference-Header-Content-Length` says where the JSON ends. Texts (datatype BYTES) then have four
bytes of length each, little-endian; in the JSON, bytes that are no text are base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from typing import Any, Iterator, Sequence, Union

import numpy as np

from adaptive.errors import InputError
from adaptive.files import Fields

#: What the one input of every model is called.
INPUT = "image"

#: Outputs that a request may ask for; no model has as many.
MOST_OUTPUTS = 64

#: Values in a request's JSON. A request has far fewer, and millions take seconds to read.
MOST_VALUES = 100_000

#: A longer timeout is as good as none, microseconds.
LONGEST_US = 10**12

Values = Union[np.ndarray, Sequence[bytes]]


@dataclass(frozen=True)
class WantedOutput:
    """An output that a request asks for.

    Attributes
    ----------
    binary : behind the JSON
    classes : if above 0, so many of the best classes as "score:index:label" instead
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """Images, and what is wanted of them.

    Attributes
    ----------
    shape : (n,) or (n, 1), as it was sent
    outputs : empty for all, `binary` then says in which form
    timeout_ms : or None
    """

    images: tuple[bytes, ...]
    shape: tuple[int, ...]
    outputs: tuple[WantedOutput, ...] = ()
    binary: bool = False
    id: str | None = None
    timeout_ms: float | None = None


@dataclass(frozen=True)
class Tensor:
    """One output: FP32 or INT64 as an array, or BYTES (UTF-8 texts) row by row."""

    name: str
    shape: tuple[int, ...]
    values: Values

    @property
    def datatype(self) -> str:
        """FP32, INT64 or BYTES."""
        if not isinstance(self.values, np.ndarray):
            return "BYTES"
        return "INT64" if self.values.dtype.kind == "i" else "FP32"


def read_request(body: bytes, json_length: int | None, max_images: int) -> InferRequest:
    """The request that a body holds.

    Parameters
    ----------
    json_length : bytes of JSON before the binary data, None when all is JSON; 0 says that the
        body is nothing but one image
    max_images : more are refused

    Raises
    ------
    InputError
        when the body is not such a request; the sentence says where.
    """
    if json_length == 0:
        return InferRequest((body,), (1,))
    if json_length is not None and not 0 < json_length <= len(body):
        raise InputError(
            f"Inference-Header-Content-Length is {json_length}; the body has {len(body)} bytes"
        )
    request = Fields(read_json(body if json_length is None else body[:json_length]), "the request")
    inputs = request.get("inputs", list)
    if len(inputs) != 1:
        raise InputError(f"the request has {len(inputs)} inputs; there is one, {INPUT!r}")
    entry = Fields(inputs[0], "the request's input")
    shape = _shape(entry, max_images)
    rest = b"" if json_length is None else body[json_length:]
    parameters = _parameters(request)
    timeout_us = min(parameters.get("timeout", int, default=0), LONGEST_US)
    binary = parameters.get("binary_data_output", bool, default=False)
    return InferRequest(
        images=_images(entry, shape[0], rest),
        shape=shape,
        outputs=tuple(_outputs(request, binary)),
        binary=binary,
        id=request.get("id", str, default=None),
        timeout_ms=timeout_us / 1000 if timeout_us > 0 else None,
    )


def read_json(text: bytes) -> Any:
    """A JSON value, or an InputError."""
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES:  # base64 has none of these
        raise InputError(f"the request's JSON holds more than the {MOST_VALUES} values allowed")
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise InputError(
            "the request is not JSON in UTF-8; where binary data follow it, the header "
            "Inference-Header-Content-Length must say how long the JSON is"
        ) from exc
    except RecursionError as exc:
        raise InputError("the request's JSON is nested too deeply") from exc
    except json.JSONDecodeError as exc:
        raise InputError(f"the request is not JSON: {exc.msg} at byte {exc.pos}") from exc
    except ValueError as exc:  # a number of many thousand digits
        raise InputError("the request's JSON holds a number that is too long") from exc


def write_answer(
    head: dict[str, Any], outputs: Sequence[tuple[Tensor, bool]]
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON if something binary follows it.

    Parameters
    ----------
    head : what stands before the outputs
    outputs : each with whether it goes behind the JSON
    """
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for tensor, binary in outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if binary:
            blobs.append(_packed(tensor.values))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        elif isinstance(tensor.values, np.ndarray):
            entry["data"] = tensor.values.ravel().tolist()
        else:
            entry["data"] = [text.decode("utf-8") for text in tensor.values]
        entries.append(entry)
    text = json.dumps({**head, "outputs": entries}).encode()
    return b"".join([text, *blobs]), len(text) if blobs else None


def _packed(values: Values) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype("<i8" if values.dtype.kind == "i" else "<f4", copy=False).tobytes()
    return b"".join(struct.pack("<I", len(text)) + text for text in values)


def _shape(entry: Fields, max_images: int) -> tuple[int, ...]:
    name = entry.get("name", str)
    if name != INPUT:
        raise InputError(f"there is no input {name[:50]!r}; there is {INPUT!r}")
    datatype = entry.get("datatype", str)
    if datatype != "BYTES":
        raise InputError(f"input {INPUT!r} is BYTES (encoded images), not {datatype[:50]!r}")
    shape = entry.get("shape", list)
    if len(shape) not in (1, 2):
        raise InputError(
            f"input {INPUT!r} has a shape of {len(shape)} numbers; it must be [n] or [n, 1]"
        )
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in shape):
        raise InputError(f"input {INPUT!r} has a shape that is not whole numbers")
    if len(shape) == 2 and shape[1] != 1:
        raise InputError(f"input {INPUT!r} has shape {str(shape)[:50]}; it must be [n] or [n, 1]")
    if not 1 <= shape[0] <= max_images:
        raise InputError(
            f"{str(shape[0])[:20]} images in one request; 1 to {max_images} are allowed"
        )
    return tuple(shape)


def _images(entry: Fields, count: int, rest: bytes) -> tuple[bytes, ...]:
    parameters = _parameters(entry)
    if "shared_memory_region" in parameters.values:
        raise InputError("shared memory is not offered; send the images in the body")
    size = parameters.get("binary_data_size", int, default=None)
    if size is None:
        if rest:
            raise InputError(f"{len(rest)} bytes follow the JSON, and no input claims them")
        data = entry.get("data", list)
        images = tuple(_decoded(text) for text in _flat(data, count))
    else:
        if "data" in entry.values:
            raise InputError(f"input {INPUT!r} has both 'data' and 'binary_data_size'")
        if size != len(rest):
            raise InputError(
                f"input {INPUT!r} announces {str(size)[:20]} bytes of binary data; {len(rest)} "
                "follow the JSON (whose length is told in the header "
                "Inference-Header-Content-Length)"
            )
        images = tuple(_unpacked(rest, count))
    if len(images) != count:
        raise InputError(f"input {INPUT!r} has {len(images)} elements; its shape says {count}")
    return images


def _unpacked(data: bytes, count: int) -> Iterator[bytes]:
    position = 0
    for _ in range(count):
        start = position + 4
        if start > len(data):
            raise InputError(f"the binary data ends before its {count} elements do")
        (length,) = struct.unpack_from("<I", data, position)
        position = start + length
        if position > len(data):
            raise InputError(
                f"an element says that it has {length} bytes; {len(data) - start} are left"
            )
        yield data[start:position]
    if position != len(data):
        raise InputError(f"{len(data) - position} bytes follow the last of {count} elements")


def _flat(data: list[Any], count: int) -> Iterator[Any]:
    """The values of a list, or of lists of one value each; no more of them than `count`."""
    found = 0
    for value in data:
        own = value if isinstance(value, list) else [value]
        found += max(len(own), 1)
        if found > count:
            raise InputError(
                f"input {INPUT!r} has more elements than the {count} that its shape says"
            )
        yield from own


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise InputError("an image in JSON is a text, its bytes in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InputError(
            "an image in JSON is its bytes in base64, which this text is not; or send it as "
            "binary data behind the JSON"
        ) from exc


def _outputs(request: Fields, binary: bool) -> Iterator[WantedOutput]:
    seen = set()
    wanted = request.get("outputs", list, default=[])
    if len(wanted) > MOST_OUTPUTS:
        raise InputError(f"the request asks for {len(wanted)} outputs; {MOST_OUTPUTS} are allowed")
    for value in wanted:
        entry = Fields(value, "an output in the request")
        name = entry.get("name", str)
        if name in seen:
            raise InputError(f"output {name[:50]!r} is asked for twice")
        seen.add(name)
        parameters = _parameters(entry)
        if "shared_memory_region" in parameters.values:
            raise InputError("shared memory is not offered; take the outputs from the body")
        classes = parameters.get("classification", int, default=0)
        if classes < 0:
            raise InputError(
                f"classification {str(classes)[:20]} of output {name[:50]!r} is below 0"
            )
        yield WantedOutput(name, parameters.get("binary_data", bool, default=binary), classes)


def _parameters(entry: Fields) -> Fields:
    return Fields(entry.get("parameters", dict, default={}), f"{entry.where}'s parameters")
