"""Pretrained networks as a folder of candidates: classifiers of torchvision, and detectors."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence, Union

import numpy as np

from adaptive.bundle.bundle import MANIFEST, Bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.causes import reason
from adaptive.engines.engine import open_engine
from adaptive.errors import EngineError, InputError, MissingExtra
from adaptive.files import folder_aside, read_json, refuse_existing, sha256
from adaptive.images.preprocess import needed_short

try:
    import torch
    import torchvision
    from torch import Tensor, nn

    from adaptive.networks.detectors.published import (
        PublishedDetector,
        checked_sides,
        detectors,
        export_detector,
        load_own,
        random_detector,
    )
    from adaptive.networks.export import OPSET, save_onnx
except ImportError as exc:
    raise MissingExtra("the zoo of pretrained networks", exc.name or "torch", "train") from exc

#: Largest difference between ONNX Runtime's and torch's logits, as a share of the largest logit.
TOLERANCE = 1e-4

#: The same for random weights, which amplify rounding from layer to layer: a random ResNet-152 in
#: single precision differs from itself in double precision by 4e-4 of its largest logit.
TOLERANCE_UNTRAINED = 1e-2

#: An ONNX file is one protocol-buffer message, of at most 2 GB.
MOST_PARAMETERS = 2**31 // 4 - 2**20

#: Seconds without an answer after which a download is given up.
TIMEOUT_S = 20.0


#: What the zoo has.
Entry = Union["Pretrained", PublishedDetector]


@dataclass(frozen=True)
class Pretrained:
    """A network of torchvision and one set of weights that was published for it.

    Attributes
    ----------
    name : the network's name, and that of the candidate made from it
    weights : torchvision's entry: address, transform, categories, published accuracy
    default : whether torchvision takes these weights when it is asked for the best
    """

    name: str
    weights: Any
    default: bool

    @property
    def asked_as(self) -> str:
        """What selects this network and these weights: `resnet50`, `resnet50:IMAGENET1K_V1`."""
        return self.name if self.default else f"{self.name}:{self.weights.name}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return tuple(self.weights.meta["categories"])

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return int(self.weights.meta["num_params"])

    @property
    def top1(self) -> float | None:
        """Published top-1 on the ImageNet validation set, percent."""
        metrics = self.weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
        value: float | None = metrics.get("acc@1")
        return value

    @property
    def sides(self) -> tuple[int, int]:
        """The short side that an image is scaled to, and the side of what is then cut out."""
        transform = self.weights.transforms()
        return int(transform.resize_size[0]), int(transform.crop_size[0])

    @property
    def cut_inside(self) -> int | None:
        """The side that the ONNX file itself cuts out, where no manifest entry can say it."""
        short, side = self.sides
        return None if short in (side, needed_short(InputSpec(side))) else side

    @property
    def input(self) -> InputSpec:
        """Torchvision's own transform as a manifest entry."""
        transform = self.weights.transforms()
        short, side = self.sides
        scaled_only = short == side or self.cut_inside is not None
        return InputSpec(
            size=short if scaled_only else side,
            resize="cover" if scaled_only else "crop",
            scale=255.0,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        )

    @property
    def url(self) -> str:
        """Address of the file of weights."""
        return str(self.weights.url)

    @property
    def file_name(self) -> str:
        """Name of the file of weights, in torch's cache and at its address."""
        return self.url.rsplit("/", 1)[-1]


class CentreCrop(nn.Module):
    """A network that sees the middle of what it is given, cut as torchvision cuts it."""

    def __init__(self, network: nn.Module, short: int, side: int) -> None:
        super().__init__()
        self.network = network
        self.first = round((short - side) / 2)
        self.last = self.first + side

    def forward(self, images: Tensor) -> Tensor:
        middle = images[:, :, self.first : self.last, self.first : self.last]
        logits: Tensor = self.network(middle)
        return logits


def pretrained() -> list[Pretrained]:
    """Every classification network of torchvision, with all weights that have class names.

    Left out are the two whose weights alone are more than an ONNX file can hold.
    """
    entries = []
    for name in torchvision.models.list_models(module=torchvision.models):
        published = torchvision.models.get_model_weights(name)
        found = [Pretrained(name, weights, weights is published.DEFAULT) for weights in published]
        found.sort(key=lambda entry: not entry.default)
        entries += [e for e in found if e.weights.meta.get("categories")]
    return [entry for entry in entries if entry.parameters <= MOST_PARAMETERS]


