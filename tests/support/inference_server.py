"""A small server of the Open Inference Protocol that reads tensors, as Triton does, and misbehaves.

It answers with the mean of each channel, times ten: three classes, as logits. Or it runs a network,
and hands out its outputs.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Iterator

import numpy as np

from adaptive.engines.engine import OnnxEngine

#: The protocol's names of ONNX Runtime's types, and numpy's.
TYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8"}
NUMPY = {"FP32": np.float32, "UINT8": np.uint8}

HEADER = "Inference-Header-Content-Length"


@dataclass
class Behaviour:
    """What the server is, and does wrong; it may be changed while it runs."""

    name: str = "colours"
    network: OnnxEngine | None = None
    versions: tuple[str, ...] = ("3",)
    labels: tuple[str, ...] | None = ("red", "green", "blue")
    binary: bool = True
    shape: tuple[int, ...] = (-1, 3, 8, 8)
    width: int = 3
    status: int = 200
    fails_after: int | None = None  # with status 500, after so many more answers
    wait_s: float = 0.0
    redirect: str | None = None
    body: bytes | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """Requests for inference so far."""
        return sum(path.endswith("/infer") for _, path, _ in self.requests)


@contextmanager
def inference_server(behaviour: Behaviour) -> Iterator[str]:
    """The address of such a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _note(self) -> None:
            behaviour.requests.append((self.command, self.path, dict(self.headers)))

        def do_GET(self) -> None:
            self._note()
            own = f"/v2/models/{behaviour.name}"
            versioned = [f"{own}/versions/{v}" for v in behaviour.versions]
            if self.path == "/v2":
                extensions = ["binary_tensor_data"] if behaviour.binary else []
                extensions += ["classification"] if behaviour.labels is not None else []
                value: Any = {"name": "stand-in", "version": "0", "extensions": extensions}
            elif self.path in (own, *versioned):
                value = {
                    "name": behaviour.name,
                    "versions": list(behaviour.versions),
                    "platform": "stand-in",
                    "inputs": [
                        {"name": "pixels", "datatype": "FP32", "shape": list(behaviour.shape)}
                    ],
                    "outputs": [
                        {"name": "scores", "datatype": "FP32", "shape": [-1, behaviour.width]}
                    ],
                }
            else:
                self._send(404, b'{"error": "there is no such model"}')
                return
            if behaviour.network is not None and "inputs" in value:
                value.update(_described(behaviour.network))
            self._send(200, json.dumps(value).encode())

        def do_POST(self) -> None:
            self._note()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(behaviour.wait_s)
            if behaviour.redirect is not None:
                self._send(307, b"", Location=behaviour.redirect)
                return
            if behaviour.fails_after is not None:
                if behaviour.fails_after == 0:
                    self._send(500, b'{"error": "the server is not well"}')
                    return
                behaviour.fails_after -= 1
            if behaviour.status != 200:
                self._send(behaviour.status, b'{"error": "the server is not well"}')
                return
            if behaviour.body is not None:
                self._send(200, behaviour.body)
                return
            length = int(self.headers.get(HEADER, len(body)))
            request = json.loads(body[:length])
            (tensor,) = request["inputs"]
            head = {"model_name": behaviour.name, "model_version": behaviour.versions[-1]}
            if behaviour.network is not None:
                outputs = _ran(behaviour.network, tensor, body[length:])
                answer = {**head, "outputs": outputs, **behaviour.answer}
                self._send(200, json.dumps(answer).encode())
                return
            if length < len(body):
                values = np.frombuffer(body[length:], "<f4")
            else:
                values = np.array(tensor["data"], np.float32)
            rows = values.reshape(tensor["shape"]).mean(axis=(2, 3)) * 10
            (wanted,) = request["outputs"]
            parameters = wanted.get("parameters", {})
            if "classification" in parameters:
                assert behaviour.labels is not None
                texts = [f"{row[n]:f}:{n}:{behaviour.labels[n]}" for row in rows for n in range(3)]
                out = {"name": "scores", "datatype": "BYTES", "shape": [len(rows), 3]}
                answer = {**head, "outputs": [{**out, "data": texts}], **behaviour.answer}
                self._send(200, json.dumps(answer).encode())
                return
            out = {"name": "scores", "datatype": "FP32", "shape": list(rows.shape)}
            if not parameters.get("binary_data"):
                out["data"] = rows.ravel().tolist()
                answer = {**head, "outputs": [out], **behaviour.answer}
                self._send(200, json.dumps(answer).encode())
                return
            blob = rows.astype("<f4").tobytes()
            out["parameters"] = {"binary_data_size": len(blob)}
            text = json.dumps({**head, "outputs": [out], **behaviour.answer}).encode()
            self._send(200, text + blob, Inference_Header_Content_Length=str(len(text)))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _described(network: OnnxEngine) -> dict[str, Any]:
    """Its inputs and outputs as a model's metadata tell them."""

    def tensors(names: list[str], types: list[str], shapes: list[list[Any]]) -> list[Any]:
        return [
            {"name": name, "datatype": TYPES[kind], "shape": shape}
            for name, kind, shape in zip(names, types, shapes)
        ]

    return {
        "inputs": tensors(network.inputs, network.input_types, network.input_shapes),
        "outputs": tensors(network.outputs, network.output_types, network.output_shapes),
    }


def _ran(network: OnnxEngine, tensor: dict[str, Any], blob: bytes) -> list[dict[str, Any]]:
    """What it answers to one input, as the outputs of an answer."""
    dtype = NUMPY[tensor["datatype"]]
    values = np.frombuffer(blob, dtype) if blob else np.array(tensor["data"], dtype)
    found = network.run(values.reshape(tensor["shape"]))
    return [
        {"name": name, "datatype": "FP32", "shape": list(own.shape), "data": own.ravel().tolist()}
        for name, own in zip(network.outputs, found)
    ]
