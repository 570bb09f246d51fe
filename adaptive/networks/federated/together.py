"""From a folder of images to edges that learnt together, each a folder of candidates."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np

from adaptive.bundle.bundle import check_output
from adaptive.candidate import InputSpec, check_name
from adaptive.csvlines import write_lines
from adaptive.errors import InputError, ServiceError
from adaptive.files import folder_aside
from adaptive.networks.federated.edge import Edge
from adaptive.networks.federated.edge_process import KEY_VARIABLE
from adaptive.networks.federated.group import Traffic, group_accuracy, learn_together
from adaptive.networks.federated.halves import joined
from adaptive.networks.federated.over_http import Meeting
from adaptive.networks.federated.parts import deal, read_split
from adaptive.networks.federated.recipe import GroupRecipe
from adaptive.networks.federated.server import GroupServer
from adaptive.networks.images import ImageArrays, hold_out, read_folder


@dataclass(frozen=True)
class GroupPlan:
    """Who takes part.

    Attributes
    ----------
    edges : how many
    split : "iid", or "dirichlet:ALPHA" for classes that differ from edge to edge
    processes : whether edges are processes that call the server over loopback HTTP
    patience_s : how long a round waits for an edge that has fallen out
    name : of the candidates, NAME@1 at the edge and NAME@2 at the server
    device : that edges and server train on, as torch names it
    """

    edges: int = 4
    split: str = "iid"
    processes: bool = False
    patience_s: float = 600.0
    name: str = "group"
    device: str = "cpu"


def train_together(
    data: Path,
    output: Path,
    plan: GroupPlan,
    recipe: GroupRecipe,
    checkpoints: Path,
    held_out: int | None = None,
    force: bool = False,
    threads: int = 0,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Deal images to edges, let them learn with a server, and write what each edge can serve.

    Parameters
    ----------
    data : a folder with `train/CLASS/IMAGE` and, optionally, `test/CLASS/IMAGE`, 32 x 32 pixels
    output : gets a folder `edge-K` of candidates for each edge, its network as exit 1 and the
        server's as exit 2, and held_out.csv with the training images that nobody has seen
    checkpoints : a folder, from which a run that was stopped goes on
    held_out : how many training images nobody sees; a fifth unless given
    threads : of torch in every process; 0 leaves its own choice

    Returns
    -------
    A sentence for each edge that fell out before it had learnt anything, and is not written.

    Raises
    ------
    InputError
        when images, plan or recipe cannot be used, or `output` exists.
    ServiceError
        when all edges have stopped.
    """
    from adaptive.networks.split import export_exits

    check_output(output, force)
    check_name(plan.name)
    alpha = read_split(plan.split)
    everything = read_folder(data / "train")
    count = len(everything.labels) // 5 if held_out is None else held_out
    kept, held = hold_out(everything.labels, count, recipe.seed)
    test = read_folder(data / "test") if (data / "test").is_dir() else None
    if test is not None and test.classes != everything.classes:
        raise InputError(f"{data / 'test'} has other classes than {data / 'train'}")
    seen = everything.subset(kept)
    shares = [seen.subset(rows) for rows in deal(seen.labels, plan.edges, alpha, recipe.seed)]
    for number, own in enumerate(shares, 1):
        classes = np.bincount(own.labels, minlength=len(seen.classes))
        say(f"edge-{number}: {len(own.labels)} images, {classes.min()} to {classes.max()} a class")
    server = GroupServer(seen.classes, recipe, checkpoints / "server.pt", plan.device)
    if plan.processes:
        traffic = _as_processes(server, shares, plan, checkpoints, threads, say)
        edges = _edges(shares, plan, recipe, checkpoints)
    else:
        edges = _edges(shares, plan, recipe, checkpoints)
        traffic = learn_together(edges, server, say)
    left_out = [f"{edge.name} took part in no round" for edge in edges if not edge.rounds]
    edges = [edge for edge in edges if edge.rounds]
    for edge in edges:
        if edge.rounds < recipe.rounds:
            say(f"{edge.name} was last there in round {edge.rounds} of {recipe.rounds}")
    up, down = sum(traffic.up.values()), sum(traffic.down.values())
    say(f"{up / 1e6:.1f} MB went up and {down / 1e6:.1f} MB down")
    if test is not None:
        found = group_accuracy(edges, server, test)
        for what, value in (("edge alone", found.alone), ("with the server", found.together)):
            say(
                f"top-1 on {len(test.labels)} test images, mean of the edges, {what}: "
                f"{100 * value.value:.2f} % ({100 * value.low:.2f} to {100 * value.high:.2f})"
            )
    spec = InputSpec(32, "uint8", "NHWC", "cover")
    with folder_aside(output) as aside:
        for edge in edges:
            network = joined(edge.network.cpu(), server.network.cpu())
            export_exits(network, aside / edge.name, plan.name, seen.classes, spec)
        with open(aside / "held_out.csv", "w", newline="", encoding="utf-8") as file:
            rows = [(everything.names[row], int(everything.labels[row])) for row in held]
            write_lines(file, [("image", "label"), *rows])
    say(f"{output} holds {', '.join(edge.name for edge in edges)} and held_out.csv")
    return left_out


def _edges(
    shares: list[ImageArrays], plan: GroupPlan, recipe: GroupRecipe, checkpoints: Path
) -> list[Edge]:
    return [
        Edge(f"edge-{number}", own, recipe, checkpoints / f"edge-{number}.pt", plan.device)
        for number, own in enumerate(shares, 1)
    ]


def _as_processes(
    server: GroupServer,
    shares: list[ImageArrays],
    plan: GroupPlan,
    checkpoints: Path,
    threads: int,
    say: Callable[[str], None],
) -> Traffic:
    checkpoints.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(16)
    meeting = Meeting(server, plan.edges, plan.patience_s, key, say)
    http = meeting.listen()
    processes = []
    try:
        for number, own in enumerate(shares, 1):
            images = checkpoints / f"edge-{number}.npz"
            np.savez(images, images=own.images, labels=own.labels, classes=np.array(own.classes))
            command = [
                *(sys.executable, "-m", "adaptive.networks.federated.edge_process", str(images)),
                *("--server", f"http://127.0.0.1:{http.server_port}"),
                *("--name", f"edge-{number}", "--threads", str(threads)),
                *("--checkpoint", str(checkpoints / f"edge-{number}.pt")),
                *("--patience", str(plan.patience_s), "--device", plan.device),
            ]
            processes.append(subprocess.Popen(command, env={**os.environ, KEY_VARIABLE: key}))
        meeting.run(still=lambda: _all_well(processes))
        for process in processes:  # one that hangs is waited for no longer than in a round
            with suppress(subprocess.TimeoutExpired):
                process.wait(plan.patience_s)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        http.shutdown()
        http.server_close()
    return meeting.traffic


def _all_well(processes: list[subprocess.Popen[bytes]]) -> None:
    """Raise when no edge is left that could send anything."""
    if processes and all(process.poll() not in (None, 0) for process in processes):
        raise ServiceError("all edges have stopped; what they said is above")
