"""The OpenAPI description of what the application answers."""

from __future__ import annotations

import re
from typing import Any, Collection, Sequence

from adaptive.serving.decode import FORMATS
from adaptive.serving.middleware import OPEN
from adaptive.serving.models import VERSION
from adaptive.serving.page import SAMPLES
from adaptive.serving.protocols import ROUTER
from adaptive.serving.release import release
from adaptive.serving.schemas import (
    BYTES,
    TEXT,
    TRUTH,
    Json,
    a_list,
    an_object,
    options,
    ref,
    schemas,
)


def document(
    paths: Collection[str], models: Sequence[str], max_batch: int, secured: bool
) -> dict[str, Any]:
    """The description, OpenAPI 3.0.

    Parameters
    ----------
    paths : Flask's rules that the application really has; what else is known here is left out
    models : that can be named just now
    max_batch : images that one request may hold
    secured : a bearer key is asked for, but for health
    """
    answered: dict[str, Any] = {}
    for path, item in _paths(models).items():
        if path not in paths:
            continue
        for operation in item.values():
            operation["responses"].setdefault("503", _BUSY)
            if secured and path not in OPEN:
                operation["responses"]["401"] = _refused("there is no valid key", **_WANTED)
                operation["security"] = [{"bearer": []}]
        answered[re.sub(r"<(\w+)>", r"{\1}", path)] = item
    components: dict[str, Any] = {"schemas": schemas(max_batch)}
    if secured:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "adaptive",
            "description": "Answers each image with the cheapest network that gets it right.",
            "version": release(),
        },
        "paths": answered,
        "components": components,
    }


def _paths(models: Sequence[str]) -> dict[str, Any]:
    """Every path that is known, in Flask's spelling."""
    found: dict[str, Any] = {
        "/v1/classify": {"post": _classify()},
        "/v1/bundle": {"get": _get("What is served", an_object({}, closed=False))},
        "/healthz": {"get": _get("Whether the process answers", _status("alive"))},
        "/readyz": {
            "get": _get("Whether it answers at full speed", _status("ready"), busy="it does not")
        },
        "/metrics": {"get": _plain("What is counted, for Prometheus", "text/plain", TEXT)},
        "/": {"get": _plain("A page to try it", "text/html", TEXT)},
        "/page.css": {"get": _plain("The page's style", "text/css", TEXT)},
        "/page.js": {"get": _plain("The page's program", "text/javascript", TEXT)},
        **{f"/{n}": {"get": _plain("A sample image", "image/jpeg", BYTES)} for n in SAMPLES},
        "/openapi.json": {"get": _get("This description", an_object({}, closed=False))},
        "/v2": {"get": _get("The server and its extensions", ref("Server"))},
        "/v2/health/live": {
            "get": _get("Whether the process answers", an_object({"live": TRUTH})),
        },
        "/v2/health/ready": {
            "get": _get(
                "Whether it answers at full speed", an_object({"ready": TRUTH}), bad="it does not"
            ),
        },
        "/v2/models/stats": {"get": _get("What every model has done", ref("Statistics"))},
        "/v2/repository/index": {"post": _index()},
    }
    for change, what in (
        ("load", "Have a model answer by itself; for the router, read the bundle again"),
        ("unload", "Have a model answer by itself no more"),
    ):
        path = f"/v2/repository/models/<model>/{change}"
        named = models if change == "load" else [name for name in models if name != ROUTER]
        found[path] = {"post": _changed(what, change == "load", named)}
    for middle in ("", "/versions/<version>"):
        path = f"/v2/models/<model>{middle}"
        where = [_model(models), *([_VERSION] if middle else [])]
        for end, what, schema in (
            ("", "A model's inputs and outputs", ref("Metadata")),
            ("/config", "The same in Triton's words", ref("Config")),
            ("/stats", "What a model has done", ref("Statistics")),
        ):
            found[path + end] = {"get": _get(what, schema, parameters=where, unknown=True)}
        found[path + "/ready"] = {
            "get": _get(
                "Whether a model answers",
                an_object({"name": TEXT, "ready": TRUTH}),
                parameters=where,
                unloaded="it does not",
                unknown=True,
            )
        }
        found[path + "/infer"] = {"post": _infer(where)}
    return found


def _content(kind: str, schema: Json) -> dict[str, Any]:
    return {kind: {"schema": schema}}


def _answered(what: str, schema: Json, kind: str = "application/json") -> dict[str, Any]:
    return {"description": what, "content": _content(kind, schema)}


def _refused(why: str, **headers: Json) -> dict[str, Any]:
    answer = _answered(why, ref("Error"))
    if headers:
        answer["headers"] = {name.replace("_", "-"): {"schema": s} for name, s in headers.items()}
    return answer


