"""What is compared: `adaptive serve`, its application under other WSGI servers, and its peers."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Callable, Mapping

from servers.load import post
from servers.process import Process, free_port

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"

#: `adaptive`, by whatever interpreter runs it.
ADAPTIVE = ("-c", "from adaptive.cli import main; main()")


@dataclass(frozen=True)
class Served:
    """What is served, and a folder to write to.

    Attributes
    ----------
    bundle, network : of `write_served`
    image : a JPEG
    folder : for logs and settings
    """

    bundle: Path
    network: Path
    image: bytes
    folder: Path


@dataclass(frozen=True)
class Contestant:
    """A server that can be started.

    Attributes
    ----------
    name : what it is called
    module : what must be importable for it
    work : "adaptive" or "peer": what it does for an image
    command : of the interpreter, from port and what is served
    request : the bytes of one request
    python : runs it
    checkout : where our package is
    """

    name: str
    module: str
    work: str
    command: Callable[[int, Served], list[str]]
    request: Callable[[Served], bytes]
    python: str = sys.executable
    checkout: Path = HERE.parents[1]

    @property
    def installed(self) -> bool:
        """Whether its interpreter has it."""
        try:
            run = subprocess.run([self.python, "-c", f"import {self.module}"], capture_output=True)
        except OSError:
            return False
        return run.returncode == 0

    @property
    def versions(self) -> dict[str, str]:
        """Python, and the packages that matter."""
        packages = [self.module.split(".")[0], *_BESIDES.get(self.name, ()), "onnxruntime"]
        program = (
            "import sys, json, platform\n"
            "try: from importlib.metadata import version\n"
            "except ImportError: from importlib_metadata import version\n"
            "found = {'python': platform.python_version()}\n"
            "for name in sys.argv[1:]:\n"
            "    try: found[name] = version({'adaptive': 'adaptive-serving'}.get(name, name))\n"
            "    except Exception: pass\n"
            "print(json.dumps(found))"
        )
        run = subprocess.run(
            [self.python, "-c", program, *packages], capture_output=True, text=True, check=True
        )
        found: dict[str, str] = json.loads(run.stdout)
        return found

    def start(self, served: Served, core: int | None, patience_s: float = 60.0) -> Process:
        """Start it, and wait until it has answered an image."""
        port = free_port()
        command = [self.python, *self.command(port, served)]
        log = served.folder / f"{self.name}.log"
        path = os.pathsep.join((str(self.checkout), str(PEERS)))
        environment = {"NETWORK": str(served.network), "PYTHONPATH": path}
        process = Process(command, port, core, environment, served.folder, log)
        request, end = self.request(served), monotonic() + patience_s
        while monotonic() < end and process.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(port, request) == 200:
                    return process
            sleep(0.1)
        process.kill()
        raise RuntimeError(f"{self.name} did not start; see {log}:\n{log.read_text()[-2000:]}")


def ask(port: int, request: bytes, timeout_s: float = 10.0) -> int:
    """The status that one request is answered with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.connect()
        connection.sock.sendall(request)
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        answer.read()
        return answer.status
    finally:
        connection.close()


def serve_command(port: int, bundle: Path | None, folder: Path, *options: str) -> list[str]:
    """`adaptive serve` with its request log on."""
    named = [] if bundle is None else [str(bundle)]
    log = str(folder / "requests.jsonl")
    return [*ADAPTIVE, "serve", *named, "--port", str(port), "--request-log", log, *options]


def _adaptive(port: int, served: Served) -> list[str]:
    return serve_command(port, served.bundle, served.folder)


def _default(port: int, served: Served) -> list[str]:
    return serve_command(port, None, served.folder)


def _hosted(name: str) -> Callable[[int, Served], list[str]]:
    def command(port: int, served: Served) -> list[str]:
        return [str(HERE / "hosts.py"), name, str(port), str(served.bundle)]

    return command


def _fastapi(port: int, served: Served) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return ["-m", "uvicorn", "fastapi_app:app", *address, "--log-level", "warning"]


def _litserve(port: int, served: Served) -> list[str]:
    return [str(PEERS / "litserve_app.py"), str(port)]


def _bentoml(port: int, served: Served) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return ["-m", "bentoml", "serve", "bentoml_service:Classifier", *address]


def _mlserver(port: int, served: Served) -> list[str]:
    folder = served.folder / "mlserver"
    folder.mkdir(exist_ok=True)
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "small", "implementation": "mlserver_runtime.Classifier"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return ["-c", "from mlserver.cli import main; main()", "start", str(folder)]


def _classify(served: Served) -> bytes:
    return post("/v1/classify", served.image, "image/jpeg")


def _raw(served: Served) -> bytes:
    return post("/classify", served.image, "image/jpeg")


def _json(served: Served) -> bytes:
    text = base64.b64encode(served.image).decode()
    return post("/predict", json.dumps({"image": text}).encode(), "application/json")


def _v2_json(served: Served) -> bytes:
    text = base64.b64encode(served.image).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
    body = json.dumps({"inputs": [tensor]}).encode()
    return post("/v2/models/small/infer", body, "application/json")


def form(image: bytes, field: str, path: str) -> bytes:
    """A form with one file."""
    head = (
        f'--x-x\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + image + b"\r\n--x-x--\r\n"
    return post(path, body, "multipart/form-data; boundary=x-x")


_BESIDES = {
    "fastapi": ("uvicorn",),
    "litserve": ("fastapi", "uvicorn"),
    "adaptive": ("uvicorn", "httptools", "uvloop"),
}

ALL = {
    contestant.name: contestant
    for contestant in (
        Contestant("adaptive", "adaptive", "adaptive", _adaptive, _classify),
        Contestant("waitress", "waitress", "adaptive", _hosted("waitress"), _classify),
        Contestant("cheroot", "cheroot", "adaptive", _hosted("cheroot"), _classify),
        Contestant("granian", "granian", "adaptive", _hosted("granian"), _classify),
        Contestant("gunicorn", "gunicorn", "adaptive", _hosted("gunicorn"), _classify),
        Contestant("fastapi", "fastapi", "peer", _fastapi, _raw),
        Contestant("litserve", "litserve", "peer", _litserve, _json),
        Contestant(
            "bentoml", "bentoml", "peer", _bentoml, lambda s: form(s.image, "image", "/classify")
        ),
        Contestant("mlserver", "mlserver", "peer", _mlserver, _v2_json),
    )
}

#: Ours with the embedded default, for memory.
DEFAULT = Contestant("default", "adaptive", "adaptive", _default, _classify)


def with_pythons(
    names: list[str], pythons: Mapping[str, str], before: Path | None = None
) -> list[Contestant]:
    """Contestants by name, each with the interpreter that was given for it.

    Parameters
    ----------
    before : another checkout, whose `adaptive serve` is compared too, as "before"
    """
    chosen = [ALL[name] for name in names]
    if before is not None:
        chosen.append(replace(ALL["adaptive"], name="before", checkout=before.resolve()))
    return [replace(c, python=pythons[c.name]) if c.name in pythons else c for c in chosen]
