"""ONNX Runtime's sessions of the small models that a cut network becomes."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from adaptive.causes import reason
from adaptive.errors import EngineError, MissingExtra


def open_session(data: bytes, threads: int, network: str, part: str) -> Any:
    """A session of a model; `network` and `part` say in an error which.

    Raises
    ------
    MissingExtra, EngineError
        when there is no ONNX Runtime, or it refuses the model.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtra("running a network", "onnxruntime", "cpu") from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if threads > 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # one is kept for each number of tiles, and never freed
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime's errors share no public base class
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {part} of {network}, cut into "
            f"tiles: {reason(exc)}"
        ) from exc


def run_session(
    session: Any, network: str, part: str, feeds: Dict[str, np.ndarray]
) -> List[np.ndarray]:
    """Its outputs.

    Raises
    ------
    EngineError
        when it fails; with the shapes that it was given.
    """
    try:
        found: List[np.ndarray] = session.run(None, feeds)
    except Exception as exc:  # ONNX Runtime's errors share no public base class
        shapes = {name: values.shape for name, values in feeds.items()}
        raise EngineError(f"{part} of {network} failed on {shapes}: {reason(exc)}") from exc
    return found
