"""The pair that learnt together, routed: accuracy against the bytes that leave the device.

    python benchmarks/federated_routed.py DATA/cifar10 WORK/group-iid-0 --images 8000 --split iid \\
        -o routed.json --plot docs/images/federated.svg

WORK is the folder of `federated.py`, whose networks are read from their checkpoints; `--images` and
`--split` are those of that run. An image's feature maps are sent where the edge's own confidence is
below a threshold. Beside it: images sent blindly (the random mix), and by somebody who knows where
the server alone is right (the oracle). One threshold is chosen on training images that nobody
learnt from, and judged on the test images. All is the mean over the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from machine import envelope, save

from adaptive.errors import InputError
from adaptive.intervals import Estimate, mean
from adaptive.networks.federated.edge import Edge, outputs
from adaptive.networks.federated.messages import pack
from adaptive.networks.federated.parts import deal, read_split
from adaptive.networks.federated.recipe import GroupRecipe
from adaptive.networks.federated.server import GroupServer
from adaptive.networks.images import ImageArrays, hold_out, read_folder

#: How feature maps travel in the plot.
KINDS = ("float16", "int8")

#: Accuracy that the chosen threshold may lose against always asking the server.
DROP = 0.01


@dataclass(frozen=True)
class Pair:
    """What edges and server said of some images.

    Attributes
    ----------
    confidence : the edges' own, shape (edges, n)
    edge, server : whether each was right, shape (edges, n), bool
    bytes : of an image's feature maps
    """

    confidence: np.ndarray
    edge: np.ndarray
    server: np.ndarray
    bytes: int

    def routed(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Which images are sent, and which are right, both of shape (edges, n)."""
        sent = self.confidence < threshold
        return sent, np.where(sent, self.server, self.edge)

    def mixed(self, share: float) -> np.ndarray:
        """Chance to be right of each image, when a share of them is sent blindly."""
        return np.asarray(share * self.server + (1 - share) * self.edge)

    def oracle(self, share: float) -> float:
        """Accuracy when no more than a share is sent, those first where the server alone is right.

        What is sent beyond those is chosen to do no harm.
        """
        gained = float((self.server & ~self.edge).mean())
        return float(self.edge.mean()) + min(share, gained)


def pairs(edges: list[Edge], server: GroupServer, data: ImageArrays) -> dict[str, Pair]:
    """What they say of `data`, by the way that feature maps travel."""
    images = torch.from_numpy(data.images)
    sure, own = [], []
    both: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    sizes = {}
    for edge in edges:
        maps, logits = outputs(edge.network, images)
        sure.append(torch.from_numpy(logits).softmax(1).amax(1).numpy())
        own.append(logits.argmax(1) == data.labels)
        for kind in KINDS:
            packed = pack(maps, kind)
            parts = (packed.values, packed.scale, packed.offset)
            sizes[kind] = sum(part[0].nbytes for part in parts if part is not None)
            both[kind].append(server.logits(packed).argmax(1) == data.labels)
    return {
        kind: Pair(np.array(sure), np.array(own), np.array(both[kind]), sizes[kind])
        for kind in KINDS
    }


def chosen_threshold(pair: Pair) -> float:
    """The lowest threshold that loses at most DROP against always asking the server."""
    wanted = pair.server.mean() - DROP
    for threshold in np.quantile(pair.confidence, np.linspace(0, 1, 201)):
        if pair.routed(float(threshold))[1].mean() >= wanted:
            return float(threshold)
    return 2.0  # above any confidence


def curve(pair: Pair, points: int = 41) -> list[dict[str, float]]:
    """Accuracy and bytes an image over the thresholds that send 0 to 100% of the images."""
    levels = [*np.quantile(pair.confidence, np.linspace(0, 1, points))[:-1], 2.0]
    found = []
    for threshold in levels:
        sent, right = pair.routed(float(threshold))
        share = float(sent.mean())
        found.append(
            {
                "threshold": float(threshold),
                "sent": share,
                "bytes": share * pair.bytes,
                "top-1": float(right.mean()),
                "random mix": float(pair.mixed(share).mean()),
                "oracle": pair.oracle(share),
            }
        )
    return found


def judged(pair: Pair, threshold: float) -> dict[str, Any]:
    """A threshold that was chosen elsewhere, on the images of `pair`."""
    sent, right = pair.routed(threshold)
    share = float(sent.mean())

    def estimate(values: np.ndarray) -> dict[str, float | None]:
        found: Estimate = mean(values.mean(axis=0))  # an image, over the edges
        return found.to_json()

    return {
        "threshold": threshold,
        "sent": share,
        "bytes": share * pair.bytes,
        "top-1": estimate(right.astype(float)),
        "edge alone": estimate(pair.edge.astype(float)),
        "server always": estimate(pair.server.astype(float)),
        "minus server always": estimate(right.astype(float) - pair.server),
        "minus random mix": estimate(right - pair.mixed(share)),
    }


