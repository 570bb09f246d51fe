"""An edge: it keeps its images, and trains a small network beside the server's answers."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaptive.errors import InputError
from adaptive.networks.augmentation import augment
from adaptive.networks.federated.halves import EdgeNetwork, new_edge
from adaptive.networks.federated.messages import Contribution, pack
from adaptive.networks.federated.recipe import GroupRecipe, Learner
from adaptive.networks.images import ImageArrays

#: Images at a time where nothing is trained.
_CHUNK = 500


class Edge:
    """One edge of a group.

    In a round it trains on its images as it had moved and mirrored them when it last sent their
    feature maps, so that the server's answers are about the very same pixels; then it moves them
    anew, and sends.

    Parameters
    ----------
    name : by which the server knows it
    data : its images; no image leaves it
    checkpoint : a file that a stopped edge goes on from
    device : that it trains on, as torch names it
    """

    def __init__(
        self,
        name: str,
        data: ImageArrays,
        recipe: GroupRecipe,
        checkpoint: Path | None = None,
        device: str = "cpu",
    ) -> None:
        if len(data.labels) < 2:
            raise InputError(f"edge {name!r} has {len(data.labels)} images; it needs at least 2")
        self.name = name
        self.recipe = recipe
        self.images = torch.from_numpy(data.images).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)
        network = new_edge(len(data.classes), recipe.seed)
        self._leaning = recipe.leaning(data.labels, len(data.classes))
        made = {"images": data.digest(), "classes": data.classes}
        self.learner = Learner(network, recipe, checkpoint, made, device)
        about = self.learner.load()
        #: Rounds that this edge has trained in.
        self.rounds: int = about["rounds"] if about else 0

    @property
    def network(self) -> EdgeNetwork:
        network = self.learner.network
        assert isinstance(network, EdgeNetwork)
        return network

    def view(self, number: int) -> Tensor:
        """The images as they are moved and mirrored after round `number`; 0 is before the first."""
        return augment(self.images, self.recipe.shift, 0, self._generator(number, 0))

    def learn(self, number: int, answers: np.ndarray | None) -> float:
        """Train in round `number`, from 1.

        answers : the server's logits of the view that was sent in the round before, shape
            (n, classes); None where there are none

        Returns the mean loss of a step.
        """
        if answers is not None and len(answers) != len(self.labels):
            raise InputError(
                f"edge {self.name!r} has {len(self.labels)} images and got answers about "
                f"{len(answers)}"
            )
        images, recipe = self.view(number - 1), self.recipe
        other = None
        if answers is not None:
            other = torch.from_numpy(np.asarray(answers, np.float32)).to(self.images.device)
        generator = self._generator(number, 1)
        batch = min(recipe.batch, len(self.labels))
        steps = len(self.labels) // batch
        self.network.train()
        losses = []
        for epoch in range(recipe.edge_epochs):
            order = torch.randperm(len(self.labels), generator=generator, device=generator.device)
            for step in range(steps):
                rows = order[step * batch : (step + 1) * batch]
                share = (epoch + step / steps) / recipe.edge_epochs
                done = (number - 1 + share) / recipe.rounds
                taught = None if other is None else other[rows]
                pixels, labels = images[rows], self.labels[rows]
                losses.append(self.learner.step(pixels, labels, taught, done, self._leaning))
        self.rounds = number
        self.learner.save({"rounds": number})
        return sum(losses) / len(losses)

    def contribution(self, number: int) -> Contribution:
        """What goes to the server in round `number`."""
        with self.learner.autocast():
            maps, logits = outputs(self.network, self.view(number))
        return Contribution(
            self.name, number, pack(maps, self.recipe.maps), logits, self.labels.cpu().numpy()
        )

    def _generator(self, number: int, use: int) -> torch.Generator:
        own = zlib.crc32(f"{self.recipe.seed} {self.name} {number} {use}".encode())
        return torch.Generator(self.images.device).manual_seed(own)


@torch.no_grad()
def outputs(network: EdgeNetwork, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Feature maps and logits of images, as float32."""
    network.eval()
    maps, logits = [], []
    for start in range(0, len(images), _CHUNK):
        found = network.extractor(images[start : start + _CHUNK])
        maps.append(found.float().contiguous().cpu().numpy())
        logits.append(network.classifier(found).float().cpu().numpy())
    return np.concatenate(maps), np.concatenate(logits)