def find(names: Sequence[str]) -> list[Entry]:
    """The networks of the given names (`resnet50`, or `resnet50:IMAGENET1K_V1`), in their order.

    Raises
    ------
    InputError
        when a name is unknown, a network is named twice, or classifiers and detectors are mixed.
    """
    known = pretrained()
    by_name: dict[str, Entry] = {f"{e.name}:{e.weights.name}": e for e in known}
    by_name.update({e.name: e for e in known if e.default})
    by_name.update({e.name: e for e in detectors()})
    for name in names:
        if name not in by_name:
            import difflib

            near = difflib.get_close_matches(name, by_name, 3) or ["mobilenet_v2", "resnet50"]
            raise InputError(
                f"{name!r} is no network of torchvision {torchvision.__version__}, and no other, "
                f"that can be exported; there are {near} and others, see `adaptive zoo list`"
            )
    found = [by_name[name] for name in names]
    twice = {e.name for e in found if [f.name for f in found].count(e.name) > 1}
    if twice:
        raise InputError(f"networks {sorted(twice)} are named twice; each becomes one candidate")
    kinds = {isinstance(entry, PublishedDetector): entry.name for entry in found}
    if len(kinds) > 1:
        raise InputError(
            f"{kinds[True]} finds boxes and {kinds[False]} does not; export detectors into a "
            "folder of their own"
        )
    return found


def weights_folder(weights_dir: Path | None = None) -> Path:
    """Where files of weights lie: the given folder, else torch's cache."""
    if weights_dir is None:
        return Path(torch.hub.get_dir()) / "checkpoints"
    if not weights_dir.is_dir():
        raise InputError(f"--weights-dir {weights_dir} is no folder")
    return weights_dir


def fetch_weights(entry: Entry, folder: Path) -> Path:
    """The file of a network's weights in `folder`, downloaded into it where it is missing.

    A download is held against the hash in the file's name; a file that lies there already is
    taken for what its name says, as torchvision does.

    Raises
    ------
    InputError
        when it is not there and cannot be downloaded; the sentence says what to do.
    """
    path = folder / entry.file_name
    if path.exists():
        return path
    if entry.url is None:
        raise InputError(
            f"the weights of {entry.name} are not in {folder}, and have no lasting address; put "
            f"the file that its authors publish there as {entry.file_name}, or ask for random "
            "weights with --untrained"
        )
    digits = path.stem.rpartition("-")[2]
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            entry.url, str(path), hash_prefix=digits, progress=sys.stderr.isatty()
        )
    except (OSError, HTTPException, RuntimeError) as exc:
        why = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc
        others = [
            e.asked_as
            for e in pretrained()
            if e.name == entry.name and (folder / e.file_name).exists()
        ]
        raise InputError(
            f"the weights of {entry.asked_as} are not in {folder} and could not be downloaded "
            f"({why}); put {entry.url} there, "
            + (f"export {' or '.join(others)}, whose weights are there, " if others else "")
            + "or ask for random weights with --untrained"
        ) from exc
    finally:
        socket.setdefaulttimeout(timeout)
    return path


def load_network(entry: Entry, weights: Path) -> nn.Module:
    """The network with the weights of a file, in evaluation mode.

    Raises
    ------
    InputError
        when the file holds anything but tensors, or those of another network.
    """
    if isinstance(entry, PublishedDetector) and entry.weights is None:
        return load_own(entry, weights)
    more = {"weights_backbone": None} if isinstance(entry, PublishedDetector) else {}
    try:
        # Torchvision itself would unpickle whatever the file holds.
        torch.load(weights, map_location="cpu", weights_only=True)
        with _hub_of(weights.parent):
            network = torchvision.models.get_model(entry.name, weights=entry.weights, **more)
    except Exception as exc:  # torch's loader raises nearly everything on a damaged file
        raise InputError(
            f"{weights} does not hold the weights of {entry.asked_as} "
            f"({reason(exc)}); delete it to have it downloaded again"
        ) from exc
    result: nn.Module = network.eval()
    return result


