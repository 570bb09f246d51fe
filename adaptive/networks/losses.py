"""Losses of a network with several exits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor, nn

from adaptive.errors import InputError


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean focal loss, -(1 - p)^gamma log p with p the probability of the label.

    The surer an answer is already, the less it counts, so that only easy images come to a high
    confidence. With gamma 0 it is cross entropy. (Lin et al. 2017, equation 4.)

    logits : shape (n, classes)
    labels : shape (n,), int64
    """
    log_p = nn.functional.log_softmax(logits.float(), dim=1)
    log_p = log_p.gather(1, labels.view(-1, 1)).squeeze(1)
    if gamma == 0:
        return -log_p.mean()
    # 1 - p from the log, exact where p is close to one; the floor keeps the gradient of the
    # power finite there
    missing = (-torch.expm1(log_p)).clamp_min(1e-8)
    return -(missing.pow(gamma) * log_p).mean()


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far softened answers are from the teacher's: T^2 times the mean cross entropy.

    No gradient reaches the teacher. (Hinton et al. 2015, section 2.)
    """
    target = (teacher.detach().float() / temperature).softmax(dim=1)
    value: Tensor = nn.functional.cross_entropy(logits.float() / temperature, target)
    return value * temperature**2


@dataclass(frozen=True)
class ExitLoss:
    """Weighted sum of the losses of all exits.

    Attributes
    ----------
    weights : one for each exit, or empty for 1 each
    gamma : of the focal loss; 0 is cross entropy
    distil : share of an exit's loss that is its distance from the last exit, in 0..1; the last
        exit itself learns from the labels alone
    temperature : softens the answers that are compared in distillation
    teach : share of every exit's loss that is its distance from another network's answers, in
        0..1; what is left of 1 is divided between labels and last exit as before
    """

    weights: tuple[float, ...] = ()
    gamma: float = 0.0
    distil: float = 0.0
    temperature: float = 3.0
    teach: float = 0.0

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise InputError(f"gamma of the focal loss must be >= 0, got {self.gamma}")
        if not 0 <= self.distil <= 1:
            raise InputError(f"the share of distillation must lie in 0..1, got {self.distil}")
        if not 0 <= self.teach <= 1:
            raise InputError(f"the teacher's share must lie in 0..1, got {self.teach}")
        if self.temperature <= 0:
            raise InputError(f"the temperature must be > 0, got {self.temperature}")
        if any(w < 0 for w in self.weights) or (self.weights and not any(self.weights)):
            raise InputError(
                f"weights of exits must be >= 0 and not all zero, got {list(self.weights)}"
            )

    def __call__(
        self,
        outputs: Tensor | Sequence[Tensor],
        labels: Tensor,
        teacher: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        outputs : logits of all exits, each of shape (n, classes); or one exit's
        labels : shape (n,), int64
        teacher : another network's logits for the same images, shape (n, classes); needed where
            `teach` is not 0
        """
        exits = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        weights = self.weights or (1.0,) * len(exits)
        if len(weights) != len(exits):
            raise InputError(
                f"{len(weights)} weights were given for {len(exits)} exits; give one for each"
            )
        if self.teach and teacher is None:
            raise InputError(f"a teacher's share of {self.teach} needs the teacher's answers")
        total = torch.zeros((), device=labels.device)
        for position, (weight, logits) in enumerate(zip(weights, exits)):
            value = focal(logits, labels, self.gamma)
            if self.distil and position + 1 < len(exits):
                near = distillation(logits, exits[-1], self.temperature)
                value = (1 - self.distil) * value + self.distil * near
            if teacher is not None and self.teach:
                near = distillation(logits, teacher, self.temperature)
                value = (1 - self.teach) * value + self.teach * near
            total = total + weight * value
        return total
