"""What one thread needs to run a TensorRT engine: a context, a queue, and buffers on both sides.

An execution context serves one thread at a time. The host's buffers are page-locked, so that the
device copies from and to them by itself while the processor goes on.
"""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Callable, Sequence

import numpy as np

from adaptive.engines.direct.bindings import ByName, ByNumber, DeviceTensor
from adaptive.engines.direct.cudart import Cuda
from adaptive.errors import EngineError

log = logging.getLogger("adaptive.serving")

#: Runs on which a recorded graph is held against plain ones, and how much faster it must be.
_TRIAL = 10
_GAIN = 0.98


@dataclass
class LoadedEngine:
    """An engine as its contexts share it.

    Attributes
    ----------
    name : the network's, for messages
    engine : TensorRT's own object, whose tensors `api` reaches; None once it is closed
    log : TensorRT's logger, whose `error` is the last one
    given, made : inputs and outputs in the network's own order
    graph_helps : whether a run is faster launched as a recorded CUDA graph; None until the first
        context has tried
    """

    name: str
    engine: Any
    api: ByName | ByNumber
    cuda: Cuda
    log: Any
    given: Sequence[DeviceTensor]
    made: Sequence[DeviceTensor]
    graph_helps: bool | None

    def failed(self, what: str) -> EngineError:
        """An error with TensorRT's last words on it."""
        said, self.log.error = self.log.error, ""
        return EngineError(
            f"TensorRT failed on network {self.name!r}: {what}" + (f" ({said})" if said else "")
        )


