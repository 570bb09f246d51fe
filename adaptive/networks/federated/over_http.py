"""The same rounds between processes or machines: a server that edges call over HTTP.

    GET  /v1/group                        classes, recipe, the round and how many there are
    POST /v1/edges/NAME                   {"classes": [...]}: an edge joins, or comes back
    PUT  /v1/edges/NAME/rounds/NUMBER     a contribution
    GET  /v1/edges/NAME/answers           the server's latest answers about its images

A round ends when every edge has sent, or, `patience_s` after the first did, without those that
have not; who comes back goes on with the round of the day.
"""

from __future__ import annotations

import hmac
import json
import threading
import time
from dataclasses import asdict
from typing import Any, Callable

import urllib3
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, make_server

from adaptive.errors import InputError, ServiceError
from adaptive.networks.federated.edge import Edge
from adaptive.networks.federated.group import Traffic, answer_bytes, read_answers
from adaptive.networks.federated.messages import Contribution
from adaptive.networks.federated.recipe import GroupRecipe
from adaptive.networks.federated.server import GroupServer

#: Largest contribution that is read, bytes.
LARGEST = 8 << 30

#: Seconds between two questions whether a round is over.
_POLL_S = 0.2


class Meeting:
    """A group's server behind HTTP.

    Parameters
    ----------
    edges : how many take part
    patience_s : how long a round waits for the others after the first edge has sent
    key : what edges must show as `Authorization: Bearer KEY`, or nothing
    """

    def __init__(
        self,
        server: GroupServer,
        edges: int,
        patience_s: float = 600.0,
        key: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.server = server
        self.edges = edges
        self.patience_s = patience_s
        self.traffic = Traffic()
        self._key = key
        self._say = say
        self._changed = threading.Condition()
        self._learning = False
        #: The round that edges are told of: the server's own counts on before it has saved.
        self._round = server.round
        self._first: float | None = None

    def listen(self, host: str = "127.0.0.1", port: int = 0) -> BaseWSGIServer:
        """Answer edges in a thread of its own; `server_port` of what is returned is the port."""
        http = make_server(host, port, self._app(), threaded=True)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        return http

    def run(self, progress: bool = True, still: Callable[[], None] = lambda: None) -> None:
        """Hold all rounds that are left; `still` is called in between, and ends it by raising."""
        while not self.server.done:
            with self._changed:
                while not self._ready():
                    still()
                    self._changed.wait(_POLL_S)
                self._learning = True
            number, who = self.server.round, self.server.taken
            loss = self.server.learn(progress)
            with self._changed:
                self._learning, self._first, self._round = False, None, self.server.round
            without = "" if len(who) == self.edges else f", without {self.edges - len(who)} edges"
            self._say(f"round {number}/{self.server.recipe.rounds}: loss {loss:.3f}{without}")

    def _ready(self) -> bool:
        if len(self.server.taken) >= self.edges:
            return True
        waited = 0.0 if self._first is None else time.monotonic() - self._first
        return waited > self.patience_s

    def _take(self, edge: str, number: int, data: bytes) -> bool:
        """Whether it was in time: the round is neither over nor being learnt."""
        contribution = Contribution.from_bytes(data, len(self.server.classes))
        if (contribution.edge, contribution.round) != (edge, number):
            raise InputError(
                f"edge {edge!r}, round {number}, sends what edge {contribution.edge!r} made in "
                f"round {contribution.round}"
            )
        with self._changed:
            if self._learning or number != self._round:
                return False
            if edge not in self.server.taken and len(self.server.taken) >= self.edges:
                raise InputError(f"all {self.edges} edges of this group have sent in this round")
            self.server.take(contribution)
            self.traffic.sent(edge, data)
            self._first = self._first or time.monotonic()
            self._changed.notify_all()
        return True

    def _app(self) -> Flask:
        app = Flask("adaptive-group")
        app.config["MAX_CONTENT_LENGTH"] = LARGEST
        server = self.server

        @app.before_request
        def known() -> tuple[Response, int] | None:
            sent = request.headers.get("Authorization", "")
            if self._key and not hmac.compare_digest(sent.encode(), f"Bearer {self._key}".encode()):
                return jsonify(error="this group asks for its key"), 401
            return None

        @app.errorhandler(InputError)
        def refused(error: InputError) -> tuple[Response, int]:
            return jsonify(error=str(error)), 400

        @app.errorhandler(HTTPException)
        def odd(error: HTTPException) -> tuple[Response, int]:
            return jsonify(error=str(error.description)), error.code or 500

        @app.get("/v1/group")
        def group() -> Response:
            with self._changed:
                return jsonify(
                    classes=server.classes,
                    recipe=asdict(server.recipe),
                    round=self._round,
                    done=self._round > server.recipe.rounds,
                )

        @app.post("/v1/edges/<edge>")
        def join(edge: str) -> Response:
            asked: Any = request.get_json(force=True, silent=True)
            classes = asked.get("classes") if isinstance(asked, dict) else None
            if classes != server.classes:
                count = len(classes) if isinstance(classes, list) else "no"
                raise InputError(
                    f"edge {edge!r} has {count} classes; this group learns "
                    f"{len(server.classes)}: {', '.join(server.classes[:10])}"
                )
            return group()

        @app.put("/v1/edges/<edge>/rounds/<int:number>")
        def contribute(edge: str, number: int) -> tuple[str | Response, int]:
            if self._take(edge, number, request.get_data()):
                return "", 204
            return jsonify(error=f"round {number} went on without edge {edge!r}"), 409

        @app.get("/v1/edges/<edge>/answers")
        def answers(edge: str) -> Response | tuple[str, int]:
            with self._changed:
                data = answer_bytes(server, edge)
                if data is None:
                    return "", 204
                return Response(self.traffic.received(edge, data), mimetype="application/zip")

        return app


class GroupClient:
    """An edge's way to a group's server.

    Parameters
    ----------
    url : such as http://10.0.0.1:9000
    patience_s : how long an unreachable server is waited for
    """

    def __init__(self, url: str, key: str | None = None, patience_s: float = 600.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._patience_s = patience_s
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=300))

    def recipe(self) -> GroupRecipe:
        """What the group learns by, so that an edge need not be told."""
        return GroupRecipe(**self._json(self._call("GET", "/v1/group"))["recipe"])

    def take_part(self, edge: Edge, classes: list[str], say: Callable[[str], None] = print) -> None:
        """Take part in all rounds that are left, waiting while the server cannot be reached.

        Raises
        ------
        InputError
            when the server refuses this edge, and says why.
        ServiceError
            when it cannot be reached for `patience_s`.
        """
        joining = json.dumps({"classes": classes}).encode()
        about = self._json(self._call("POST", f"/v1/edges/{edge.name}", joining))
        while not about["done"]:
            number = int(about["round"])
            if edge.rounds < number:
                found = self._call("GET", f"/v1/edges/{edge.name}/answers")
                answers = read_answers(found.data, number) if found.data else None
                loss = edge.learn(number, answers)
                say(f"edge {edge.name}, round {number}/{edge.recipe.rounds}: loss {loss:.3f}")
            path = f"/v1/edges/{edge.name}/rounds/{number}"
            self._call("PUT", path, edge.contribution(number).to_bytes())
            while not about["done"] and int(about["round"]) == number:
                time.sleep(_POLL_S)
                about = self._json(self._call("GET", "/v1/group"))

    def _call(self, method: str, path: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        """One call, repeated while nobody is there; to be late is no error."""
        began = time.monotonic()
        while True:
            try:
                answer = self._pool.request(
                    method, self._url + path, body=body, headers=self._headers, retries=False
                )
                break
            except urllib3.exceptions.HTTPError as exc:
                if time.monotonic() - began > self._patience_s:
                    raise ServiceError(
                        f"{self._url} has not answered for {self._patience_s:.0f} s: {exc}"
                    ) from exc
                time.sleep(1.0)
        if answer.status >= 400 and answer.status != 409:
            raise InputError(f"{self._url} refuses: {self._reason(answer)}")
        return answer

    @staticmethod
    def _json(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
        found: dict[str, Any] = answer.json()
        return found

    @staticmethod
    def _reason(answer: urllib3.BaseHTTPResponse) -> str:
        try:
            return str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            return f"status {answer.status}"
