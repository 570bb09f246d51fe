"""Make the embedded default from its trained networks: premodel, policy, certificate.

    python -m adaptive.networks.default_bundle DATA/cifar10 NETWORKS -o adaptive/default --work WORK

NETWORKS is what `train_default` wrote and, in its folder `exits`, what `adaptive train-exits`
wrote for a multi-exit network, trained without the same held-out images. The images in
`held_out.csv`, which no network has seen, are profiled and split: half for premodel and
thresholds, half to certify on. The test images only report. Every step is the command that a user
would call, and `tune` decides by itself whether the policy uses the premodel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click

from adaptive.bundle.bundle import Bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.errors import InputError
from adaptive.files import sha256
from adaptive.networks.small import DESIGNS

#: How the networks read an image: pixels as they are, the middle square at 32 x 32.
INPUT = InputSpec(32, "uint8", "NHWC", "cover")


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("networks", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
def main(data: Path, networks: Path, output: Path, work: Path) -> None:
    """Profile, train, tune and bundle the networks in NETWORKS on the images of DATA."""
    work.mkdir(parents=True, exist_ok=True)
    candidates = work / "candidates"
    names = _candidates(networks, candidates)
    table, test = work / "held_out.csv", work / "test.csv"
    for name, folder, labels in (
        (table, data / "train", networks / "held_out.csv"),
        (test, data / "test", None),
    ):
        if not name.exists():
            _adaptive(
                "profile",
                f"--candidates={candidates}",
                f"--images={folder}",
                f"--output={name}",
                *([f"--labels={labels}"] if labels else []),
            )
    _adaptive(
        "train",
        str(table),
        f"--output={work / 'premodel'}",
        "--classifier=mixture",
        "--features=extra",
        f"--order={','.join(names)}",
        "--split=0.5,0.5,0",
        "--force",
    )
    _adaptive(
        "tune",
        str(table),
        f"--premodel={work / 'premodel'}",
        "--reference=resnet",
        "--max-accuracy-drop=0.01",
        f"--output={work / 'policy.json'}",
        "--force",
    )
    _adaptive(
        "bundle",
        f"--candidates={candidates}",
        f"--premodel={work / 'premodel'}",
        f"--policy={work / 'policy.json'}",
        f"--certificate={work / 'certificate.json'}",
        f"--table={table}",
        f"--output={output}",
        "--all-candidates",
        "--keep-premodel",
        "--force",
    )
    _adaptive("evaluate", str(output), str(test), f"--json={work / 'evaluation.json'}", "--force")


def _candidates(networks: Path, folder: Path) -> list[str]:
    """Make the trained networks a folder of candidates; return their names."""
    folder.mkdir(exist_ok=True)
    labels = (networks / "labels.txt").read_text().split()
    found = []
    for name in DESIGNS:
        path = folder / f"{name}.onnx"
        shutil.copyfile(networks / path.name, path)
        found.append(
            Candidate(name, path.name, sha256(path), INPUT, OutputSpec(len(labels), "logits"))
        )
    if (networks / "exits").is_dir():
        exits = Bundle.read(networks / "exits")
        if list(exits.labels) != labels:
            raise InputError(f"the exits know {exits.labels}, the other networks {labels}")
        for candidate in exits.candidates:
            through = candidate.through
            for file in (candidate.file, *(() if through is None else (through.file,))):
                shutil.copyfile(exits.folder / file, folder / file)
            found.append(replace(candidate, input=INPUT))
    write_candidates(folder, found, labels, reference="resnet")
    return [candidate.name for candidate in found]


def _adaptive(*arguments: str) -> None:
    click.echo("$ adaptive " + " ".join(arguments))
    subprocess.run([sys.executable, "-m", "adaptive.cli", *arguments], check=True)


if __name__ == "__main__":
    main()
