"""The front end of experiments over HTTP: runs, their progress and reports, images, a form."""

from __future__ import annotations

import hashlib
import json
import pkgutil
from typing import Any, Callable, Mapping

from flask import Flask, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from adaptive.errors import AdaptiveError, BusyError, InputError
from adaptive.experiments.begun import LONGEST, Begun
from adaptive.experiments.status import progress_of, record_of, runs
from adaptive.experiments.store import Store, StoreError
from adaptive.experiments.viewing import Viewer
from adaptive.report.experiment import about, tables_of
from adaptive.serving.admission import Admissions
from adaptive.serving.answers import Answer, as_json
from adaptive.serving.asgi import Adapter
from adaptive.serving.keys import Keys
from adaptive.serving.middleware import NO_KEY
from adaptive.serving.origin import from_another_site, from_here
from adaptive.serving.page import HEADERS
from adaptive.serving.server import Server

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}

#: Paths that need no key.
OPEN = frozenset((*FILES, "/healthz", "/readyz"))

_NOT_FROM_HERE = as_json(
    {"error": "without keys experiments are begun from this machine alone, and by its own page"},
    403,
)


def gate(keys: Keys | None) -> Callable[[Mapping[str, Any]], Answer | None]:
    """Refuses requests without a key; where there are none, whatever begins something from afar."""

    def look(environ: Mapping[str, Any]) -> Answer | None:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if keys is not None:
            is_open = path in OPEN and method in ("GET", "HEAD")
            return None if is_open or keys.allow(environ.get("HTTP_AUTHORIZATION")) else NO_KEY
        if method in ("GET", "HEAD"):
            return None
        return None if from_here(environ) and not from_another_site(environ) else _NOT_FROM_HERE

    return look


def assemble(
    store: Store, begun: Begun, host: str, port: int, keys: Keys | None = None, tls: Any = None
) -> Server:
    """A server with the application, not yet running.

    Raises
    ------
    InputError
        when the address does not exist or is taken.
    """
    adapter = Adapter(create_app(store, begun), Admissions(4), 4 * LONGEST, gate(keys))
    return Server(adapter, host, port, tls=tls)


def create_app(store: Store, begun: Begun) -> Flask:
    """The application; who may ask is the gate's to say."""
    app = Flask("adaptive.experiments", static_folder=None)
    viewer = Viewer(store)
    for path, (name, content_type) in FILES.items():
        _add_file(app, path, name, content_type)

    def answer(value: object, status: int = 200) -> Response:
        headers = [*HEADERS, ("Cache-Control", "no-store")]
        response = Response(json.dumps(value), status, content_type="application/json")
        response.headers.update(headers)
        return response

    def known(name: str) -> Mapping[str, Any]:
        found = record_of(store, name)
        if found is None:
            raise _Missing(f"no experiment {name!r} ran with this store; it has {runs(store)}")
        return found

    @app.get("/healthz")
    @app.get("/readyz")
    def health() -> Response:
        return answer({"status": "ok"})

    @app.get("/api/runs")
    def listed() -> Response:
        found = {}
        for name in runs(store):
            record = record_of(store, name)
            if record is not None:
                found[name] = progress_of(store, record)
        for name, state in begun.states().items():
            own = found.setdefault(
                name, {"name": name, "total": 0, "done": 0, "running": 0, "failed": {}}
            )
            if state == "running":
                own["state"] = "running"
            else:
                own.update(state="stopped", why=state)
        return answer({"runs": list(found.values())})

    @app.get("/api/runs/<name>")
    def one(name: str) -> Response:
        record = known(name)
        return answer({**progress_of(store, record), "file": record["file"],
                       "tables": [{k: t[k] for k in ("name", "images", "candidates")}
                                  for t in record["tables"]]})  # fmt: skip

    @app.get("/api/runs/<name>/report")
    def report(name: str) -> Response:
        known(name)
        try:
            told = json.loads(store.get(f"runs/{name}/report.json"))
        except KeyError:
            raise _Missing(f"{name} has no report yet; it has one when it is done") from None
        tables = [
            {
                "name": table["name"],
                "about": about(table),
                "parts": [{"head": head, "rows": rows} for head, rows in tables_of(table)],
            }
            for table in told["tables"]
        ]
        return answer({"title": told["title"], "date": told["date"], "tables": tables,
                       "omitted": told["omitted"]})  # fmt: skip

    @app.get("/api/runs/<name>/images")
    def images(name: str) -> Response:
        missed = request.args.get("missed") or None
        told = viewer.images(known(name), _text("table"), _number("shard"), missed)
        return answer(told)

    @app.get("/api/runs/<name>/image")
    def image(name: str) -> Response:
        content, kind = viewer.image(
            known(name), _text("table"), _number("shard"), _number("index")
        )
        response = Response(content, content_type=kind)
        response.headers.update(HEADERS)
        return response

    @app.post("/api/check")
    def check() -> Response:
        return answer({"problems": begun.check(_file())})

    @app.post("/api/runs")
    def begin() -> Response:
        return answer({"name": begun.begin(_file())}, 202)

    @app.errorhandler(AdaptiveError)
    def wrong(error: AdaptiveError) -> Response:
        status = 500
        if isinstance(error, _Missing):
            status = 404
        elif isinstance(error, BusyError):
            status = 409
        elif isinstance(error, StoreError):
            status = 503
        elif isinstance(error, InputError):
            status = 400
        return answer({"error": str(error)}, status)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return answer({"error": error.description}, error.code or 500)

    return app


class _Missing(InputError):
    """What is asked for is not there."""


def _file() -> str:
    """The experiment file of a request's body."""
    # A page of another site cannot send this type without being asked about first.
    if request.mimetype != "application/json":
        raise InputError('send application/json: {"file": "the experiment file"}')
    told = request.get_json(silent=True)
    if not isinstance(told, dict) or not isinstance(told.get("file"), str):
        raise InputError('the body must be {"file": "the experiment file"}')
    found: str = told["file"]
    try:
        found.encode()
    except UnicodeEncodeError:
        raise InputError("the file has half a character, which no text has") from None
    return found


def _text(name: str) -> str:
    return request.args.get(name, "")


def _number(name: str) -> int:
    text = request.args.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InputError(f"{name}={text!r} is no whole number")
    return int(text)


def _add_file(app: Flask, path: str, name: str, content_type: str) -> None:
    body = pkgutil.get_data("adaptive.experiments", f"page/{name}")
    assert body is not None
    tag = hashlib.sha256(body).hexdigest()[:32]

    def view() -> Response:
        response = Response(body, content_type=content_type, headers=HEADERS)
        response.set_etag(tag)
        return response.make_conditional(request.environ)

    app.add_url_rule(path, endpoint=name, view_func=view)
