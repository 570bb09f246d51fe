"""Who somebody is: networks are asked cheap first, by a store of identities."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.video.identity import EmbeddingNetwork, IdentityStore

#: Names whom a crop shows, or None.
Oracle = Callable[[np.ndarray], "str | None"]


class Embedder(NamedTuple):
    """A network, or one exit of it, with what runs it.

    run : a crop (height, width, 3), uint8, RGB, to its embedding, and then the state for what
        goes on from it, if anything does
    after : the exit whose state it reads instead of the crop, or None
    """

    network: EmbeddingNetwork
    run: Callable[[np.ndarray], Sequence[np.ndarray]]
    after: str | None = None


def embeddings_of(
    embedders: Sequence[Embedder], crop: np.ndarray
) -> Iterator[Tuple[str, np.ndarray]]:
    """A crop's embedding by each network in turn; each runs when it is asked for, and not before.

    crop : ndarray (height, width, 3), uint8, RGB
    """
    states: Dict[str, np.ndarray] = {}
    for embedder in embedders:
        given = crop if embedder.after is None else states[embedder.after]
        embedding, *state = embedder.run(given)
        if state:
            states[embedder.network.name] = state[0]
        yield embedder.network.name, embedding


class Identified(NamedTuple):
    """Who somebody is.

    name : None where nobody is near enough
    by : the network whose match it is, "oracle", or None
    distance : to the nearest by the last network that ran, 1 - cosine; None in an empty store
    path : networks that ran
    new : whether it was added as unknown now
    """

    name: str | None
    by: str | None
    distance: float | None
    path: Tuple[str, ...]
    new: bool = False

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values."""
        distance = None if self.distance is None else round(self.distance, 5)
        return {**self._asdict(), "distance": distance, "path": list(self.path)}


def identify(
    store: IdentityStore,
    embedders: Sequence[Embedder],
    crop: np.ndarray,
    oracle: Oracle | None = None,
    learn: bool = False,
) -> Identified:
    """Who a crop shows: cheap networks first, until one has a match (Huynh 2019, algorithm 3).

    The nearest name under a network's threshold is taken, where the thesis takes the first.

    Parameters
    ----------
    crop : ndarray (height, width, 3), uint8, RGB: a face or a person
    oracle : asked where no network has a match: a crop to a name, or None
    learn : update the store: a match moves the means of all networks that ran; somebody whom the
        oracle names is added; and who stays unknown is added as "unknown-N". Off, the store is
        only read.
    """
    embeddings: Dict[str, np.ndarray] = {}
    path: List[str] = []
    distance: float | None = None
    name: str | None = None
    by: str | None = None
    for network, embedding in embeddings_of(embedders, crop):
        embeddings[network] = embedding
        path.append(network)
        near = store.nearest(network, embedding)
        distance = None if near is None else near.distance
        if near is not None and near.distance <= store.thresholds.get(network, -1.0):
            name, by = near.name, network
            break
    if name is None and oracle is not None:
        name = oracle(crop)
        by = None if name is None else "oracle"
    if not learn:
        return Identified(name, by, distance, tuple(path))
    if name is None:
        return Identified(store.add_unknown(embeddings), None, distance, tuple(path), True)
    if name in store:
        store.update(name, embeddings)
    else:
        store.add(name, embeddings)
    return Identified(name, by, distance, tuple(path))
