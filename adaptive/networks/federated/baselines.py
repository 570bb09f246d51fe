"""What a group is held against: one network for all images, each edge alone, and FedAvg."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import torch
from torch import Tensor, nn

from adaptive.networks.augmentation import augment
from adaptive.networks.federated.edge import Edge
from adaptive.networks.federated.halves import EdgeNetwork, ServerNetwork
from adaptive.networks.federated.recipe import GroupRecipe, Learner
from adaptive.networks.images import ImageArrays


class Whole(nn.Module):
    """Extractor and server's network as one plain network: what central training has."""

    def __init__(self, classes: int, depth: int) -> None:
        super().__init__()
        self.extractor = EdgeNetwork(classes).extractor
        self.rest = ServerNetwork(classes, depth)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.rest(self.extractor(images))
        return logits


def train_central(
    network: nn.Module,
    data: ImageArrays,
    recipe: GroupRecipe,
    epochs: int,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = print,
    device: str = "cpu",
) -> nn.Module:
    """Train one network on all images, with the recipe's steps, for `epochs` in all."""
    learner = Learner(network, recipe, checkpoint, {"images": data.digest()}, device)
    about = learner.load() or {"epochs": 0}
    images = torch.from_numpy(data.images).to(device)
    labels = torch.from_numpy(data.labels).to(device)
    batch = min(recipe.batch, len(labels))
    steps = len(labels) // batch
    for epoch in range(about["epochs"], epochs):
        generator = torch.Generator(device).manual_seed(recipe.seed * 100_003 + epoch)
        order = torch.randperm(len(labels), generator=generator, device=generator.device)
        network.train()
        running = 0.0
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            moved = augment(images[rows], recipe.shift, 0, generator)
            done = (epoch + step / steps) / epochs
            running += learner.step(moved, labels[rows], None, done)
        learner.save({"epochs": epoch + 1})
        say(f"epoch {epoch + 1}/{epochs} loss {running / steps:.3f}")
    return network.eval()


@dataclass(frozen=True)
class Averaged:
    """What FedAvg came to.

    Attributes
    ----------
    network : the averaged one
    bytes : weights that an edge sent and received, all rounds together
    """

    network: EdgeNetwork
    bytes: int


def federated_average(
    edges: Sequence[Edge], recipe: GroupRecipe, say: Callable[[str], None] = print
) -> Averaged:
    """FedAvg of the edges' small network (McMahan et al. 2017, algorithm 1).

    Every round each edge trains the average on its own images; the new average weighs edges by
    their images. Statistics of batch normalisation are averaged alike. Momentum begins anew with
    each round.
    """
    counts = [len(edge.labels) for edge in edges]
    state = {k: v.clone() for k, v in edges[0].network.state_dict().items()}
    sent = 0
    for number in range(edges[0].rounds + 1, recipe.rounds + 1):
        losses, found = [], []
        for edge in edges:
            edge.network.load_state_dict(state)
            edge.learner.optimiser.state.clear()
            losses.append(edge.learn(number, None))
            found.append(edge.network.state_dict())
        for key, value in state.items():
            mixed = sum(n * one[key].double() for n, one in zip(counts, found)) / sum(counts)
            assert isinstance(mixed, Tensor)
            state[key] = mixed.to(value.dtype)
        sent += 2 * sum(v.numel() * v.element_size() for v in state.values())
        say(f"round {number}/{recipe.rounds}: loss of the edges {sum(losses) / len(losses):.3f}")
    for edge in edges:
        edge.network.load_state_dict(state)
    return Averaged(edges[0].network.eval(), sent)
