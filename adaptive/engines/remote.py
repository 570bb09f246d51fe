"""A candidate that runs on another server, asked as though it were an engine here.

The server is another `adaptive serve`, Triton, KServe or any that speaks the Open Inference
Protocol v2. What cannot be reached, is too late or answers with what it should not is an
`UnreachableError`, and a circuit breaker keeps later images from waiting for it.
"""

from __future__ import annotations

import logging
import math
import threading
from contextlib import contextmanager
from time import monotonic
from typing import Any, Iterator, Mapping

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.client.connections import Connections, Raw
from adaptive.engines.answers import probabilities
from adaptive.engines.breaker import CLOSED, Breaker
from adaptive.engines.engine import in_parts
from adaptive.engines.expected import AnotherModel, Expected, Greeted
from adaptive.engines.inference import (
    LENGTH_HEADER,
    Inferred,
    ModelInfo,
    TensorInfo,
    Values,
    read_answer,
    read_labels,
    read_model,
    read_value,
    write_request,
)
from adaptive.errors import EngineError, ServiceError, UnreachableError
from adaptive.remote import Remote, origin

log = logging.getLogger("adaptive.serving")

#: Images that one request holds at most, whatever the server would take.
MOST = 16

#: Bytes of the longest answer that is none of inference, and of an answer beyond its numbers.
LONGEST_TOLD = 4_000_000
BESIDES = 65_536

#: How long a server is given to tell what it is, when it is opened.
GREETING_S = 5.0

_asking = threading.local()


@contextmanager
def within(remaining_ms: float) -> Iterator[None]:
    """While this lasts, requests of this thread end when so much time has passed."""
    before = getattr(_asking, "end", math.inf)
    _asking.end = min(before, monotonic() + remaining_ms / 1e3)
    try:
        yield
    finally:
        _asking.end = before


