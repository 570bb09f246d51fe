"""How a group learns: rounds, epochs, losses. Also the step that every side trains with."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ContextManager, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from adaptive.errors import InputError
from adaptive.files import written_aside
from adaptive.networks.federated.messages import KINDS
from adaptive.networks.losses import distillation


@dataclass(frozen=True)
class GroupRecipe:
    """How edges and server learn together.

    Attributes
    ----------
    rounds : of training at all edges, then at the server
    edge_epochs, server_epochs : a round
    batch : images a step
    learning_rate : of SGD with Nesterov's momentum, its peak: up over the first tenth of the
        rounds, then down to nothing by a cosine
    weight_decay : of weights of convolutions and linear layers
    temperature : softens the answers that one side learns from the other
    alpha : weight of the other side's answers beside the labels' 1; 0 leaves them out
    way_back : whether the server's answers go back to the edges
    balanced : whether networks learn what an image is as if its edge had every class equally
        often (balanced softmax, Ren et al. 2020): for edges that have other classes than others
    depth : layers of the ResNet whose tail the server has: 20, 32, 56
    maps : how feature maps travel, float32, float16 or int8
    bfloat16 : whether convolutions and linear layers compute in bfloat16, with weights kept in
        float32: several times faster where the processor has instructions for it
    shift : pixels by which an image is moved at random
    seed : of weights, order and augmentation
    """

    rounds: int = 20
    edge_epochs: int = 1
    server_epochs: int = 2
    batch: int = 128
    learning_rate: float = 0.02
    weight_decay: float = 5e-4
    temperature: float = 3.0
    alpha: float = 1.0
    way_back: bool = True
    balanced: bool = False
    depth: int = 20
    maps: str = "float16"
    bfloat16: bool = False
    shift: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rounds, self.edge_epochs, self.server_epochs) < 1 or self.batch < 2:
            raise InputError(
                "rounds and epochs are at least 1 and a batch at least 2, got "
                f"{self.rounds} rounds, {self.edge_epochs} and {self.server_epochs} epochs, "
                f"a batch of {self.batch}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"the learning rate is a number above 0, such as 0.02; got {self.learning_rate}"
            )
        if self.maps not in KINDS:
            raise InputError(f"feature maps travel as {', '.join(KINDS)}, not as {self.maps!r}")
        if not self.temperature > 0 or not self.alpha >= 0:
            raise InputError(
                f"the temperature is above 0 and alpha at least 0, got {self.temperature} and "
                f"{self.alpha}"
            )

    def leaning(self, labels: np.ndarray, classes: int) -> Tensor | None:
        """What a network that learns from these labels of an edge leans to, and is not to show.

        Returns
        -------
        The logarithm of each class's share, shape (classes,), float32, where a class that is not
        there counts as one image; None where the recipe does not balance.
        """
        if not self.balanced:
            return None
        counts = np.maximum(np.bincount(labels, minlength=classes), 1)
        return torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        other: Tensor | None,
        leaning: Tensor | None = None,
    ) -> Tensor:
        """Cross entropy, and the distance from the other side's logits where there are any.

        leaning : shape (classes,) or (n, classes), see `leaning`; added to the logits that the
            labels are compared with, so that the network need not learn it
        """
        own = logits if leaning is None else logits + leaning
        value = nn.functional.cross_entropy(own, labels)
        if other is not None and self.alpha:
            value = value + self.alpha * distillation(logits, other, self.temperature)
        return value

    def rate(self, done: float) -> float:
        """Learning rate when the share `done` of all rounds is over, in 0..1."""
        if done < 0.1:
            return self.learning_rate * max(done, 0.01) / 0.1
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


class Learner:
    """A network, its optimiser and its checkpoint.

    Parameters
    ----------
    made : what, beside the recipe, a run that goes on must have in common with the one before
    device : that it trains on, as torch names it
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: GroupRecipe,
        checkpoint: Path | None,
        made: Mapping[str, Any],
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.checkpoint = checkpoint
        if self.device.type == "cuda":
            torch.backends.cudnn.deterministic = True
        self._made = {"recipe": asdict(recipe), "device": self.device.type, **made}
        groups: list[dict[str, Any]] = [
            {
                "params": [p for p in network.parameters() if p.ndim > 1],
                "weight_decay": recipe.weight_decay,
            },
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True
        )

    def autocast(self) -> ContextManager[None]:
        """What the network computes within this is in the recipe's precision."""
        if self.recipe.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def step(
        self,
        inputs: Tensor,
        labels: Tensor,
        other: Tensor | None,
        done: float,
        leaning: Tensor | None = None,
    ) -> float:
        """One step of SGD; returns its loss.

        Raises
        ------
        InputError
            when the loss is no number.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(done)
        inputs, labels = inputs.to(self.device), labels.to(self.device)
        other = None if other is None else other.to(self.device)
        leaning = None if leaning is None else leaning.to(self.device)
        if self.recipe.bfloat16 and inputs.is_floating_point():
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            logits = self.network(inputs)
        value = self.recipe.loss(logits.float(), labels, other, leaning)
        lost = value.item()
        if not math.isfinite(lost):
            raise InputError(
                "the loss is no number any more, so nothing can be learnt; take a lower learning "
                f"rate than {self.recipe.learning_rate:g}, and delete the checkpoints"
            )
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return lost

    def save(self, about: dict[str, Any]) -> None:
        """Write weights, optimiser and `about`, whole or not at all."""
        if self.checkpoint is None:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        with written_aside(self.checkpoint) as aside:
            torch.save({**state, "made": self._made, "about": about}, aside)

    def load(self) -> dict[str, Any] | None:
        """Go on from the checkpoint: what `save` was told, or None where there is none.

        Raises
        ------
        InputError
            when it was made with another recipe, or of other images or classes.
        """
        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        saved = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        noted = {"device": "cpu", **saved.get("made", {})}  # not noted before it was a choice
        for key, wanted in self._made.items():
            found = noted.get(key)
            if found != wanted:
                raise InputError(
                    f"checkpoint {self.checkpoint} was made with {key} {found}, not with "
                    f"{wanted}; delete it to start again, or learn as it did"
                )
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        about: dict[str, Any] = saved["about"]
        return about
