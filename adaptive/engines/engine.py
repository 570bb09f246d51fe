"""Engines: something that runs a network. ONNX Runtime is the one that every board has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol, Sequence

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.candidate import Candidate
from adaptive.causes import reason
from adaptive.engines.onnxfile import read_header
from adaptive.errors import EngineError, MissingExtra


class Engine(Protocol):
    """What every engine can do."""

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run one batch.

        Parameters
        ----------
        inputs : the network's inputs in their order, batch axis first

        Returns
        -------
        The network's outputs in their order: the first is the answer, shape (n, width);
        any others are what the next exit's network continues from.
        """

    def close(self) -> None:
        """Free what the engine holds; it cannot be run afterwards."""


class OpenEngine(Engine, Protocol):
    """An engine that says what its network reads and hands on.

    Types are called as ONNX Runtime calls them; an axis of a shape that is free is no number.
    """

    inputs: list[str]
    outputs: list[str]
    input_shapes: list[list[Any]]
    output_shapes: list[list[Any]]
    input_types: list[str]
    output_types: list[str]


class OnnxEngine:
    """A network under ONNX Runtime.

    Parameters
    ----------
    path : the ONNX file
    threads : threads inside one operator; 1 is best where several requests run at once
    providers : execution providers in order of preference, each by its name or with options
    """

    def __init__(
        self,
        path: Path,
        threads: int = 1,
        providers: Sequence[str | tuple[str, Mapping[str, str]]] = ("CPUExecutionProvider",),
    ) -> None:
        try:
            import onnxruntime
        except ImportError as exc:
            raise MissingExtra("running a network", "onnxruntime", "cpu") from exc
        header = read_header(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if threads > 1:
            # Each network's threads would spin on after it has run, in the way of the next one:
            # where a core is taken, a run then takes twice as long as on one thread.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers), enable_fallback=0
            )
        except Exception as exc:  # ONNX Runtime's errors share no public base class
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name} "
                f"(opset {header.opset}): {_refusal(exc)}"
            ) from exc
        self.name = path.stem
        self.threads = threads
        self.providers: list[str] = self._session.get_providers()
        self.inputs: list[str] = [entry.name for entry in self._session.get_inputs()]
        self.outputs: list[str] = [entry.name for entry in self._session.get_outputs()]
        self.input_shapes: list[list[Any]] = [e.shape for e in self._session.get_inputs()]
        self.output_shapes: list[list[Any]] = [e.shape for e in self._session.get_outputs()]
        self.input_types: list[str] = [entry.type for entry in self._session.get_inputs()]
        self.output_types: list[str] = [entry.type for entry in self._session.get_outputs()]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run one batch; see Engine.run."""
        return self._run(None, inputs)

    def attempt(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run one batch that may fail, without ONNX Runtime's own lines on standard error."""
        from onnxruntime import RunOptions

        quiet = RunOptions()
        quiet.log_severity_level = 4
        return self._run(quiet, inputs)

    def _run(self, options: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._session is None:
            raise EngineError(f"engine {self.name!r} is closed")
        if len(inputs) != len(self.inputs):
            raise EngineError(
                f"network {self.name!r} reads {len(self.inputs)} inputs {self.inputs}, "
                f"but was given {len(inputs)}"
            )
        try:
            outputs: list[np.ndarray] = self._session.run(
                None, dict(zip(self.inputs, inputs)), options
            )
        except Exception as exc:  # ONNX Runtime's errors share no public base class
            shapes = [(i.shape, str(i.dtype)) for i in inputs]
            raise EngineError(
                f"network {self.name!r} failed on inputs {shapes}: {_refusal(exc)}"
            ) from exc
        return outputs

    def close(self) -> None:
        """Free the session."""
        self._session = None


#: What ONNX Runtime puts before the reasons of its errors.
_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : (?:Load model from .*? failed: ?)?")

#: How it says that a file is too new for it.
_NEWER_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_NEWER_OPSET = re.compile(r"Opset (\d+) is under .* support for domain (\S+) is till opset (\d+)")


def _refusal(error: Exception) -> str:
    """Why ONNX Runtime did not load a file or run it; what to do, where a file is too new."""
    said = str(error)
    found = _NEWER_IR.search(said)
    if found is not None:
        return (
            f"its IR version is {found[1]}, and this ONNX Runtime reads up to {found[2]}; set "
            f"model.ir_version = {found[2]} with the onnx package and save it again, or take a "
            "newer ONNX Runtime"
        )
    found = _NEWER_OPSET.search(said)
    if found is not None:
        return (
            f"its opset of {found[2]} is {found[1]}, and this ONNX Runtime knows up to {found[3]}; "
            f"export it again with opset {found[3]} or lower, or take a newer ONNX Runtime"
        )
    return reason(error, skip=_PREFIX)


def in_parts(
    run: Callable[..., list[np.ndarray]], inputs: Sequence[np.ndarray], most: int | None
) -> list[np.ndarray]:
    """`run` on no more than `most` rows at a time, the outputs joined.

    An output without a row for each image is that of the first part.
    """
    if most is None or not inputs or not inputs[0].ndim or len(inputs[0]) <= most:
        return run(*inputs)
    count = len(inputs[0])
    firsts = range(0, count, most)
    parts = [run(*(values[first : first + most] for values in inputs)) for first in firsts]
    rows = [min(most, count - first) for first in firsts]
    return [_joined(outputs, rows) for outputs in zip(*parts)]


def _joined(outputs: Sequence[Any], rows: Sequence[int]) -> Any:
    shapes = [getattr(output, "shape", ()) for output in outputs]
    if [shape[:1] for shape in shapes] == [(count,) for count in rows]:
        return np.concatenate(outputs)
    return outputs[0]


_ONNX_TYPES = {
    "uint8": "tensor(uint8)",
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
}

_ANSWER_TYPES = ("tensor(float)", "tensor(float16)", "tensor(double)")


def open_engine(
    path: Path,
    candidate: Candidate,
    threads: int = 1,
    make: Callable[[Path, int], OpenEngine] = OnnxEngine,
) -> OpenEngine:
    """Open a candidate's network, with `make`, and hold it against its manifest entry.

    Raises
    ------
    EngineError
        when the runtime cannot load the file, or its input or output is not what the
        manifest says.
    """
    engine = make(path, threads)
    if candidate.after is None:
        _check_image_input(engine, path, candidate)
    if isinstance(candidate.output, BoxOutput):
        return engine  # whose outputs are looked at when they are decoded
    if not engine.outputs or engine.output_types[0] not in _ANSWER_TYPES:
        raise EngineError(
            f"{path.name} answers with {engine.output_types[:1]}; one of {list(_ANSWER_TYPES)} "
            "is needed as its first output"
        )
    # A row of the answer may have axes of length one, as from a convolution: (n, 1000, 1, 1).
    row = engine.output_shapes[0][1:]
    width = int(np.prod(row)) if row and all(isinstance(side, int) for side in row) else None
    if width is not None and width != candidate.output.width:
        raise EngineError(
            f"{path.name} has {width} outputs, but candidate {candidate.name!r} says "
            f"{candidate.output.classes} classes"
            + (" and a background class" if candidate.output.background else "")
        )
    return engine


def open_through(
    path: Path,
    candidate: Candidate,
    threads: int = 1,
    make: Callable[[Path, int], OpenEngine] = OnnxEngine,
) -> OpenEngine:
    """Open an exit's segment without its head; all its outputs are what the next one reads.

    Raises
    ------
    EngineError
        when the runtime cannot load the file, or it does not read what the candidate reads.
    """
    engine = make(path, threads)
    if candidate.after is None:
        _check_image_input(engine, path, candidate)
    return engine


def _check_image_input(engine: OpenEngine, path: Path, candidate: Candidate) -> None:
    spec = candidate.input
    if len(engine.inputs) != 1:
        raise EngineError(
            f"{path.name} reads {len(engine.inputs)} inputs {engine.inputs}; a candidate "
            "reads one, the image"
        )
    sides = spec.sides
    wanted = [None, *sides, 3] if spec.layout == "NHWC" else [None, 3, *sides]
    shape = engine.input_shapes[0]
    if isinstance(candidate.output, BoxOutput) and len(shape) == 3:
        shape = [1, *shape]  # some detectors take an image, and no batch
    if len(shape) != 4 or any(
        isinstance(have, int) and need is not None and have != need
        for have, need in zip(shape, wanted)
    ):
        raise EngineError(
            f"{path.name} reads inputs of shape {shape}, but candidate {candidate.name!r} "
            f"says {spec.layout} of size {spec.size}"
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise EngineError(
            f"{path.name} has a fixed batch axis of {shape[0]}; export it with a free one or 1"
        )
    if engine.input_types[0] != _ONNX_TYPES[spec.dtype]:
        raise EngineError(
            f"{path.name} reads {engine.input_types[0]}, but candidate {candidate.name!r} "
            f"says {spec.dtype}"
        )
