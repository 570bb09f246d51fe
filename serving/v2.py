"""The Open Inference Protocol v2, but for inference itself: health, models, repository, statistics.

Where the protocol leaves a choice, it is as NVIDIA's Triton does it, since its client asks.
"""

from __future__ import annotations

import logging
from typing import Any, Callable

from flask import Blueprint, request
from werkzeug.wrappers import Response

from adaptive.errors import AdaptiveError, BundleError, InputError, ServiceError
from adaptive.files import Fields
from adaptive.serving.answers import as_json
from adaptive.serving.body import read_unpacked
from adaptive.serving.infer import find_model
from adaptive.serving.models import VERSION, config, metadata
from adaptive.serving.protocols import Duration, ModelService, ModelState, ModelStatistics
from adaptive.serving.release import release
from adaptive.serving.tensors import read_json

#: What is offered beyond the protocol's core.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
)

View = Callable[..., Response]

log = logging.getLogger("adaptive.serving")


def create_blueprint(service: ModelService, max_body_bytes: int, max_images: int) -> Blueprint:
    """Everything below `/v2` but `infer`.

    Parameters
    ----------
    max_images : that one request may hold
    """
    api = Blueprint("v2", __name__, url_prefix="/v2")

    def under_model(path: str) -> Callable[[View], View]:
        """Register a view for a model and for a version of it."""

        def register(view: View) -> View:
            for middle in ("", "/versions/<version>"):
                api.get(f"/models/<model>{middle}{path}")(view)
            return view

        return register

    @api.get("")
    def server() -> Response:
        return as_json(server_metadata()).response()

    @api.get("/health/live")
    def live() -> Response:
        return as_json({"live": True}).response()

    @api.get("/health/ready")
    def ready() -> Response:
        problem = service.ready.problem
        if problem is not None:
            return as_json({"error": problem}, 400).response()
        return as_json({"ready": True}).response()

    @under_model("")
    def model_metadata(model: str, version: str | None = None) -> Response:
        classes = _classes(service, model, version)
        return as_json(metadata(model, classes, service.task)).response()

    @under_model("/config")
    def model_config(model: str, version: str | None = None) -> Response:
        classes = _classes(service, model, version)
        return as_json(config(model, classes, max_images, service.task)).response()

    @under_model("/ready")
    def model_ready(model: str, version: str | None = None) -> Response:
        find_model(service, model, version)
        problem = service.ready.problem
        for state in service.models():
            if state.name == model and not state.ready:
                problem = state.reason or f"model {model!r} is not loaded"
        if problem is not None:
            return as_json({"error": problem}, 409).response()
        return as_json({"name": model, "ready": True}).response()

    @under_model("/stats")
    def model_statistics(model: str, version: str | None = None) -> Response:
        find_model(service, model, version)
        own = service.statistics().get(model, ModelStatistics())
        return as_json({"model_stats": [_statistics(model, own)]}).response()

    @api.get("/models/stats")
    def statistics() -> Response:
        found = service.statistics()
        names = [state.name for state in service.models()]
        return as_json(
            {"model_stats": [_statistics(n, found.get(n, ModelStatistics())) for n in names]}
        ).response()

    @api.post("/repository/index")
    def index() -> Response:
        only_ready = _request(max_body_bytes).get("ready", bool, default=False)
        states = [_state(s) for s in service.models() if s.ready or not only_ready]
        return as_json(states).response()

    @api.post("/repository/models/<model>/load")
    def load(model: str) -> Response:
        find_model(service, model)
        if _request(max_body_bytes).get("parameters", dict, default={}):
            raise InputError(
                "a model is loaded from the bundle that the server was started with; "
                "'config' and files are not taken from a request"
            )
        try:
            service.load(model)
        except (AdaptiveError, OSError) as error:
            if isinstance(error, ServiceError) or _tells_no_path(error):
                raise
            log.error("loading %r failed", model, exc_info=error)
            raise InputError(
                f"loading {model!r} failed, and what was served before still is; "
                "the server's log says why"
            ) from error
        return as_json({}).response()

    @api.post("/repository/models/<model>/unload")
    def unload(model: str) -> Response:
        find_model(service, model)
        _request(max_body_bytes).get("parameters", dict, default={})
        service.unload(model)
        return as_json({}).response()

    return api


def server_metadata() -> dict[str, Any]:
    """What the server is, and which extensions it has."""
    return {"name": "adaptive", "version": release(), "extensions": list(EXTENSIONS)}


def _classes(service: ModelService, model: str, version: str | None) -> int:
    candidate = find_model(service, model, version)
    return len(service.labels if candidate is None else candidate.labels)


def _request(limit: int) -> Fields:
    """The JSON object that the request's body holds; an empty one where it has no body."""
    body = read_unpacked(request.environ, limit)
    return Fields(read_json(body) if body.strip() else {}, "the request")


def _tells_no_path(error: Exception) -> bool:
    """Whether an error's sentence is about the request, and not about files."""
    return isinstance(error, InputError) and not isinstance(error, BundleError)


def _state(state: ModelState) -> dict[str, Any]:
    return {
        "name": state.name,
        "version": VERSION,
        "state": "READY" if state.ready else "UNAVAILABLE",
        "reason": state.reason,
    }


def _statistics(model: str, own: ModelStatistics) -> dict[str, Any]:
    def shown(duration: Duration) -> dict[str, int]:
        return {"count": duration.count, "ns": duration.ns}

    steps = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "name": model,
        "version": VERSION,
        "last_inference": own.last_inference_ms,
        "inference_count": own.inference_count,
        "execution_count": own.execution_count,
        "inference_stats": {step: shown(getattr(own, step)) for step in steps},
        "batch_stats": [
            {"batch_size": size, "compute_infer": shown(own.batches[size])}
            for size in sorted(own.batches)
        ],
    }