def drawing(curves: dict[str, list[dict[str, float]]], marks: dict[str, dict[str, Any]]) -> str:
    """The SVG: a line for each way that feature maps travel."""
    from adaptive.report.svg import Scale, circle, figure, line, path, text

    points = [point for one in curves.values() for point in one]
    most = max(point["bytes"] for point in points) / 1024
    low = min(p["top-1"] for p in points)
    high = max(p["oracle"] for p in points)
    x, y = Scale(0, most, 60, 520), Scale(100 * low - 1, 100 * high + 1, 300, 40)
    parts = [line(60, 300, 520, 300, "axis"), line(60, 40, 60, 300, "axis")]
    for tick in x.ticks():
        parts.append(text(x(tick), 318, f"{tick:g}", "", "middle"))
    for tick in y.ticks():
        parts.append(line(60, y(tick), 520, y(tick), "grid"))
        parts.append(text(54, y(tick) + 4, f"{tick:g}", "", "end"))
    parts.append(text(290, 340, "KiB of feature maps an image, mean", "", "middle"))
    parts.append(text(60, 24, "top-1 on the test images, %"))
    for kind, found in curves.items():
        for key, style in (("oracle", "oracle"), ("random mix", "mix"), ("top-1", "routed")):
            where = [(x(p["bytes"] / 1024), y(100 * p[key])) for p in found]
            parts.append(path(where, f"{style} {kind}"))
        mark = marks[kind]
        parts.append(
            circle(x(mark["bytes"] / 1024), y(100 * mark["top-1"]["value"]), 4, f"dot {kind}")
        )
    for row, (kind, style, words) in enumerate(
        [
            *((kind, "routed", f"by the edge's confidence, maps as {kind}") for kind in curves),
            ("float16", "mix", "random mix"),
            ("float16", "oracle", "oracle"),
        ]
    ):
        top = 362 + 16 * row
        parts.append(path([(60, top - 4), (90, top - 4)], f"{style} {kind}"))
        parts.append(text(98, top, words))
    parts.append(circle(75, 426 - 4, 4, "dot float16"))
    parts.append(text(98, 426, "threshold chosen on held-out training images"))
    words = "Accuracy against the bytes that leave the device, routed, blind and by an oracle"
    body = str(figure("federated", "Which images leave", words, (540, 440), "".join(parts)))
    body = body.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    style = (
        "<style>text{font:12px sans-serif;fill:#222}.axis{stroke:#555}.grid{stroke:#ddd}"
        "polyline{fill:none;stroke-width:2}.float16{stroke:#1b6ca8}.int8{stroke:#c2571a}"
        ".mix{stroke-dasharray:6 4;stroke-width:1.3}.oracle{stroke-dasharray:2 3;stroke-width:1.3}"
        ".dot{stroke:none}.dot.float16{fill:#1b6ca8}.dot.int8{fill:#c2571a}</style>"
        '<rect width="540" height="440" fill="#fff"/>'
    )
    place = body.index("</desc>") + len("</desc>")
    return body[:place] + style + body[place:] + "\n"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("group", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--images", default=10_000, show_default=True, help="That were learnt from.")
@click.option("--edges", default=4, show_default=True)
@click.option("--split", default="iid", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--plot", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True)
def main(
    data: Path,
    group: Path,
    images: int,
    edges: int,
    split: str,
    output: Path,
    plot: Path | None,
    threads: int,
) -> None:
    """Read a group's networks, and write what routing between them comes to."""
    torch.set_num_threads(threads)
    saved = torch.load(group / "server.pt", weights_only=True, map_location="cpu")
    recipe = GroupRecipe(**saved["made"]["recipe"])
    everything = read_folder(data / "train")
    others, chosen = hold_out(everything.labels, images, 0)
    train = everything.subset(chosen)
    held = everything.subset(others[hold_out(everything.labels[others], 5000, 1)[1]])
    server = GroupServer(train.classes, recipe, group / "server.pt")
    if not server.done:
        raise InputError(f"{group} has learnt for {server.rounds} of {recipe.rounds} rounds")
    dealt = deal(train.labels, edges, read_split(split), recipe.seed)
    who = [
        Edge(f"edge-{k}", train.subset(rows), recipe, group / f"edge-{k}.pt")
        for k, rows in enumerate(dealt, 1)
    ]
    tuning, test = pairs(who, server, held), pairs(who, server, read_folder(data / "test"))
    curves = {kind: curve(pair) for kind, pair in test.items()}
    marks = {kind: judged(pair, chosen_threshold(tuning[kind])) for kind, pair in test.items()}
    for kind, mark in marks.items():
        print(f"{kind}: {mark}", flush=True)
    about = {"group": group.name, "images": images, "edges": edges, "split": split}
    save(
        envelope("federated_routed", {}, about, threads=threads, curves=curves, chosen=marks),
        output,
    )
    if plot is not None:
        plot.write_text(drawing(curves, marks), encoding="utf-8")


if __name__ == "__main__":
    main()
