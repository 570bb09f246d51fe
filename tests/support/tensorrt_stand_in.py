"""A stand-in for TensorRT's Python module and for the CUDA runtime library.

It is not TensorRT: it computes with ONNX Runtime on the processor. What it is for is the order of
calls: an engine that is run before shapes and addresses are set, memory that is read before the
queue was waited for, a context in the hands of two threads or memory that is not given back fail
here as they would corrupt answers there. Names and arguments are those of the module's own
signatures, 8.2 to 8.4 with bindings and 8.5 on with names: tensorrt_bindings 8.6.1 and
tensorrt_cu12_bindings 10.3.0 and 11.4.0 from PyPI have them in their binaries.
"""

from __future__ import annotations

import ctypes
import enum
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np

from adaptive.engines.direct.cudart import Device
from adaptive.engines.engine import OnnxEngine
from adaptive.engines.onnxfile import read_signature
from adaptive.errors import AdaptiveError, EngineError

TX2 = Device("NVIDIA Tegra X2", "6.2")
ORIN = Device("Orin", "8.7")


class StandInCuda:
    """Host memory in place of device memory, and queues that run when they are waited for."""

    version = "10.2"

    def __init__(self, device: Device = TX2) -> None:
        self._device = device
        self.calls: list[str] = []
        self.device_memory: dict[int, Any] = {}
        self.host_memory: dict[int, Any] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.refuse_capture = False
        self._next = 1
        self._lock = threading.Lock()

    def device(self, index: int = 0) -> Device:
        return self._device

    def live(self) -> int:
        """How many things have not been given back."""
        owned = (self.device_memory, self.host_memory, self.queues, self.graphs)
        return sum(map(len, owned))

    def malloc(self, size: int) -> int:
        return self._allocate(self.device_memory, size)

    def free(self, address: int) -> None:
        del self.device_memory[address]

    def pinned(self, size: int) -> int:
        return self._allocate(self.host_memory, size)

    def free_pinned(self, address: int) -> None:
        del self.host_memory[address]

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        assert size <= len(self.device_memory[device])
        assert size <= len(self.host_memory[host]), "only page-locked memory is copied from"
        self.queue(stream, "to_device", lambda: _move(device, host, size))

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        assert size <= len(self.device_memory[device])
        assert size <= len(self.host_memory[host]), "only page-locked memory is copied to"
        self.queue(stream, "to_host", lambda: _move(host, device, size))

    def stream(self) -> int:
        return self._handle(self.queues, [])

    def synchronize(self, stream: int) -> None:
        assert stream not in self.capturing, "a queue that is recorded cannot be waited for"
        self.calls.append("synchronize")
        work, self.queues[stream] = self.queues[stream], []
        for step in work:
            step()

    def destroy_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream), "a queue was given back with work in it"

    def begin_capture(self, stream: int) -> None:
        if self.refuse_capture:
            raise EngineError("cudaStreamBeginCapture failed: not here (CUDA error 900)")
        self.calls.append("begin_capture")
        self.capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        self.calls.append("end_capture")
        return self._handle(self.graphs, self.capturing.pop(stream))

    def abandon_capture(self, stream: int) -> None:
        self.capturing.pop(stream, None)

    def launch(self, graph: int, stream: int) -> None:
        self.calls.append("launch")
        self.queues[stream] += self.graphs[graph]

    def destroy_graph(self, graph: int) -> None:
        del self.graphs[graph]

    def queue(self, stream: int, name: str, step: Callable[[], None]) -> None:
        self.calls.append(name)
        queue = self.queues[stream]  # one that was given back is a KeyError
        self.capturing.get(stream, queue).append(step)

    def _allocate(self, owned: dict[int, Any], size: int) -> int:
        memory = (ctypes.c_byte * size)()
        ctypes.memset(memory, 0xAB, size)
        owned[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def _handle(self, owned: dict[int, Any], value: Any) -> int:
        with self._lock:
            self._next += 1
            owned[self._next] = value
            return self._next


def _move(target: int, source: int, size: int) -> None:
    ctypes.memmove(target, source, size)


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT8 = "int8"
    INT32 = "int32"
    UINT8 = "uint8"


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class _Engine:
    """What both shapes of the interface share: the network, its tensors and its one profile."""

    def __init__(self, module: Any, plan: dict[str, Any]) -> None:
        self.module = module
        self.network = OnnxEngine(Path(plan["network"]))
        self.shapes = {k: [tuple(s) for s in v] for k, v in plan["shapes"].items()}
        signature = read_signature(Path(plan["network"]))
        # Not the network's own order, which TensorRT does not promise either.
        self.tensors = [*signature.outputs[::-1], *signature.inputs[::-1]]
        self.contexts: list[_Context] = []

    def create_execution_context(self) -> Any:
        if self.module.contexts_fail:
            return None
        kind = _NamedContext if self.module.named else _NumberedContext
        context = kind(self)
        if int(self.module.__version__.split(".")[0]) < 10 and self.contexts:
            context.has_profile = False  # one profile serves one context before TensorRT 10
        self.contexts.append(context)
        return context

    def _shape(self, position: int) -> tuple[int, ...]:
        return tuple(-1 if s is None else s for s in self.tensors[position].shape)

    def _is_input(self, position: int) -> bool:
        return self.tensors[position].name in self.network.inputs

    def _position(self, name: str) -> int:
        return [tensor.name for tensor in self.tensors].index(name)


class NamedEngine(_Engine):
    """ICudaEngine from TensorRT 8.5 on, without what 10 removed."""

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        is_input = self._is_input(self._position(name))
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape(self._position(name))

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self.tensors[self._position(name)].dtype)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return self.shapes[name]


