"""What one live decision takes: `python benchmarks/decision.py [--json out.json]`.

    python benchmarks/decision.py [--images 50] [--rounds 40] [--only TEXT] [--json X]

From an image's features to its path, its answer and the sentence why: premodel, policy, step
machine and reason, one core, no network and no decoding. What networks would say is drawn, with a
fixed seed, for 10 and for 1,000 classes. Every policy has three candidates, and how many of them
run follows from what it decides; the table says how many in the mean.

An image's time is the least of the rounds, which take turns over all policies: what else the
machine does falls on single rounds. The result is the images' median and their 95th percentile.
To compare with another version, run both in turn:

    python benchmarks/compare.py --run "env PYTHONPATH=OLD python OLD/benchmarks/decision.py \
        --json {}" "python benchmarks/decision.py --json {}"
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from machine import envelope, result, save, show

from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import Exponents
from adaptive.policy.fixed import Fixed
from adaptive.policy.gain import Gain, paths_of
from adaptive.policy.history import Output
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.policy.walk import Route, Walk
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.mixture import FEATURES, Mixture
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.scaling import Scaling

NAMES = ("small", "middle", "large")
CLASSES = (10, 1000)

#: Of a premodel of neighbours, as many as the embedded default has.
ROWS, NEIGHBOURS = 5067, 50

CONDITIONS = 5


def neighbours(kind: type[KNNChain], k: int, draw: np.random.Generator) -> KNNChain:
    """A premodel that compares with images of two features."""
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    table = scaling.grid(draw.normal(size=(ROWS, 2)))
    right = draw.random((ROWS, 3)) < (0.6, 0.7, 0.8)
    return kind.from_arrays(FEATURES[:2], NAMES, scaling, table, right.astype(np.uint8), k)


def mixture(draw: np.random.Generator) -> Mixture:
    """A premodel of five conditions over five features."""
    count = len(FEATURES)
    factor = np.tril(draw.normal(0, 0.3, (CONDITIONS, count, count)))
    factor[:, range(count), range(count)] = draw.uniform(0.8, 1.5, (CONDITIONS, count))
    arrays = {
        "floor": np.full(count, 0.1),
        "scale": np.ones(count),
        "offset": np.zeros(count),
        "weight": np.full(CONDITIONS, 1 / CONDITIONS),
        "mean": draw.normal(size=(CONDITIONS, count)),
        "factor": factor,
        "rate": draw.uniform(0.4, 0.95, (CONDITIONS, 3)),
    }
    return Mixture.from_arrays(FEATURES, NAMES, arrays)


def gains(told: int, draw: np.random.Generator) -> tuple[Gain, ...]:
    """Gains of every path, of which about half promise something."""
    return tuple(
        Gain(path, ways, draw.normal(0, 0.15, (len(ways), 4 + 2 * told)))
        for path, ways in paths_of(3).items()
    )


def exponents(traits: int, draw: np.random.Generator) -> tuple[Exponents, ...]:
    """Exponents of every set, with slopes where there are traits."""
    sets = [s for count in (1, 2, 3) for s in itertools.combinations(range(3), count)]
    return tuple(
        Exponents(
            members,
            tuple(draw.uniform(0.3, 1.2, len(members)).tolist()),
            tuple(map(tuple, draw.normal(0, 0.1, (len(members), traits)).tolist()))
            if traits
            else (),
        )
        for members in sets
    )


def policies() -> dict[str, Policy]:
    """By name, those that a tuner may choose."""
    draw = np.random.default_rng(0)
    near, chain, mixed = (
        neighbours(OutcomeKNN, NEIGHBOURS, draw),
        neighbours(KNNChain, 5, draw),
        mixture(draw),
    )
    margin: dict[str, Any] = {"thresholds": (0.5, 0.5), "signal": "margin"}
    return {
        "fixed": Fixed(NAMES),
        "premodel, chain of 5 neighbours": ByPremodel(NAMES, chain),
        "cascade, top": Cascade(NAMES, thresholds=(0.3, 0.3)),
        "cascade, exponents": Cascade(NAMES, exponents=exponents(0, draw), **margin),
        "cascade, gains, exponents": Cascade(
            NAMES, gains=gains(0, draw), exponents=exponents(0, draw), **margin
        ),
        "hybrid, 50 neighbours, geometric": Hybrid(
            NAMES, near, gains=gains(3, draw), combine="geometric", **margin
        ),
        "hybrid, 50 neighbours, exponents": Hybrid(
            NAMES, near, gains=gains(3, draw), exponents=exponents(0, draw), **margin
        ),
        "hybrid, mixture, slopes": Hybrid(
            NAMES,
            mixed,
            gains=gains(CONDITIONS, draw),
            exponents=exponents(mixed.traits, draw),
            **margin,
        ),
    }


def said(images: int, classes: int) -> list[list[Output]]:
    """For each image, what each of the three networks would say."""
    draw = np.random.default_rng(1)
    found = []
    for _ in range(images):
        hard = draw.uniform(0.5, 6)
        logits = draw.normal(size=(3, classes)) * (1.0, 1.5, 2.0)[:1]
        logits[:, draw.integers(classes)] += hard * np.array([0.7, 0.9, 1.2])
        values = np.exp(logits - logits.max(axis=1, keepdims=True))
        values = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
        found.append([Output(row.max(keepdims=True), row[np.newaxis]) for row in values])
    return found


def decide(policy: Policy, features: np.ndarray, outputs: list[Output]) -> tuple[Route, str]:
    """One image's way through a policy, as the router drives it, and why."""
    chances = policy.chances(features) if policy.needs_features else None
    walk = Walk(policy, 1, chances)
    while (step := walk.wanted) is not None:
        walk.feed(step, outputs[step.candidate])
    (route,) = walk.routes
    return route, policy.reason(route.history, walk.preference)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50, help="drawn images (default 50)")
    parser.add_argument("--rounds", type=int, default=40, help="rounds (default 40)")
    parser.add_argument("--only", default="", help="policies whose name has this in it")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.images < 1 or options.rounds < 1:
        parser.error("--images and --rounds must be at least 1")
    chosen = {name: p for name, p in policies().items() if options.only in name}
    if not chosen:
        parser.error(f"no policy has {options.only!r} in its name")
    outputs = {classes: said(options.images, classes) for classes in CLASSES}
    features = np.random.default_rng(2).uniform(0, 2, (options.images, len(FEATURES)))
    least = {key: np.full(options.images, np.inf) for key in itertools.product(chosen, CLASSES)}
    ran = dict.fromkeys(least, 0)
    for _ in range(options.rounds):
        for (name, classes), own in least.items():
            policy = chosen[name]
            width = 0 if policy.premodel is None else len(policy.premodel.features)
            ran[name, classes] = 0
            for image in range(options.images):
                x = features[image : image + 1, :width]
                began = perf_counter()
                route, _ = decide(policy, x, outputs[classes][image])
                own[image] = min(own[image], (perf_counter() - began) * 1e6)
                ran[name, classes] += len(route.path)
    results = {
        f"{name}; {classes} classes; {ran[name, classes] / options.images:.2f} networks": result(
            own.tolist(), "us"
        )
        for (name, classes), own in least.items()
    }
    settings = {"images": options.images, "rounds": options.rounds}
    content = envelope("decision", results, settings, paired=True)
    show(content)
    save(content, options.json)


if __name__ == "__main__":
    main()
