"""Repair of a decomposed network without labels: layer after layer, by least squares.

Each layer's last factor and bias are fitted so that, on a few hundred images, the layer gives what
it gave in the original network, from what the layers before it, decomposed and repaired already,
now hand it. Errors of the layers before are so made good as far as a linear map can.
"""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, numpy_helper
from tqdm import tqdm

from adaptive.networks.compression.layers import FactoredLayer, Layer
from adaptive.networks.compression.staged import StagedRun

#: Positions of a layer's output that are fitted on, of each image.
POSITIONS = 24

#: How strongly the fit is held to the factors that the decomposition gave, for as many equations
#: as unknowns.
RIDGE = 0.05


class Repair:
    """Knows what a network's layers give on some images, and fits decomposed ones to it.

    Parameters
    ----------
    model : the original network
    layers : those that may be decomposed
    images : inputs, one array (1, ...) an image; no labels are needed
    seed : of the positions that are looked at
    """

    def __init__(
        self,
        model: ModelProto,
        layers: Sequence[Layer],
        images: Sequence[np.ndarray],
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        self._images = images
        self._threads = threads
        self._places = {}
        for number, layer in enumerate(layers):
            count = int(np.prod(layer.made[2:]))
            generator = np.random.default_rng((seed, number))
            chosen = generator.permutation(count)[:POSITIONS]
            self._places[layer.name] = np.sort(chosen)
        self._layers = {layer.name: layer for layer in layers}
        run = StagedRun(model, images, threads)
        self._wanted = {
            layer.name: run.value(layer.name, self._sampler(layer.name))
            for layer in tqdm(layers, desc="outputs", unit="layer", leave=False)
        }

    def mend(self, model: ModelProto, parts: Mapping[str, FactoredLayer]) -> None:
        """Fit the last factors of the decomposed layers, in the network's order, in place."""
        tensors = {i.name: i for i in model.graph.initializer}
        run = StagedRun(model, self._images, self._threads)
        names = [name for name in self._layers if name in parts]
        for name in tqdm(names, desc="repair", unit="layer", leave=False):
            part = parts[name]
            given = run.value(part.middle, self._sampler(name))
            weight = numpy_helper.to_array(tensors[part.last])
            bias = numpy_helper.to_array(tensors[part.bias])
            fitted, offset = fit(
                given,
                self._wanted[name],
                weight.reshape(weight.shape[:2]),
                bias,
                self._layers[name].groups,
            )
            for key, values in (
                (part.last, fitted.reshape(weight.shape)),
                (part.bias, offset),
            ):
                tensors[key].CopyFrom(numpy_helper.from_array(values.astype(np.float32), key))

    def _sampler(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
        """Takes the chosen positions of a layer's output as rows, float64."""
        places = self._places[name]

        def sampled(values: np.ndarray) -> np.ndarray:
            flat = values.reshape(*values.shape[:2], -1)[:, :, places]
            return flat.transpose(0, 2, 1).reshape(-1, values.shape[1]).astype(np.float64)

        return sampled


def fit(
    given: np.ndarray, wanted: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The linear map that comes nearest to `wanted`, held to the one that there is.

    Parameters
    ----------
    given : shape (rows, inputs)
    wanted : shape (rows, outputs)
    weight : shape (outputs, inputs / groups)
    bias : shape (outputs,)

    Returns
    -------
    weight and bias of the same shapes
    """
    fitted, offset = [], []
    parts = (np.split(given, groups, 1), np.split(wanted, groups, 1))
    for x, y, w in zip(*parts, np.split(weight.astype(np.float64), groups)):
        mean, goal = x.mean(axis=0), y.mean(axis=0)
        centred = x - mean
        left = (y - goal) - centred @ w.T
        gram = centred.T @ centred
        hold = RIDGE * x.shape[1] / len(x) * float(np.trace(gram)) / x.shape[1] + 1e-12
        change = np.linalg.solve(gram + hold * np.eye(x.shape[1]), centred.T @ left)
        better = w + change.T
        fitted.append(better)
        offset.append(goal - better @ mean)
    return np.concatenate(fitted), np.concatenate(offset)
