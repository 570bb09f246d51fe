"""Train a network on images in memory: deterministic for a seed, resumable, with progress.

Every epoch draws its order and its augmentation from a generator seeded by (seed, epoch), so a
run that was stopped and resumed sees the same batches as one that was not.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.files import written_aside
from adaptive.networks.augmentation import augment
from adaptive.networks.captured import CapturedSteps, NotCaptured
from adaptive.networks.images import ImageArrays

Loss = Callable[..., Tensor]

#: Images that are moved and mirrored at once on a GPU.
_AT_ONCE = 2048


@dataclass(frozen=True)
class TrainingRecipe:
    """How a network is trained.

    `learning_rate` is the peak of a one-cycle schedule (linear up over a fifth of the steps,
    then linear down to nothing). `average` is the decay a step of the exponential moving
    average of the weights that is kept as the result. `bfloat16` asks for mixed precision; a GPU
    without bfloat16 takes float16 with a scaled loss. On a CPU it pays only where the processor
    has instructions for it.
    """

    epochs: int = 40
    batch: int = 256
    learning_rate: float = 0.4
    weight_decay: float = 5e-4
    momentum: float = 0.9
    average: float = 0.998
    shift: int = 4
    cutout: int = 0
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise InputError(f"epochs must be >= 1 and batch >= 2, got {self}")


def check_device(device: str) -> None:
    """Refuse a device that torch does not have here.

    Raises
    ------
    InputError
        for anything but "cpu", "cuda" and "cuda:N" with a GPU that is there.
    """
    try:
        found = torch.device(device)
    except RuntimeError as exc:
        raise InputError(f"--device {device} is not known; give cpu, cuda or cuda:1") from exc
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"--device {device}: networks are trained on cpu or cuda")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        seen = f"{there} GPU{'s' if there > 1 else ''}" if there else "no GPU"
        raise InputError(f"--device {device}: torch sees {seen} here; give --device cpu")


def _capturable(data: ImageArrays, device: str) -> bool:
    """Whether a step can be captured: torch can, and a GPU holds all images, moved and as they are.

    Before torch 2.3 SGD has no form that a graph can hold.
    """
    memory: int = torch.cuda.get_device_properties(device).total_memory
    return hasattr(torch, "_fused_sgd_") and 8 * data.images.nbytes <= memory


def train(
    network: nn.Module,
    data: ImageArrays,
    recipe: TrainingRecipe,
    checkpoint: Path,
    test: ImageArrays | None = None,
    loss: Loss = nn.functional.cross_entropy,
    device: str = "cpu",
    teacher: np.ndarray | None = None,
) -> nn.Module:
    """Train `network` and return it with the averaged weights, in evaluation mode.

    `teacher` holds another network's logits for `data`, shape (n, classes); `loss` gets its rows
    as a third argument. They are of the images as they are, not as augmentation moves them.
    `checkpoint` is written after every epoch and continued from when it exists; one that was
    made with another recipe, loss, network, other images or on another kind of device is
    refused. The same seed gives the same weights on the same machine with the same number of
    threads. On CUDA a step is one graph, see `captured`, where the images take no more than an
    eighth of its memory; a network that reads from the GPU while it computes cannot be captured.
    Both are trained step by step otherwise.
    """
    torch.manual_seed(recipe.seed)
    kind = device.partition(":")[0]
    half = torch.bfloat16
    if kind == "cuda":
        if torch.device(device).index is not None:
            torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    scaler = None
    if recipe.bfloat16 and half == torch.float16:
        scaler = torch.amp.GradScaler(kind)
    whole = kind == "cuda" and scaler is None and _capturable(data, device)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=_moving_average(recipe.average),
        use_buffers=True,
    )
    decayed: list[Tensor] = [p for p in network.parameters() if p.ndim > 1]
    plain: list[Tensor] = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain},
    ]
    peak: Any = recipe.learning_rate
    optimiser = torch.optim.SGD(
        groups,
        lr=torch.tensor(peak, device=device) if whole else peak,
        momentum=recipe.momentum,
        nesterov=True,
        **({"fused": True} if whole else {}),
    )
    steps = len(data.labels) // recipe.batch
    if steps < 1:
        raise InputError(f"{len(data.labels)} images do not fill one batch of {recipe.batch}")
    total = steps * recipe.epochs

    def rate(step: int) -> float:
        warm = total / 5
        return step / warm if step < warm else max(0.0, (total - step) / (total - warm))

    def loss_of(batch: Tensor, *goals: Tensor) -> Tensor:
        with torch.autocast(kind, dtype=half, enabled=recipe.bfloat16):
            outputs = network(batch)
        return loss(outputs, *goals)

    def update(*batch: Tensor) -> float:
        value = loss_of(*batch)
        optimiser.zero_grad(set_to_none=True)
        if scaler is None:
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        else:
            scaler.scale(value).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimiser)
            scaler.update()
        schedule.step()
        averaged.update_parameters(network)
        return value.item()

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    parts: list[Any] = [network, averaged, optimiser, schedule]
    if scaler is not None:
        parts.append(scaler)
    made = {**_made(recipe, loss, data, teacher), "device": "cuda, captured" if whole else kind}
    started = read_checkpoint(checkpoint, made, *parts)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    learnt = [labels]
    if teacher is not None:
        learnt.append(torch.from_numpy(np.asarray(teacher, np.float32)))
    captured = None
    if whole:
        images, learnt = images.to(device), [one.to(device) for one in learnt]
        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
        captured = CapturedSteps(
            network, averaged, optimiser, loss_of,
            peak * torch.tensor([rate(step) for step in range(total)], device=device),
            torch.tensor([_weight(recipe.average, step) for step in range(total)], device=device),
            recipe.batch, steps, started * steps,
        )  # fmt: skip
    for epoch in range(started, recipe.epochs):
        title = f"epoch {epoch + 1}/{recipe.epochs}"
        seed = recipe.seed * 100_003 + epoch
        generator = torch.Generator(device if whole else "cpu").manual_seed(seed)
        torch.manual_seed(seed)  # dropout, where there is any
        order = torch.randperm(len(labels), generator=generator, device=generator.device)
        network.train()
        running, began = 0.0, time.monotonic()
        if whole:
            moved = [
                augment(images[rows], recipe.shift, recipe.cutout, generator)
                for rows in order.split(_AT_ONCE)  # type: ignore[no-untyped-call]
            ]
            whole_epoch = [torch.cat(moved), *(one[order] for one in learnt)]
        if captured is not None:
            try:
                running = captured.epoch(*whole_epoch, title=title)
            except NotCaptured as exc:
                print(f"training step by step: {exc}", flush=True)
                captured = None
                schedule.last_epoch = epoch * steps
                for group in optimiser.param_groups:
                    group["lr"].fill_(peak * rate(epoch * steps))
        if captured is None:
            for step in tqdm(range(steps), desc=title, leave=False):
                own = slice(step * recipe.batch, (step + 1) * recipe.batch)
                if whole:
                    batch = [one[own] for one in whole_epoch]
                else:
                    rows = order[own]
                    seen = augment(images[rows], recipe.shift, recipe.cutout, generator)
                    batch = [one.to(device) for one in (seen, *(part[rows] for part in learnt))]
                running += update(*batch) / steps
        line = f"{title} loss {running:.4f}"
        if test is not None and (epoch % 5 == 4 or epoch + 1 == recipe.epochs):
            shares = ", ".join(f"{100 * s:.2f}" for s in accuracy(averaged.module, test, device))
            line += f" top-1 {shares} %"
        print(f"{line} ({time.monotonic() - began:.0f} s)", flush=True)
        write_checkpoint(checkpoint, made, epoch + 1, *parts)
    result: nn.Module = averaged.module.eval()
    return result


def accuracy(
    network: nn.Module, data: ImageArrays, device: str = "cpu", batch: int = 500
) -> list[float]:
    """Top-1 of each output of `network` (one for a plain network) over `data`, in 0..1."""
    network.eval()
    right: np.ndarray | None = None
    with torch.inference_mode():
        for start in range(0, len(data.labels), batch):
            outputs = network(torch.from_numpy(data.images[start : start + batch]).to(device))
            heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
            labels = data.labels[start : start + batch]
            hits = np.array([int((h.argmax(1).cpu().numpy() == labels).sum()) for h in heads])
            right = hits if right is None else right + hits
    if right is None:
        raise InputError("no images to measure accuracy on")
    return [float(r) / len(data.labels) for r in right]


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average that follows closely at first, so that short runs work."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        weight = _weight(decay, float(count))
        for mean, value in zip(averaged, current):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)

    return update


def _weight(decay: float, count: float) -> float:
    """How far the average moves towards the network after `count` steps; at first it is it."""
    return 1 - min(decay, (1 + count) / (10 + count)) if count else 1.0


def _made(
    recipe: TrainingRecipe, loss: Loss, data: ImageArrays, teacher: np.ndarray | None
) -> dict[str, Any]:
    """What a run that goes on from a checkpoint must have in common with the one before."""
    images = data.digest()
    if teacher is not None:
        images += f", taught {zlib.crc32(np.ascontiguousarray(teacher).data):08x}"
    return {
        "recipe": asdict(recipe),
        "loss": repr(loss) if is_dataclass(loss) else None,
        "images": images,
    }


def write_checkpoint(checkpoint: Path, made: dict[str, Any], epoch: int, *parts: object) -> None:
    """Write the state of all `parts` after an epoch, whole or not at all.

    made : what a run that goes on from it must have in common with this one
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = [part.state_dict() for part in parts]  # type: ignore[attr-defined]
    with written_aside(checkpoint) as aside:
        torch.save({**made, "epoch": epoch, "state": state}, aside)


def read_checkpoint(checkpoint: Path, made: dict[str, Any], *parts: object) -> int:
    """Load a checkpoint into `parts`; the number of epochs behind it, 0 where there is none.

    Raises
    ------
    InputError
        when it was made otherwise than `made` says, or by another network.
    """
    if not checkpoint.exists():
        return 0
    saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
    saved.setdefault("device", "cpu")  # not noted by those who could not train elsewhere
    for key, wanted in made.items():
        found = saved.get(key)
        if found != wanted and None not in (found, wanted):
            raise InputError(
                f"checkpoint {checkpoint} was made with {key} {found}, not with {wanted}; "
                "delete it to start again, or train as it was"
            )
    for part, state in zip(parts, saved["state"]):
        try:
            part.load_state_dict(state)  # type: ignore[attr-defined]
        except (RuntimeError, ValueError) as exc:
            raise InputError(
                f"checkpoint {checkpoint} was made with another network; delete it to start "
                "again, or keep this run's elsewhere"
            ) from exc
    epoch: int = saved["epoch"]
    print(f"resuming {checkpoint.name} after epoch {epoch}", flush=True)
    return epoch
