"""A network with exits as candidates: one ONNX file a segment, held against the whole network.

The network is anything with the shape of `adaptive.networks.multiexit.MultiExit`: `exits`,
`segment(k, x)`, `head(k, state)`, and a forward pass that gives the logits of all exits. Exit k
of K becomes the candidate NAME@k, which goes on from NAME@{k-1}. Its file gives the logits and
then, but for the last, the state; beside it lies a file that gives the state alone, for images
that run through the exit without asking it.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from adaptive.bundle.bundle import MANIFEST, Bundle, candidate_to_json, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec, Through
from adaptive.causes import reason
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import EngineError, InputError
from adaptive.files import read_json, sha256, write_json
from adaptive.networks.export import save_onnx

#: Largest difference between ONNX Runtime's and torch's logits, as a share of the largest logit.
TOLERANCE = 1e-4

#: The same where weights are stored in 16 bits, whose rounding every layer adds to.
TOLERANCE_HALF = 5e-3

#: Images that the exported files are held against torch with.
CHECKED = 4


class Segment(nn.Module):
    """One segment of a network with exits: to its logits and its state, or to one of them.

    Parameters
    ----------
    network : the whole
    position : of the segment, from 0
    logits, state : what to return, in this order
    """

    def __init__(self, network: Any, position: int, logits: bool, state: bool) -> None:
        super().__init__()
        self.network = network
        self.position = position
        self.logits = logits
        self.state = state

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        state = self.network.segment(self.position, x)
        answer = (self.network.head(self.position, state),) if self.logits else ()
        return (*answer, state) if self.state else answer


def export_exits(
    network: Any,
    folder: Path,
    name: str,
    labels: Sequence[str],
    spec: InputSpec,
    half_weights: bool = True,
    force: bool = False,
) -> list[Candidate]:
    """Write a network's segments into a folder of candidates, and add NAME@1 … NAME@K to it.

    Parameters
    ----------
    network : with exits; it is left as it is
    folder : a folder of candidates of the same labels, or a new one, whose reference becomes
        the last exit
    name : of the network
    labels : class names, in the order of the logits
    spec : what the first segment reads
    half_weights : store weights in 16 bits
    force : replace exits of this name

    Returns
    -------
    The new manifest entries; nothing is written where they are not all right.

    Raises
    ------
    InputError
        when the folder cannot take them, or a segment cannot be written.
    EngineError
        when ONNX Runtime, from segment to segment, answers otherwise than torch.
    """
    names = [f"{name}@{k + 1}" for k in range(network.exits)]
    others = _others(folder, name, labels, force)
    network = copy.deepcopy(network).cpu().eval()
    images = _example(spec, CHECKED)
    with torch.no_grad():
        widths = {int(logits.shape[1]) for logits in network(images)}
    if widths != {len(labels)}:
        raise InputError(
            f"{name} gives {' or '.join(map(str, sorted(widths)))} logits; there are "
            f"{len(labels)} labels"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        output = OutputSpec(len(labels))
        candidates: list[Candidate] = []
        state = images
        for k, own in enumerate(names):
            last = k == len(names) - 1
            path = Path(aside) / f"{own}.onnx"
            through = None
            _save(Segment(network, k, True, not last), state, path, half_weights)
            if not last:
                short = path.with_suffix(".through.onnx")
                _save(Segment(network, k, False, True), state, short, half_weights)
                through = Through(short.name, sha256(short))
            after = names[k - 1] if k else None
            candidates.append(
                Candidate(own, path.name, sha256(path), spec, output, after, through=through)
            )
            with torch.no_grad():
                state = network.segment(k, state)
        _check(network, Path(aside), candidates, images, half_weights)
        folder.mkdir(exist_ok=True)
        for file in sorted(Path(aside).iterdir()):
            os.replace(file, folder / file.name)
    if others is None:
        write_candidates(folder, candidates, labels, reference=names[-1])
        return candidates
    entries = [*others["candidates"], *map(candidate_to_json, candidates)]
    if others.get("reference") not in {entry["name"] for entry in entries}:
        others["reference"] = names[-1]
    write_json(folder / MANIFEST, {**others, "candidates": entries})
    return candidates


def _others(folder: Path, name: str, labels: Sequence[str], force: bool) -> dict[str, Any] | None:
    """The manifest of the folder without the exits that are replaced; None for a new folder."""
    if not (folder / MANIFEST).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists and is no folder of candidates; name another one")
        return None
    bundle = Bundle.read(folder)
    if bundle.labels != tuple(labels):
        raise InputError(
            f"{folder} is about {len(bundle.labels)} other classes than {name}; export into a "
            "folder of its own"
        )
    own = [n for n in bundle.names if n.partition("@")[0] == name]
    if own and not force:
        raise InputError(f"{folder} has {own} already; give another name, or --force")
    manifest = read_json(folder / MANIFEST, "the manifest")
    kept = [entry for entry in manifest["candidates"] if entry["name"] not in own]
    needed = [entry["name"] for entry in kept if entry.get("after") in own]
    if needed:
        raise InputError(f"{needed} in {folder} come after exits that would be replaced")
    return {**manifest, "candidates": kept}


def _example(spec: InputSpec, count: int) -> Tensor:
    """Random images as a network reads them."""
    generator = torch.Generator().manual_seed(0)
    sides = spec.sides
    shape = (count, *sides, 3) if spec.layout == "NHWC" else (count, 3, *sides)
    if spec.dtype == "uint8":
        return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    return torch.randn(shape, generator=generator).to(getattr(torch, spec.dtype))


def _save(segment: Segment, example: Tensor, path: Path, half_weights: bool) -> None:
    with torch.no_grad():
        state = segment.network.segment(segment.position, example)
    if not isinstance(state, Tensor):
        raise InputError(
            f"segment {segment.position + 1} hands on a {type(state).__name__}; a network can "
            "be split only where one tensor passes"
        )
    try:
        save_onnx(
            segment,
            example[:1],
            path,
            half_weights=half_weights,
            source="images" if segment.position == 0 else "carried",
            outputs=["logits"] * segment.logits + ["state"] * segment.state,
        )
    except RuntimeError as exc:
        raise InputError(f"{path.name} cannot be written as ONNX: {reason(exc)}") from exc


def _check(
    network: Any,
    folder: Path,
    candidates: Sequence[Candidate],
    images: Tensor,
    half_weights: bool,
) -> None:
    """Run the files one after the other and hold what they say against torch."""
    for headless in (False, True):
        state, answers = images.numpy(), []
        for candidate in candidates:
            engine = OnnxEngine(folder / candidate.file)
            logits, *states = engine.run(state)
            engine.close()
            answers.append(logits)
            if headless and candidate.through is not None:
                engine = OnnxEngine(folder / candidate.through.file)
                states = engine.run(state)
                engine.close()
            state = states[0] if states else state
        what = f"{candidates[-1].name}, reached " + (
            "without heads" if headless else "segment by segment"
        )
        _compare(network, images, answers, what, half_weights)


def _compare(
    network: Any, images: Tensor, answers: Sequence[np.ndarray], what: str, half_weights: bool
) -> None:
    with torch.no_grad():
        expected = [logits.numpy() for logits in network(images)]
    share = TOLERANCE_HALF if half_weights else TOLERANCE
    for k, (found, wanted) in enumerate(zip(answers, expected)):
        difference = float(np.abs(found - wanted).max())
        if not difference <= share * float(np.abs(wanted).max()):
            raise EngineError(
                f"exit {k + 1} of {what} differs from torch by up to {difference:.2g} on random "
                f"images; no more than a share of {share} of the largest logit is allowed"
            )
