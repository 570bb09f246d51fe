"""Which edge has which images: in equal shares, or with classes that differ from edge to edge."""

from __future__ import annotations

import math

import numpy as np

from adaptive.errors import InputError


def read_split(text: str) -> float | None:
    """`iid` as None, `dirichlet:0.5` as 0.5.

    Raises
    ------
    InputError
        for anything else.
    """
    if text == "iid":
        return None
    kind, _, value = text.partition(":")
    try:
        alpha = float(value) if kind == "dirichlet" else math.nan
    except ValueError:
        alpha = math.nan
    if not 0 < alpha < math.inf:
        raise InputError(f"a split is iid or dirichlet:ALPHA with ALPHA above 0, not {text!r}")
    return alpha


def deal(labels: np.ndarray, edges: int, alpha: float | None, seed: int) -> list[np.ndarray]:
    """Row numbers of each edge, sorted; every row belongs to one.

    alpha : None for equal shares of every class; else each class is dealt by shares that are
        drawn from a Dirichlet distribution: the smaller, the less alike the edges (Hsu et al.
        2019, section 2)

    Raises
    ------
    InputError
        when an edge would get fewer than two images.
    """
    if edges < 1:
        raise InputError(f"there must be at least one edge, got {edges}")
    generator = np.random.default_rng((seed, edges))
    mine: list[list[np.ndarray]] = [[] for _ in range(edges)]
    for number, label in enumerate(np.unique(labels)):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if alpha is None:  # what is left over goes to another edge each time
            parts = np.array_split(rows, edges)
            parts = parts[number % edges :] + parts[: number % edges]
        else:
            shares = generator.dirichlet([alpha] * edges)
            cuts = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(int)
            parts = np.split(rows, cuts)
        for part, own in zip(parts, mine):
            own.append(part)
    dealt = [np.sort(np.concatenate(own)) for own in mine]
    least = min(map(len, dealt))
    if least < 2:
        raise InputError(
            f"of {len(labels)} images an edge would get {least}; take fewer edges, another seed "
            "or a larger ALPHA"
        )
    return dealt
