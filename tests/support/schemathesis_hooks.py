"""What a description cannot say about requests, for schemathesis (SCHEMATHESIS_HOOKS=this file).

A description says that an image is bytes, and that a request has so many numbers of this and that;
not which bytes are an image, nor that a shape must fit the data, a header the body, or a deadline
the machine. So here images are real ones, and requests that are meant to be right are made to
agree with themselves. Requests that are meant to be wrong stay as they were made.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct

import schemathesis
from hypothesis import strategies as st
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
LENGTH = "Inference-Header-Content-Length"
DEADLINE = "X-Deadline-Ms"

#: Deadlines and timeouts that any machine can keep.
LONG_MS = 60_000


def encoded(form: str, colour: tuple[int, int, int] = (200, 30, 90)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 18), colour).save(stream, form)
    return stream.getvalue()


PICTURES = {form: encoded(form) for form in FORMATS}

for form, picture in PICTURES.items():
    schemathesis.openapi.media_type(f"image/{form.lower()}", st.just(picture))
schemathesis.openapi.media_type(
    "application/octet-stream", st.sampled_from(list(PICTURES.values()))
)
schemathesis.openapi.format(
    "byte", st.sampled_from([base64.b64encode(p).decode() for p in PICTURES.values()])
)


@schemathesis.hook
def map_case(context, case):
    """Make a request that is meant to be right agree with itself."""
    headers = case.headers
    if headers and re.fullmatch(r"[0-9.]+", str(headers.get(DEADLINE, ""))):
        headers[DEADLINE] = str(LONG_MS)
    meant_right = case.meta is not None and case.meta.generation.mode.is_positive
    if meant_right and case.operation.path.endswith("/infer"):
        infer(case)
    return case


def infer(case) -> None:
    headers = case.headers
    binary = headers is not None and LENGTH in headers
    detects = "/v1/detect" in case.operation.schema.raw_schema["paths"]
    if isinstance(case.body, dict):
        request = dict(case.body)
        agree(request, detects)
        case.body = request
        if binary:
            del headers[LENGTH]
    elif binary:
        images = [bytes(PICTURES["PNG"])] * (1 if detects else 2)
        blob = b"".join(struct.pack("<I", len(image)) + image for image in images)
        own = {"name": "image", "datatype": "BYTES", "shape": [len(images)]}
        own["parameters"] = {"binary_data_size": len(blob)}
        text = json.dumps({"inputs": [own]}).encode()
        case.body = text + blob
        headers[LENGTH] = str(len(text))
    else:
        case.headers = {**(headers or {}), LENGTH: "0"}
        case.body = PICTURES["PNG"]


def agree(request: dict, detects: bool) -> None:
    """Have shape, data and parameters say the same, and name outputs that the model has."""
    own = dict(request["inputs"][0])
    data = own.get("data") or [base64.b64encode(PICTURES["JPEG"]).decode()]
    own.update(data=data, shape=[len(data), 1][: len(own["shape"])])
    parameters = dict(own.get("parameters") or {})
    parameters.pop("binary_data_size", None)
    parameters.pop("shared_memory_region", None)
    own["parameters"] = parameters
    request["inputs"] = [own]
    outputs = []
    for wanted in (request.get("outputs") or [])[:1]:
        outputs.append({**wanted, "name": "boxes" if detects else "label"})
        (outputs[0].get("parameters") or {}).pop("shared_memory_region", None)
        if detects:  # boxes have no best classes
            (outputs[0].get("parameters") or {}).pop("classification", None)
    request["outputs"] = outputs
    if request.get("parameters"):
        timeout = request["parameters"].get("timeout") and LONG_MS * 1000
        request["parameters"] = {**request["parameters"], "timeout": timeout}


@schemathesis.hook
def after_call(context, case, response):
    """Load what was unloaded: later requests are meant for a model that answers."""
    path = case.operation.path
    if path.endswith("/unload") and response.status_code == 200:
        model = case.path_parameters["model"]
        load = case.operation.schema[path.replace("/unload", "/load")]["POST"]
        load.Case(path_parameters={"model": model}).call(headers=key_of(response.request.headers))


def key_of(headers) -> dict[str, str]:
    """The key of a request that had one."""
    return {name: headers[name] for name in ("Authorization",) if name in headers}


if os.environ.get("ADAPTIVE_API_KEY"):

    @schemathesis.auth()
    class Key:
        """The key of a server that wants one."""

        def get(self, case, context) -> str:
            return os.environ["ADAPTIVE_API_KEY"]

        def set(self, case, data, context) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
