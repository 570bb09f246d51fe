"""The server of a group: a large network that learns from feature maps, and answers with logits."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.networks.federated.halves import MAPS, ServerNetwork, new_server
from adaptive.networks.federated.messages import Contribution, PackedMaps
from adaptive.networks.federated.recipe import GroupRecipe, Learner

_CHUNK = 500


class GroupServer:
    """Takes contributions of a round, learns from them, and answers image by image.

    Parameters
    ----------
    classes : names, which every edge must have in this order
    checkpoint : a file that a stopped server goes on from; what it answered is kept in it
    device : that it trains on, as torch names it
    """

    def __init__(
        self,
        classes: Sequence[str],
        recipe: GroupRecipe,
        checkpoint: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.classes = list(classes)
        self.recipe = recipe
        network = new_server(len(self.classes), recipe.depth, recipe.seed)
        self.learner = Learner(network, recipe, checkpoint, {"classes": self.classes}, device)
        about = self.learner.load() or {"rounds": 0, "answers": {}}
        #: Rounds that it has learnt in.
        self.rounds: int = about["rounds"]
        self._answers = {
            edge: (number, logits.numpy()) for edge, (number, logits) in about["answers"].items()
        }
        self._taken: dict[str, Contribution] = {}

    @property
    def network(self) -> ServerNetwork:
        network = self.learner.network
        assert isinstance(network, ServerNetwork)
        return network

    @property
    def round(self) -> int:
        """The round whose contributions are taken, from 1."""
        return self.rounds + 1

    @property
    def done(self) -> bool:
        return self.rounds >= self.recipe.rounds

    @property
    def taken(self) -> list[str]:
        """Edges whose contributions to this round are here."""
        return sorted(self._taken)

    def take(self, contribution: Contribution) -> None:
        """Take what an edge sends in this round; sent again, it replaces what was there.

        Raises
        ------
        InputError
            when it is of another round, or its feature maps are not those of an edge's network.
        """
        if self.done or contribution.round != self.round:
            now = "all rounds are over" if self.done else f"this is round {self.round}"
            raise InputError(f"edge {contribution.edge!r} sends round {contribution.round}; {now}")
        shape = contribution.maps.values.shape[1:]
        others = {one.maps.values.shape[1:] for one in self._taken.values()}
        if shape[0] != MAPS or (others and others != {shape}):
            wanted = others.pop() if others else (MAPS, "height", "width")
            raise InputError(
                f"edge {contribution.edge!r} sends feature maps of shape {shape}; {wanted} is "
                "what this server reads"
            )
        self._taken[contribution.edge] = contribution

    def learn(self, progress: bool = False) -> float:
        """Learn from what was taken, and end the round. Returns the mean loss of a step."""
        if not self._taken:
            raise InputError(f"no edge has sent anything in round {self.round}")
        taken = [self._taken[edge] for edge in self.taken]
        owner = np.concatenate([np.full(len(one.maps), k) for k, one in enumerate(taken)])
        place = np.concatenate([np.arange(len(one.maps)) for one in taken])
        recipe, total = self.recipe, len(owner)
        batch = min(recipe.batch, total)
        steps = total // batch
        generator = np.random.default_rng((recipe.seed, self.round))
        leans = [recipe.leaning(one.labels, len(self.classes)) for one in taken]
        leaning = None if leans[0] is None else torch.stack([x for x in leans if x is not None])
        losses = []
        self.network.train()
        numbers = tqdm(
            range(recipe.server_epochs * steps),
            desc=f"round {self.round}/{recipe.rounds}",
            leave=False,
            disable=not progress,
        )
        for number in numbers:
            step = number % steps
            if step == 0:  # an epoch begins
                order = generator.permutation(total)
            rows = order[step * batch : (step + 1) * batch]
            maps, logits, labels = _gather(taken, owner[rows], place[rows])
            share = number / (recipe.server_epochs * steps)
            done = (self.rounds + share) / recipe.rounds
            own = None if leaning is None else leaning[torch.from_numpy(owner[rows])]
            losses.append(self.learner.step(maps, labels, logits, done, own))
        if recipe.way_back:
            for one in taken:
                with self.learner.autocast():
                    self._answers[one.edge] = (self.round, self.logits(one.maps))
        self._taken = {}
        self.rounds += 1
        answers = {
            edge: (number, torch.from_numpy(logits))
            for edge, (number, logits) in self._answers.items()
        }
        self.learner.save({"rounds": self.rounds, "answers": answers})
        return sum(losses) / len(losses)

    def answers(self, edge: str) -> tuple[int, np.ndarray] | None:
        """Logits of an edge's images, and the round that it sent them in; None before the first."""
        return self._answers.get(edge)

    @torch.no_grad()
    def logits(self, packed: PackedMaps) -> np.ndarray:
        """What the network says of feature maps, shape (n, classes), float32."""
        self.network.eval()
        found = []
        for start in range(0, len(packed), _CHUNK):
            maps = torch.from_numpy(packed.unpack(slice(start, start + _CHUNK)))
            answer = self.network(maps.to(self.learner.device))
            found.append(answer.float().cpu().numpy())
        return np.concatenate(found)


def _gather(
    taken: list[Contribution], owner: np.ndarray, place: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maps, logits and labels of a batch whose rows belong to several edges."""
    first = taken[0]
    maps = np.empty((len(owner), *first.maps.values.shape[1:]), np.float32)
    logits = np.empty((len(owner), first.logits.shape[1]), np.float32)
    labels = np.empty(len(owner), np.int64)
    for k, one in enumerate(taken):
        here = owner == k
        rows = place[here]
        maps[here] = one.maps.unpack(rows)
        logits[here], labels[here] = one.logits[rows], one.labels[rows]
    return torch.from_numpy(maps), torch.from_numpy(logits), torch.from_numpy(labels)