class Context:
    """A context with its queue and buffers; one thread uses it at a time.

    Raises
    ------
    EngineError
        when there is no memory for it, or an output's size depends on the values themselves.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        self._loaded = loaded
        self._cuda, self._api = loaded.cuda, loaded.api
        self._stream = 0
        self._hosts: dict[str, int] = {}
        self._devices: dict[str, int] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._graph = 0
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._plain = 0
        engine = loaded.engine
        if engine is None:
            raise EngineError(f"engine {loaded.name!r} is closed")
        self._context = engine.create_execution_context()
        if self._context is None:
            raise loaded.failed("it gives no context")
        try:
            self._stream = self._cuda.stream()
            self._set(tuple(tensor.largest for tensor in loaded.given))
            for tensor in (*loaded.given, *loaded.made):
                shape = self._api.shape(self._context, tensor.name)
                if min(shape, default=0) < 0:
                    raise EngineError(
                        f"the size of {tensor.name!r} of network {loaded.name!r} depends on the "
                        "values themselves; such a network runs under ONNX Runtime"
                    )
                self._allocate(tensor, shape)
            self._bindings = self._api.bind(self._context, self._devices)
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One batch through the device and back.

        Raises
        ------
        EngineError
            when it fails; what is left queued is then unknown, so use this context no more.
        """
        shapes = tuple(values.shape for values in inputs)
        if shapes != self._shapes:
            self._set(shapes)
        for tensor, values in zip(self._loaded.given, inputs):
            self._view(tensor, values.shape)[...] = values
        self._execute()
        return [
            self._view(tensor, self._api.shape(self._context, tensor.name)).copy()
            for tensor in self._loaded.made
        ]

    def close(self) -> None:
        """Wait for what is queued, and give everything back, also after a failed run.

        After some errors every call to CUDA fails, until the process ends; then there is
        nothing left to give back, and the error that came first is the one to tell.
        """
        cuda = self._cuda
        for call, handles in (
            (cuda.synchronize, [self._stream]),
            (cuda.destroy_graph, [self._graph]),
            (cuda.free, [*self._devices.values()]),
            (cuda.free_pinned, [*self._hosts.values()]),
            (cuda.destroy_stream, [self._stream]),
        ):
            for handle in filter(None, handles):
                with suppress(EngineError):
                    call(handle)
        self._graph = self._stream = 0
        self._devices, self._hosts, self._arrays = {}, {}, {}
        self._context = None

    def _allocate(self, tensor: DeviceTensor, shape: tuple[int, ...]) -> None:
        size = _bytes(tensor, shape)
        self._devices[tensor.name] = self._cuda.malloc(size)
        self._hosts[tensor.name] = address = self._cuda.pinned(size)
        memory = (ctypes.c_byte * size).from_address(address)
        self._arrays[tensor.name] = np.frombuffer(memory, np.dtype(tensor.dtype))  # type: ignore[call-overload]

    def _view(self, tensor: DeviceTensor, shape: tuple[int, ...]) -> np.ndarray:
        return self._arrays[tensor.name][: int(np.prod(shape))].reshape(shape)

    def _set(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Tell the context the shapes of the inputs that come."""
        if self._graph:  # it is of another shape, on a context that is about to change
            self._cuda.destroy_graph(self._graph)
            self._graph = 0
        self._shapes, self._plain = None, 0
        for tensor, shape in zip(self._loaded.given, shapes):
            if not self._api.set_shape(self._context, tensor.name, shape):
                raise self._loaded.failed(f"{tensor.name!r} cannot have shape {shape}")
        self._shapes = shapes

    def _execute(self) -> None:
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._queue()
            self._plain += 1
        self._cuda.synchronize(self._stream)
        # A run before it settles what TensorRT puts off until then.
        if not self._graph and self._plain == 2 and self._is_best():
            self._try_graph()

    def _is_best(self) -> bool:
        best = tuple(tensor.best for tensor in self._loaded.given)
        return self._loaded.graph_helps is not False and self._shapes == best

    def _queue(self) -> None:
        """Queue the copies there, the network, and the copies back."""
        for tensor in self._loaded.given:
            size, host = self._size(tensor), self._hosts[tensor.name]
            self._cuda.to_device(self._devices[tensor.name], host, size, self._stream)
        if not self._api.enqueue(self._context, self._bindings, self._stream):
            raise self._loaded.failed("the network was not run")
        for tensor in self._loaded.made:
            size, host = self._size(tensor), self._hosts[tensor.name]
            self._cuda.to_host(host, self._devices[tensor.name], size, self._stream)

    def _size(self, tensor: DeviceTensor) -> int:
        return _bytes(tensor, self._api.shape(self._context, tensor.name))

    def _try_graph(self) -> None:
        """Record a run, and launch the record from now on where that helps."""
        loaded = self._loaded
        try:
            self._graph = self._record()
            if loaded.graph_helps is None:
                loaded.graph_helps = self._is_faster(self._graph)
        except EngineError as error:
            loaded.graph_helps = False
            log.info("network %r runs without a CUDA graph: %s", loaded.name, error)
        if self._graph and not loaded.graph_helps:
            self._cuda.destroy_graph(self._graph)
            self._graph = 0

    def _record(self) -> int:
        self._cuda.begin_capture(self._stream)
        try:
            self._queue()
        except BaseException:
            self._cuda.abandon_capture(self._stream)
            raise
        return self._cuda.end_capture(self._stream)

    def _is_faster(self, graph: int) -> bool:
        """Whether launching a record takes less time than queueing the same plainly."""
        plain = self._timed(self._queue)
        recorded = self._timed(lambda: self._cuda.launch(graph, self._stream))
        log.info(
            "network %r: %.3f ms plainly queued, %.3f ms as a CUDA graph",
            *(self._loaded.name, plain * 1e3, recorded * 1e3),
        )
        return recorded < _GAIN * plain

    def _timed(self, queue: Callable[[], None]) -> float:
        """Seconds of the median of some runs."""
        spent = []
        for _ in range(_TRIAL):
            began = perf_counter()
            queue()
            self._cuda.synchronize(self._stream)
            spent.append(perf_counter() - began)
        return sorted(spent)[_TRIAL // 2]


def _bytes(tensor: DeviceTensor, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
