"""A store of identities whose one network takes an image's mean colour for its embedding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Tuple

import numpy as np
from onnx_files import colour_network

from adaptive.serving.identities import Identities
from adaptive.video.embedding import open_embedders
from adaptive.video.identity import IdentityStore


def colour_networks(folder: Path) -> Path:
    """The list of that network."""
    colour_network(folder / "colour.onnx", np.eye(3, dtype=np.float32), 8)
    spec = {"dtype": "uint8", "layout": "NHWC", "size": 8, "resize": "stretch"}
    entry = {"name": "colour", "file": "colour.onnx", "input": spec}
    path = folder / "networks.json"
    path.write_text(json.dumps({"format": 1, "networks": [entry]}))
    return path


def one_person(image: np.ndarray) -> List[Tuple[np.ndarray, Tuple[int, int, int, int]]]:
    """One person fills an image, and a black one shows nobody."""
    height, width = image.shape[:2]
    return [(image, (0, 0, width, height))] if image.any() else []


def colour_identities(folder: Path) -> Identities:
    """An empty store in a folder, open."""
    embedders = open_embedders(colour_networks(folder))
    store = IdentityStore([e.network for e in embedders], {"colour": 0.1})
    store.save(folder / "people.npz")
    return Identities(folder / "people.npz", embedders, one_person)
