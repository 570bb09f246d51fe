"""What a manifest entry says of a model on another server, held against what the server tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.candidate import InputSpec, OutputSpec
from adaptive.engines.inference import READS, ModelInfo, TensorInfo
from adaptive.errors import EngineError
from adaptive.remote import Remote, labels_hash


class AnotherModel(EngineError):
    """A server answers, and with another model than the manifest means."""


@dataclass(frozen=True)
class Greeted:
    """What a server told of its model.

    Attributes
    ----------
    server : its name
    binary : whether values may stand behind the JSON
    read : the input that is used
    answers : the outputs that are used; of a classifier one
    most : images in one request
    labels : class names; None where the server does not tell them
    """

    server: str
    binary: bool
    read: TensorInfo
    answers: tuple[TensorInfo, ...]
    most: int
    labels: tuple[str, ...] | None


@dataclass(frozen=True)
class Expected:
    """Which model is meant, and what goes in and comes out.

    What is told of another one raises an AnotherModel.
    """

    remote: Remote
    spec: InputSpec
    output: OutputSpec | BoxOutput

    def check_name(self, name: str, versions: Sequence[str]) -> None:
        """Whether a model is called so, and has the version that is meant."""
        remote = self.remote
        if name != remote.model:
            raise AnotherModel(
                f"the server calls it {name[:80]!r}; the manifest says {remote.model!r}"
            )
        if remote.version is not None and versions and remote.version not in versions:
            raise AnotherModel(
                f"the server has versions {list(versions)[:10]}; the manifest says "
                f"{remote.version!r}"
            )

    def read(self, info: ModelInfo) -> TensorInfo:
        """The input that the image goes into."""
        remote, spec = self.remote, self.spec
        named = [t for t in info.inputs if remote.input in (None, t.name)]
        if len(named) != 1:
            raise AnotherModel(
                f"the model reads {[t.name for t in info.inputs]}; a candidate reads one, the "
                f"image{'' if remote.input is None else f', called {remote.input!r}'}"
            )
        (read,) = named
        if read.datatype == "BYTES":
            if spec.dtype != "uint8" or spec.layout != "NHWC":
                raise AnotherModel(
                    "the model reads encoded images, which are made of uint8 NHWC pixels; the "
                    f"manifest says {spec.dtype} {spec.layout}"
                )
            return read
        if read.datatype != READS[spec.dtype]:
            raise AnotherModel(
                f"the model reads {read.datatype[:20]}; the manifest says {spec.dtype}, which is "
                f"{READS[spec.dtype]}"
            )
        sides = (*spec.sides, 3) if spec.layout == "NHWC" else (3, *spec.sides)
        own = read.shape[-3:]
        if len(read.shape) != 4 or any(a not in (-1, b) for a, b in zip(own, sides)):
            raise AnotherModel(
                f"the model reads tensors of shape {list(read.shape)}; the manifest says "
                f"{spec.layout} of size {spec.size}"
            )
        return read

    def answers(self, info: ModelInfo) -> tuple[TensorInfo, ...]:
        """The outputs that are used; of a classifier one."""
        if isinstance(self.output, BoxOutput):
            return info.outputs
        wanted = self.remote.output
        floats = [t for t in info.outputs if t.datatype in ("FP32", "FP16", "FP64")]
        if {"labels", "scores"} <= {t.name for t in info.outputs}:
            raise AnotherModel(
                "the model tells its best classes alone, as a router does; name one of the "
                "server's candidates"
            )
        named = [t for t in floats if t.name == (wanted or "probabilities")]
        found = named or (floats if wanted is None else [])
        if not found:
            raise AnotherModel(
                f"the model answers with {[(t.name, t.datatype) for t in info.outputs][:8]}; an "
                f"output of numbers is needed{'' if wanted is None else f', called {wanted!r}'}"
            )
        answer, width = found[0], self.output.width
        row = answer.shape[1:]
        if row and min(row) >= 0 and int(np.prod(row)) != width:
            raise AnotherModel(
                f"the model's output {answer.name!r} has {int(np.prod(row))} numbers an image; "
                f"the manifest says {width}"
            )
        return (answer,)

    def check_labels(self, labels: Sequence[str] | None) -> None:
        """Whether class names, None where the server tells none, are those that are meant."""
        wanted = self.remote.labels
        if wanted is None or isinstance(self.output, BoxOutput):
            return
        if labels is None:
            raise AnotherModel(
                "the manifest says which labels it answers with, and the server does not tell "
                "them any more"
            )
        if labels_hash(labels) != wanted:
            raise AnotherModel(
                f"its labels begin with {list(labels[:3])} and are not those that the manifest "
                "means; add the candidate again"
            )
