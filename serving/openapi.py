"""The OpenAPI description of what is answered: `openapi.json`, filled in by the server."""

from __future__ import annotations

import json
import pkgutil
import re
from typing import Any, Collection, Sequence

from adaptive.bundle.outputs import TASKS
from adaptive.serving.middleware import OPEN
from adaptive.serving.protocols import ROUTER
from adaptive.serving.release import release


def document(
    paths: Collection[str],
    models: Sequence[str],
    max_batch: int,
    secured: bool,
    task: str = "classify",
) -> dict[str, Any]:
    """The description, OpenAPI 3.0.

    Parameters
    ----------
    paths : Flask's rules that the application really has; what else is known here is left out
    models : that can be named just now
    max_batch : images that one request may hold
    secured : a bearer key is asked for, but for health
    task : what the bundle does; the path of the other task, which it refuses, is left out
    """
    data = pkgutil.get_data("adaptive.serving", "openapi.json")
    assert data is not None
    told: dict[str, Any] = json.loads(data)
    told["info"]["version"] = release()
    answered = {re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule) for rule in paths}
    answered -= {f"/v1/{other}" for other in TASKS if other != task}
    told["paths"] = {path: item for path, item in told["paths"].items() if path in answered}
    parts = told["components"]
    parts["parameters"]["Model"]["schema"]["enum"] = list(models)
    parts["parameters"]["Candidate"]["schema"]["enum"] = [n for n in models if n != ROUTER]
    tensor = parts["schemas"]["Image"]["properties"]
    most = 1 if task == "detect" else max_batch
    tensor["shape"]["items"]["maximum"] = tensor["data"]["maxItems"] = most
    if secured:
        for path in told["paths"].keys() - OPEN:
            for operation in told["paths"][path].values():
                operation["security"] = [{"bearer": []}]
                operation["responses"]["401"] = {"$ref": "#/components/responses/Unauthorized"}
    else:
        del parts["securitySchemes"]
    _drop_unused(told)
    return told


def _drop_unused(told: dict[str, Any]) -> None:
    """Leave out schemas, answers and bodies that nothing refers to."""
    parts = told["components"]
    while True:
        named = set(re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(told)))
        unused = [
            (kind, name)
            for kind in ("schemas", "responses", "requestBodies")
            for name in parts[kind]
            if (kind, name) not in named
        ]
        if not unused:
            return
        for kind, name in unused:
            del parts[kind][name]
