"""An engine that TensorRT runs by itself, without ONNX Runtime.

TensorRT's Python module has had two ways to hand tensors over: by the numbers of their bindings
(up to 8.6; JetPack 4.6 has 8.2) and by their names (from 8.5; the only one from 10 on). Here both
stand behind one class, which takes names where they are
(https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-8x-to-10x-python-api-patterns.html).

An execution context serves one thread at a time, so each run takes a lane of its own: a context,
a queue of the device, and page-locked buffers that the device copies from by itself.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Iterator, Sequence

import numpy as np

from adaptive.errors import EngineError
from adaptive.serving.cudart import Cuda
from adaptive.serving.providers import in_parts

log = logging.getLogger("adaptive.serving")

#: TensorRT's names of element types -> numpy's. Its own `nptype` fails from numpy 1.24 on in
#: the versions that boards have.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}

#: numpy's names of element types -> ONNX Runtime's, which manifest entries are held against.
_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "uint8": "tensor(uint8)"}

#: Runs on which a recorded graph is held against plain ones, and how much faster it must be.
_TRIAL = 10
_GAIN = 0.98


def import_tensorrt() -> Any:
    """The module `tensorrt`.

    Raises
    ------
    EngineError
        when it is not installed, or its libraries are not.
    """
    try:
        import tensorrt
    except ImportError as exc:
        raise EngineError(
            f"the Python module tensorrt cannot be imported ({exc}); JetPack brings it for the "
            "system's Python alone, and elsewhere NVIDIA's index has it"
        ) from exc
    return tensorrt


def make_logger(trt: Any) -> Any:
    """A logger that keeps TensorRT's last error for ours, and passes warnings on."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Receives TensorRT's messages."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.error = ""

        def log(self, severity: Any, message: str) -> None:
            """Take one message."""
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                self.error = message
                log.error("TensorRT: %s", message)
            elif int(severity) == int(trt.ILogger.Severity.WARNING):
                log.info("TensorRT: %s", message)

    return Log()


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; `shape` has -1 for a free axis.

    `largest` is the largest shape that an input may have, and `best` the one that the engine is
    tuned for; outputs have neither.
    """

    name: str
    is_input: bool
    dtype: str
    shape: tuple[int, ...]
    largest: tuple[int, ...] = ()
    best: tuple[int, ...] = ()


class _ByName:
    """Tensors by their names: TensorRT 8.5 and later."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self.tensors = []
        for position in range(engine.num_io_tensors):
            name = engine.get_tensor_name(position)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            _, best, largest = (
                engine.get_tensor_profile_shape(name, 0) if is_input else ((), (), ())
            )
            dtype = _dtype(engine.get_tensor_dtype(name))
            shape = tuple(engine.get_tensor_shape(name))
            self.tensors.append(Tensor(name, is_input, dtype, shape, tuple(largest), tuple(best)))

    def bind(self, context: Any, addresses: dict[str, int]) -> list[int]:
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT takes no address for {name!r}")
        return []

    def set_shape(self, context: Any, name: str, shape: tuple[int, ...]) -> bool:
        return bool(context.set_input_shape(name, shape))

    def shape(self, context: Any, name: str) -> tuple[int, ...]:
        return tuple(context.get_tensor_shape(name))

    def enqueue(self, context: Any, bindings: list[int], stream: int) -> bool:
        return bool(context.execute_async_v3(stream))


