"""The HTTP application around one service: `/v1`, `/v2`, health, a page, `/openapi.json`."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from flask import Flask, request
from werkzeug.wrappers import Response

from adaptive.errors import InputError
from adaptive.serving import v1, v2
from adaptive.serving.answers import Answer, as_json, refusal
from adaptive.serving.identities import Identities
from adaptive.serving.identity_routes import create_blueprint as create_identities
from adaptive.serving.infer import PATH as INFER
from adaptive.serving.infer import infer
from adaptive.serving.openapi import document
from adaptive.serving.page import create_blueprint as create_page
from adaptive.serving.protocols import ModelService
from adaptive.serving.readiness import Readiness

__all__ = ["MAX_BATCH", "MAX_BODY_BYTES", "Readiness", "create_app"]

#: Largest request body, bytes.
MAX_BODY_BYTES = 16_000_000

#: Most images in one request of the Open Inference Protocol.
MAX_BATCH = 32

Application = Callable[[Any, Any], Iterable[bytes]]


def create_app(
    service: ModelService,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_batch: int = MAX_BATCH,
    secured: bool = False,
    identities: Identities | None = None,
) -> Flask:
    """Return the WSGI application that answers images with `service`.

    Parameters
    ----------
    service : answers images, and refuses those over its limit of pixels
    max_body_bytes : a longer request body is answered with 413, and so is one that would be
        longer once it is unpacked
    max_batch : images that one request of the Open Inference Protocol may hold
    secured : `/openapi.json` says that a bearer key is asked for; asking is up to whatever
        stands in front of the application
    identities : who is known; without it nothing here says who is on an image. Whoever hands it
        over has keys asked for.

    Every error is `{"error": sentence}`: 400 for a request or an image that cannot be used, 404,
    405, 413, 415, 503 when there is too much to do, 504 when a deadline has passed, and 500 with a
    log entry for a bug.

    Raises
    ------
    InputError
        when a limit is not above 0.
    """
    for name, value in (("max_body_bytes", max_body_bytes), ("max_batch", max_batch)):
        if value < 1:
            raise InputError(f"{name} {value} is not above 0")
    app = Flask("adaptive.serving", static_folder=None)
    app.url_map.merge_slashes = False  # a slash that is doubled within is a 404, no redirect
    dispatcher = Dispatcher(app.wsgi_app, service, max_body_bytes, max_batch)
    app.wsgi_app = dispatcher  # type: ignore[method-assign]

    @app.post("/v1/classify")
    def classify() -> Response:
        return dispatcher.classify(request.environ).response()

    @app.post("/v1/detect")
    def detect() -> Response:
        return dispatcher.detect(request.environ).response()

    @app.get("/v1/bundle")
    def bundle() -> Response:
        return as_json(service.describe()).response()

    @app.get("/healthz")
    def healthz() -> Response:
        return as_json({"status": "alive"}).response()

    @app.get("/readyz")
    def readyz() -> Response:
        problem = service.ready.problem
        if problem is not None:
            return as_json({"error": problem}, 503).response()
        return as_json({"status": "ready"}).response()

    @app.post("/v2/models/<model>/infer")
    @app.post("/v2/models/<model>/versions/<version>/infer")
    def infer_images(model: str, version: str | None = None) -> Response:
        return dispatcher.infer(request.environ, model, version).response()

    app.register_blueprint(v2.create_blueprint(service, max_body_bytes, max_batch))

    if identities is not None:
        app.register_blueprint(create_identities(identities, max_body_bytes))

    app.register_blueprint(create_page())

    @app.get("/openapi.json")
    def openapi() -> Response:
        paths = {str(rule) for rule in app.url_map.iter_rules()}
        models = [state.name for state in service.models()]
        return as_json(document(paths, models, max_batch, secured, service.task)).response()

    @app.errorhandler(Exception)
    def refused(error: Exception) -> Response:
        return refusal(error, request.environ).response()

    return app


class Dispatcher:
    """Hands the requests that come by the thousand to their functions, and others to Flask.

    Flask's own work on a request would take longer than all else that is done for it here.

    Parameters
    ----------
    flask : the application that answers all others
    service, max_body_bytes, max_batch : see `create_app`
    """

    def __init__(
        self, flask: Application, service: ModelService, max_body_bytes: int, max_batch: int
    ) -> None:
        self.flask = flask
        self.service = service
        self.max_body_bytes = max_body_bytes
        self.max_batch = max_batch

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, as a WSGI application."""
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] != "POST":
            return self.flask(environ, start_response)
        try:
            if path == "/v1/classify":
                return self.classify(environ).send(start_response)
            if path == "/v1/detect":
                return self.detect(environ).send(start_response)
            found = INFER.fullmatch(path)
            if found is not None:
                return self.infer(environ, found[1], found[2]).send(start_response)
        except Exception as error:
            return refusal(error, environ).send(start_response)
        return self.flask(environ, start_response)

    def classify(self, environ: dict[str, Any]) -> Answer:
        """Answer `POST /v1/classify`."""
        return v1.classify(self.service, environ, self.max_body_bytes)

    def detect(self, environ: dict[str, Any]) -> Answer:
        """Answer `POST /v1/detect`."""
        return v1.detect(self.service, environ, self.max_body_bytes)

    def infer(self, environ: dict[str, Any], model: str, version: str | None) -> Answer:
        """Answer `POST /v2/models/MODEL/infer`."""
        return infer(self.service, environ, model, version, self.max_body_bytes, self.max_batch)
