"""An engine that TensorRT runs by itself, without ONNX Runtime.

Each run takes an execution context for itself, since one serves one thread at a time, and waits
where all are taken.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from adaptive.engines.direct.bindings import DeviceTensor, bindings_of
from adaptive.engines.direct.contexts import Context, LoadedEngine
from adaptive.engines.direct.cudart import Cuda
from adaptive.engines.engine import in_parts
from adaptive.errors import EngineError

log = logging.getLogger("adaptive.serving")

#: numpy's names of element types -> ONNX Runtime's, which manifest entries are held against.
_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "uint8": "tensor(uint8)"}


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


class TensorrtEngine:
    """A network under TensorRT.

    Parameters
    ----------
    plan : the serialised engine, as `adaptive build` writes it; it runs nothing but on the kind
        of device and under the version that built it
    name : the network's, for messages
    inputs, outputs : names of the tensors in the network's own order, which TensorRT does not
        promise to keep
    contexts : runs at the same time; default 2, and 1 before TensorRT 10, where two contexts
        must not share an optimization profile
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
        contexts: int | None = None,
        graphs: bool = True,
        trt: Any = None,
        cuda: Cuda | None = None,
    ) -> None:
        self._trt = import_tensorrt() if trt is None else trt
        self._cuda = Cuda.load() if cuda is None else cuda
        logger = make_logger(self._trt)
        self.name = name
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"TensorRT {self._trt.__version__} refuses the engine of {name!r}: "
                f"{logger.error or 'it does not say why'}; build it again with adaptive build"
            )
        api = bindings_of(self._trt, self._engine)
        self.given = _ordered(api.tensors, True, inputs, name)
        self.made = _ordered(api.tensors, False, outputs, name)
        self.inputs = [tensor.name for tensor in self.given]
        self.outputs = [tensor.name for tensor in self.made]
        self.input_shapes: list[list[Any]] = [_shown(tensor) for tensor in self.given]
        self.output_shapes: list[list[Any]] = [_shown(tensor) for tensor in self.made]
        self.input_types = [_type(tensor) for tensor in self.given]
        self.output_types = [_type(tensor) for tensor in self.made]
        self.most = self.given[0].largest[0]
        major = int(self._trt.__version__.split(".")[0])
        self._contexts = contexts or (2 if major >= 10 else 1)
        self._loaded = LoadedEngine(
            *(name, self._engine, api, self._cuda, logger, self.given, self.made),
            graph_helps=None if graphs else False,
        )
        self._changed = threading.Condition()
        self._free: list[Context] = []
        self._count = 0
        self._closed = False

    @property
    def graph_helps(self) -> bool | None:
        """Whether runs for the best batch are launched as one CUDA graph; None until tried."""
        return self._loaded.graph_helps

    @graph_helps.setter
    def graph_helps(self, helps: bool | None) -> None:
        self._loaded.graph_helps = helps

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
        """Free the engine, contexts, buffers and queues; a run under way frees its own at its end.

        TensorRT's contexts keep their engine, and that its runtime, as long as they need them.
        """
        with self._changed:
            self._closed = True
            free, self._free = self._free, []
            self._engine = self._runtime = self._loaded.engine = None
            self._changed.notify_all()
        for context in free:
            context.close()

    def _run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        with self._context() as context:
            return context.run(inputs)

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
    def _context(self) -> Iterator[Context]:
        """A context for this thread alone; waits for one when all are taken."""
        context = self._take()
        try:
            yield context
        except BaseException:
            # What a failed run leaves queued is unknown, so nobody gets this context again. It goes
            # before another may come, since both could not have the profile.
            context.close()
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise
        with self._changed:
            keep = not self._closed
            if keep:
                self._free.append(context)
                self._changed.notify()
        if not keep:
            context.close()

    def _take(self) -> Context:
        with self._changed:
            while not self._free and self._count >= self._contexts and not self._closed:
                self._changed.wait()
            if self._closed:
                raise EngineError(f"engine {self.name!r} is closed")
            if self._free:
                return self._free.pop()
            self._count += 1
        try:
            return Context(self._loaded)
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise


def _ordered(
    tensors: Sequence[DeviceTensor], is_input: bool, names: Sequence[str], network: str
) -> list[DeviceTensor]:
    """The engine's inputs or outputs in the order of `names`, which must be all of them."""
    found = {tensor.name: tensor for tensor in tensors if tensor.is_input == is_input}
    if names and set(names) != set(found):
        kind = "inputs" if is_input else "outputs"
        raise EngineError(
            f"the engine of {network!r} has {kind} {list(found)}, the network {list(names)}; "
            "build it again with adaptive build"
        )
    return [found[name] for name in names] if names else list(found.values())


def _shown(tensor: DeviceTensor) -> list[Any]:
    return ["n" if side < 0 else side for side in tensor.shape]


def _type(tensor: DeviceTensor) -> str:
    return _TYPES.get(tensor.dtype, f"tensor({tensor.dtype})")
