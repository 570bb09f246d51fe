"""Networks that give embeddings: which, how they are fed, and what runs them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import numpy as np

from adaptive.bundle.bundle import read_input
from adaptive.candidate import InputSpec, check_name
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import BundleError, EngineError, InputError
from adaptive.files import Fields, check_format, inside, read_json, sha256
from adaptive.images.preprocess import preprocess
from adaptive.video.identified import Embedder
from adaptive.video.identity import EmbeddingNetwork

FORMAT = 1


class EmbeddingFile(NamedTuple):
    """A network of a list: its file, and what it reads.

    input : how a crop becomes what it reads; None of an exit that goes on from another
    after : the exit that it goes on from, or None
    """

    name: str
    path: Path
    input: InputSpec | None
    after: str | None


def read_embedding_files(path: Path) -> List[EmbeddingFile]:
    """The networks that a file lists, cheap first.

    Parameters
    ----------
    path : JSON with "format" 1 and "networks": for each "name", "file" beside it, and either
        "input" as in a bundle's manifest or, for an exit that goes on from another one, "after"
        with that one's name; the other stands before it and hands its state on

    Raises
    ------
    BundleError
        when the file does not say it.
    """
    fields = Fields(read_json(path, "list of networks"), str(path))
    check_format(fields, FORMAT)
    found: Dict[str, EmbeddingFile] = {}
    for values in fields.get("networks", list):
        entry = Fields(values, f"{path}: networks")
        name = check_name(entry.get("name", str))
        file = inside(path.parent, entry.get("file", str), f"{path}: file")
        after = entry.get("after", str, default=None)
        if name in found:
            raise BundleError(f"{path} lists two networks {name!r}; give one another name")
        if after is None:
            spec = read_input(Fields(entry.get("input", dict), f"{path}: input of {name!r}"))
            found[name] = EmbeddingFile(name, file, spec, None)
        elif after in found:
            found[name] = EmbeddingFile(name, file, None, after)
        else:
            raise BundleError(
                f"{path}: {name!r} comes after {after!r}, which does not stand before it; "
                f"{list(found)} do"
            )
    if not found:
        raise BundleError(f"{path} lists no network")
    return list(found.values())


def open_embedders(path: Path, threads: int = 1) -> List[Embedder]:
    """The networks that a file lists, cheap first, open; see `read_embedding_files`.

    Raises
    ------
    BundleError
        when the file does not say it, or a network is not there.
    EngineError
        when the runtime refuses a network, or it answers with no embedding.
    """
    opened: Dict[str, Embedder] = {}
    handed: Dict[str, List[np.ndarray]] = {}
    for name, file, spec, after in read_embedding_files(path):
        run = runner(OnnxEngine(file, threads), spec, name)
        digest = sha256(file)
        if after is not None:
            if len(handed[after]) != 1:
                raise BundleError(f"{path}: {after!r} hands no state on to {name!r}")
            given = handed[after][0]
            # what the embedding is of: the whole chain, and not its last part alone
            chain = opened[after].network.print + digest
            digest = hashlib.sha256(chain.encode()).hexdigest()
        else:
            assert spec is not None
            given = np.zeros((*spec.sides, 3), np.uint8)
        embedding, *handed[name] = run(given)
        opened[name] = Embedder(EmbeddingNetwork(name, digest, len(embedding)), run, after)
    return list(opened.values())


def runner(
    engine: OnnxEngine, spec: InputSpec | None, name: str
) -> Callable[[np.ndarray], List[np.ndarray]]:
    """What runs one network: a crop, or the state before it, to its embedding and its state."""

    def run(given: np.ndarray) -> List[np.ndarray]:
        answer, *states = engine.run(given if spec is None else preprocess(given, spec))
        embedding = np.asarray(answer, np.float32).reshape(-1)
        if answer.shape[0] != 1 or not np.isfinite(embedding).all():
            raise EngineError(
                f"network {name!r} answered with {answer.shape}; one embedding of finite numbers "
                "is needed"
            )
        return [embedding, *states]

    return run


def whole_network(files: List[EmbeddingFile], name: str | None) -> EmbeddingFile:
    """The network of a list that is called `name`, or the only one; no exit of another.

    Raises
    ------
    InputError
        when there is none, several and no name, or it goes on from another one.
    """
    names: List[Any] = [file.name for file in files]
    if name is None and len(files) > 1:
        raise InputError(f"there are {names}; say which one gets exits")
    if name is not None and name not in names:
        raise InputError(f"there is no network {name!r}; there are {names}")
    file = files[0 if name is None else names.index(name)]
    if file.input is None:
        raise InputError(f"{file.name!r} goes on from {file.after!r}; a whole network is needed")
    return file
