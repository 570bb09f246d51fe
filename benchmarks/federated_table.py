"""What `federated.py` measured as the table of docs/federated.md.

python benchmarks/federated_table.py federated.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Iterator

#: A training step costs about three forward passes.
TRAINING = 3


def table(rows: dict[str, Any], settings: dict[str, Any]) -> str:
    """Markdown: a line for each kind of row and split, a column for each seed.

    rows : by name, which ends in the split, or "-", and the seed
    """
    seeds = sorted({name.rsplit(" ", 1)[1] for name in rows})
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, row in rows.items():
        kind, split, seed = name.rsplit(" ", 2)
        found.setdefault((kind, split), {})[seed] = row
    head = ["", "edges", *(f"seed {seed}" for seed in seeds), "mean"]
    head += ["MB an edge, up and down", "multiply-adds of an edge, 10^9 an image"]
    lines = [head, ["---"] * len(head)]
    for (kind, split), by_seed in found.items():
        one = next(iter(by_seed.values()))
        for key in ("edge and server", "edge alone", "top-1"):
            if key not in one:
                continue
            values = [by_seed[seed][key]["value"] for seed in seeds if seed in by_seed]
            cells = [_shown(by_seed[seed][key]) if seed in by_seed else "" for seed in seeds]
            words = kind if key == "top-1" else f"{kind}: {key}"
            mean = f"{sum(values) / len(values):.1f}" if len(values) > 1 else ""
            where = {"iid": "alike", "-": "one place"}.get(split, split.replace(":", " "))
            work = _work(kind, settings)
            lines.append([words, where, *cells, mean, _bytes(one), work])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _shown(value: dict[str, float]) -> str:
    return f"{value['value']:.1f} ({value['low']:.1f} to {value['high']:.1f})"


def _bytes(row: dict[str, Any]) -> str:
    sent = row.get("bytes an edge")
    if sent is None:
        return "-"
    if isinstance(sent, dict):
        return f"{sent['up'] / 1e6:.0f}, {sent['down'] / 1e6:.1f}"
    return f"{sent / 2e6:.1f}, {sent / 2e6:.1f}"  # weights go up as they come down


def _work(kind: str, settings: dict[str, Any]) -> str:
    """Of training at an edge, all rounds together."""
    if kind.startswith("central"):
        return "-"
    rounds = settings["rounds"] * (4 if "four times" in kind else 1)
    forward = TRAINING * settings["edge_epochs"] + kind.startswith("FedGKT")
    return f"{rounds * forward * settings['multiply-adds an image']['edge'] / 1e9:.2f}"


def differences(rows: dict[str, Any]) -> Iterator[str]:
    """FedGKT, edge and server, against FedAvg, by split and seed, in points."""
    for name, row in rows.items():
        if name.startswith("FedGKT ") and (other := f"FedAvg, small {name[7:]}") in rows:
            lead = row["edge and server"]["value"] - rows[other]["top-1"]["value"]
            yield f"{name[7:]}: {lead:+.1f} points"


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE.json")
    content = json.loads(parser.parse_args().file.read_text(encoding="utf-8"))
    print(table(content["rows"], content["settings"]))
    print("FedGKT above FedAvg:", *differences(content["rows"]), sep="\n")


if __name__ == "__main__":
    main()
