"""All rounds of a group in one process, through the same messages as between machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Sequence

import numpy as np
import torch

from adaptive.errors import InputError
from adaptive.intervals import Estimate, mean, share
from adaptive.networks.federated.edge import Edge, outputs
from adaptive.networks.federated.messages import Contribution, from_bytes, pack, to_bytes
from adaptive.networks.federated.server import GroupServer
from adaptive.networks.images import ImageArrays


@dataclass
class Traffic:
    """Bytes that went up to the server and down to the edges, by edge."""

    up: dict[str, int] = field(default_factory=dict)
    down: dict[str, int] = field(default_factory=dict)

    def sent(self, edge: str, data: bytes) -> bytes:
        self.up[edge] = self.up.get(edge, 0) + len(data)
        return data

    def received(self, edge: str, data: bytes) -> bytes:
        self.down[edge] = self.down.get(edge, 0) + len(data)
        return data


def answer_bytes(server: GroupServer, edge: str) -> bytes | None:
    """The server's answers about an edge's images as a message; None where there are none."""
    found = server.answers(edge)
    if found is None:
        return None
    number, logits = found
    return to_bytes({"round": np.array(number), "logits": logits})


def learn_together(
    edges: Sequence[Edge],
    server: GroupServer,
    say: Callable[[str], None] = print,
    progress: bool = True,
    traffic: Traffic | None = None,
) -> Traffic:
    """Run the rounds that are left; a stopped run goes on where edges and server have saved.

    Returns what was sent in these rounds, added to `traffic` where that is given.
    """
    traffic = Traffic() if traffic is None else traffic
    while not server.done:
        number, losses = server.round, []
        for edge in edges:
            if edge.rounds < number:
                losses.append(edge.learn(number, _answers(server, edge, number, traffic)))
            data = traffic.sent(edge.name, edge.contribution(number).to_bytes())
            server.take(Contribution.from_bytes(data, len(server.classes)))
        loss = server.learn(progress)
        mean = f"{sum(losses) / len(losses):.3f}" if losses else "-"
        say(f"round {number}/{server.recipe.rounds}: loss of the edges {mean}, server {loss:.3f}")
    return traffic


def _answers(server: GroupServer, edge: Edge, number: int, traffic: Traffic) -> np.ndarray | None:
    data = answer_bytes(server, edge.name)
    return None if data is None else read_answers(traffic.received(edge.name, data), number)


def read_answers(data: bytes, number: int) -> np.ndarray | None:
    """Logits to learn from in round `number`; None where they are about an earlier one's pixels."""
    found = from_bytes(data)
    if set(found) != {"round", "logits"} or found["logits"].ndim != 2:
        raise InputError(f"the server's answers hold {sorted(found)}, not a round and logits")
    return found["logits"] if int(found["round"]) == number - 1 else None


@dataclass(frozen=True)
class GroupAccuracy:
    """Top-1 on images that nobody trained on.

    Attributes
    ----------
    alone : the edges' own classifiers, mean over the edges, with its 95% interval over images
    together : edge's extractor and server's network
    """

    alone: Estimate
    together: Estimate


def group_accuracy(edges: Sequence[Edge], server: GroupServer, test: ImageArrays) -> GroupAccuracy:
    """Top-1 of every edge on `test`, alone and with the server; the mean over the edges."""
    images = torch.from_numpy(test.images)
    own, both = [], []
    for edge in edges:
        maps, logits = outputs(edge.network, images.to(edge.learner.device))
        own.append(logits.argmax(1) == test.labels)
        sent = pack(maps, server.recipe.maps)  # as they would travel
        both.append(server.logits(sent).argmax(1) == test.labels)
    return GroupAccuracy(_over_edges(own), _over_edges(both))


def _over_edges(right: Sequence[np.ndarray]) -> Estimate:
    return share(right[0]) if len(right) == 1 else mean(np.mean(right, axis=0))