class NumberedEngine(_Engine):
    """ICudaEngine of TensorRT 8.2."""

    @property
    def num_bindings(self) -> int:
        return len(self.tensors)

    def get_binding_name(self, index: int) -> str:
        return str(self.tensors[index].name)

    def binding_is_input(self, index: int) -> bool:
        return self._is_input(index)

    def get_binding_shape(self, index: int) -> tuple[int, ...]:
        return self._shape(index)

    def get_binding_dtype(self, index: int) -> DataType:
        return DataType(self.tensors[index].dtype)

    def get_profile_shape(self, profile_index: int, binding: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return self.shapes[self.tensors[binding].name]


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.has_profile = True
        self.given: dict[str, tuple[int, ...]] = {}
        self.user: int | None = None

    def used(self) -> None:
        """Note the thread, and fail when another one's run is under way."""
        me = threading.get_ident()
        assert self.user in (None, me), "two threads use one execution context"

    def accept(self, name: str, shape: tuple[int, ...]) -> bool:
        self.used()
        least, _, most = self.engine.shapes[name]
        fits = self.has_profile and all(a <= s <= b for a, s, b in zip(least, shape, most))
        if fits:
            self.given[name] = tuple(shape)
        return fits

    def shape_of(self, name: str) -> tuple[int, ...]:
        if name in self.given:
            return self.given[name]
        free = self.engine._shape(self.engine._position(name))
        batch = next(iter(self.given.values()))[0] if self.given else -1
        return (batch, *free[1:])

    def enqueue(self, addresses: dict[str, int], stream: int) -> bool:
        self.used()
        module, network = self.engine.module, self.engine.network
        if module.runs_fail:
            return False
        assert set(self.given) == set(network.inputs), "not every input has a shape"
        assert set(addresses) == {t.name for t in self.engine.tensors}, "not every tensor is bound"
        shapes = {name: self.shape_of(name) for name in addresses}

        def compute() -> None:
            self.user = None
            inputs = [self.at(addresses[n], n, shapes[n]) for n in network.inputs]
            for name, values in zip(network.outputs, network.run(*inputs)):
                self.at(addresses[name], name, shapes[name])[...] = values

        if stream not in module.cuda.capturing:
            self.user = threading.get_ident()
        module.cuda.queue(stream, "execute", compute)
        return True

    def at(self, address: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
        assert address in self.engine.module.cuda.device_memory, f"{name!r} is not on the device"
        dtype = np.dtype(self.engine.tensors[self.engine._position(name)].dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_byte * size).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)


class _NamedContext(_Context):
    def __init__(self, engine: _Engine) -> None:
        super().__init__(engine)
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self.accept(name, shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape_of(name)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self.enqueue(self.addresses, stream_handle)


class _NumberedContext(_Context):
    def set_binding_shape(self, binding: int, shape: tuple[int, ...]) -> bool:
        return self.accept(self.engine.tensors[binding].name, shape)

    def get_binding_shape(self, binding: int) -> tuple[int, ...]:
        return self.shape_of(self.engine.tensors[binding].name)

    def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
        names = [tensor.name for tensor in self.engine.tensors]
        return self.enqueue(dict(zip(names, bindings)), stream_handle)


class _Logger:
    Severity = enum.IntEnum(  # type: ignore[misc]
        "Severity", {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
    )


class TensorrtStandIn(SimpleNamespace):
    """A module `tensorrt` of one version.

    Parameters
    ----------
    cuda : runs the queues
    version : before 8.5 with bindings by number, later with names
    """

    def __init__(self, cuda: StandInCuda, version: str) -> None:
        numbers = tuple(int(part) for part in version.split(".")[:2])
        super().__init__(
            cuda=cuda,
            __version__=version,
            named=numbers >= (8, 5),
            contexts_fail=False,
            runs_fail=False,
            build_fails="",
            ILogger=_Logger,
            DataType=DataType,
            TensorIOMode=TensorIOMode,
            configs=[],
        )
        self.NetworkDefinitionCreationFlag = SimpleNamespace()
        if numbers < (11, 0):
            self.NetworkDefinitionCreationFlag.EXPLICIT_BATCH = 0
        flags = ("TF32",) if numbers >= (11, 0) else ("TF32", "FP16", "INT8")
        self.BuilderFlag = enum.Enum("BuilderFlag", flags)  # type: ignore[misc]
        self.MemoryPoolType = enum.Enum("MemoryPoolType", ("WORKSPACE",))  # type: ignore[misc]
        self.pools = numbers >= (8, 4)

    def Runtime(self, logger: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self._read(plan, logger))

    def Builder(self, logger: Any) -> Any:
        def build(network: Any, config: Any) -> Any:
            if self.build_fails:
                logger.log(_Logger.Severity.ERROR, self.build_fails)
                return None
            (shapes,) = config.profiles
            plan = {"version": self.__version__, "network": network.path, "shapes": shapes}
            return bytearray(json.dumps(plan).encode())

        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(path="", flags=flags),
            create_builder_config=self._config,
            create_optimization_profile=_Profile,
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        errors: list[str] = []

        def parse(path: str) -> bool:
            network.path = path
            try:
                OnnxEngine(Path(path)).close()
            except AdaptiveError as error:
                errors.append(str(error))
            parser.num_errors = len(errors)
            return not errors

        parser = SimpleNamespace(
            parse_from_file=parse,
            num_errors=0,
            get_error=lambda index: SimpleNamespace(desc=lambda: errors[index]),
        )
        return parser

    def _config(self) -> Any:
        config = _Config(self.pools)
        self.configs.append(config)
        return config

    def _read(self, plan: bytes, logger: Any) -> Any:
        values = json.loads(plan)
        if values["version"] != self.__version__:
            logger.log(_Logger.Severity.ERROR, f"the plan is of version {values['version']}")
            return None
        return (NamedEngine if self.named else NumberedEngine)(self, values)


class _Profile(dict):  # type: ignore[type-arg]
    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self[input] = [min, opt, max]


class _Config:
    def __init__(self, pools: bool) -> None:
        self.flags: set[Any] = set()
        self.cleared: set[Any] = set()
        self.profiles: list[_Profile] = []
        self.timing: Any = None
        self.workspace = 0
        if pools:
            self.set_memory_pool_limit = self._set_pool

    def _set_pool(self, pool: Any, size: int) -> None:
        self.workspace = size

    @property
    def max_workspace_size(self) -> int:
        return self.workspace

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        assert not hasattr(self, "set_memory_pool_limit"), "deprecated from 8.4 on"
        self.workspace = size

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.cleared.add(flag)

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized: bytes) -> Any:
        return SimpleNamespace(read=bytes(serialized), serialize=lambda: bytearray(b"timings"))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self.timing = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.timing
