"""Profile, train and evaluate on real ImageNet photographs and networks.

    python benchmarks/imagenet.py --data DATA --work WORK

DATA holds `imagenet/images`, `imagenet/labels.csv`, `imagenet/classes.csv` and
`imagenet/models/*.onnx`; it defaults to the environment's ADAPTIVE_DATA. WORK keeps the outcome
table, so that a second call goes on from there. Every step is the command that a user would call.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from adaptive.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.csvfile import read_csv
from adaptive.files import sha256

_PIXELS = {"dtype": "uint8", "layout": "NHWC"}
_NORMALISED = {
    "dtype": "float32",
    "layout": "NCHW",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "scale": 255.0,
}

#: name, input, kind of output, and top-1 in % that the first 2,000 validation images give
NETWORKS = (
    ("mobilenet_v1_025_128", InputSpec(128, resize="stretch", **_PIXELS), "probabilities", 35.55),
    ("mobilenet_v1_050_160", InputSpec(160, resize="stretch", **_PIXELS), "probabilities", 53.70),
    ("mobilenet_v1_075_192", InputSpec(192, resize="stretch", **_PIXELS), "probabilities", 62.55),
    ("mobilenet_v2_100_224", InputSpec(224, resize="crop", **_PIXELS), "probabilities", 69.50),
    ("googlenet", InputSpec(224, resize="crop", **_NORMALISED), "logits", 68.15),
    ("resnet50", InputSpec(224, resize="crop", **_NORMALISED), "logits", 72.20),
)


def make_candidates(data: Path, folder: Path) -> None:
    """Write a folder of candidates for the networks in `data`/imagenet/models."""
    folder.mkdir(parents=True, exist_ok=True)
    candidates = []
    for name, spec, kind, _ in NETWORKS:
        file = f"{name}.onnx"
        shutil.copyfile(data / "imagenet" / "models" / file, folder / file)
        candidates.append(
            Candidate(name, file, sha256(folder / file), spec, OutputSpec(1000, kind))
        )
    columns = read_csv(data / "imagenet" / "classes.csv")
    # Several classes share a first name, so the WordNet number goes in front.
    labels = [f"{w} {n}" for w, n in zip(columns.text("wnid"), columns.text("name"))]
    write_candidates(folder, candidates, labels, reference="resnet50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data or set ADAPTIVE_DATA")
    make_candidates(Path(arguments.data), arguments.work / "candidates")


if __name__ == "__main__":
    main()