class RemoteEngine:
    """A model on another server.

    Parameters
    ----------
    remote : which, and where
    spec, output : as the candidate's manifest entry says
    key : a bearer key that the server asks for, or None
    breaker : says when it is left alone

    Attributes
    ----------
    sent, received : bytes of all requests for inference and of their answers
    requests : how many there were
    """

    def __init__(
        self,
        remote: Remote,
        spec: InputSpec,
        output: OutputSpec | BoxOutput,
        key: str | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.remote, self.spec, self.output = remote, spec, output
        self._expected = Expected(remote, spec, output)
        self.breaker = breaker or Breaker()
        self._server = Connections(remote.url, key)
        self._greeted: Greeted | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.sent = self.received = self.requests = 0
        # What an engine says of itself; a server's is not known before it is asked.
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.input_shapes: list[list[Any]] = []
        self.output_shapes: list[list[Any]] = []
        self.input_types: list[str] = []
        self.output_types: list[str] = []

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Ask for the answers to one batch; see `Engine.run`.

        Raises
        ------
        UnreachableError
            when they are not to be had.
        """
        if self._closed:
            raise EngineError(f"{self.remote.place} is closed")
        wait_s = self.breaker.ask()
        if wait_s > 0:
            why = self.breaker.status()["last_failure"]
            raise UnreachableError(
                f"{self.remote.place} failed again and again, and is left alone for {wait_s:.1f} "
                f"s more: {why}",
                wait_s,
            )
        try:
            greeted = self._greeted or self.greet(self._end())
            found = in_parts(lambda batch: self._infer(greeted, batch), inputs, greeted.most)
        except (ServiceError, EngineError) as error:
            if self.breaker.failed(str(error)):
                log.warning("%s is left alone: %s", self.remote.place, error)
            if self.breaker.state != CLOSED:
                self._greeted = None  # it may come back as another
            raise UnreachableError(f"{self.remote.place} cannot be asked: {error}") from error
        except BaseException:
            self.breaker.abandoned()
            raise
        if self.breaker.succeeded():
            log.info("%s answers again", self.remote.place)
        return found

    def greet(self, end: float | None = None) -> Greeted:
        """Ask the server what it is, and hold that against the manifest entry.

        end : when that must be done, on the monotonic clock; as long as an opening may take
            where it is None

        Raises
        ------
        AnotherModel
            when it is not what the manifest entry says.
        ServiceError, EngineError
            when it cannot be asked.
        """
        end = _opened_by(self.remote) if end is None else end
        server, extensions = self._told(end)
        info = read_model(self._get(self._path(""), end))
        self._expected.check_name(info.name, info.versions)
        read = self._expected.read(info)
        answers = self._expected.answers(info)
        most = 1 if read.shape[:1] == (1,) else MOST
        if most > 1 and "model_configuration" in extensions:
            config = read_value(self._get(self._path("/config"), end), "the model's configuration")
            largest = config.get("max_batch_size", 0) if isinstance(config, dict) else 0
            largest = largest if isinstance(largest, int) else 0
            free = read.shape[:1] == (-1,)
            most = min(MOST, largest) if largest > 0 else (MOST if free else 1)
        binary = "binary_tensor_data" in extensions
        greeted = Greeted(server, binary, read, answers, most, None)
        labels = None
        if isinstance(self.output, OutputSpec) and "classification" in extensions:
            labels = self._labels(greeted, end)
        greeted = Greeted(server, binary, read, answers, most, labels)
        self._expected.check_labels(labels)
        self.inputs, self.outputs = [read.name], [tensor.name for tensor in answers]
        self.input_shapes = [list(read.shape)]
        self.output_shapes = [list(tensor.shape) for tensor in answers]
        self._greeted = greeted
        return greeted

    def status(self) -> dict[str, Any]:
        """Where it stands, as JSON values."""
        return {
            "url": self.remote.url,
            "model": self.remote.model,
            **self.breaker.status(),
            "requests": self.requests,
            "bytes_sent": self.sent,
            "bytes_received": self.received,
        }

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._server.close()

    def _told(self, end: float) -> tuple[str, tuple[str, ...]]:
        """The server's name and extensions; none where it does not tell of itself."""
        raw = self._send("GET", "/v2", b"", {}, end, LONGEST_TOLD)
        if raw.status != 200:
            return "", ()
        told = read_value(raw.body, "what the server says of itself")
        if not isinstance(told, dict):
            return "", ()
        extensions = told.get("extensions")
        listed = extensions if isinstance(extensions, list) else []
        return str(told.get("name", "")), tuple(map(str, listed))

    def _labels(self, greeted: Greeted, end: float) -> tuple[str, ...] | None:
        """The model's class names, which come with a made-up image's best classes."""
        assert isinstance(self.output, OutputSpec)
        from adaptive.engines.proof import made_up

        said = self._exchange(greeted, made_up(self.spec)[0], end, self.output.width)
        texts = said.tensors.get(greeted.answers[0].name)
        if texts is None or isinstance(texts, np.ndarray):
            return None
        return read_labels(texts, self.output.classes, int(self.output.background))

    def _infer(self, greeted: Greeted, batch: np.ndarray) -> list[np.ndarray]:
        said = self._exchange(greeted, batch, self._end())
        found = []
        for tensor in greeted.answers:
            values = said.tensors.get(tensor.name)
            if not isinstance(values, np.ndarray):
                raise EngineError(f"the answer lacks numbers under {tensor.name!r}")
            if isinstance(self.output, OutputSpec):
                if values.shape[:1] != (len(batch),):
                    raise EngineError(
                        f"the answer has shape {list(values.shape)} for {len(batch)} images"
                    )
                probabilities(values, self.output)  # what cannot be any counts as a failure here
            found.append(values)
        return found

    def _exchange(
        self, greeted: Greeted, batch: np.ndarray, end: float, classes: int = 0
    ) -> Inferred:
        read, values = greeted.read, self._packed(greeted.read, batch)
        shape = batch.shape
        if read.datatype == "BYTES":
            shape = (len(batch), 1) if len(read.shape) > 1 else (len(batch),)
        names = [tensor.name for tensor in greeted.answers]
        body, headers = write_request(
            read.name, read.datatype, shape, values, names, greeted.binary, classes
        )
        longest = None
        if isinstance(self.output, OutputSpec):
            longest = BESIDES + len(batch) * self.output.width * 32
            longest += LONGEST_TOLD if classes else 0
        raw = self._send("POST", self._path("/infer"), body, headers, end, longest)
        if raw.status != 200:
            raise ServiceError(f"the server answered with {_sentence(raw)}")
        with self._lock:
            self.requests += 1
            self.sent += len(body)
            self.received += len(raw.body)
        said = read_answer(raw.body, raw.headers.get(LENGTH_HEADER))
        self._expected.check_name(said.model, (said.version,) if said.version else ())
        return said

    def _packed(self, read: TensorInfo, batch: np.ndarray) -> Values:
        if read.datatype != "BYTES":
            return batch
        return [encoded(pixels, self.spec.channels, self.remote) for pixels in batch]

    def _path(self, end: str) -> str:
        remote = self.remote
        version = "" if remote.version is None else f"/versions/{remote.version}"
        return f"/v2/models/{remote.model}{version}{end}"

    def _get(self, path: str, end: float) -> bytes:
        raw = self._send("GET", path, b"", {}, end, LONGEST_TOLD)
        if raw.status != 200:
            raise ServiceError(f"the server answered with {_sentence(raw)}")
        return raw.body

    def _send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        end: float,
        longest: int | None,
    ) -> Raw:
        late = ServiceError("the server did not answer in time")
        return self._server.ask(method, path, body, headers, end, late, longest)

    def _end(self) -> float:
        own = monotonic() + self.remote.timeout_ms / 1e3
        return min(own, getattr(_asking, "end", math.inf))


