"""From a folder of images to a folder of candidates: a network with exits, trained and split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from adaptive.bundle.bundle import check_output
from adaptive.candidate import InputSpec, check_name
from adaptive.csvlines import write_lines
from adaptive.errors import InputError
from adaptive.files import folder_aside
from adaptive.networks.costs import exit_costs
from adaptive.networks.images import hold_out, read_folder
from adaptive.networks.losses import ExitLoss
from adaptive.networks.multiexit import MultiExit
from adaptive.networks.small_exits import small_exits
from adaptive.networks.teacher import teacher_logits
from adaptive.networks.training import TrainingRecipe, accuracy, check_device, train


@dataclass(frozen=True)
class ExitDesign:
    """Which network, and where its exits are.

    Attributes
    ----------
    network : "small", or a network of `torchvision_exits.DESIGNS`
    name : of the candidates, without "@"
    size : side of the square images, pixels
    exits : layers of the early exits, or the network's default
    joins : aggregation between exits
    weights : a file or the name of torchvision's weights, or nothing for random ones
    """

    network: str = "small"
    name: str = "small"
    size: int = 32
    exits: tuple[str, ...] | None = None
    joins: bool = True
    weights: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if "@" in self.name:
            raise InputError(f"name {self.name!r} has an exit's number; it is added to the name")

    def build(self, classes: int, seed: int) -> MultiExit:
        """The network before training; the same for the same seed."""
        torch.manual_seed(seed)
        if self.network == "small":
            return small_exits(classes, self.joins)
        from adaptive.networks.torchvision_exits import torchvision_exits

        return torchvision_exits(
            self.network, classes, self.size, self.exits, self.joins, self.weights
        )


def train_exits(
    data: Path,
    output: Path,
    design: ExitDesign,
    loss: ExitLoss,
    recipe: TrainingRecipe,
    checkpoints: Path,
    held_out: int | None = None,
    device: str = "cpu",
    force: bool = False,
    teacher: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train a network with exits and write it as candidates, whole or not at all.

    Parameters
    ----------
    data : a folder with `train/CLASS/IMAGE` and, optionally, `test/CLASS/IMAGE`
    output : gets one candidate for each exit, labels.txt, and held_out.csv with the training
        images that the network has not seen
    checkpoints : a folder, from which a run that was stopped goes on
    held_out : how many training images it does not see, in equal shares of the classes; a fifth
        unless given
    teacher : an ONNX file whose answers the exits also learn, `loss.teach` of their loss
    say : gets lines about progress

    Raises
    ------
    InputError
        when images, network or recipe cannot be used, or `output` exists.
    """
    from adaptive.networks.split import export_exits

    check_output(output, force)
    check_device(device)
    everything = read_folder(data / "train", design.size)
    classes = len(everything.classes)
    count = len(everything.labels) // 5 if held_out is None else held_out
    kept, held = hold_out(everything.labels, count, recipe.seed)
    test = read_folder(data / "test", design.size) if (data / "test").is_dir() else None
    if test is not None and test.classes != everything.classes:
        raise InputError(f"{data / 'test'} has other classes than {data / 'train'}")
    network = design.build(classes, recipe.seed)
    if loss.weights and len(loss.weights) != network.exits:
        raise InputError(f"{len(loss.weights)} exit weights were given for {network.exits} exits")
    _check_joins(network, torch.from_numpy(everything.images[:1]))
    costs = exit_costs(network, torch.from_numpy(everything.images[:1]))
    ways = ", ".join(f"{way / 1e6:.2f}" for way in costs.ways)
    say(f"{network.exits} exits at {ways} million multiply-adds; all {costs.whole / 1e6:.2f}")
    checkpoint = checkpoints / f"{design.name}-{recipe.seed}.pt"
    seen = everything.subset(kept)
    taught = None if teacher is None else teacher_logits(teacher, seen)
    trained = train(network, seen, recipe, checkpoint, test, loss, device, taught)
    assert isinstance(trained, MultiExit)
    trained = trained.cpu()
    if test is not None:
        shares = ", ".join(f"{100 * share:.2f}" for share in accuracy(trained, test))
        say(f"top-1 of the exits on {len(test.labels)} test images: {shares} %")
    # Images are normalised within the first segment, whatever the network.
    spec = InputSpec(design.size, "uint8", "NHWC", "cover")
    with folder_aside(output) as aside:
        candidates = export_exits(trained, aside, design.name, everything.classes, spec)
        with open(aside / "held_out.csv", "w", newline="", encoding="utf-8") as file:
            rows = [(everything.names[row], int(everything.labels[row])) for row in held]
            write_lines(file, [("image", "label"), *rows])
    say(f"{output} holds {', '.join(c.name for c in candidates)}")


def _check_joins(network: MultiExit, example: Tensor) -> None:
    """Refuse sizes that cannot be exported, before rather than after the training."""
    if network.joins is None:
        return
    network.eval()
    with torch.no_grad():
        state = network.segment(0, example)
        for k in range(1, network.exits):
            have, want = state.shape[-2:], network.segments[k](state).shape[-2:]
            if any(h % w for h, w in zip(have, want)):
                raise InputError(
                    f"at --size {example.shape[1]} a join would pool {have[0]} x {have[1]} to "
                    f"{want[0]} x {want[1]} positions, which ONNX cannot say; give a multiple of "
                    "32, or --no-join"
                )
            state = network.segment(k, state)
