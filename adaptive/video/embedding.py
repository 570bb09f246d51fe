"""Networks that give embeddings: which, how they are fed, and what runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List

import numpy as np

from adaptive.bundle.bundle import read_input
from adaptive.candidate import InputSpec, check_name
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import BundleError, EngineError
from adaptive.files import Fields, check_format, inside, read_json, sha256
from adaptive.images.preprocess import preprocess
from adaptive.video.identified import Embedder
from adaptive.video.identity import EmbeddingNetwork

FORMAT = 1


def open_embedders(path: Path, threads: int = 1) -> List[Embedder]:
    """The networks that a file lists, cheap first, open.

    Parameters
    ----------
    path : JSON with "format" 1 and "networks": for each "name", "file" beside it, and "input" as
        in a bundle's manifest

    Raises
    ------
    BundleError
        when the file does not say it, or a network is not there.
    EngineError
        when the runtime refuses a network, or it answers with no embedding.
    """
    fields = Fields(read_json(path, "list of networks"), str(path))
    check_format(fields, FORMAT)
    found: List[Embedder] = []
    for values in fields.get("networks", list):
        entry = Fields(values, f"{path}: networks")
        name = check_name(entry.get("name", str))
        file = inside(path.parent, entry.get("file", str), f"{path}: file")
        spec = read_input(Fields(entry.get("input", dict), f"{path}: input of {name!r}"))
        run = _runner(OnnxEngine(file, threads), spec, name)
        width = len(run(np.zeros((*spec.sides, 3), np.uint8)))
        found.append(Embedder(EmbeddingNetwork(name, sha256(file), width), run))
    if not found:
        raise BundleError(f"{path} lists no network")
    return found


def _runner(engine: OnnxEngine, spec: InputSpec, name: str) -> Callable[[np.ndarray], np.ndarray]:
    def run(crop: np.ndarray) -> np.ndarray:
        answer = engine.run(preprocess(crop, spec))[0]
        embedding = np.asarray(answer, np.float32).reshape(-1)
        if answer.shape[0] != 1 or not np.isfinite(embedding).all():
            raise EngineError(
                f"network {name!r} answered with {answer.shape}; one embedding of finite numbers "
                "is needed"
            )
        return embedding

    return run
