"""A model on another server as a candidate: adding it to a folder, and seeing it answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Callable, Sequence

import numpy as np

from adaptive.box_output import BoxOutput
from adaptive.bundle.adding import (
    Added,
    CheckImages,
    NoSense,
    Recipe,
    check_classes,
    check_names,
    commit,
    free_name,
    present_in,
    read_boxes,
    settings_for,
)
from adaptive.bundle.network import NetworkFacts, kind_of
from adaptive.bundle.networkfiles import staged
from adaptive.bundle.trying import check_settings
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.engines.expected import AnotherModel
from adaptive.engines.inference import ModelInfo, TensorInfo
from adaptive.engines.proof import made_up
from adaptive.engines.remote import RemoteEngine, model_info
from adaptive.errors import EngineError, InputError, ServiceError
from adaptive.outcomes.labelled import list_images
from adaptive.remote import Remote, labels_hash

#: Where a model stands, as it is typed.
PLACE = re.compile(r"(https?://.+?)/v2/models/([^/?#]+)(?:/versions/([^/?#]+))?/?")

#: A candidate's types by the protocol's.
_DTYPES = {"FP32": "float32", "FP16": "float16", "UINT8": "uint8", "BYTES": "uint8"}


@dataclass(frozen=True)
class Wire:
    """How a model on another server is asked; see `adaptive.remote.Remote`."""

    timeout_ms: float = 1000.0
    encoding: str = "jpeg"
    quality: int = 90
    mj: float | None = None
    mj_per_byte: float | None = None
    key: str | None = None


def is_place(text: str) -> bool:
    """Whether something that was typed is an address and no file."""
    return text.startswith(("http://", "https://"))


def place_of(text: str) -> tuple[str, str, str | None]:
    """Server, model and version of an address.

    Raises
    ------
    InputError
        when it is none of a model.
    """
    found = PLACE.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} is no model's address; http://HOST:PORT/v2/models/MODEL is, with "
            "/versions/VERSION behind it or without"
        )
    return found[1], found[2], found[3]


def add_remote(
    folder: Path,
    address: str,
    name: str | None = None,
    recipe: Recipe | None = None,
    labels: Sequence[str] | None = None,
    images: CheckImages | None = None,
    reference: bool = False,
    force: bool = False,
    wire: Wire | None = None,
    progress: Callable[[int], object] = lambda runs: None,
) -> Added:
    """Write a model on another server into a folder of candidates, once it has answered.

    Parameters
    ----------
    address : http://HOST:PORT/v2/models/MODEL, and a version behind it or not
    wire : how it is asked; the rest as in `adaptive.bundle.adding.add_candidate`

    Raises
    ------
    InputError
        when something is neither told nor tried, or does not fit.
    EngineError, ServiceError
        when the server cannot be asked, or does not speak the protocol.
    """
    recipe, wire = recipe or Recipe(), wire or Wire()
    url, model, version = place_of(address)
    present = present_in(folder)
    own = re.sub(r"[^A-Za-z0-9._-]+", "_", model).strip("_")
    name = free_name(own if name is None else name, folder, present, force)
    stated = {name: value for name, value in vars(wire).items() if name != "key"}
    remote = Remote(url, model, version, **stated)
    info = model_info(remote, wire.key)
    spec = _input(info, recipe, address)
    known = present.labels if present is not None else labels
    width, kind = 0, ""
    told: tuple[str, ...] = ()
    if recipe.decoder is None:
        width = _width(info, known, address)
        told, kind = _seen(remote, spec, width, wire.key)
    facts = NetworkFacts(spec.dtype, spec.layout, spec.size, False, width, kind, told, "the server")
    names, note = check_names(
        labels, present.labels if present else None, facts, images, recipe.decoder is not None
    )
    notes = [note] if note else []
    if told and len(told) == len(names) and tuple(told) != tuple(names):
        first = next(n for n, (a, b) in enumerate(zip(told, names)) if a != b)
        raise InputError(
            f"the server calls class {first} {told[first]!r}, and here it is {names[first]!r}; all "
            "candidates of a folder answer with the same classes in the same order"
        )
    if told:
        remote = replace(remote, labels=labels_hash(told))
    elif recipe.decoder is None:
        notes.append("the server does not tell its labels, so nobody checks that they are these")
    if info.versions and version is None:
        notes.append(
            f"any version is taken; add /versions/{info.versions[0]} to the address to be held to "
            "that one"
        )
    output: OutputSpec | BoxOutput
    if recipe.decoder:
        output, told_of = read_boxes(recipe, names)
        notes += told_of
    else:
        output = check_classes(recipe, facts, names)
    settings = settings_for(recipe, facts, images is not None)
    candidate = Candidate(name, "", remote.identity, settings[0].spec, output, remote=remote)
    check = None
    with staged(folder) as stage:
        engine = RemoteEngine(remote, candidate.input, output, wire.key)
        try:
            engine.greet()
            engine.run(made_up(candidate.input)[0])
            if images is not None:
                found = list_images(images.root, names, images.table)
                check = check_settings(engine, candidate, settings, found, images.most, progress)
                if not check.makes_sense:
                    raise NoSense(check, name)
                candidate = replace(candidate, input=check.best.setting.spec)
        finally:
            engine.close()
        commit(stage, folder, present, candidate, names, reference)
    return Added(candidate, check, tuple(notes))


def _input(info: ModelInfo, recipe: Recipe, address: str) -> InputSpec:
    """How an image is made ready, as far as the model's metadata tell it."""
    if len(info.inputs) != 1:
        raise InputError(
            f"{address} reads {[t.name for t in info.inputs]}; a candidate reads one input, the "
            "image"
        )
    (read,) = info.inputs
    if read.datatype not in _DTYPES:
        raise InputError(f"{address} reads {read.datatype}; one of {list(_DTYPES)} can be sent")
    if read.datatype == "BYTES":
        if recipe.size is None:
            raise InputError(
                f"{address} reads encoded images of any size; give --size with the pixels of its "
                "network's input, such as 224, so that no more are sent"
            )
        return InputSpec(recipe.size, "uint8", "NHWC")
    layout, sides = _tensor_sides(read, recipe, address)
    height, width = sides
    return InputSpec(height if height == width else sides, _DTYPES[read.datatype], layout)


