"""Published detectors as candidates: torchvision's, DETR and Sparse R-CNN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from adaptive.box_output import BoxOutput
from adaptive.candidate import Candidate, InputSpec
from adaptive.causes import reason
from adaptive.engines.engine import open_engine
from adaptive.errors import EngineError, InputError, MissingExtra
from adaptive.files import sha256
from adaptive.tasks.decoding import COCO_NUMBERS

try:
    import torch
    import torchvision
    from torch import Tensor, nn
    from torchvision.models.detection.faster_rcnn import (
        FasterRCNN,
        FasterRCNN_ResNet50_FPN_Weights,
    )
    from torchvision.ops.misc import FrozenBatchNorm2d

    from adaptive.networks.detectors.agreement import largest_difference
    from adaptive.networks.detectors.as_onnx import OneStage, TwoStage
    from adaptive.networks.detectors.detr import detr_resnet50
    from adaptive.networks.detectors.sparse_rcnn import SparseRCNN, sparse_rcnn_resnet50
    from adaptive.networks.export import save_onnx
except ImportError as exc:
    raise MissingExtra("the zoo of detectors", exc.name or "torch", "train") from exc

#: ImageNet's mean and standard deviation, which most detectors are normalised by.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: The labels of COCO in the order of their numbers.
LABELS: tuple[str, ...] = tuple(
    name
    for name in FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if name not in ("__background__", "N/A")
)

#: Largest difference between ONNX Runtime's and torch's answers, logits or shares of a side.
TOLERANCE = 1e-3

#: The same for random weights, which amplify rounding from layer to layer.
TOLERANCE_UNTRAINED = 1e-2

#: Sides are a multiple of this, so that every feature map is half the one before.
STRIDE = 32


@dataclass(frozen=True)
class PublishedDetector:
    """A detector and the weights that were published for it.

    Attributes
    ----------
    name : the network's name, and that of the candidate made from it
    file_name : of the file of weights
    url : its address; None where there is no lasting one
    parameters : number of weights
    ap : published AP on COCO val2017, percent
    sides : height and width of the input unless others are asked for, pixels
    weights : torchvision's entry; None for a network of our own
    """

    name: str
    file_name: str
    url: str | None
    parameters: int
    ap: float
    sides: tuple[int, int]
    weights: Any = None

    @property
    def asked_as(self) -> str:
        """What selects this network."""
        return self.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The 80 classes of COCO."""
        return LABELS

    @property
    def stretched(self) -> bool:
        """Whether an image is stretched to the input, whose size is fixed."""
        return self.name.startswith("ssd")


#: Height and width that suit a photograph of 4:3 at a short side of 800, as published.
_USUAL = (800, 1088)

_OUR_OWN = (
    PublishedDetector(
        "detr_resnet50",
        "detr-r50-e632da11.pth",
        "https://dl.fbaipublicfiles.com/detr/detr-r50-e632da11.pth",
        41_524_768,
        42.0,
        _USUAL,
    ),
    PublishedDetector(
        "sparse_rcnn_resnet50", "r50_100pro_3x_model.pth", None, 106_237_768, 42.8, _USUAL
    ),
)


def detectors() -> list[PublishedDetector]:
    """Every detector that can be exported."""
    found = []
    for name in torchvision.models.list_models(module=torchvision.models.detection):
        if name.startswith(("keypointrcnn", "maskrcnn")):
            continue  # their second answers have no place in a candidate
        weights = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
        sides = {"ssd300": (300, 300), "ssdlite320": (320, 320)}.get(name.split("_")[0], _USUAL)
        found.append(
            PublishedDetector(
                name,
                weights.url.rsplit("/", 1)[-1],
                weights.url,
                int(weights.meta["num_params"]),
                float(weights.meta["_metrics"]["COCO-val2017"]["box_map"]),
                (320, 448) if name.endswith("_320_fpn") else sides,
                weights,
            )
        )
    return [*found, *_OUR_OWN]


