"""What the HTTP application asks of whatever answers the images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from adaptive.limits import Limits
from adaptive.prediction import Prediction
from adaptive.serving.readiness import Readiness

if TYPE_CHECKING:
    from adaptive.tasks.detections import Detections

#: The router's name among the models that can be asked; a candidate called so is hidden by it.
ROUTER = "adaptive"


class Headers(Protocol):
    """A request's headers, by name in any case."""

    def get(self, name: str, /) -> str | None:
        """One header, or None."""
        ...


@dataclass(frozen=True)
class ModelState:
    """Whether one model answers by itself, and if not, why."""

    name: str
    ready: bool
    reason: str = ""


@dataclass(frozen=True)
class Duration:
    """How often something was done, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class ModelStatistics:
    """What one model has done since the server started.

    Attributes
    ----------
    success, fail : requests
    queue, compute_input, compute_infer, compute_output : waiting, decoding and preprocessing,
        running networks, making the answer
    batches : by how many images ran at once, the runs of that size
    last_inference_ms : when the last one ended, milliseconds since 1970
    inference_count : images
    execution_count : runs
    """

    success: Duration = Duration()
    fail: Duration = Duration()
    queue: Duration = Duration()
    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()
    batches: Mapping[int, Duration] = field(default_factory=dict)
    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0


class StreamKey(NamedTuple):
    """Which camera a frame is of: whose, and what they call it."""

    owner: str
    name: str


class CandidateModel(Protocol):
    """One candidate, asked by itself.

    Attributes
    ----------
    name : of the candidate
    labels : its classes
    """

    @property
    def name(self) -> str:
        """Name of the candidate."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """Names of its classes."""
        ...

    def infer(
        self, images: Sequence[bytes], *, limits: Limits = ..., request_id: str | None = ...
    ) -> np.ndarray:
        """Probabilities of shape (n, classes), float32."""
        ...

    def detect(
        self, image: bytes, *, limits: Limits = ..., request_id: str | None = ...
    ) -> Detections:
        """What it finds in one image, where the bundle finds boxes."""
        ...


class ModelService(Protocol):
    """A router, its candidates, and the bundle that they come from.

    It is called from several threads. It raises ImageError or InputError for what the request
    is to blame for, with a sentence that a stranger may read; BusyError when it will not take
    the request now; DeadlineError when the answer would come too late.

    Attributes
    ----------
    ready : whether it answers at full speed
    labels : classes of the bundle that is served now
    task : what that bundle does, "classify" or "detect"
    """

    @property
    def ready(self) -> Readiness:
        """Whether images are answered at full speed."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """Classes of the bundle that is served now."""
        ...

    @property
    def task(self) -> str:
        """What the bundle that is served now does."""
        ...

    def detect(
        self,
        image: bytes,
        *,
        limits: Limits = ...,
        explain: bool = ...,
        request_id: str | None = ...,
        stream: StreamKey | None = ...,
    ) -> Detections:
        """Find what is in one image."""
        ...

    def classify(
        self,
        image: bytes,
        *,
        limits: Limits = ...,
        explain: bool = ...,
        request_id: str | None = ...,
        stream: StreamKey | None = ...,
    ) -> Prediction:
        """Answer one image."""
        ...

    def classify_batch(
        self, images: Sequence[bytes], *, limits: Limits = ..., request_id: str | None = ...
    ) -> list[Prediction]:
        """Answer several images."""
        ...

    def candidate(self, name: str) -> CandidateModel | None:
        """One candidate of the bundle, or None where it has none of that name."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what is served, as JSON values."""
        ...

    def models(self) -> Sequence[ModelState]:
        """The router, called ROUTER, and every candidate of the bundle."""
        ...

    def load(self, name: str) -> None:
        """Have a candidate answer by itself; read the bundle again for ROUTER."""
        ...

    def unload(self, name: str) -> None:
        """Have a candidate answer by itself no more."""
        ...

    def statistics(self) -> Mapping[str, ModelStatistics]:
        """What each model has done, by name."""
        ...

    def limits_from(self, headers: Headers) -> Limits:
        """What a request's headers allow; InputError where they cannot be read."""
        ...
