"""Candidates that are a program's own: any callables on a batch, checked before they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence, Union

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import MAX_SIZE, OUTPUT_KINDS, Candidate, InputSpec, OutputSpec, positions
from adaptive.checks import chosen, shown, texts, whole
from adaptive.engines.function import FunctionEngine
from adaptive.errors import EngineError, InputError
from adaptive.images.decode import ImageLike, decode
from adaptive.images.decoded import DecodedImage
from adaptive.images.pixels import Pixels
from adaptive.policy.base import Policy
from adaptive.policy.fixed import Fixed
from adaptive.routing.own_answers import OwnAnswers
from adaptive.routing.running import Networks

#: What a model may answer: probabilities or logits of the labels, or anything, with a confidence.
OUTPUTS = (*OUTPUT_KINDS, "answers")

#: How far the sum of a model's probabilities may lie from one, for half precision.
SUM = 1e-2

#: The same where numbers are said to be logits and look like probabilities.
EXACT = 1e-4

#: Images that a model is tried on, and their sides where it takes any size, pixels.
TRIED, SIDE = 2, 224


@dataclass(frozen=True)
class Model:
    """Something of a program's own that answers images: a candidate for `Router.of`.

    Parameters
    ----------
    run : is called with a batch: an array (n, ...) as `input` says, or a list of images. A torch
        module in `eval` mode, a function, a method of a wrapper, a remote call.
    input : how an image is prepared, as in a manifest; `Pixels()` gives images as they are
    output : what it returns. "probabilities" or "logits": an array (n, classes). "answers": a
        list of n pairs (answer, confidence), where an answer may be anything, such as a mask or a
        text, and a confidence is a number from 0 to 1.
    ms, mj : mean cost of one image, where limits are to be kept before anything is measured
    most : how many images it takes at a time; None for any number
    close : is called when the router is closed
    version : tells it apart from others of its name, in logs and outcome tables
    """

    run: Callable[[Any], Any]
    input: InputSpec = Pixels()  # noqa: RUF009
    output: str = "probabilities"
    ms: float | None = None
    mj: float | None = None
    most: int | None = None
    close: Callable[[], object] | None = None
    version: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.input, InputSpec):
            raise InputError(
                f"input {shown(self.input)} is no InputSpec; InputSpec(224) or Pixels() is one"
            )
        chosen(self.output, "output", OUTPUTS)
        if self.most is not None:
            whole(self.most, "most", 1)


#: What stands for a candidate: a callable alone, or a `Model` that says more.
Modelled = Union[Model, Callable[[Any], Any]]


class OpenModels(NamedTuple):
    """A program's models as a bundle that lies nowhere, and what runs them."""

    bundle: Bundle
    networks: Networks


def open_models(
    models: Mapping[str, Modelled],
    labels: Sequence[str] | None,
    policy: Policy | None,
    reference: str | None,
    input: InputSpec | None,
    output: str,
    check: bool | Sequence[ImageLike],
    max_pixels: int,
) -> OpenModels:
    """Make a bundle of models, and try each once; see `Router.of`.

    Raises
    ------
    InputError
        when the models do not go together, or one answers with something else than it says.
    EngineError
        when one fails.
    """
    if not isinstance(models, Mapping) or not models:
        raise InputError(
            f"models {shown(models)} is no mapping from a candidate's name to what answers, "
            'such as {"tiny": f, "large": g}'
        )
    base = Pixels() if input is None else input
    given = {
        name: model if isinstance(model, Model) else Model(model, base, output)
        for name, model in models.items()
    }
    own = {name for name, model in given.items() if model.output == "answers"}
    if own and own != set(given):
        raise InputError(
            f"{sorted(own)} give answers of their own and {sorted(set(given) - own)} classes; all "
            "candidates of a router answer alike"
        )
    names = _labels(labels, bool(own))
    candidates = tuple(
        Candidate(
            name,
            "",
            model.version,
            model.input,
            OutputSpec(max(2, len(names)), "probabilities" if own else model.output),
            ms=model.ms,
            mj=model.mj,
        )
        for name, model in given.items()
    )
    if reference is not None:
        positions([reference], given, "the models")
    served = Fixed((reference or candidates[-1].name,)) if policy is None else policy
    bundle = Bundle(Path("models"), candidates, names, served, reference)
    engines = {
        name: FunctionEngine(name, model.run, model.most, model.close)
        for name, model in given.items()
    }
    if check is not False:
        seen = None
        if check is not True:
            seen = [decode(image, MAX_SIZE, max_pixels) for image in check]
        for candidate in candidates:
            _try_out(engines[candidate.name], candidate, bool(own), seen)
    networks = OwnAnswers(bundle, engines) if own else Networks(bundle, engines)
    return OpenModels(bundle, networks)


