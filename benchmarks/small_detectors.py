"""Train three small detectors on composed scenes and compare AP by epoch.

    python benchmarks/small_detectors.py DATA/cifar10 DATA/imagenet/images -o CANDIDATES --work WORK

Objects are the photographs of a folder-per-class data set (`train/CLASS/IMAGE` to learn from,
`test/CLASS/IMAGE` for the scenes that report), backgrounds those of a folder: the first half by
name to learn on, the second to report. All three share one backbone, which first learns to
classify the objects. A stopped run goes on. CANDIDATES gets the ONNX files and a manifest, and
WORK/history.csv AP by epoch. `--test-images DIR` writes other scenes than those, with labels in
COCO's form, to profile, tune and evaluate on.
"""

from __future__ import annotations

import csv
from pathlib import Path

import click
import torch

from adaptive.bundle.bundle import write_candidates
from adaptive.files import folder_aside, refuse_existing
from adaptive.networks.detectors.scenes import Composer, read_backgrounds, write_scenes
from adaptive.networks.detectors.small import DESIGNS
from adaptive.networks.detectors.small_export import export_small_detector
from adaptive.networks.detectors.training import (
    DetectorRecipe,
    pretrain_backbone,
    train_detector,
)
from adaptive.networks.images import read_folder


@click.command()
@click.argument("objects", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("backgrounds", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--design", "designs", multiple=True, type=click.Choice(list(DESIGNS)))
@click.option("--epochs", "epochs", multiple=True, help="DESIGN=NUMBER; 36 unless given.")
@click.option("--batch", "batches", multiple=True, help="DESIGN=NUMBER; 8 unless given.")
@click.option("--until", type=int, help="Stop after so many of these epochs, and write the files.")
@click.option("--scenes", default=4000, show_default=True, help="An epoch.")
@click.option("--test-scenes", default=1000, show_default=True)
@click.option("--size", default=96, show_default=True, help="Side of a scene, pixels.")
@click.option("--test-images", type=click.Path(path_type=Path), help="Scenes to route on.")
@click.option("--routed", default=900, show_default=True, help="How many of these.")
@click.option("--half-weights", is_flag=True, help="Store weights in 16 bits.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    objects: Path,
    backgrounds: Path,
    output: Path,
    work: Path,
    designs: tuple[str, ...],
    epochs: tuple[str, ...],
    batches: tuple[str, ...],
    until: int | None,
    scenes: int,
    test_scenes: int,
    size: int,
    test_images: Path | None,
    routed: int,
    half_weights: bool,
    seed: int,
    threads: int,
) -> None:
    """Train the detectors, print AP by epoch, and write them as ONNX files."""
    torch.set_num_threads(threads)
    for folder in (output, test_images):
        if folder is not None:
            refuse_existing(folder, force=False)
    wanted, sizes = (dict(part.split("=") for part in parts) for parts in (epochs, batches))
    grounds = read_backgrounds(backgrounds, size)
    half = len(grounds) // 2
    learn = Composer(read_folder(objects / "train"), grounds[:half], size)
    held = Composer(read_folder(objects / "test"), grounds[half:], size)
    test = [held.scene(number, seed + 1) for number in range(test_scenes)]
    backbone = pretrain_backbone(learn.objects, DetectorRecipe(seed=seed), work)
    rows, trained = [], {}
    for design in designs or tuple(DESIGNS):
        batch = int(sizes.get(design, DetectorRecipe.batch))
        recipe = DetectorRecipe(int(wanted.get(design, 36)), scenes, batch, seed=seed)
        trained[design], history = train_detector(
            design, learn, recipe, work / f"{design}-{seed}.pt", backbone, test, until
        )
        rows += [{"design": design, **line} for line in history]
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["design", "epoch", "ap", "ap50"])
        writer.writeheader()
        writer.writerows(rows)
    classes = learn.objects.classes
    with folder_aside(output) as aside:
        candidates = []
        for design, network in trained.items():
            path = aside / f"{design}.onnx"
            candidate, difference = export_small_detector(
                network, design, path, size, classes, half_weights
            )
            candidates.append(candidate)
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, within {difference:.1g}")
        last = {row["design"]: row["ap"] for row in rows}
        best = max(trained, key=lambda design: last[design])
        write_candidates(aside, candidates, classes, best)
    if test_images is not None:
        others = [held.scene(number, seed + 2) for number in range(routed)]
        write_scenes(test_images, others, classes)


if __name__ == "__main__":
    main()