def random_detector(entry: PublishedDetector, seed: int = 0) -> nn.Module:
    """The detector with random weights, the same for the same seed, in evaluation mode.

    Normalisations are set by one batch of noise. Faster R-CNN's class scores are spread, so that
    it finds something: its time depends on that. Sparse R-CNN's stages move boxes by little:
    otherwise each makes a rounding many times larger.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _made(entry, trained=False)
        if isinstance(network, FasterRCNN):
            nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=0.2)
        elif isinstance(network, SparseRCNN):
            for name, weight in network.named_parameters():
                if "bboxes_delta" in name:
                    nn.init.normal_(weight, std=0.01)
        hooks = [
            layer.register_forward_pre_hook(_as_seen)
            for layer in network.modules()
            if isinstance(layer, (nn.BatchNorm2d, FrozenBatchNorm2d))
        ]
        backbone: nn.Module = network.backbone  # type: ignore[assignment]
        with torch.no_grad():
            # the sides of SSD's own input: its last feature maps need them
            backbone.eval()(torch.randn(2, 3, 320, 320))
        for hook in hooks:
            hook.remove()
    return network.eval()


def _as_seen(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    layer.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    layer.running_var.copy_(inputs[0].var((0, 2, 3)) + 1e-3)


def _made(entry: PublishedDetector, trained: bool, proposals: int = 100) -> nn.Module:
    if entry.weights is not None:
        network: nn.Module = torchvision.models.get_model(
            entry.name, weights=entry.weights if trained else None, weights_backbone=None
        )
        return network
    if entry.name == "detr_resnet50":
        return detr_resnet50()
    return sparse_rcnn_resnet50(proposals=proposals)


def load_own(entry: PublishedDetector, weights: Path) -> nn.Module:
    """DETR or Sparse R-CNN with the weights of a published file, in evaluation mode.

    The file holds the state dict, or a dict with it under `model`. Sparse R-CNN may have any
    number of proposals.

    Raises
    ------
    InputError
        when the file holds anything but tensors, or those of another network.
    """
    try:
        held: Any = torch.load(weights, map_location="cpu", weights_only=True)
        if isinstance(held, Mapping) and isinstance(held.get("model"), Mapping):
            held = held["model"]
        features = held.get("init_proposal_features.weight")
        network = _made(entry, True, 100 if features is None else len(features))
        network.load_state_dict(held)
    except Exception as exc:  # torch's loader raises nearly everything on a damaged file
        raise InputError(
            f"{weights} does not hold the weights of {entry.name} ({reason(exc)}); "
            "put the file that its authors publish there"
        ) from exc
    return network.eval()


def _parts(
    network: nn.Module, entry: PublishedDetector, sides: tuple[int, int]
) -> tuple[nn.Module, tuple[str, str] | tuple[str, str, str], InputSpec, BoxOutput]:
    """What is written, the names of its outputs, and how a manifest describes it."""
    mean, std = MEAN, STD
    if entry.weights is not None:
        transform: Any = network.transform
        mean, std = tuple(transform.image_mean), tuple(transform.image_std)
    how: dict[str, Any] = {"resize": "stretch"}
    if not entry.stretched:
        # the colour that becomes zero, which published weights are padded with
        padding = tuple(round(255 * value) for value in mean)
        how = {"resize": "fit", "place": "top-left", "pad": padding}
    spec = InputSpec(sides, scale=255.0, mean=mean, std=std, **how)
    if entry.name == "detr_resnet50":
        output = BoxOutput("detr", 91, class_map=COCO_NUMBERS)
        return network, ("logits", "boxes"), spec, output
    if entry.name == "sparse_rcnn_resnet50":
        options = {"unit": "shares", "kind": "sigmoid"}
        return (
            network,
            ("logits", "boxes"),
            spec,
            BoxOutput("proposals", 80, iou=1.0, options=options),
        )
    torchvisions: Any = network
    if isinstance(network, FasterRCNN):
        output = BoxOutput("final", 91, class_map=COCO_NUMBERS)
        return TwoStage(network), TwoStage.outputs, spec, output
    output = BoxOutput(
        "proposals",
        90,
        threshold=max(torchvisions.score_thresh, 0.01),
        iou=torchvisions.nms_thresh,
        several=True,
        class_map=COCO_NUMBERS[1:],
    )
    return OneStage(network, sides), OneStage.outputs, spec, output


def checked_sides(entry: PublishedDetector, sides: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of a detector's input.

    Raises
    ------
    InputError
        when others are asked for than it can have.
    """
    if sides is None or sides == entry.sides:
        return entry.sides
    if entry.stretched:
        raise InputError(
            f"{entry.name} reads {entry.sides[0]} x {entry.sides[1]} pixels; no other size is "
            "possible"
        )
    if any(side % STRIDE or not 2 * STRIDE <= side <= 2048 for side in sides):
        raise InputError(
            f"a detector's input of {sides[0]} x {sides[1]} pixels is not possible; each side is "
            f"a multiple of {STRIDE} from {2 * STRIDE} to 2048"
        )
    return sides


def export_detector(
    network: nn.Module,
    entry: PublishedDetector,
    path: Path,
    opset: int,
    untrained: bool = False,
    sides: tuple[int, int] | None = None,
) -> tuple[Candidate, float]:
    """Write a detector as an ONNX file, and hold ONNX Runtime's answers against torch's.

    Returns
    -------
    The manifest entry, and the largest difference on random inputs, in logits, chances or shares
    of a side, of what was found again.

    Raises
    ------
    InputError
        when the network cannot be written at this opset, or for a size that it cannot have.
    EngineError
        when ONNX Runtime cannot run it, or answers otherwise.
    """
    size = checked_sides(entry, sides)
    least = {"detr_resnet50": 14, "sparse_rcnn_resnet50": 16}.get(entry.name, 13)
    if opset < least:
        raise InputError(f"{entry.name} needs --opset {least}, not {opset}")
    whole, names, spec, output = _parts(network, entry, size)
    single = isinstance(whole, TwoStage)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((1 if single else 2, 3, *size), generator=generator)
    free = {name: {0: "k"} for name in names} if single else None
    try:
        save_onnx(whole, inputs[:1], path, opset, outputs=names, axes=free)
    except RuntimeError as exc:
        raise InputError(
            f"{entry.name} cannot be written at opset {opset} ({reason(exc)})"
        ) from exc
    candidate = Candidate(entry.name, path.name, sha256(path), spec, output, untrained=untrained)
    engine = open_engine(path, candidate, torch.get_num_threads())
    with torch.inference_mode():
        expected = dict(zip(names, (part.numpy() for part in whole(inputs))))
    answers = dict(zip(names, engine.run(inputs.numpy())))
    engine.close()
    chosen = isinstance(whole, (OneStage, TwoStage))  # whose boxes are in pixels
    scale = (float(size[1]), float(size[0])) if chosen else (1.0, 1.0)
    difference = largest_difference(expected, answers, scale, chosen)
    allowed = TOLERANCE_UNTRAINED if untrained else TOLERANCE
    if not difference <= allowed:
        raise EngineError(
            f"{entry.name} as ONNX differs from torch by up to {difference:.2g} on random "
            f"inputs; no more than {allowed} is allowed"
        )
    return candidate, difference
