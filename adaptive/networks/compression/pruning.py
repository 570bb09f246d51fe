"""Pruning filters until accuracy says stop: algorithm 2 of Huynh 2019, on groups of layers.

One iteration: learn which filters are masked (or judge them otherwise), let every training image
vote, take out what nearly all of them mask, fine-tune the smaller dense network, and keep it when
its accuracy on images that nobody trained on is within the limit. It ends when nothing is voted
out or the limit is broken. Printed there, the filters that go are those masked with a
probability of *at most* T; text and example say above T, and so does this.

A runtime computes channels in blocks of eight, so filters leave in eights: what a group is voted
to lose is saved up over iterations until eight can go.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from onnx import ModelProto

from adaptive.candidate import Candidate
from adaptive.errors import InputError
from adaptive.files import written_aside
from adaptive.networks.compression.filters import FilterGroup, groups_of, take_out
from adaptive.networks.compression.finetuning import with_normalisation
from adaptive.networks.compression.importance import (
    IMPORTANCES,
    by_chance,
    by_loss,
    by_weights,
    least_first,
)
from adaptive.networks.compression.masks import (
    lay_masks,
    lift_masks,
    masked_shares,
    only_blocks_learn,
)
from adaptive.networks.compression.torch_network import Classifier, OnnxNetwork
from adaptive.networks.images import ImageArrays
from adaptive.networks.training import TrainingRecipe, accuracy, train

#: Filters leave in so many.
BLOCK = 8


@dataclass(frozen=True)
class PruneRecipe:
    """How filters are pruned.

    Parameters
    ----------
    importance : one of `importance.IMPORTANCES`
    share : of a group's filters that are masked, or taken as worth least, in one iteration
    vote : a filter goes when more than this share of the training images mask it
    max_loss : largest loss of top-1 (a share) on the images of the search
    iterations : at most
    mask_epochs : that the masking blocks learn alone, and then with everything else
    tune : how the smaller network is fine-tuned
    seed : of masks, coin and order
    """

    importance: str = "l1"
    share: float = 0.2
    vote: float = 0.95
    max_loss: float = 0.01
    iterations: int = 20
    mask_epochs: tuple[int, int] = (2, 3)
    tune: TrainingRecipe = field(
        default_factory=lambda: TrainingRecipe(epochs=5, batch=128, learning_rate=0.02)
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.importance not in IMPORTANCES:
            raise InputError(f"importance {self.importance!r} is not one of {list(IMPORTANCES)}")
        for name, value in (("share", self.share), ("vote", self.vote)):
            if not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {value}")
        if not self.max_loss >= 0:
            raise InputError(f"a loss of {self.max_loss} cannot be kept to; give 0 or more")
        if self.iterations < 1 or min(self.mask_epochs) < 0 or sum(self.mask_epochs) < 1:
            raise InputError(f"iterations and epochs of masks start at 1, got {self}")


@dataclass(frozen=True)
class Iteration:
    """What one iteration came to.

    Attributes
    ----------
    widths : filters of each group after it, by the tensor that its first convolution makes
    voted : how many filters were voted out of all groups together
    top1 : on the images of the search, after fine-tuning; None where none could go yet
    kept : whether that was within the limit
    """

    widths: Mapping[str, int]
    voted: int
    top1: float | None
    kept: bool


@dataclass(frozen=True)
class Pruned:
    """A pruned network in torch, with how it came about."""

    network: OnnxNetwork
    own_top1: float
    iterations: tuple[Iteration, ...]

    @property
    def widths(self) -> dict[str, int]:
        """Filters of every convolution by the tensor that it makes."""
        names = self.network.names
        return {names[k]: c.out_channels for k, c in self.network.convolutions().items()}


class Pruner:
    """Prunes one candidate.

    Parameters
    ----------
    model : its network
    data : images that it is trained on
    search : images that judge each iteration
    folder : for what a stopped run goes on from
    say : gets a line for each iteration
    device : that networks are trained on, as torch names it
    """

    def __init__(
        self,
        model: ModelProto,
        candidate: Candidate,
        data: ImageArrays,
        search: ImageArrays,
        recipe: PruneRecipe,
        folder: Path,
        say: Callable[[str], None] = print,
        device: str = "cpu",
    ) -> None:
        self._device = device
        self._model = model
        self._candidate = candidate
        self._data = data
        self._search = search
        self._recipe = recipe
        self._folder = folder
        self._say = say

    def prune(self) -> Pruned:
        """Algorithm 2, from where a stopped run ended.

        Raises
        ------
        InputError
            when the network cannot be trained, has no filters that may go, or the folder holds
            another run's.
        """
        recipe = self._recipe
        torch.manual_seed(recipe.seed)
        classifier = self._prepared()
        network = classifier.own_network()
        example = self._example(classifier)
        if not any(group.width > BLOCK for group in groups_of(network, example)):
            raise InputError(
                f"{self._candidate.name} has no convolution with more than {BLOCK} filters that "
                "may go"
            )
        own = self._top1(classifier)
        state = _State.load(self._folder / "pruning.pt", self._made())
        if state is None:
            state = _State(classifier.state_dict(), {}, {}, (), False)
        best = network
        while not state.over and len(state.iterations) < recipe.iterations:
            number = len(state.iterations) + 1
            network = self._restored(state, example)
            state, network = self._iterate(number, network, state, example, own)
            state.save(self._folder / "pruning.pt", self._made())
            self._report(number, state.iterations[-1], own)
        best = self._restored(state, example)
        return Pruned(best.cpu().eval(), own, state.iterations)

    def to_widths(self, widths: Mapping[str, int], tune: TrainingRecipe) -> Pruned:
        """Prune at once to given numbers of filters, those worth least first, and fine-tune.

        widths : by the tensor that a group's first convolution makes
        """
        classifier = self._prepared()
        network = classifier.own_network()
        example = self._example(classifier)
        own = self._top1(classifier)
        groups = groups_of(network, example)
        worth = self._worth(classifier, groups, 0)
        network = classifier.own_network()  # which masks have trained on
        leaving = {}
        for group in groups:
            left = widths.get(network.names[group.name], group.width)
            if not 1 <= left <= group.width:
                raise InputError(
                    f"{network.names[group.name]!r} has {group.width} filters, not {left}"
                )
            leaving[group.name] = least_first(worth, group.name)[: group.width - left]
        take_out(network, example, leaving)
        trained = self._train(classifier, tune, self._recipe.importance)
        top1 = self._top1(trained)
        made = {network.names[g.name]: g.width - len(leaving[g.name]) for g in groups}
        iteration = Iteration(made, sum(map(len, leaving.values())), top1, True)
        return Pruned(trained.own_network().eval(), own, (iteration,))

    def _train(self, classifier: Classifier, recipe: TrainingRecipe, name: str) -> Classifier:
        """Train on all images, from NAME.checkpoint where there is one."""
        checkpoint = self._folder / f"{name}.checkpoint"
        trained = train(classifier, self._data, recipe, checkpoint, device=self._device)
        assert isinstance(trained, Classifier)
        return trained.cpu()

    def _top1(self, classifier: Classifier) -> float:
        """Of the images of the search."""
        found = accuracy(classifier.to(self._device), self._search, self._device)[0]
        classifier.cpu()
        return found

    def _prepared(self) -> Classifier:
        return with_normalisation(self._model, self._candidate, self._data, self._device)

    def _example(self, classifier: Classifier) -> torch.Tensor:
        return classifier.inputs(torch.from_numpy(self._data.images[:1])).contiguous()

    def _restored(self, state: _State, example: torch.Tensor) -> OnnxNetwork:
        """The network as an iteration left it."""
        classifier = self._prepared()
        network = classifier.own_network()
        have = network.convolutions()
        leaving = {k: range(have[k].out_channels - left) for k, left in state.widths.items()}
        take_out(network, example, leaving)
        classifier.load_state_dict(state.weights)
        return network

    def _iterate(
        self,
        number: int,
        network: OnnxNetwork,
        state: _State,
        example: torch.Tensor,
        own: float,
    ) -> tuple[_State, OnnxNetwork]:
        recipe = self._recipe
        classifier = Classifier(network, self._candidate)
        groups = groups_of(network, example)
        worth = self._worth(classifier, groups, number)
        network = classifier.own_network()
        saved, leaving, voted = dict(state.saved), {}, 0
        for group in groups:
            if recipe.importance == "mask":
                out = int((-worth[group.name] > recipe.vote).sum())
            else:
                out = max(1, round(recipe.share * group.width))
            voted += out
            due = saved.get(group.name, 0) + out
            going = leaving_now(group.width, due)
            saved[group.name] = due - going
            leaving[group.name] = least_first(worth, group.name)[:going]
        widths = {g.name: g.width - len(leaving[g.name]) for g in groups}
        named = {network.names[key]: width for key, width in widths.items()}
        done = state.iterations
        if not voted or all(g.width <= BLOCK for g in groups):
            return replace(
                state, iterations=(*done, Iteration(named, 0, None, False)), over=True
            ), network
        if not any(leaving.values()):
            after = Iteration(named, voted, None, True)
            trained = classifier.state_dict()
            return _State(trained, state.widths, saved, (*done, after), False), network
        take_out(network, example, leaving)
        seeded = replace(recipe.tune, seed=recipe.seed + number)
        tuned = self._train(classifier, seeded, f"tune-{number}")
        top1 = self._top1(tuned)
        kept = own - top1 <= recipe.max_loss + 1e-9
        after = Iteration(named, voted, top1, kept)
        if not kept:
            return replace(state, iterations=(*done, after), over=True), network
        return _State(tuned.state_dict(), widths, saved, (*done, after), False), network

    def _worth(
        self, classifier: Classifier, groups: Sequence[FilterGroup], number: int
    ) -> dict[str, np.ndarray]:
        """What the filters are worth; with masks the network learns along with them."""
        network = classifier.own_network()
        recipe = self._recipe
        if recipe.importance == "l1":
            return by_weights(network, groups)
        if recipe.importance == "taylor":
            return by_loss(classifier, groups, self._data)
        if recipe.importance == "random":
            return by_chance(groups, recipe.seed + number)
        torch.manual_seed(recipe.seed + number)
        lay_masks(network, groups, recipe.share)
        masked = classifier
        for alone, epochs in zip((True, False), recipe.mask_epochs):
            if epochs:
                only_blocks_learn(masked, alone)
                seeded = replace(recipe.tune, epochs=epochs, seed=recipe.seed + number)
                masked = self._train(
                    masked, seeded, f"mask-{number}-{'blocks' if alone else 'all'}"
                )
        only_blocks_learn(masked, False)
        shares = masked_shares(masked.to(self._device), self._data.images)
        lift_masks(masked.cpu().own_network())
        classifier.network = masked.network
        return {name: -share for name, share in shares.items()}

    def _report(self, number: int, after: Iteration, own: float) -> None:
        line = f"{self._candidate.name}, iteration {number}: {after.voted} filters voted out"
        if after.top1 is not None:
            lost = 100 * (own - after.top1)
            line += f", {lost:+.2f} points lost after fine-tuning, "
            line += "kept" if after.kept else "over the limit: the one before stays"
        self._say(line)

    def _made(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one before."""
        recipe = asdict(self._recipe)
        recipe.pop("iterations")
        images = self._data.digest()
        return {"recipe": recipe, "network": self._candidate.sha256, "images": images}