def random_network(entry: Pretrained, seed: int = 0) -> nn.Module:
    """The network with random weights, the same for the same seed, in evaluation mode.

    Its batch normalisations are set by one batch of noise. Left at their beginnings they let the
    signal die away from layer to layer: the answer would no longer depend on the image, and
    numbers too small for a processor's fast path would spoil any measurement of time.
    """
    options: dict[str, Any] = {}
    if entry.name in ("inception_v3", "googlenet"):
        options = {"transform_input": True, "init_weights": False}  # as with their weights
    elif entry.name.startswith("vit_"):
        options = {"image_size": entry.sides[1]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = torchvision.models.get_model(entry.name, weights=None, **options)
        for layer in network.modules():
            if isinstance(layer, nn.Linear) and not layer.weight.any():
                nn.init.normal_(layer.weight, std=0.02)  # some begin at zero: no answer at all
        layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        if layers:
            momentum = [layer.momentum for layer in layers]
            for layer in layers:
                layer.momentum = None  # the mean over all batches, here one
            with torch.no_grad():
                network.train()(torch.randn(4, 3, entry.sides[1], entry.sides[1]))
            for layer, value in zip(layers, momentum):
                layer.momentum = value
    return network.eval()


def export(
    network: nn.Module, entry: Pretrained, path: Path, opset: int = OPSET, untrained: bool = False
) -> tuple[Candidate, float]:
    """Write one network as an ONNX file, and hold ONNX Runtime's answers against torch's.

    Returns
    -------
    The manifest entry, and the largest difference between the logits of three random inputs.

    Raises
    ------
    InputError
        when the network cannot be written at this opset.
    EngineError
        when ONNX Runtime cannot run it, or answers otherwise.
    """
    spec = entry.input
    if entry.cut_inside is not None:
        network = CentreCrop(network, min(spec.sides), entry.cut_inside)
    if opset < 14 and any(isinstance(m, nn.MultiheadAttention) for m in network.modules()):
        raise InputError(f"{entry.asked_as} has attention layers; give --opset 14, 15 or 16")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((3, 3, *spec.sides), generator=generator)
    try:
        save_onnx(network, inputs[:1], path, opset)
    except RuntimeError as exc:
        raise InputError(
            f"{entry.asked_as} cannot be written at opset {opset} ({reason(exc)}); "
            + ("try --opset 16" if opset < 16 else "this version of torch cannot export it")
        ) from exc
    output = OutputSpec(len(entry.labels))
    candidate = Candidate(entry.name, path.name, sha256(path), spec, output, untrained=untrained)
    engine = open_engine(path, candidate, torch.get_num_threads())
    with torch.inference_mode():
        expected = network(inputs).numpy()
    difference = float(np.abs(engine.run(inputs.numpy())[0] - expected).max())
    engine.close()
    share = TOLERANCE_UNTRAINED if untrained else TOLERANCE
    if not difference <= share * float(np.abs(expected).max()):
        raise EngineError(
            f"{entry.asked_as} as ONNX differs from torch by up to {difference:.2g} on random "
            f"inputs; no more than a share of {share} of the largest logit is allowed"
        )
    return candidate, difference


def export_zoo(
    names: Sequence[str],
    output: Path,
    untrained: bool = False,
    weights_dir: Path | None = None,
    opset: int = OPSET,
    force: bool = False,
    say: Callable[[str], None] = print,
    sides: tuple[int, int] | None = None,
) -> None:
    """Write networks as a folder of candidates, all of them or nothing.

    Parameters
    ----------
    names : `resnet50`, or `resnet50:IMAGENET1K_V1` for weights that are not the default
    untrained : random weights, marked in the manifest
    weights_dir : where files of weights lie and are downloaded to, instead of torch's cache
    force : add to the folder if it exists; a candidate of the same name is replaced
    say : gets one line for each network that is done
    sides : height and width of a detector's input; its own where left out

    Raises
    ------
    InputError
        when a name is unknown, a size is impossible, weights cannot be had, or `output` cannot
        be written.
    """
    entries = find(names)
    for entry in entries:
        if isinstance(entry, PublishedDetector):
            checked_sides(entry, sides)
        elif sides is not None:
            raise InputError(f"{entry.name} is no detector; its input's size is its own")
    refuse_existing(output, force)
    kept = _others(output, entries) if output.exists() else None
    folder = weights_folder(weights_dir)
    files = [None if untrained else fetch_weights(entry, folder) for entry in entries]
    with folder_aside(output) as aside:
        candidates = []
        if kept is not None:
            for candidate in kept.candidates:
                if candidate.remote is not None:
                    candidates.append(candidate)
                    continue
                name = Path(candidate.file).name
                shutil.copyfile(kept.folder / candidate.file, aside / name)
                through = candidate.through
                if through is not None:
                    own = Path(through.file).name
                    shutil.copyfile(kept.folder / through.file, aside / own)
                    through = replace(through, file=own)
                candidates.append(replace(candidate, file=name, through=through))
        for entry, file in zip(entries, files):
            path = aside / f"{entry.name}.onnx"
            if isinstance(entry, PublishedDetector):
                network = random_detector(entry) if file is None else load_network(entry, file)
                candidate, difference = export_detector(
                    network, entry, path, opset, untrained, sides
                )
            else:
                network = random_network(entry) if file is None else load_network(entry, file)
                candidate, difference = export(network, entry, path, opset, untrained)
            candidates.append(candidate)
            say(_line(entry, candidate, path.stat().st_size, difference))
        reference = None if kept is None else kept.reference
        if reference is None and not untrained:
            reference = max(entries, key=_quality).name
        write_candidates(aside, candidates, entries[0].labels, reference)


def _quality(entry: Entry) -> float:
    """Published AP or top-1, percent."""
    return entry.ap if isinstance(entry, PublishedDetector) else entry.top1 or 0.0


def _others(output: Path, entries: Sequence[Entry]) -> Bundle:
    """The folder that is added to, without the candidates that are replaced."""
    if not output.is_dir() or not (output / MANIFEST).exists():
        raise InputError(f"{output} is no folder of candidates; name another one")
    bundle = Bundle.read(output)
    manifest = read_json(output / MANIFEST, "the manifest")
    # a policy, a premodel, weights outside an ONNX file: all of them are listed there
    more = sorted({*manifest.get("files", {})} - {manifest["labels"]})
    if more:
        raise InputError(
            f"{output} holds more than candidates and labels, such as {more[0]!r}; "
            "export into a folder of its own"
        )
    for entry in entries:
        if entry.labels != bundle.labels:
            raise InputError(
                f"{output} is about {len(bundle.labels)} other classes than {entry.name}; "
                "export into a folder of its own"
            )
    replaced = {entry.name for entry in entries}
    kept = tuple(c for c in bundle.candidates if c.name not in replaced)
    files = [Path(file).name for c in kept for file in c.files]
    files += [f"{name}.onnx" for name in replaced]
    twice = sorted({file for file in files if files.count(file) > 1})
    if twice or any(c.after in replaced for c in kept):
        raise InputError(f"{output} needs what would be replaced; export into a folder of its own")
    reference = bundle.reference if bundle.reference in {c.name for c in kept} else None
    return replace(bundle, candidates=kept, reference=reference)


def _line(entry: Entry, candidate: Candidate, size: int, difference: float) -> str:
    parts = [f"{size / 1e6:.1f} MB"]
    if isinstance(entry, PublishedDetector):
        height, width = candidate.input.sides
        parts.append(f"input {height} x {width}")
        known = f"published AP {entry.ap} %"
    else:
        short, side = entry.sides
        inside = "" if entry.cut_inside is None else " (cut inside the network)"
        parts.append(f"short side {short}, middle {side}{inside}")
        known = f"{entry.weights.name}, published top-1 {entry.top1} %"
    parts.append("random weights" if candidate.untrained else known)
    return f"{entry.name}: {', '.join(parts)}; within {difference:.1g} of torch"


@contextmanager
def _hub_of(folder: Path) -> Iterator[None]:
    """Let torch.hub, whose cache torchvision reads, see `folder` as its checkpoints."""
    before = torch.hub.get_dir()
    if folder == weights_folder():
        yield
        return
    with tempfile.TemporaryDirectory() as hub:
        (Path(hub) / "checkpoints").symlink_to(folder.resolve(), target_is_directory=True)
        torch.hub.set_dir(hub)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
