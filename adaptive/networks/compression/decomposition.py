"""Which layers of a network to decompose, and at which ranks, within a loss or at a given share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

import numpy as np
from onnx import ModelProto
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.networks.compression.layer_times import LayerTimes
from adaptive.networks.compression.layers import Layer, Ranks, decomposed, layers_of
from adaptive.networks.compression.repair import Repair
from adaptive.networks.compression.tucker import check_share

#: Shares of the variance that a search may settle on, from the largest to the smallest.
SHARES = tuple(round(0.98 - 0.02 * step, 2) for step in range(35))


@dataclass(frozen=True)
class Decomposition:
    """A network with some layers decomposed.

    Attributes
    ----------
    share : of the variance of each layer's weights that was asked to be kept
    ranks : of the decomposed layers, by the tensors that they make
    slower : how many layers would have had fewer products but were no faster here
    """

    model: ModelProto
    share: float
    ranks: Mapping[str, Ranks]
    slower: int


class Decomposer:
    """Decomposes one network at various shares of variance.

    Parameters
    ----------
    model : the network, in 32 bits
    images : unlabelled inputs that repair what is lost; none leave it as it is
    times : measures layers, of this machine
    """

    def __init__(
        self,
        model: ModelProto,
        images: Sequence[np.ndarray] = (),
        threads: int = 1,
        seed: int = 0,
        times: LayerTimes | None = None,
        name: str = "the network",
    ) -> None:
        self._model = model
        self._name = name
        self.layers: list[Layer] = layers_of(model, name)
        self._times = times or LayerTimes(threads=threads)
        self._images = images
        self._threads = threads
        self._seed = seed
        self._repair: Repair | None = None

    def at(self, share: float) -> Decomposition:
        """Keep this share of the variance of every layer that is faster for it.

        Raises
        ------
        InputError
            when the share is not above 0 and at most 1, or no layer is faster decomposed.
        """
        check_share(share)
        ranks: dict[str, Ranks] = {}
        slower = 0
        for layer in tqdm(self.layers, desc="layers", unit="layer", leave=False):
            wanted = layer.ranks(share)
            if layer.products(wanted) >= layer.products():
                continue
            own, smaller = self._times.ms(layer, wanted)
            if smaller < own:
                ranks[layer.name] = wanted
            else:
                slower += 1
        if not ranks:
            raise InputError(
                f"no layer of {self._name} is worth decomposing at a share of {share}: of "
                f"{len(self.layers)} layers with more than 8 channels {slower} would have fewer "
                "multiply-adds, and none is faster here; keep a smaller share"
            )
        model, parts = decomposed(self._model, self.layers, ranks)
        if len(self._images):
            if self._repair is None:
                self._repair = Repair(
                    self._model, self.layers, self._images, self._threads, self._seed
                )
            self._repair.mend(model, parts)
        return Decomposition(model, share, ranks, slower)

    def smallest(
        self,
        loss: Callable[[Decomposition], float],
        limit: float,
        shares: Sequence[float] = SHARES,
        say: Callable[[str], None] = lambda line: None,
    ) -> Decomposition:
        """The smallest share whose loss is within a limit, found by halves.

        Taken for granted is that a smaller share loses no less; where it does not, a share
        within the limit is found, and perhaps not the smallest.

        Parameters
        ----------
        loss : of top-1, as a share
        shares : from the largest to the smallest

        Raises
        ------
        InputError
            when the limit is below 0, or no share is within it and faster.
        """
        if not limit >= 0:
            raise InputError(f"a loss of {limit} cannot be kept to; give 0 or more, such as 0.01")
        low, high = 0, len(shares) - 1
        found: Decomposition | None = None
        why, measured = "", False
        while low <= high:
            middle = (low + high) // 2
            try:
                made = self.at(shares[middle])
            except InputError as error:
                # so much is kept that nothing gets faster
                why, low = str(error), middle + 1
                continue
            lost = loss(made)
            say(f"share {shares[middle]}: {100 * lost:+.2f} points lost")
            measured = True
            if lost <= limit + 1e-9:
                found, low = made, middle + 1
            else:
                high = middle - 1
        if found is None:
            raise InputError(
                f"{self._name} loses more than {limit} of top-1 at every share at which a layer is "
                "faster here; allow a larger loss"
                if measured
                else why
            )
        return found
