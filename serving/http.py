"""The HTTP endpoint: a Flask application around one router."""

from __future__ import annotations

import io
import json
import logging
from typing import Any, Protocol

from flask import Flask, Request, Response, request
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from adaptive.errors import ImageError, InputError
from adaptive.prediction import Prediction

#: Largest request body, bytes.
MAX_BODY_BYTES = 16_000_000

log = logging.getLogger("adaptive.serving")


class ImageRouter(Protocol):
    """What the application asks of a router; `adaptive.router.Router` has it."""

    def classify(self, image: bytes, *, explain: bool = ...) -> Prediction:
        """Answer one image."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what the router serves, as JSON values."""
        ...


class FormInMemory(Request):
    """A request whose form stays in memory: it is not longer than a body may be anyway."""

    def _get_file_stream(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO()


class Readiness:
    """Whether `/readyz` says yes, shared by the application and whoever runs it.

    `problem` is None when images can be answered at full speed, else one sentence that says why
    not. Images are answered either way: what is not ready is slow, or about to leave.
    """

    def __init__(self, problem: str | None = None) -> None:
        self.problem = problem

    def __repr__(self) -> str:
        return f"Readiness({self.problem!r})"


def create_app(
    router: ImageRouter,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    readiness: Readiness | None = None,
) -> Flask:
    """Return the WSGI application that answers images with `router`.

    Parameters
    ----------
    router : answers images, and refuses those over its limit of pixels; it must be safe to call
        from several threads
    max_body_bytes : a longer request body is answered with 413
    readiness : what `/readyz` reports; without one it always says yes, so hand a warm router over

    Every answer is JSON, and every error is `{"error": sentence}`: 400 for a request or an image
    that cannot be used, 404, 405, 413, 415, and 500 with a log entry for a bug.

    Raises
    ------
    InputError
        when `max_body_bytes` is not above 0.
    """
    if max_body_bytes < 1:
        raise InputError(f"max_body_bytes {max_body_bytes} is not above 0")
    ready = readiness or Readiness()
    app = Flask("adaptive.serving", static_folder=None)
    app.request_class = FormInMemory
    app.url_map.merge_slashes = False  # a doubled slash is a 404, not a page that redirects
    # One byte of room: Werkzeug cuts a chunked body off at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.config["MAX_FORM_MEMORY_SIZE"] = max_body_bytes + 1

    @app.post("/v1/classify")
    def classify() -> Response:
        explain = _explain(request)
        image = _image_bytes(request)
        if len(image) > max_body_bytes:
            raise RequestEntityTooLarge
        prediction = router.classify(image, explain=explain)
        return _json(prediction.to_json(explain))

    @app.get("/v1/bundle")
    def bundle() -> Response:
        return _json(router.describe())

    @app.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "alive"})

    @app.get("/readyz")
    def readyz() -> Response:
        if ready.problem is not None:
            return _json({"error": ready.problem}, 503)
        return _json({"status": "ready"})

    @app.errorhandler(ImageError)
    def unusable_image(error: ImageError) -> Response:
        return _json({"error": str(error)}, 400)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        answer = _json({"error": _sentence(error, max_body_bytes)}, error.code or 500)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        if isinstance(error, UnsupportedMediaType):
            answer.headers["Accept-Encoding"] = "identity"
        return answer

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _json({"error": "the server failed on this request; its log says why"}, 500)

    return app


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value) + "\n", status, mimetype="application/json")


def _explain(request: Request) -> bool:
    """The query's one parameter; BadRequest on anything else in the query."""
    for name in request.args:
        if name != "explain":
            raise BadRequest(f"unknown query parameter {name!r}; there is only 'explain'")
    values = request.args.getlist("explain")
    if not values:
        return False
    if values not in (["0"], ["1"]):
        raise BadRequest(f"explain={','.join(values)!r} is not one of 0 and 1")
    return values == ["1"]


def _image_bytes(request: Request) -> bytes:
    """The image of a request: its multipart field `file`, or else its whole body.

    The body counts whatever its Content-Type says, since `curl --data-binary` calls a photograph
    a form; only multipart/form-data is parsed.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding!r} is not supported; send the image as it is"
        )
    if request.mimetype == "multipart/form-data":
        return _file_field(request)
    data: bytes = request.get_data(cache=False, parse_form_data=False)
    if not data:
        raise BadRequest("the request has no body; send the bytes of one image")
    return data


def _file_field(request: Request) -> bytes:
    files = list(request.files.items(multi=True))
    fields = sorted({name for name, _ in files} | set(request.form))
    if len(files) != 1 or fields != ["file"]:
        raise BadRequest(
            f"a multipart body must hold one file, in the field 'file'; this one holds "
            f"{len(files)} files, and its fields are {fields}"
        )
    data: bytes = files[0][1].read()
    if not data:
        raise BadRequest("the file in the field 'file' is empty; send the bytes of one image")
    return data


def _sentence(error: HTTPException, max_body_bytes: int) -> str:
    if isinstance(error, NotFound):
        return "no such path; there are POST /v1/classify, GET /v1/bundle, /healthz and /readyz"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"this path does not take {request.method}; it takes {allowed}"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body is longer than the {max_body_bytes} bytes that are allowed"
    return error.description or error.name
