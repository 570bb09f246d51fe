"""`POST /v2/models/MODEL/infer`: images in, labels and scores out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

import numpy as np
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import NotFound

from adaptive.errors import InputError
from adaptive.prediction import Prediction
from adaptive.serving.answers import Answer
from adaptive.serving.body import read_unpacked
from adaptive.serving.compression import accepted, compress
from adaptive.serving.deadlines import remaining
from adaptive.serving.models import TOP, VERSION, outputs_of
from adaptive.serving.protocols import ROUTER, CandidateModel, ModelService
from adaptive.serving.tensors import Tensor, WantedOutput, read_request, write_answer

PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

#: Outputs whose best classes may be asked for with `classification`.
RANKED = ("label", "probabilities", "scores")

#: Number of a class that the bundle no longer has: it was changed while the answer was made.
UNKNOWN = -1

#: Outputs of texts that have several an image, whatever shape the images came in.
WIDE = ("labels",)


@dataclass(frozen=True)
class Said:
    """What a model said of n images.

    Attributes
    ----------
    columns : by output name, an array (n, width), or for each image a list of texts; of what
        is found in one image, a row for each box
    best : for each image so many of its best classes as were asked for, as (score, number,
        label); fewer where the model told fewer
    calibrated : whether the scores of all images are; None for a candidate, whose are its own
    """

    columns: Mapping[str, np.ndarray | list[list[str]]]
    best: Sequence[Sequence[tuple[float, int, str]]]
    calibrated: bool | None = None


def infer(
    service: ModelService,
    environ: dict[str, Any],
    model: str,
    version: str | None,
    max_body_bytes: int,
    max_images: int,
) -> Answer:
    """Answer one request of the WSGI `environ`.

    Raises
    ------
    NotFound
        when there is no such model or version.
    BadRequest, RequestEntityTooLarge, UnsupportedMediaType
        when the body cannot be read.
    AdaptiveError
        for a request that is not the protocol's, and whatever `service` raises.
    """
    candidate = find_model(service, model, version)
    limits = service.limits_from(EnvironHeaders(environ))
    body = read_unpacked(environ, max_body_bytes)
    request = read_request(body, _json_length(environ), max_images)
    task = service.task
    classes = len(service.labels if candidate is None else candidate.labels)
    offered = outputs_of(model, classes, task)
    wanted = request.outputs or tuple(WantedOutput(o.name, request.binary) for o in offered)
    for output in wanted:
        _check(output, model, [o.name for o in offered])
    if request.timeout_ms is not None:
        left_ms = np.minimum(limits.remaining_ms, remaining(request.timeout_ms))
        limits = replace(limits, remaining_ms=float(left_ms))
    ranks = max(output.classes for output in wanted)
    options: Any = {"limits": limits, "request_id": environ.get("adaptive.request_id")}
    if task == "detect":
        said = _found(service if candidate is None else candidate, request.images, options)
    elif candidate is None:
        said = _routed(service, request.images, ranks, options)
    else:
        said = _asked(candidate, request.images, ranks, options)
    head: dict[str, Any] = {} if request.id is None else {"id": request.id}
    head.update(model_name=model, model_version=VERSION)
    if said.calibrated is not None:
        head["parameters"] = {"calibrated": said.calibrated}
    text, json_length = write_answer(
        head, [(_tensor(output, said, request.shape), output.binary) for output in wanted]
    )
    return _encoded(text, json_length, environ.get("HTTP_ACCEPT_ENCODING", ""))


def find_model(
    service: ModelService, model: str, version: str | None = None
) -> CandidateModel | None:
    """The candidate of that name; None for the router.

    Raises
    ------
    NotFound
        when there is no such model or version.
    """
    candidate = None if model == ROUTER else service.candidate(model)
    if candidate is None and model != ROUTER:
        names = [state.name for state in service.models()]
        raise NotFound(f"there is no model {model[:80]!r}; there are {names}")
    if version not in (None, VERSION):
        raise NotFound(f"model {model!r} has no version {str(version)[:20]!r}, only {VERSION!r}")
    return candidate


def _json_length(environ: dict[str, Any]) -> int | None:
    text = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,15}", text):
        raise InputError(f"Inference-Header-Content-Length {text[:40]!r} is not a number")
    return int(text)


def _check(output: WantedOutput, model: str, offered: Sequence[str]) -> None:
    if output.name not in offered:
        raise InputError(
            f"model {model!r} has no output {output.name[:50]!r}; it has {list(offered)}"
        )
    ranked = [name for name in offered if name in RANKED and "boxes" not in offered]
    if output.classes and output.name not in ranked:
        raise InputError(f"output {output.name!r} has no best classes; {ranked} have")


def _asked(candidate: CandidateModel, images: Sequence[bytes], ranks: int, options: Any) -> Said:
    labels = candidate.labels
    values = candidate.infer(images, **options)
    best = []
    for row in values if ranks else ():
        order = np.argsort(-row, kind="stable")[:ranks].tolist()
        best.append([(float(row[number]), number, labels[number]) for number in order])
    label = [[labels[number]] for number in values.argmax(axis=1).tolist()]
    return Said({"label": label, "probabilities": values}, best)


def _routed(service: ModelService, images: Sequence[bytes], ranks: int, options: Any) -> Said:
    labels = service.labels
    if len(images) == 1:
        answers = [service.classify(images[0], **options)]
    else:
        answers = service.classify_batch(images, **options)
    width = min(TOP, len(labels))
    nothing = (("", 0.0),) * width  # where the policy abstained
    rows = [(answer.top5 + nothing)[:width] for answer in answers]
    columns: dict[str, Any] = {
        "label": [[answer.label or ""] for answer in answers],
        "candidate": [[answer.candidate or ""] for answer in answers],
        "labels": [[label for label, _ in row] for row in rows],
        "scores": np.array([[score for _, score in row] for row in rows], np.float32),
    }
    best = [_numbered(answer, labels)[:ranks] for answer in answers if ranks]
    return Said(columns, best, all(answer.calibrated for answer in answers))


def _found(model: ModelService | CandidateModel, images: Sequence[bytes], options: Any) -> Said:
    if len(images) != 1:
        raise InputError(
            f"{len(images)} images in one request; a model that finds boxes takes one a request"
        )
    found = model.detect(images[0], **options)
    columns: dict[str, Any] = {
        "boxes": found.boxes,
        "scores": found.scores,
        "classes": found.classes,
        "labels": [list(found.labels)],
        "candidate": [[found.candidate or ""]],
    }
    return Said(columns, ())


def _numbered(answer: Prediction, labels: Sequence[str]) -> list[tuple[float, int, str]]:
    """An answer's best classes with their numbers, which a prediction has for the first only."""
    best: list[tuple[float, int, str]] = []
    for label, score in answer.top5:
        taken = [number for _, number, own in best if own == label]
        first = answer.index if answer.guess is None else answer.guess
        number = first if not best else None
        if number is None:  # of classes that are called the same, one after the other
            number = next(
                (n for n, own in enumerate(labels) if own == label and n not in taken), UNKNOWN
            )
        best.append((score, number, label))
    return best


def _tensor(output: WantedOutput, said: Said, shape: tuple[int, ...]) -> Tensor:
    column = said.columns[output.name]
    if "boxes" in said.columns and output.name == "labels":
        shape = (len(column[0]),)
    if output.classes:
        width = max(map(len, said.best))
        texts = [
            [f"{score:f}:{number}:{label}" for score, number, label in row]
            + [""] * (width - len(row))
            for row in said.best
        ]
        shape = (shape[0], width)
    elif isinstance(column, np.ndarray):
        return Tensor(output.name, column.shape, column)
    else:
        texts = column
        if output.name in WIDE and "boxes" not in said.columns:
            shape = (shape[0], len(column[0]))
    return Tensor(output.name, shape, [text.encode() for row in texts for text in row])


def _encoded(body: bytes, json_length: int | None, accept: str) -> Answer:
    headers = [("Vary", "Accept-Encoding")]
    content_type = "application/json"
    if json_length is not None:
        headers.append(("Inference-Header-Content-Length", str(json_length)))
        content_type = "application/octet-stream"
    coding = accepted(accept) if accept else None
    if coding is not None:
        body = compress(body, coding)
        headers.append(("Content-Encoding", coding))
    return Answer(200, body, content_type, tuple(headers))