class _ByNumber:
    """Tensors by the numbers of their bindings: TensorRT before 8.5."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self.tensors = []
        for number in range(engine.num_bindings):
            is_input = bool(engine.binding_is_input(number))
            _, best, largest = engine.get_profile_shape(0, number) if is_input else ((), (), ())
            self.tensors.append(
                Tensor(
                    engine.get_binding_name(number),
                    is_input,
                    _dtype(engine.get_binding_dtype(number)),
                    tuple(engine.get_binding_shape(number)),
                    tuple(largest),
                    tuple(best),
                )
            )
        self._numbers = {tensor.name: number for number, tensor in enumerate(self.tensors)}

    def bind(self, context: Any, addresses: dict[str, int]) -> list[int]:
        return [addresses[tensor.name] for tensor in self.tensors]

    def set_shape(self, context: Any, name: str, shape: tuple[int, ...]) -> bool:
        return bool(context.set_binding_shape(self._numbers[name], shape))

    def shape(self, context: Any, name: str) -> tuple[int, ...]:
        return tuple(context.get_binding_shape(self._numbers[name]))

    def enqueue(self, context: Any, bindings: list[int], stream: int) -> bool:
        return bool(context.execute_async_v2(bindings, stream))


def _dtype(value: Any) -> str:
    name = _DTYPES.get(value.name)
    if name is None:
        raise EngineError(f"an engine has a tensor of type {value.name}; {list(_DTYPES)} are known")
    return name


class TensorrtEngine:
    """A network under TensorRT.

    Parameters
    ----------
    plan : the serialised engine, as `adaptive build` writes it; it runs nothing but on the kind
        of device and under the version that built it
    name : the network's, for messages
    inputs, outputs : names of the tensors in the network's own order, which TensorRT does not
        promise to keep
    lanes : runs at the same time; default 2, and 1 before TensorRT 10, where two contexts must
        not share an optimization profile
    graphs : try to launch a run for the best batch as one recorded CUDA graph, and keep to that
        where it is faster
    trt, cuda : the module and the library, or what stands for them

    Raises
    ------
    EngineError
        when TensorRT refuses the engine, or there is no device.
    """

    def __init__(
        self,
        plan: bytes,
        name: str,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        lanes: int | None = None,
        graphs: bool = True,
        trt: Any = None,
        cuda: Cuda | None = None,
    ) -> None:
        self._trt = import_tensorrt() if trt is None else trt
        self._cuda = Cuda.load() if cuda is None else cuda
        self._log = make_logger(self._trt)
        self.name = name
        self._runtime = self._trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"TensorRT {self._trt.__version__} refuses the engine of {name!r}: "
                f"{self._log.error or 'it does not say why'}; build it again with adaptive build"
            )
        named = hasattr(self._engine, "num_io_tensors")
        self._api: _ByName | _ByNumber
        self._api = (_ByName if named else _ByNumber)(self._trt, self._engine)
        self.given = _ordered(self._api.tensors, True, inputs, name)
        self.made = _ordered(self._api.tensors, False, outputs, name)
        self.inputs = [tensor.name for tensor in self.given]
        self.outputs = [tensor.name for tensor in self.made]
        self.input_shapes: list[list[Any]] = [_shown(tensor) for tensor in self.given]
        self.output_shapes: list[list[Any]] = [_shown(tensor) for tensor in self.made]
        self.input_types = [_type(tensor) for tensor in self.given]
        self.output_types = [_type(tensor) for tensor in self.made]
        self.most = self.given[0].largest[0]
        major = int(self._trt.__version__.split(".")[0])
        self._lanes = lanes or (2 if major >= 10 else 1)
        #: None until it has been tried
        self.graph_helps: bool | None = None if graphs else False
        self._changed = threading.Condition()
        self._free: list[_Lane] = []
        self._count = 0
        self._closed = False

    @classmethod
    def read(cls, plan: Path, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """Open a plan file."""
        try:
            return cls(plan.read_bytes(), name, inputs, outputs)
        except OSError as exc:
            raise EngineError(f"the engine {plan} cannot be read: {exc.strerror}") from exc

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run one batch; see Engine.run. One that is too long for the engine runs in parts."""
        if self._closed:
            raise EngineError(f"engine {self.name!r} is closed")
        if len(inputs) != len(self.inputs):
            raise EngineError(
                f"network {self.name!r} reads {len(self.inputs)} inputs {self.inputs}, "
                f"but was given {len(inputs)}"
            )
        self._check(inputs)
        return in_parts(self._run, inputs, self.most)

    def close(self) -> None:
        """Free the contexts, buffers and queues; a run under way frees its own when it ends."""
        with self._changed:
            self._closed = True
            free, self._free = self._free, []
            self._changed.notify_all()
        for lane in free:
            lane.close()

    def _run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        with self._lane() as lane:
            return lane.run(inputs)

    def _check(self, inputs: Sequence[np.ndarray]) -> None:
        rows = {values.shape[:1] for values in inputs}
        for tensor, values in zip(self.given, inputs):
            fits = values.ndim == len(tensor.shape) and all(
                need in (-1, have) for have, need in zip(values.shape[1:], tensor.shape[1:])
            )
            if not fits or values.dtype != tensor.dtype or len(rows) > 1 or not values.size:
                shapes = [(i.shape, str(i.dtype)) for i in inputs]
                raise EngineError(
                    f"network {self.name!r} failed on inputs {shapes}: {tensor.name!r} is "
                    f"{tensor.dtype} of shape {_shown(tensor)}"
                )

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        """A lane for this thread alone; waits for one when all are taken."""
        lane = self._take()
        try:
            yield lane
        except BaseException:
            # What a failed run leaves queued is unknown, so nobody gets this lane again.
            with self._changed:
                self._count -= 1
                self._changed.notify()
            lane.close()
            raise
        with self._changed:
            keep = not self._closed
            if keep:
                self._free.append(lane)
                self._changed.notify()
        if not keep:
            lane.close()

    def _take(self) -> _Lane:
        with self._changed:
            while not self._free and self._count >= self._lanes and not self._closed:
                self._changed.wait()
            if self._closed:
                raise EngineError(f"engine {self.name!r} is closed")
            if self._free:
                return self._free.pop()
            self._count += 1
        try:
            return _Lane(self)
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise


