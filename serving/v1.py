"""`POST /v1/classify` and `/v1/detect`: one image in, one answer out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import parse_qsl

from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.wrappers import Request

from adaptive.serving.answers import Answer, as_json
from adaptive.serving.body import read_unpacked
from adaptive.serving.protocols import ModelService
from adaptive.serving.streams import stream_from

if TYPE_CHECKING:
    from adaptive.prediction import Prediction
    from adaptive.tasks.detections import Detections

#: The query strings that people send, so that they need not be taken apart.
EXPLAIN = {"": 0, "explain=0": 0, "explain=1": 1, "explain=2": 2}


class FormInMemory(Request):
    """A request whose form stays in memory: it is not longer than a body may be anyway."""

    max_form_parts = 16

    def _get_file_stream(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO()


def classify(service: ModelService, environ: dict[str, Any], max_body_bytes: int) -> Answer:
    """Answer one request of the WSGI `environ`.

    Raises
    ------
    BadRequest, RequestEntityTooLarge, UnsupportedMediaType
        when the request is not one image.
    AdaptiveError
        whatever `service` raises.
    """
    return _answer(service, service.classify, environ, max_body_bytes)


def detect(service: ModelService, environ: dict[str, Any], max_body_bytes: int) -> Answer:
    """Answer one request for boxes; see `classify`."""
    return _answer(service, service.detect, environ, max_body_bytes)


def _answer(
    service: ModelService,
    ask: Callable[..., Prediction | Detections],
    environ: dict[str, Any],
    max_body_bytes: int,
) -> Answer:
    query = environ.get("QUERY_STRING", "")
    explain = EXPLAIN[query] if query in EXPLAIN else _explain(query)
    limits = service.limits_from(EnvironHeaders(environ))
    stream = stream_from(environ)
    image = image_bytes(environ, max_body_bytes)
    found = ask(
        image,
        limits=limits,
        explain=bool(explain),
        request_id=environ.get("adaptive.request_id"),
        **({} if stream is None else {"stream": stream}),
    )
    return as_json(found.to_json(explain))


def _explain(query: str) -> int:
    """The query's one parameter; BadRequest on anything else in the query."""
    values = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "explain":
            raise BadRequest(f"unknown query parameter {name[:50]!r}; there is only 'explain'")
        values.append(value)
    if values not in (["0"], ["1"], ["2"]):
        raise BadRequest(f"explain={','.join(values)[:50]!r} is not one of 0, 1 and 2")
    return int(values[0])


def image_bytes(environ: dict[str, Any], max_body_bytes: int) -> bytes:
    """The image of a request: its multipart field `file`, or else its whole body.

    The body counts whatever its Content-Type says, since `curl --data-binary` calls a photograph
    a form; only multipart/form-data is parsed.
    """
    data = read_unpacked(environ, max_body_bytes)
    if environ.get("CONTENT_TYPE", "").lower().startswith("multipart/form-data"):
        return _file_field(data, environ["CONTENT_TYPE"])
    if not data:
        raise BadRequest("the request has no body; send the bytes of one image")
    return data


def _file_field(body: bytes, content_type: str) -> bytes:
    form = FormInMemory(
        {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
    )
    form.max_form_memory_size = len(body)
    try:
        files = list(form.files.items(multi=True))
    except RequestEntityTooLarge:
        raise BadRequest(f"a multipart body of more than {form.max_form_parts} parts") from None
    fields = sorted({name for name, _ in files} | set(form.form))
    if len(files) != 1 or fields != ["file"]:
        raise BadRequest(
            f"a multipart body must hold one file, in the field 'file'; this one holds "
            f"{len(files)} files, and its fields are {str(fields)[:200]}"
        )
    data: bytes = files[0][1].read()
    if not data:
        raise BadRequest("the file in the field 'file' is empty; send the bytes of one image")
    return data
