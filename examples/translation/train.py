"""Train one translator on sentence pairs, and write it as two ONNX files.

    python examples/translation/train.py DATA WORK --network gru-128

DATA has train.en and train.de. WORK gets pieces.model once, NETWORK.pt after each epoch, from
which a stopped training goes on, and at the end NETWORK.encoder.onnx and NETWORK.step.onnx.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from pairs import END, PAD, batches, encode, learn_pieces, read_pairs, read_pieces
from torch import nn
from translators import RECIPES, Translator, make

BATCH = 96
WARM_UP = 300  # steps
HELD_OUT = 500  # last pairs of the training part, on which the loss is watched


def main() -> None:
    """Train as the command line says."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("data", type=Path)
    ask.add_argument("work", type=Path)
    ask.add_argument("--network", choices=sorted(RECIPES), required=True)
    ask.add_argument("--epochs", type=int, help="default: the network's own")
    ask.add_argument("--pieces", type=int, default=6000)
    ask.add_argument("--seed", type=int, default=0)
    told = ask.parse_args()
    told.work.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(told.data, "train")
    if not (told.work / "pieces.model").exists():
        sentences = [sentence for pair in pairs for sentence in pair]
        learn_pieces(sentences, told.work / "pieces.model", told.pieces)
    network = train(pairs, told.work, told.network, told.epochs, told.seed)
    export(network, told.work / told.network)


def train(
    pairs: list, work: Path, name: str, epochs: int | None = None, seed: int = 0
) -> Translator:
    """Train the translator `name` on `pairs`, from WORK/NAME.pt on where that is there.

    AdamW with a warm-up and a cosine, smoothed labels, matrix products in bfloat16. The order
    of the pairs and all that is dropped follow from `seed` and the number of the epoch.
    """
    recipe = RECIPES[name]
    epochs = recipe.epochs if epochs is None else epochs
    pieces = read_pieces(work / "pieces.model")
    sources = [encode(pieces, source) for source, _ in pairs]
    targets = [encode(pieces, target) for _, target in pairs]
    held = min(HELD_OUT, len(pairs) // 10)
    learnt = len(pairs) - held
    torch.manual_seed(seed)
    network = make(recipe, pieces.get_piece_size())
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    batch_count = sum(1 for _ in batches(sources[:learnt], targets[:learnt], BATCH, _draw(seed, 0)))
    last = epochs * batch_count
    warm = min(WARM_UP, max(1, last // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / last)))
        ),
    )
    started = _restore(work / f"{name}.pt", network, optimizer, schedule, seed, epochs)
    for epoch in range(started, epochs):
        began = time.perf_counter()
        torch.manual_seed(seed * 1000 + epoch)
        network.train()
        loss_sum = tokens = 0.0
        for source, target in batches(
            sources[:learnt], targets[:learnt], BATCH, _draw(seed, epoch)
        ):
            loss, count = _loss(network, source, target, smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            loss_sum += float(loss.detach()) * count
            tokens += count
        _keep(work / f"{name}.pt", network, optimizer, schedule, seed, epoch + 1, epochs)
        watched = _watch(network, sources[learnt:], targets[learnt:])
        print(
            f"{name}: epoch {epoch + 1} of {epochs}, loss {loss_sum / tokens:.3f}, held out"
            f" {watched:.3f}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return network.eval()


def export(network: Translator, path: Path) -> None:
    """Write PATH.encoder.onnx and PATH.step.onnx, opset 13, all sizes free."""
    from adaptive.networks.export import OPSET

    network = network.eval()
    source = torch.tensor([[5, 6, 7, END]])
    token = torch.tensor([5])
    with torch.no_grad():
        memory, state = network.encode(source)
        _, state = network.step(token, memory, state)
    # Of a Transformer the axis of pieces is the one before the last but one; of the GRU's memory
    # the second, and its state has none.
    pieces = {3: 1, 6: 4}
    free = {"memory": {0: "n", pieces[memory.dim()]: "source_pieces"}, "state": {0: "n"}}
    if state.dim() in pieces:
        free["state"][pieces[state.dim()]] = "target_pieces"
    graphs = {
        "encoder": (_Call(network, "encode").eval(), (source,), ["source"], ["memory", "state"]),
        "step": (
            _Call(network, "step").eval(),
            (token, memory, state),
            ["token", "memory", "state"],
            ["log_chances", "next_state"],
        ),
    }
    free.update(
        source={0: "n", 1: "source_pieces"},
        token={0: "n"},
        log_chances={0: "n"},
        next_state=dict(free["state"]),
    )
    for kind, (module, example, inputs, outputs) in graphs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                example,
                f"{path}.{kind}.onnx",
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes={one: free[one] for one in (*inputs, *outputs)},
                dynamo=False,
            )


class _Call(nn.Module):
    """One method of a network as a module, which is what torch exports."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, *values: torch.Tensor) -> tuple:
        return getattr(self.network, self.method)(*values)


def _loss(network: Translator, source: np.ndarray, target: np.ndarray, smoothing: float) -> tuple:
    """The mean loss over the target's pieces, and how many these are."""
    known, wanted = torch.from_numpy(target[:, :-1]), torch.from_numpy(target[:, 1:])
    with torch.autocast("cpu", torch.bfloat16):
        hidden = network.teach(torch.from_numpy(source), known)
    real = wanted != PAD
    return network.loss(hidden[real], wanted[real], smoothing), int(real.sum())


def _watch(network: Translator, sources: list, targets: list) -> float:
    """The mean loss a piece on pairs that are not learnt from."""
    network.eval()
    with torch.no_grad():
        parts = [
            _loss(network, *pair, smoothing=0.0)
            for pair in batches(sources, targets, BATCH, _draw(0, 0))
        ]
    return sum(float(loss) * count for loss, count in parts) / sum(count for _, count in parts)


def _draw(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch])


def _keep(path: Path, network, optimizer, schedule, seed: int, epoch: int, epochs: int) -> None:
    """Write a checkpoint aside, then in place of the last one."""
    aside = path.with_suffix(".part")
    torch.save(
        {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.last_epoch,
            "seed": seed,
            "epoch": epoch,
            "epochs": epochs,
        },
        aside,
    )
    os.replace(aside, path)


def _restore(path: Path, network, optimizer, schedule, seed: int, epochs: int) -> int:
    """Go on from a checkpoint where there is one; the number of the epoch that comes next."""
    if not path.exists():
        return 0
    kept = torch.load(path, weights_only=True)
    if (kept["seed"], kept["epochs"]) != (seed, epochs):
        raise SystemExit(
            f"{path} is of a training of {kept['epochs']} epochs with seed {kept['seed']}, and"
            f" this one is of {epochs} epochs with seed {seed}; give another folder, or delete it"
        )
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    schedule.last_epoch = kept["schedule"]
    return kept["epoch"]


if __name__ == "__main__":
    main()