class _Lane:
    """A context with its queue and buffers; one thread uses it at a time."""

    def __init__(self, owner: TensorrtEngine) -> None:
        self._owner = owner
        self._cuda, self._api = owner._cuda, owner._api
        self._stream = 0
        self._hosts: dict[str, int] = {}
        self._devices: dict[str, int] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._graph = 0
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._plain = 0
        self._context = owner._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT gives no context: {owner._log.error or 'no memory'}")
        try:
            self._stream = self._cuda.stream()
            self._set(tuple(tensor.largest for tensor in owner.given))
            for tensor in (*owner.given, *owner.made):
                shape = self._api.shape(self._context, tensor.name)
                if min(shape, default=0) < 0:
                    raise EngineError(
                        f"the size of {tensor.name!r} of network {owner.name!r} depends on the "
                        "values themselves; such a network runs under ONNX Runtime"
                    )
                self._allocate(tensor, shape)
            self._bindings = self._api.bind(self._context, self._devices)
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One batch through the device and back."""
        shapes = tuple(values.shape for values in inputs)
        if shapes != self._shapes:
            self._set(shapes)
        for tensor, values in zip(self._owner.given, inputs):
            self._view(tensor, values.shape)[...] = values
        self._execute()
        return [
            self._view(tensor, self._api.shape(self._context, tensor.name)).copy()
            for tensor in self._owner.made
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

    def _allocate(self, tensor: Tensor, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
        self._devices[tensor.name] = self._cuda.malloc(size)
        self._hosts[tensor.name] = address = self._cuda.pinned(size)
        memory = (ctypes.c_byte * size).from_address(address)
        self._arrays[tensor.name] = np.frombuffer(memory, np.dtype(tensor.dtype))  # type: ignore[call-overload]

    def _view(self, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
        return self._arrays[tensor.name][: int(np.prod(shape))].reshape(shape)

    def _set(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Tell the context the shapes of the inputs that come."""
        if self._graph:  # it is of another shape, on a context that is about to change
            self._cuda.destroy_graph(self._graph)
            self._graph = 0
        self._shapes, self._plain = None, 0
        for tensor, shape in zip(self._owner.given, shapes):
            if not self._api.set_shape(self._context, tensor.name, shape):
                raise self._failed(f"{tensor.name!r} cannot have shape {shape}")
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
        best = tuple(tensor.best for tensor in self._owner.given)
        return self._owner.graph_helps is not False and self._shapes == best

    def _queue(self) -> None:
        """Queue the copies there, the network, and the copies back."""
        for tensor in self._owner.given:
            size, host = self._size(tensor), self._hosts[tensor.name]
            self._cuda.to_device(self._devices[tensor.name], host, size, self._stream)
        if not self._api.enqueue(self._context, self._bindings, self._stream):
            raise self._failed("the network was not run")
        for tensor in self._owner.made:
            size, host = self._size(tensor), self._hosts[tensor.name]
            self._cuda.to_host(host, self._devices[tensor.name], size, self._stream)

    def _size(self, tensor: Tensor) -> int:
        shape = self._api.shape(self._context, tensor.name)
        return int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize

    def _try_graph(self) -> None:
        """Record a run; the first lane also finds out whether launching the record is faster."""
        owner = self._owner
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._queue()
            except BaseException:
                self._cuda.abandon_capture(self._stream)
                raise
            graph = self._cuda.end_capture(self._stream)
        except EngineError as error:
            owner.graph_helps = False
            log.info("network %r runs without a CUDA graph: %s", owner.name, error)
            return
        if owner.graph_helps is None:
            plain = self._timed(self._queue)
            recorded = self._timed(lambda: self._cuda.launch(graph, self._stream))
            owner.graph_helps = recorded < _GAIN * plain
            log.info(
                "network %r: %.3f ms plainly queued, %.3f ms as a CUDA graph",
                *(owner.name, plain * 1e3, recorded * 1e3),
            )
        if owner.graph_helps:
            self._graph = graph
        else:
            self._cuda.destroy_graph(graph)

    def _timed(self, queue: Any) -> float:
        """Seconds of the median of some runs."""
        spent = []
        for _ in range(_TRIAL):
            began = perf_counter()
            queue()
            self._cuda.synchronize(self._stream)
            spent.append(perf_counter() - began)
        return sorted(spent)[_TRIAL // 2]

    def _failed(self, what: str) -> EngineError:
        reason = self._owner._log.error
        return EngineError(
            f"TensorRT failed on network {self._owner.name!r}: {what}"
            + (f" ({reason})" if reason else "")
        )


def _ordered(
    tensors: Sequence[Tensor], is_input: bool, names: Sequence[str], network: str
) -> list[Tensor]:
    """The engine's inputs or outputs in the order of `names`, which must be all of them."""
    found = {tensor.name: tensor for tensor in tensors if tensor.is_input == is_input}
    if names and set(names) != set(found):
        kind = "inputs" if is_input else "outputs"
        raise EngineError(
            f"the engine of {network!r} has {kind} {list(found)}, the network {list(names)}; "
            "build it again with adaptive build"
        )
    return [found[name] for name in names] if names else list(found.values())


def _shown(tensor: Tensor) -> list[Any]:
    return ["n" if side < 0 else side for side in tensor.shape]


def _type(tensor: Tensor) -> str:
    return _TYPES.get(tensor.dtype, f"tensor({tensor.dtype})")