@dataclass(frozen=True)
class _State:
    """Where a run stands.

    Attributes
    ----------
    weights : of the network that was kept last
    widths : filters of its groups by key; empty for those of the original
    saved : filters voted out of a group that could not leave yet
    """

    weights: dict[str, Any]
    widths: dict[str, int]
    saved: dict[str, int]
    iterations: tuple[Iteration, ...]
    over: bool

    def save(self, path: Path, made: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            torch.save({"made": copy.deepcopy(dict(made)), "state": asdict(self)}, aside)

    @classmethod
    def load(cls, path: Path, made: Mapping[str, Any]) -> _State | None:
        if not path.exists():
            return None
        saved = torch.load(path, weights_only=True, map_location="cpu")
        for key, wanted in made.items():
            if saved["made"].get(key) != wanted:
                raise InputError(
                    f"{path} was made with {key} {saved['made'].get(key)}, not with {wanted}; "
                    "delete it to start again, or prune as it was"
                )
        state = saved["state"]
        state["iterations"] = tuple(Iteration(**one) for one in state["iterations"])
        return cls(**state)


def leaving_now(width: int, due: int) -> int:
    """How many of `width` filters leave when `due` are voted out: what stays is a multiple of 8."""
    stay = max(BLOCK, -(-(width - due) // BLOCK) * BLOCK)
    return max(0, width - stay)
