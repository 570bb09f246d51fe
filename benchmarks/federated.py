"""Learning together against FedAvg, one network for all images, and each edge alone.

    python benchmarks/federated.py DATA/cifar10 --work WORK -o federated.json

DATA holds `train/CLASS/IMAGE` and `test/CLASS/IMAGE`. Edges are simulated in one process, through
the same messages as between processes. A stopped run goes on from WORK; every row is one training
or one group, and rows that WORK has are not run again. Accuracy is top-1 on the test images.

What learns from labels alone (FedAvg, edges alone, one place) has `--plain-rate`, since the rate
that suits a group is not theirs. With `--rates 0.02,0.05` the rows are a group at each of these
rates, with `--plain-rates` FedAvg and the small network in one place, and accuracy is of as many
other training images: the test images take no part in the choice.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import click
import numpy as np
import torch
from machine import envelope, save
from torch import nn

from adaptive.files import write_json
from adaptive.intervals import Estimate, mean, share
from adaptive.networks.costs import multiply_adds
from adaptive.networks.federated.baselines import Whole, federated_average, train_central
from adaptive.networks.federated.edge import Edge
from adaptive.networks.federated.group import Traffic, group_accuracy, learn_together
from adaptive.networks.federated.halves import EdgeNetwork
from adaptive.networks.federated.parts import deal, read_split
from adaptive.networks.federated.recipe import GroupRecipe
from adaptive.networks.federated.server import GroupServer
from adaptive.networks.images import ImageArrays, hold_out, read_folder

SPLITS = ("iid", "dirichlet:0.5")

#: A row's name, what runs it, its arguments and its changes of the recipe.
Plan = List[Tuple[str, Callable[..., Dict[str, Any]], Tuple[Any, ...], Dict[str, Any]]]


class Rows:
    """Runs one row after the other, and keeps what each came to."""

    def __init__(
        self,
        train: ImageArrays,
        test: ImageArrays,
        recipe: GroupRecipe,
        edges: int,
        work: Path,
        device: str,
    ) -> None:
        self.train, self.test, self.recipe, self.device = train, test, recipe, device
        self.edges, self.work = edges, work

    def group(self, split: str, seed: int, **changes: Any) -> dict[str, Any]:
        """FedGKT; `changes` are of the recipe."""
        recipe = replace(self.recipe, seed=seed, **changes)
        kind = "-".join(f"{k}-{v}" for k, v in sorted(changes.items()))
        folder = self.work / f"group-{split.replace(':', '-')}-{seed}{'-' + kind if kind else ''}"
        edges = self._edges(split, recipe, folder)
        server = GroupServer(self.train.classes, recipe, folder / "server.pt", self.device)
        sent = folder / "traffic.json"
        traffic = Traffic(**json.loads(sent.read_text())) if sent.exists() else Traffic()

        def say(line: str) -> None:
            print(f"{folder.name}: {line}", flush=True)
            write_json(sent, asdict(traffic))

        learn_together(edges, server, say, progress=False, traffic=traffic)
        found = group_accuracy(edges, server, self.test)
        return {
            "edge alone": _as_json(found.alone),
            "edge and server": _as_json(found.together),
            "bytes an edge": {
                way: sum(count.values()) / self.edges for way, count in asdict(traffic).items()
            },
        }

    def averaged(self, split: str, seed: int, **changes: Any) -> dict[str, Any]:
        """FedAvg of the edges' small network; not resumed within."""
        recipe = replace(self.recipe, seed=seed, **changes)
        averaged = federated_average(self._edges(split, recipe, None), recipe, lambda line: None)
        found = self._right(averaged.network)
        return {"top-1": _as_json(share(found)), "bytes an edge": averaged.bytes}

    def alone(self, split: str, seed: int, **changes: Any) -> dict[str, Any]:
        """Each edge on its own images alone, for as many epochs."""
        recipe = replace(self.recipe, seed=seed, **changes)
        found = []
        for edge in self._edges(split, recipe, None):
            for number in range(1, recipe.rounds + 1):
                edge.learn(number, None)
            found.append(self._right(edge.network))
        return {"top-1": _as_json(mean(np.mean(found, axis=0)))}

    def central(self, size: str, seed: int, **changes: Any) -> dict[str, Any]:
        """One network on all images: the edges' small one, or the whole of the large one."""
        recipe = replace(self.recipe, seed=seed, **changes)
        torch.manual_seed(seed)
        classes = len(self.train.classes)
        network: nn.Module = EdgeNetwork(classes)
        epochs = recipe.rounds * recipe.edge_epochs
        if size == "large":
            network = Whole(classes, recipe.depth)
            epochs = recipe.rounds * recipe.server_epochs
        checkpoint = self.work / f"central-{size}-{seed}-{recipe.learning_rate}.pt"
        trained = train_central(
            network, self.train, recipe, epochs, checkpoint, _quiet, self.device
        )
        return {"top-1": _as_json(share(self._right(trained))), "epochs": epochs}

    def _edges(self, split: str, recipe: GroupRecipe, folder: Path | None) -> list[Edge]:
        dealt = deal(self.train.labels, self.edges, read_split(split), recipe.seed)
        return [
            Edge(
                f"edge-{k + 1}",
                self.train.subset(rows),
                recipe,
                None if folder is None else folder / f"edge-{k + 1}.pt",
                self.device,
            )
            for k, rows in enumerate(dealt)
        ]

    @torch.no_grad()
    def _right(self, network: nn.Module) -> np.ndarray:
        network.eval()
        images = torch.from_numpy(self.test.images).to(self.device)
        found = [network(images[k : k + 500]).argmax(1) for k in range(0, len(images), 500)]
        right: np.ndarray = torch.cat(found).cpu().numpy() == self.test.labels
        return right