def _get(
    summary: str,
    schema: Json,
    *,
    parameters: Sequence[Json] = (),
    bad: str | None = None,
    unloaded: str | None = None,
    busy: str | None = None,
    unknown: bool = False,
) -> dict[str, Any]:
    """A GET that answers JSON."""
    responses = {"200": _answered("yes" if bad or busy or unloaded else "the answer", schema)}
    if bad is not None:
        responses["400"] = _refused(bad)
    if unloaded is not None:
        responses["409"] = _refused(unloaded)
    if unknown:
        responses["404"] = _refused("there is no such model or version")
    if busy is not None:
        responses["503"] = _refused(busy)
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


def _plain(summary: str, kind: str, schema: Json) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _answered("the answer", schema, kind)}}


def _status(word: str) -> Json:
    return an_object({"status": {"type": "string", "enum": [word]}})


def _model(models: Sequence[str]) -> Json:
    schema = {"type": "string", "enum": list(models)}
    return {"name": "model", "in": "path", "required": True, "schema": schema}


_VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "enum": [VERSION]},
}

_LIMITS: tuple[Json, ...] = (
    {
        "name": "X-Deadline-Ms",
        "in": "header",
        "description": "Milliseconds within which the answer is wanted, waiting included; a day at "
        "most. Without exponent",
        "schema": {"type": "number", "minimum": 1, "maximum": 86_400_000},
    },
    {
        "name": "X-Prefer",
        "in": "header",
        "description": "Rather a fast answer, or rather a right one",
        "schema": {"type": "string", "enum": ["fast", "balanced", "accurate"]},
    },
)

_BUSY = _refused("there is too much to do", Retry_After={"type": "integer", "minimum": 1})

#: What goes with a 401.
_WANTED: dict[str, Json] = {"WWW_Authenticate": TEXT}

_POSTED = {
    "400": _refused("the request or the image cannot be used"),
    "413": _refused("the body is longer than is allowed, packed or unpacked"),
    "415": _refused(
        "the body is packed in a way that is not read", Accept_Encoding={"type": "string"}
    ),
    "504": _refused("the deadline has passed"),
}


def _classify() -> dict[str, Any]:
    images = {f"image/{name.lower()}": {"schema": BYTES} for name in FORMATS}
    form = an_object({"file": BYTES})
    return {
        "summary": "Answer one image",
        "description": "The body is the image, whatever its Content-Type says, or a form with one "
        "file. It may be packed with gzip or deflate.",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "description": "1: also features, the premodel's votes, and why; 2: the edge map "
                "too",
                "schema": {"type": "integer", "enum": [0, 1, 2]},
            },
            *_LIMITS,
        ],
        "requestBody": {
            "required": True,
            "content": {
                **images,
                "multipart/form-data": {
                    "schema": form,
                    "encoding": {"file": {"contentType": ", ".join(images)}},
                },
            },
        },
        "responses": {"200": _answered("the prediction", ref("Prediction")), **_POSTED},
    }


def _infer(parameters: Sequence[Json]) -> dict[str, Any]:
    answer = _answered("what the model says", ref("Inferred"))
    answer["content"].update(_content("application/octet-stream", BYTES))
    length = {"type": "integer", "minimum": 0}
    answer["headers"] = {
        "Inference-Header-Content-Length": {
            "description": "Length of the JSON, where binary data follows it",
            "schema": length,
        }
    }
    return {
        "summary": "Answer images",
        "description": "The Open Inference Protocol. With binary data the body is the JSON, then "
        "the images, each behind its length in four bytes, little-endian; the header "
        "Inference-Header-Content-Length says how long the JSON is. With 0 there, the body is one "
        "image and nothing else. It may be packed with gzip or deflate.",
        "parameters": [
            *parameters,
            {"name": "Inference-Header-Content-Length", "in": "header", "schema": length},
            *_LIMITS,
        ],
        "requestBody": {
            "required": True,
            "content": {
                **_content("application/json", ref("Infer")),
                **_content("application/octet-stream", BYTES),
            },
        },
        "responses": {
            "200": answer,
            **_POSTED,
            "404": _refused("there is no such model or version"),
            "409": _refused("the model is not loaded"),
        },
    }


def _index() -> dict[str, Any]:
    return {
        "summary": "Every model and whether it answers",
        "requestBody": {"content": _content("application/json", options(ready=TRUTH))},
        "responses": {
            "200": _answered("the models", a_list(ref("State"))),
            "400": _refused("the body is no such JSON"),
            "413": _POSTED["413"],
            "415": _POSTED["415"],
        },
    }


def _changed(summary: str, loads: bool, models: Sequence[str]) -> dict[str, Any]:
    own: Json = {"type": "object", "maxProperties": 0} if loads else {"type": "object"}
    return {
        "summary": summary,
        "parameters": [_model(models)],
        "requestBody": {"content": _content("application/json", options(parameters=own))},
        "responses": {
            "200": _answered("it is done", an_object({})),
            "400": _refused("this cannot be done, or the body is no such JSON"),
            "403": _refused("this client may not do it"),
            "404": _refused("there is no such model"),
            "413": _POSTED["413"],
            "415": _POSTED["415"],
        },
    }
