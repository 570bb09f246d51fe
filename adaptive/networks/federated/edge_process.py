"""`python -m adaptive.networks.federated.edge_process`: one edge as a process of its own.

It knows a server's address, its own images and its checkpoint, and nothing of the other edges.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import numpy as np

from adaptive.errors import AdaptiveError
from adaptive.networks.federated.edge import Edge
from adaptive.networks.federated.over_http import GroupClient
from adaptive.networks.images import ImageArrays

#: Where the key is read from, so that no list of processes shows it.
KEY_VARIABLE = "ADAPTIVE_GROUP_KEY"


@click.command()
@click.argument("images", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--server", required=True)
@click.option("--name", required=True)
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True)
@click.option("--patience", default=600.0)
@click.option("--threads", default=0)
@click.option("--device", default="cpu")
def main(
    images: Path,
    server: str,
    name: str,
    checkpoint: Path,
    patience: float,
    threads: int,
    device: str,
) -> None:
    """Take part with IMAGES, an .npz of images, labels and classes."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    with np.load(images, allow_pickle=False) as file:
        classes = [str(name) for name in file["classes"]]
        data = ImageArrays([], file["images"], file["labels"], classes)
    try:
        client = GroupClient(server, os.environ.get(KEY_VARIABLE), patience)
        edge = Edge(name, data, client.recipe(), checkpoint, device)
        client.take_part(edge, classes, say=lambda line: print(line, flush=True))
    except AdaptiveError as exc:
        sys.exit(f"edge {name}: {exc}")


if __name__ == "__main__":
    main()