def _quiet(line: str) -> None:
    pass


def _as_json(estimate: Estimate) -> dict[str, float]:
    return {key: round(100 * value, 2) for key, value in asdict(estimate).items()}


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--images", default=10_000, show_default=True, help="To learn from, all edges.")
@click.option("--edges", default=4, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--server-epochs", default=2, show_default=True, help="A round.")
@click.option("--batch", default=128, show_default=True)
@click.option("--seeds", default="0,1", show_default=True)
@click.option("--rate", default=0.02, show_default=True, help="Learning from each other.")
@click.option("--plain-rate", default=0.1, show_default=True, help="Learning from labels alone.")
@click.option("--rates", default="", help="Compare these for a group, on held-out images.")
@click.option("--plain-rates", default="", help="Compare these for learning from labels alone.")
@click.option("--depth", default=20, show_default=True, help="Of the ResNet at the server.")
@click.option("--only", multiple=True, metavar="ROW", help="Run this row; several times.")
@click.option("--bfloat16", is_flag=True, help="Train in bfloat16; accuracy is of float32.")
@click.option("--device", default="cpu", show_default=True, help="That trains: cpu or cuda.")
@click.option("--threads", default=1, show_default=True)
def main(
    data: Path,
    work: Path,
    output: Path,
    images: int,
    edges: int,
    rounds: int,
    server_epochs: int,
    batch: int,
    seeds: str,
    rate: float,
    plain_rate: float,
    rates: str,
    plain_rates: str,
    depth: int,
    only: tuple[str, ...],
    bfloat16: bool,
    device: str,
    threads: int,
) -> None:
    """Run all rows, print each as it is done, and write them all."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    everything = read_folder(data / "train")
    others, chosen = hold_out(everything.labels, images, 0)
    comparing = bool(rates or plain_rates)
    if comparing:
        others = others[hold_out(everything.labels[others], images, 0)[1]]
        test = everything.subset(others)
    else:
        test = read_folder(data / "test")
    recipe = GroupRecipe(
        rounds=rounds,
        server_epochs=server_epochs,
        batch=batch,
        learning_rate=rate,
        depth=depth,
        bfloat16=bfloat16,
    )
    rows = Rows(everything.subset(chosen), test, recipe, edges, work, device)
    numbers = [int(seed) for seed in seeds.split(",")]
    kept = work / "rows.json"
    done: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    plan = _all(rows, numbers, plain_rate)
    if comparing:
        plan = _rates(rows, numbers, _numbers(rates), _numbers(plain_rates))
    unknown = set(only) - {name for name, *_ in plan}
    if unknown:
        raise click.UsageError(f"there is no row {sorted(unknown)}")
    for name, run, arguments, changes in plan:
        if only and name not in only:
            continue
        if name not in done:
            began = time.perf_counter()
            done[name] = run(*arguments, **changes)
            done[name]["seconds"] = round(time.perf_counter() - began)
            write_json(kept, done)
        print(f"{name}: {done[name]}", flush=True)
    settings = {**asdict(rows.recipe), "images": images, "edges": edges, "seeds": numbers}
    settings["plain rate"] = plain_rate
    about = {**settings, "multiply-adds an image": _costs(rows)}
    save(envelope("federated", {}, about, threads=threads, rows=done), output)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",") if number]


def _rates(rows: Rows, seeds: list[int], rates: list[float], plain_rates: list[float]) -> Plan:
    """What is compared to choose a learning rate."""
    plan: Plan = []
    for seed in seeds:
        for rate in plain_rates:
            at, changes = f"iid {seed}, learning rate {rate}", {"learning_rate": rate}
            plan.append((f"FedAvg, small {at}", rows.averaged, ("iid", seed), changes))
            plan.append((f"central small {at}", rows.central, ("small", seed), changes))
        for rate in rates:
            changes = {"learning_rate": rate}
            name = f"FedGKT iid {seed}, learning rate {rate}"
            plan.append((name, rows.group, ("iid", seed), changes))
    return plan


def _all(rows: Rows, seeds: list[int], plain_rate: float) -> Plan:
    """All rows of the table, what matters most first."""
    plain = {"learning_rate": plain_rate}
    first, others = seeds[0], seeds[1:]
    alike, unlike = SPLITS
    without = {**plain, "alpha": 0.0, "way_back": False}
    longer = {**plain, "rounds": 4 * rows.recipe.rounds}

    def group_rows(split: str, seed: int) -> Plan:
        return [
            (f"FedGKT {split} {seed}", rows.group, (split, seed), {}),
            (f"FedAvg, small {split} {seed}", rows.averaged, (split, seed), plain),
        ]

    def alone_rows(seed: int) -> Plan:
        return [
            (f"each edge alone {split} {seed}", rows.alone, (split, seed), plain)
            for split in SPLITS
        ]

    def central_row(size: str, seed: int) -> Plan:
        return [(f"central {size} - {seed}", rows.central, (size, seed), plain)]

    plan = [*group_rows(alike, first), *central_row("small", first)]
    for seed in others:
        plan += group_rows(alike, seed)
    plan += [
        *group_rows(unlike, first),
        (f"FedGKT, balanced {unlike} {first}", rows.group, (unlike, first), {"balanced": True}),
        (f"FedGKT, no KL {unlike} {first}", rows.group, (unlike, first), without),
        (
            f"FedGKT, balanced, no KL {unlike} {first}",
            rows.group,
            (unlike, first),
            {**without, "balanced": True},
        ),
        *central_row("large", first),
        (f"FedGKT, no KL {alike} {first}", rows.group, (alike, first), without),
    ]
    for seed in others:
        balanced = {"balanced": True}
        plan += group_rows(unlike, seed)
        plan += [
            (f"FedGKT, no KL {alike} {seed}", rows.group, (alike, seed), without),
            (f"FedGKT, balanced {unlike} {seed}", rows.group, (unlike, seed), balanced),
            (
                f"FedGKT, balanced, no KL {unlike} {seed}",
                rows.group,
                (unlike, seed),
                {**without, **balanced},
            ),
            (f"FedGKT, no KL {unlike} {seed}", rows.group, (unlike, seed), without),
        ]
    plan += alone_rows(first)
    for seed in others:
        plan += [*central_row("small", seed), *alone_rows(seed)]
    plan += [
        (f"FedGKT, no way back iid {first}", rows.group, (alike, first), {"way_back": False}),
        (f"FedGKT, 8-bit maps iid {first}", rows.group, (alike, first), {"maps": "int8"}),
        (
            f"FedAvg, small, four times the rounds iid {first}",
            rows.averaged,
            (alike, first),
            longer,
        ),
    ]
    for seed in others:
        plan += central_row("large", seed)
    return plan


def _costs(rows: Rows) -> dict[str, int]:
    image = torch.from_numpy(rows.test.images[:1])
    classes = len(rows.train.classes)
    edge, whole = EdgeNetwork(classes), Whole(classes, rows.recipe.depth)
    return {
        "edge": multiply_adds(edge, image),
        "extractor": multiply_adds(edge.extractor, image),
        "whole": multiply_adds(whole, image),
    }


if __name__ == "__main__":
    main()
