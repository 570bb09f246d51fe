"""Fine-tuning a network that came as an ONNX file, and writing it as one again."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto

from adaptive.candidate import Candidate
from adaptive.networks.compression.torch_network import Classifier, OnnxNetwork
from adaptive.networks.export import save_onnx
from adaptive.networks.images import ImageArrays
from adaptive.networks.training import TrainingRecipe, train


def with_normalisation(
    model: ModelProto, candidate: Candidate, data: ImageArrays, device: str = "cpu"
) -> Classifier:
    """The network as a classifier in torch, its normalisation put back from some of the images.

    device : that computes on these images; the classifier is on the CPU afterwards

    Raises
    ------
    InputError
        when it has layers that cannot be trained here.
    """
    network = OnnxNetwork(model, candidate.name)
    classifier = Classifier(network, candidate).to(device)
    # from all over: images lie class by class, and one class's statistics are not the network's
    images = data.images[:: -(-len(data.images) // 1000)]
    network.put_normalisation_back(
        classifier.inputs(torch.from_numpy(images[at : at + 100]).to(device))
        for at in range(0, len(images), 100)
    )
    return classifier.cpu()


def fine_tuned(
    model: ModelProto,
    candidate: Candidate,
    data: ImageArrays,
    recipe: TrainingRecipe,
    checkpoint: Path,
    device: str = "cpu",
) -> OnnxNetwork:
    """The network trained on, from a checkpoint where there is one."""
    classifier = with_normalisation(model, candidate, data, device)
    trained = train(classifier, data, recipe, checkpoint, device=device)
    assert isinstance(trained, Classifier)
    return trained.own_network().cpu().eval()


def write_network(network: OnnxNetwork, candidate: Candidate, path: Path, like: ModelProto) -> None:
    """Write a network so that it reads and answers what the original read and answered.

    like : the original; where that stores weights in 16 bits, so does the copy
    """
    rows, columns = candidate.input.sides
    sides = (rows, columns, 3) if candidate.input.layout == "NHWC" else (3, rows, columns)
    kind = torch.uint8 if candidate.input.dtype == "uint8" else torch.float32
    half = any(i.data_type == TensorProto.FLOAT16 for i in like.graph.initializer)
    save_onnx(
        network,
        torch.zeros((1, *sides), dtype=kind),
        path,
        half_weights=half,
        source=network.source,
        outputs=(network.answer,),
    )


def note_made(path: Path, made: str) -> None:
    """Write into an ONNX file how it was made, so that it is known wherever the file goes."""
    model = onnx.load(str(path))
    entry = model.metadata_props.add()
    entry.key, entry.value = "made", made
    onnx.save(model, str(path))
