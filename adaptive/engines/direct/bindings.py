"""The tensors of a TensorRT engine, and the two ways to hand them over.

Up to 8.6 the Python module knew them by the numbers of their bindings (JetPack 4.6 has 8.2), from
8.5 on by their names, and from 10 on by nothing else
(https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-8x-to-10x-python-api-patterns.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adaptive.errors import EngineError

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


@dataclass(frozen=True)
class DeviceTensor:
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


class ByName:
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
            self.tensors.append(
                DeviceTensor(name, is_input, dtype, shape, tuple(largest), tuple(best))
            )

    def bind(self, context: Any, addresses: dict[str, int]) -> list[int]:
        """Tell the context where tensors lie; returns what `enqueue` takes."""
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT takes no address for {name!r}")
        return []

    def set_shape(self, context: Any, name: str, shape: tuple[int, ...]) -> bool:
        """Set an input's shape; whether the engine takes it."""
        return bool(context.set_input_shape(name, shape))

    def shape(self, context: Any, name: str) -> tuple[int, ...]:
        """A tensor's shape, given those of the inputs that were set."""
        return tuple(context.get_tensor_shape(name))

    def enqueue(self, context: Any, bindings: list[int], stream: int) -> bool:
        """Queue one run; whether it was queued."""
        return bool(context.execute_async_v3(stream))


class ByNumber:
    """Tensors by the numbers of their bindings: TensorRT before 8.5."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self.tensors = []
        for number in range(engine.num_bindings):
            is_input = bool(engine.binding_is_input(number))
            _, best, largest = engine.get_profile_shape(0, number) if is_input else ((), (), ())
            self.tensors.append(
                DeviceTensor(
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
        """Tell the context where tensors lie; returns what `enqueue` takes."""
        return [addresses[tensor.name] for tensor in self.tensors]

    def set_shape(self, context: Any, name: str, shape: tuple[int, ...]) -> bool:
        """Set an input's shape; whether the engine takes it."""
        return bool(context.set_binding_shape(self._numbers[name], shape))

    def shape(self, context: Any, name: str) -> tuple[int, ...]:
        """A tensor's shape, given those of the inputs that were set."""
        return tuple(context.get_binding_shape(self._numbers[name]))

    def enqueue(self, context: Any, bindings: list[int], stream: int) -> bool:
        """Queue one run; whether it was queued."""
        return bool(context.execute_async_v2(bindings, stream))


def bindings_of(trt: Any, engine: Any) -> ByName | ByNumber:
    """An engine's tensors by their names where it has them, else by number.

    Raises
    ------
    EngineError
        when one is of a type that numpy does not have.
    """
    return (ByName if hasattr(engine, "num_io_tensors") else ByNumber)(trt, engine)


def _dtype(value: Any) -> str:
    name = _DTYPES.get(value.name)
    if name is None:
        raise EngineError(f"an engine has a tensor of type {value.name}; {list(_DTYPES)} are known")
    return name