def _labels(labels: Sequence[str] | None, own: bool) -> tuple[str, ...]:
    if own:
        if labels is not None:
            raise InputError(
                "labels are of classes; candidates with answers of their own have none"
            )
        return ()
    if labels is None:
        raise InputError("labels are needed: the classes' names, in the order of the answers")
    names = texts(labels, "labels")
    if len(names) < 2:
        raise InputError(f"labels {list(names)} are {len(names)}; at least two are needed")
    return names


def _try_out(
    engine: FunctionEngine, candidate: Candidate, own: bool, images: Sequence[np.ndarray] | None
) -> None:
    """Run a model on images, made ones where there are none, and refuse wrong answers."""
    spec = candidate.input
    told = f"; it was tried on {len(images or ())} images that were given to check"
    if images is None:
        height, width = (SIDE, SIDE) if isinstance(spec, Pixels) else spec.sides
        images = [
            np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
            for seed in range(TRIED)
        ]
        told = f"; it was tried on {TRIED} made images of {width} x {height} pixels"
        if isinstance(spec, Pixels):
            told += "; check=[image, ...] tries it on images of yours"
    batch = np.concatenate([DecodedImage(p, p).tensor(spec) for p in images])
    try:
        if own:
            engine.pairs(batch)
            return
        (said,) = engine.run(batch)
    except EngineError as exc:
        raise EngineError(f"{exc}{told}") from exc
    name, output = candidate.name, candidate.output
    said = said.reshape(len(said), -1)
    if said.shape[1] != output.classes:
        raise InputError(
            f"candidate {name!r} answers with {said.shape[1]} numbers an image, but there are "
            f"{output.classes} labels"
        )
    if not np.isfinite(said).all():
        raise InputError(f"candidate {name!r} answers with numbers that are not finite")
    low, high = float(said.min()), float(said.max())
    sums = said.astype(np.float64).sum(axis=1)
    apart = float(np.abs(sums - 1).max())
    if output.kind == "probabilities" and (low < -SUM or high > 1 + SUM or apart > SUM):
        raise InputError(
            f"candidate {name!r} answers with numbers from {low:.4g} to {high:.4g} whose rows sum "
            f"to {sums[0]:.4g}, which are no probabilities; if they are logits, say "
            'output="logits"'
        )
    if output.kind == "logits" and low >= 0 and apart <= EXACT:
        raise InputError(
            f"candidate {name!r} answers with rows that sum to 1, which are probabilities and no "
            'logits; say output="probabilities"'
        )


def check_answers(
    policy: Policy, networks: Networks, audit: object, observers: Sequence[object]
) -> None:
    """Refuse what reads classes where candidates give answers of their own.

    Raises
    ------
    InputError
        that says what to do instead.
    """
    if not isinstance(networks, OwnAnswers):
        return
    if policy.needs_probabilities:
        raise InputError(
            "the policy reads probabilities, and candidates with answers of their own give only a "
            'confidence; take a cascade on the signal "top" without temperatures, exponents and '
            "combine"
        )
    if audit is not None or observers:
        raise InputError(
            "audits, logs and observers read classes, and candidates with answers of their own "
            "give none; leave them out"
        )
