"""`/v1/identify` and `/v1/identities`: who is on an image, and the names of the store.

Only a server that was started with a store has them, and only behind keys.
"""

from __future__ import annotations

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest, NotFound
from werkzeug.wrappers import Response

from adaptive.files import Fields
from adaptive.serving.answers import Answer, as_json
from adaptive.serving.body import read_unpacked
from adaptive.serving.identities import Identities
from adaptive.serving.tensors import read_json
from adaptive.serving.v1 import image_bytes

#: No cache between server and client may keep what is said of persons.
_UNKEPT = ("Cache-Control", "no-store")

#: What `POST /v1/identities` does: the word for it, and the one for the other name.
_CHANGES = {"rename": "to", "merge": "into"}


def create_blueprint(identities: Identities, max_body_bytes: int) -> Blueprint:
    """The routes around one store."""
    api = Blueprint("identities", __name__, url_prefix="/v1")

    @api.post("/identify")
    def identify() -> Response:
        learn = _learn(request.query_string.decode("latin-1"))
        image = image_bytes(request.environ, max_body_bytes)
        return _private(identities.identify(image, learn))

    @api.get("/identities")
    def names() -> Response:
        return _private(identities.describe())

    @api.post("/identities")
    def change() -> Response:
        body = Fields(read_json(read_unpacked(request.environ, max_body_bytes)), "the request")
        asked = [word for word in _CHANGES if word in body.values]
        if len(asked) != 1 or set(body.values) != {asked[0], _CHANGES[asked[0]]}:
            raise BadRequest(
                'the request is {"rename": NAME, "to": NAME} or {"merge": NAME, "into": NAME}'
            )
        word = asked[0]
        name, other = body.get(word, str), body.get(_CHANGES[word], str)
        _require(name)
        if word == "merge":
            _require(other)
            return _told(other, identities.merge(name, other))
        return _told(other, identities.rename(name, other))

    @api.post("/identities/<path:name>")
    def add(name: str) -> Response:
        return _told(name, identities.add(name, image_bytes(request.environ, max_body_bytes)))

    @api.delete("/identities/<path:name>")
    def forget(name: str) -> Response:
        _require(name)
        identities.forget(name)
        return _private({"forgotten": name})

    def _require(name: str) -> None:
        if not identities.knows(name):
            raise NotFound("the store has no such name; GET /v1/identities lists what it has")

    return api


def _learn(query: str) -> bool:
    if query in ("", "learn=0", "learn=1"):
        return query == "learn=1"
    raise BadRequest(f"the query {query[:50]!r} is not one of learn=0 and learn=1")


def _told(name: str, embeddings: int) -> Response:
    return _private({"name": name, "embeddings": embeddings})


def _private(value: object) -> Response:
    answer: Answer = as_json(value, 200, _UNKEPT)
    return answer.response()
