"""Train a small detector on composed scenes: the same for a seed, resumable, AP by epoch."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.files import written_aside
from adaptive.networks.detectors.scenes import Composer, Scene
from adaptive.networks.detectors.set_loss import Objects
from adaptive.networks.detectors.small import DESIGNS, SmallDetector
from adaptive.networks.images import ImageArrays
from adaptive.networks.small import SmallNetwork
from adaptive.networks.training import TrainingRecipe, train
from adaptive.tasks.average_precision import Precision, Ranking
from adaptive.tasks.decoding import BoxSpec, class_map, detections
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match
from adaptive.tasks.placement import stretched


@dataclass(frozen=True)
class DetectorRecipe:
    """How a detector is trained.

    Attributes
    ----------
    epochs, scenes, batch : scenes are made anew in each epoch
    weight_decay : of AdamW
    backbone : epochs in which the backbone first learns to classify the objects
    seed : of everything
    """

    epochs: int = 36
    scenes: int = 4000
    batch: int = 8
    weight_decay: float = 1e-4
    backbone: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.scenes < self.batch or self.backbone < 0:
            raise InputError(f"epochs, batch and at least a batch of scenes are needed, got {self}")


def box_spec(design: str, classes: Sequence[str], threshold: float = 0.01) -> BoxSpec:
    """How the boxes of one of the small detectors are read."""
    one = DESIGNS[design]
    if one.decoder == "final":
        from_one = class_map("from 1", list(classes))
        return BoxSpec("final", len(classes) + 1, threshold, class_map=from_one)
    iou = 1.0 if one.decoder == "detr" else 0.7
    return BoxSpec(one.decoder, len(classes), threshold, iou, options=one.options)


def answers(
    network: SmallDetector, design: str, scenes: Sequence[Scene], classes: Sequence[str]
) -> list[Detections]:
    """What a detector finds in each scene."""
    spec = box_spec(design, classes)
    size: tuple[int, int] = scenes[0].image.shape[:2]  # type: ignore[assignment]
    network.eval()
    batch = 1 if network.fixed_batch else 50
    found = []
    with torch.inference_mode():
        for start in range(0, len(scenes), batch):
            images = np.stack([scene.image for scene in scenes[start : start + batch]])
            outputs = [part.numpy() for part in network(torch.from_numpy(images))]
            for row in range(len(images)):
                one = outputs if network.fixed_batch else [part[row] for part in outputs]
                named = dict(zip(network.outputs, one))
                if not network.fixed_batch:
                    named = {name: part[None] for name, part in named.items()}
                found.append(detections(named, spec, size, stretched(size, size)))
    return found


def precision(scenes: Sequence[Scene], found: Sequence[Detections]) -> Precision:
    """COCO's summary of what was found in scenes."""
    true = [
        TrueBoxes(
            scene.boxes.astype(np.float64),
            scene.labels,
            np.zeros(len(scene.labels), bool),
            np.prod(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1).astype(np.float64),
        )
        for scene in scenes
    ]
    ranking = Ranking(Truth.of(true), [match(true, found)])
    return ranking.summary(np.zeros(len(scenes), np.int64))


def pretrain_backbone(objects: ImageArrays, recipe: DetectorRecipe, work: Path) -> dict[str, Any]:
    """Weights of the shared backbone after it has learnt to classify the objects."""
    first = DESIGNS["detr"].build(len(objects.classes), 96).bottom_up
    torch.manual_seed(recipe.seed)
    first = type(first)()
    if not recipe.backbone:
        return first.state_dict()
    body = nn.Sequential(first.stem, first.res2, first.res3, first.res4)  # type: ignore[arg-type]
    network = SmallNetwork(body, 96, len(objects.classes))
    how = TrainingRecipe(epochs=recipe.backbone, batch=128, learning_rate=0.2, seed=recipe.seed)
    train(network, objects, how, work / f"backbone-{recipe.seed}.pt")
    # the averaged weights live in a copy; take them from there
    return _backbone_of(work / f"backbone-{recipe.seed}.pt")


def _backbone_of(checkpoint: Path) -> dict[str, Any]:
    saved = torch.load(checkpoint, weights_only=True)["state"][1]
    names = {"0": "stem", "1": "res2", "2": "res3", "3": "res4"}
    weights = {}
    for key, value in saved.items():
        if key.startswith("module.body."):
            part, rest = key[len("module.body.") :].split(".", 1)
            weights[f"{names[part]}.{rest}"] = value
    return weights


