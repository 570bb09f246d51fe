"""The steps of a training on a GPU as one CUDA graph.

A step of a small network is hundreds of short kernels, and starting them one by one from Python
takes longer than they run. Captured once, forward, loss, backward, optimiser and moving average
are started together. Images are moved and mirrored on the GPU, an epoch at a time.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import Callable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm


class NotCaptured(Exception):
    """A step that cannot become a graph, and torch's reason."""


class CapturedSteps:
    """Runs epochs on a GPU, a whole step as one graph.

    Parameters
    ----------
    network, averaged : both on the GPU; `averaged` follows `network` after every step
    optimiser : fused SGD whose learning rates are one tensor on the GPU, shape ()
    forward : from the images of a batch, and its labels and what else is learnt from, to the loss
    rates, weights : for every step of the training, the learning rate and how far the average
        follows, on the GPU
    batch : images a step
    steps : of an epoch
    done : steps that are behind the network
    """

    def __init__(
        self,
        network: nn.Module,
        averaged: torch.optim.swa_utils.AveragedModel,
        optimiser: torch.optim.Optimizer,
        forward: Callable[..., Tensor],
        rates: Tensor,
        weights: Tensor,
        batch: int,
        steps: int,
        done: int,
    ) -> None:
        device = rates.device
        self._averaged, self._optimiser = averaged, optimiser
        self._forward = forward
        self._rates, self._weights = rates, weights
        self._batch, self._steps = batch, steps
        self._done = torch.full((1,), done, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._lost = torch.zeros((), device=device)
        self._held: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        pairs = list(
            zip(
                chain(averaged.module.parameters(), averaged.module.buffers()),
                chain(network.parameters(), network.buffers()),
            )
        )
        self._means = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def epoch(self, images: Tensor, *goals: Tensor, title: str) -> float:
        """Train on the images in their order; the mean loss of a step.

        images : as `forward` takes them, shape (n, ...), on the GPU, n >= steps x batch
        goals : labels and what else is learnt from, in the same order

        Raises
        ------
        NotCaptured
            before anything is trained.
        """
        rows = self._steps * self._batch
        whole = [
            one[:rows].view(self._steps, self._batch, *one.shape[1:]) for one in (images, *goals)
        ]
        if not self._held:
            self._held = [torch.empty_like(one) for one in whole]
        for held, one in zip(self._held, whole):
            held.copy_(one)
        if self._graph is None:
            self._graph = self._capture()
        self._at.zero_()
        self._lost.zero_()
        for _ in tqdm(range(self._steps), desc=title, leave=False):
            self._graph.replay()
        self._averaged.n_averaged.fill_(int(self._done))
        return float(self._lost) / self._steps

    def _step(self) -> None:
        """One step; everything that changes from step to step is in tensors."""
        for group in self._optimiser.param_groups:
            group["lr"].copy_(self._rates.index_select(0, self._done).squeeze(0))
        batch = [one.index_select(0, self._at).squeeze(0) for one in self._held]
        value = self._forward(*batch)
        self._optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        with torch.no_grad():
            self._follow()
            self._lost += value.detach()
            self._at += 1
            self._done += 1

    def _follow(self) -> None:
        """Move the average towards the network."""
        weight = self._weights.index_select(0, self._done).squeeze(0)
        means, values = [list(part) for part in zip(*self._means)]
        torch._foreach_mul_(means, 1 - weight)
        torch._foreach_add_(means, torch._foreach_mul(values, weight))
        for mean, value in self._copied:
            mean.copy_(value)

    def _capture(self) -> torch.cuda.CUDAGraph:
        """The graph of a step; network, average and optimiser are left as they were."""
        with self._unchanged():
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                first = self._done.clone()
                for _ in range(3):  # what is built at first use is not to be captured
                    self._step()
                    self._at.zero_()  # an epoch may have one step
                    self._done.copy_(first)
            torch.cuda.current_stream().wait_stream(aside)
        self._optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as exc:
            self._optimiser.zero_grad(set_to_none=True)
            raise NotCaptured(str(exc).splitlines()[0]) from exc
        return graph

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Put weights, counts, rates, momentum and chance back, into the same memory."""
        momentum = self._momentum()
        parts = [one for pair in (*self._means, *self._copied) for one in pair]
        parts += [self._done, self._at, self._lost]
        parts += [group["lr"] for group in self._optimiser.param_groups]
        random = torch.cuda.get_rng_state(self._done.device)
        before = [one.detach().clone() for one in parts]
        moved = {key: one.clone() for key, one in momentum.items()}
        yield
        torch.cuda.set_rng_state(random, self._done.device)
        with torch.no_grad():
            for one, value in zip(parts, before):
                one.copy_(value)
            for key, one in self._momentum().items():
                if key in moved:
                    one.copy_(moved[key])
                else:
                    one.zero_()

    def _momentum(self) -> dict[Tensor, Tensor]:
        state = self._optimiser.state
        found = {key: state[key].get("momentum_buffer") for key in state}
        return {key: one for key, one in found.items() if one is not None}
