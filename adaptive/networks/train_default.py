"""Train the networks of the embedded default, and export them to ONNX.

    python -m adaptive.networks.train_default DATA/cifar10 -o OUT --work CHECKPOINTS

DATA/cifar10 holds `train/CLASS/*.jpg` and, optionally, `test/CLASS/*.jpg`; any folder-per-class
data set of the same shape will do, and --download fetches CIFAR-10 through torchvision.
`held_out.csv` in OUT lists the training images that no network has seen.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import torch

from adaptive.csvlines import write_lines
from adaptive.errors import AdaptiveError
from adaptive.networks.cifar import fetch_cifar10
from adaptive.networks.export import export_network
from adaptive.networks.images import hold_out, read_folder
from adaptive.networks.small import DESIGNS
from adaptive.networks.training import TrainingRecipe, accuracy, train


@click.command()
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--download", is_flag=True, help="Fetch CIFAR-10 by torchvision into DATA first.")
@click.option("--work", type=click.Path(path_type=Path), help="Where checkpoints are kept.")
@click.option("--design", "designs", multiple=True, type=click.Choice(list(DESIGNS)))
@click.option("--epochs", default=40, show_default=True)
@click.option("--held-out", default=10_000, show_default=True, help="Images kept from training.")
@click.option("--seed", default=0, show_default=True)
@click.option("--size", default=32, show_default=True, help="Side of the square images, pixels.")
@click.option("--threads", default=0, help="Torch threads; 0 leaves torch's own choice.")
def main(
    data: Path,
    output: Path,
    download: bool,
    work: Path | None,
    designs: tuple[str, ...],
    epochs: int,
    held_out: int,
    seed: int,
    size: int,
    threads: int,
) -> None:
    """Train the small MobileNet, Inception and ResNet on DATA and write them to OUTPUT."""
    if threads:
        torch.set_num_threads(threads)
    if download:
        fetch_cifar10(data)
    work = work or Path(tempfile.gettempdir()) / "adaptive-checkpoints"
    everything = read_folder(data / "train", size)
    kept, held = hold_out(everything.labels, held_out, seed)
    test = read_folder(data / "test", size) if (data / "test").is_dir() else None
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "held_out.csv", "w", newline="") as file:
        rows = [(everything.names[row], int(everything.labels[row])) for row in held]
        write_lines(file, [("image", "label"), *rows])
    (output / "labels.txt").write_text("\n".join(everything.classes) + "\n")
    for name in designs or tuple(DESIGNS):
        # Depthwise convolutions have no fast bfloat16 kernel on a CPU.
        recipe = TrainingRecipe(epochs=epochs, seed=seed, bfloat16=name != "mobilenet")
        torch.manual_seed(seed)
        network = DESIGNS[name](len(everything.classes))
        trained = train(network, everything.subset(kept), recipe, work / f"{name}-{seed}.pt", test)
        path = export_network(trained, output / f"{name}.onnx", size)
        if test is not None:
            print(f"{name}: top-1 {100 * accuracy(trained, test)[0]:.2f} %, {path}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except AdaptiveError as error:
        sys.exit(f"train_default: {error}")