def train_detector(
    design: str,
    composer: Composer,
    recipe: DetectorRecipe,
    checkpoint: Path,
    backbone: dict[str, Any],
    test: Sequence[Scene],
    until: int | None = None,
) -> tuple[SmallDetector, list[dict[str, float]]]:
    """Train one of the small detectors; return it, in evaluation mode, and its AP by epoch.

    `checkpoint` is written after every epoch and continued from when it exists; one made by
    another recipe is refused. AP is of the moving average of the weights on `test`, measured
    after the first five epochs, every fifth one and the last.

    until : stop after so many of the recipe's epochs; another run may go on
    """
    one = DESIGNS[design]
    classes = composer.objects.classes
    torch.manual_seed(recipe.seed)
    network = one.build(len(classes), composer.size)
    network.bottom_up.load_state_dict(backbone)
    averaged = torch.optim.swa_utils.AveragedModel(network, avg_fn=_followed, use_buffers=True)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=one.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.scenes // recipe.batch
    total = steps * recipe.epochs

    def rate(step: int) -> float:
        warm = min(200.0, total / 5)
        return min(1.0, (step + 1) / warm) * (0.51 + 0.49 * math.cos(math.pi * step / total))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    made = {"design": design, "recipe": asdict(recipe), "size": composer.size}
    parts = [network, averaged, optimiser, schedule]
    history: list[dict[str, float]] = []
    begun = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["made"] != made:
            raise InputError(
                f"checkpoint {checkpoint} was made as {saved['made']}, not as {made}; delete it "
                "to start again, or train as it was"
            )
        for part, state in zip(parts, saved["state"]):
            part.load_state_dict(state)  # type: ignore[attr-defined]
        history, begun = saved["history"], saved["epoch"]
        print(f"resuming {checkpoint.name} after epoch {begun}", flush=True)
    last = recipe.epochs if until is None else min(until, recipe.epochs)
    for epoch in range(begun, last):
        network.train()
        running, since = 0.0, time.monotonic()
        for step in tqdm(range(steps), desc=f"{design} {epoch + 1}", leave=False):
            first = (epoch * steps + step) * recipe.batch
            scenes = [composer.scene(first + k, recipe.seed) for k in range(recipe.batch)]
            images, truth = tensors(scenes)
            value = network.loss(images, truth)
            optimiser.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), one.clip)
            optimiser.step()
            schedule.step()
            averaged.update_parameters(network)
            running += value.item()
        line = f"{design} epoch {epoch + 1}/{recipe.epochs} loss {running / steps:.3f}"
        if epoch < 5 or epoch % 5 == 4 or epoch + 1 == last:
            history.append(_measured(epoch + 1, averaged, design, test, classes))
            line += " AP {ap:.1%}, AP50 {ap50:.1%}".format(**history[-1])
        print(f"{line} ({time.monotonic() - since:.0f} s)", flush=True)
        _save(checkpoint, {"made": made, "epoch": epoch + 1, "history": history}, parts)
    done = max(begun, last)
    if not history or history[-1]["epoch"] < done:  # it was stopped in between
        history.append(_measured(done, averaged, design, test, classes))
    result: Any = averaged.module
    return result.eval(), history


def _measured(
    epoch: int, averaged: Any, design: str, test: Sequence[Scene], classes: Sequence[str]
) -> dict[str, float]:
    """A line of the history, of the averaged weights."""
    found = precision(test, answers(averaged.module, design, test, classes))
    return {"epoch": epoch, "ap": found.ap, "ap50": found.ap50}


def _followed(average: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
    """A moving average over the last 500 steps, and over fewer at the beginning."""
    share = max(0.002, 1 / (1 + 0.1 * float(steps)))
    if not average.is_floating_point():
        return now  # a count of batches
    return average + share * (now - average)


def tensors(scenes: Sequence[Scene]) -> tuple[Tensor, list[Objects]]:
    """Images, uint8 (n, size, size, 3), and what they hold."""
    size = scenes[0].image.shape[0]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    truth = [
        Objects(torch.from_numpy(scene.labels), torch.from_numpy(scene.boxes / size))
        for scene in scenes
    ]
    return images, truth


def _save(checkpoint: Path, state: dict[str, Any], parts: Sequence[Any]) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(checkpoint) as aside:
        torch.save({**state, "state": [part.state_dict() for part in parts]}, aside)