def _tensor_sides(read: TensorInfo, recipe: Recipe, address: str) -> tuple[str, tuple[int, int]]:
    own = read.shape[-3:]
    if len(own) != 3:
        raise InputError(
            f"{address} reads tensors of shape {list(read.shape)}, which are no images"
        )
    layouts = [n for n, channels in (("NCHW", own[0]), ("NHWC", own[2])) if channels == 3]
    layout = recipe.layout or (layouts[0] if len(layouts) == 1 else None)
    if layout is None:
        raise InputError(
            f"{address} reads tensors of shape {list(read.shape)}; give --layout NCHW or NHWC"
        )
    sides = own[1:] if layout == "NCHW" else own[:2]
    if min(sides) < 1:
        if recipe.size is None:
            raise InputError(f"{address} takes images of any size; give --size, such as 224")
        given = recipe.size if isinstance(recipe.size, tuple) else (recipe.size, recipe.size)
        return layout, given
    return layout, (sides[0], sides[1])


def _width(info: ModelInfo, known: Sequence[str] | None, address: str) -> int:
    """Numbers that the model answers with for an image."""
    if {"labels", "scores"} <= {t.name for t in info.outputs}:
        raise InputError(
            f"{address} tells its best classes alone, as a router does; name one of the server's "
            "candidates"
        )
    numbers = [t for t in info.outputs if t.datatype in ("FP32", "FP16", "FP64")]
    numbers = [t for t in numbers if t.name == "probabilities"] or numbers
    if not numbers:
        raise InputError(f"{address} answers with {[t.name for t in info.outputs]}, no numbers")
    row = numbers[0].shape[1:]
    if row and min(row) > 0:
        return int(np.prod(row))
    if known is None:
        raise InputError(f"{address} does not say how many classes it has; give --labels FILE")
    return len(known)


def _seen(
    remote: Remote, spec: InputSpec, width: int, key: str | None
) -> tuple[tuple[str, ...], str]:
    """Labels that the server tells, if any, and what made-up images are answered with."""
    engine = RemoteEngine(remote, spec, OutputSpec(width), key)
    try:
        greeted = engine.greet()
        rows = [np.asarray(engine.run(tensor)[0], float).reshape(1, -1) for tensor in made_up(spec)]
    finally:
        engine.close()
    return greeted.labels or (), kind_of(np.concatenate(rows))


@dataclass(frozen=True)
class Reached:
    """Whether a candidate on another server answers.

    Attributes
    ----------
    ms : of one request for a made-up image; None where it does not answer
    why : what is wrong then
    another : a server answers there, and with another model than is meant
    """

    ms: float | None
    why: str = ""
    another: bool = False


def look_at(candidate: Candidate, key: str | None = None) -> Reached:
    """Ask a candidate's server what it is, and for one answer."""
    assert candidate.remote is not None
    engine = RemoteEngine(candidate.remote, candidate.input, candidate.output, key)
    try:
        engine.greet()
        tensor = made_up(candidate.input)[0]
        engine.run(tensor)
        began = monotonic()
        engine.run(tensor)
        return Reached((monotonic() - began) * 1e3)
    except AnotherModel as error:
        return Reached(None, str(error), True)
    except (EngineError, ServiceError) as error:
        return Reached(None, str(error))
    finally:
        engine.close()
