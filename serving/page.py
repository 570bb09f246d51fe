"""The page at `/`: drop an image, see the answer and why. A few files that are read once."""

from __future__ import annotations

import hashlib
import pkgutil

from flask import Blueprint, request
from werkzeug.wrappers import Response

#: Images that the page offers with the embedded default; serving/page/samples.txt says whose.
SAMPLES = tuple(f"sample-{name}.jpg" for name in ("cat", "ship", "horse", "coffee"))

#: Path -> file under serving/page, and its type. They need no key.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    **{f"/{name}": (name, "image/jpeg") for name in SAMPLES},
}

#: Nothing from elsewhere, nothing inline, in nobody's frame; pictures may be the user's own.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

HEADERS = (
    ("Cache-Control", "no-cache"),  # kept, but asked for again: a release may change it
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(self), geolocation=(), microphone=()"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


def create_blueprint() -> Blueprint:
    """The page and what belongs to it."""
    page = Blueprint("page", __name__)
    for path, (name, content_type) in FILES.items():
        _add(page, path, name, content_type)
    return page


def content(name: str) -> bytes:
    """One of the page's files, wherever the package lies."""
    data = pkgutil.get_data("adaptive.serving", f"page/{name}")
    assert data is not None
    return data


def _add(page: Blueprint, path: str, name: str, content_type: str) -> None:
    body = content(name)
    tag = hashlib.sha256(body).hexdigest()[:32]

    def view() -> Response:
        response = Response(body, content_type=content_type, headers=HEADERS)
        response.set_etag(tag)
        return response.make_conditional(request.environ)

    endpoint = name.replace(".", "_")  # Flask takes no dots in it
    page.add_url_rule(path, endpoint, view, methods=["GET"], provide_automatic_options=False)