def encoded(pixels: np.ndarray, channels: str, remote: Remote) -> bytes:
    """Pixels (height, width, 3), uint8, as a JPEG or PNG file."""
    from adaptive.opencv import cv2

    bgr = pixels[..., ::-1] if channels == "RGB" else pixels
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if remote.encoding == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, remote.quality]
    ending = ".jpg" if remote.encoding == "jpeg" else ".png"
    done, data = cv2.imencode(ending, np.ascontiguousarray(bgr), options)
    if not done:
        raise EngineError(f"an image of shape {pixels.shape} cannot be encoded")
    return bytes(data)


def _sentence(raw: Raw) -> str:
    """What a server says is wrong."""
    if 300 <= raw.status < 400:
        return f"HTTP status {raw.status}, and answers that point elsewhere are not followed"
    try:
        said = read_value(raw.body[:65_536], "it").get("error")
    except (EngineError, AttributeError):
        said = None
    shown = f": {said[:200]}" if isinstance(said, str) else ""
    return f"HTTP status {raw.status}{shown}"


def _opened_by(remote: Remote) -> float:
    """When a server that is opened now must have told what it is, on the monotonic clock."""
    return monotonic() + max(GREETING_S, remote.timeout_ms / 1e3)


def model_info(remote: Remote, key: str | None = None) -> ModelInfo:
    """What a server says of a model.

    Raises
    ------
    ServiceError, EngineError
        when it cannot be asked, has no such model, or does not speak the protocol.
    """
    server = Connections(remote.url, key)
    end = _opened_by(remote)
    version = "" if remote.version is None else f"/versions/{remote.version}"
    late = ServiceError(f"{remote.place}: the server did not answer in time")
    try:
        path = f"/v2/models/{remote.model}{version}"
        raw = server.ask("GET", path, b"", {}, end, late, LONGEST_TOLD)
    finally:
        server.close()
    if raw.status != 200:
        raise ServiceError(f"{remote.place}: {_sentence(raw)}")
    return read_model(raw.body)


def open_remote(candidate: Candidate, keys: Mapping[str, str]) -> RemoteEngine:
    """A candidate on another server; one that cannot be reached now is asked again later.

    keys : bearer keys by the server's origin, see `read_keys`

    Raises
    ------
    EngineError
        when a server answers there, and with another model than the manifest entry says.
    """
    remote = candidate.remote
    assert remote is not None
    key = keys.get(origin(remote.url))
    engine = RemoteEngine(remote, candidate.input, candidate.output, key)
    try:
        engine.greet()
    except AnotherModel as error:
        engine.close()
        raise EngineError(f"candidate {candidate.name!r}, {remote.place}: {error}") from error
    except (ServiceError, EngineError) as error:
        log.warning(
            "candidate %r cannot be asked now, and answers go without it until it can: %s, %s",
            candidate.name,
            remote.place,
            error,
        )
    return engine
