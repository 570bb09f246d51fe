"""Exits for an embedding network that others trained: heads that learn its last embedding.

The network is left as it is. A head sits on the features at a place inside it, and learns, from
crops that nobody labelled, to say what the whole network says (distillation; Hinton et al. 2015,
of embeddings and not of classes). What counts is the angle, since embeddings are compared by it:
the loss is 1 - cosine, which is the mean squared error of unit vectors times half their length.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, List, Sequence, Tuple

import numpy as np
import onnx
import torch
from onnx import ModelProto, checker, compose
from torch import Tensor, nn
from tqdm import tqdm

from adaptive.bundle.bundle import input_to_json
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import EngineError, InputError
from adaptive.files import folder_aside, sha256, write_json
from adaptive.images.preprocess import preprocess
from adaptive.networks.embedding_crops import (
    CropFeatures,
    CropSource,
    Find,
    crop_features,
    pooling,
)
from adaptive.networks.export import save_onnx
from adaptive.networks.onnx_cuts import CutPlace, chosen_places, cut
from adaptive.networks.training import read_checkpoint, write_checkpoint
from adaptive.video.embedding import FORMAT, EmbeddingFile

#: What a checkpoint's folder holds: what was made of crops, and the heads so far.
CROPS, HEADS = "crops", "heads.pt"

#: Largest angle's 1 - cosine between ONNX Runtime's embedding and the one that it should be.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class HeadRecipe:
    """How heads are trained.

    Attributes
    ----------
    epochs, batch, seed : as of every training
    learning_rate : its peak, of AdamW; up over a tenth of the steps, then down along a cosine
    weight_decay : of what multiplies
    views : of each crop that are learnt from, the crop itself among them
    width : channels of a head
    """

    epochs: int = 40
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    views: int = 4
    width: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.views, self.width) < 1 or self.batch < 2:
            raise InputError(f"epochs, views and width must be >= 1 and batch >= 2, got {self}")


class EmbeddingHead(nn.Module):
    """From a map of features to an embedding.

    The map is pooled to sides of 16 at most; a convolution mixes its channels, two that look at
    each channel by itself halve it and then weigh its places, as MobileFaceNet ends
    (Chen et al. 2018), and a matrix makes the embedding.

    Parameters
    ----------
    shape : channels, height and width of the pooled map
    pool : by how much the map is pooled first; 1 where that was done
    """

    def __init__(self, shape: Sequence[int], embedding: int, width: int, pool: int = 1) -> None:
        super().__init__()
        channels, height, width_in = shape
        step = 2 if min(height, width_in) >= 4 else 1
        rest = (-(-height // step), -(-width_in // step))
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        self.layers = nn.Sequential(
            *_mixed(nn.Conv2d(channels, width, 1, bias=False)),
            *_mixed(nn.Conv2d(width, width, 3, step, 1, groups=width, bias=False)),
            *_mixed(nn.Conv2d(width, 2 * width, 1, bias=False)),
            nn.Conv2d(2 * width, 2 * width, rest, groups=2 * width, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.Flatten(),
            nn.Linear(2 * width, embedding),
        )

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.layers(self.pool(features))
        return answer


def _mixed(convolution: nn.Conv2d) -> Tuple[nn.Module, ...]:
    channels = convolution.out_channels
    return convolution, nn.BatchNorm2d(channels), nn.PReLU(channels)


def train_heads(
    features: CropFeatures,
    recipe: HeadRecipe,
    checkpoint: Path,
    say: Callable[[str], None] = print,
) -> List[EmbeddingHead]:
    """Train a head for each place; a run that was stopped goes on from its checkpoint.

    Raises
    ------
    InputError
        when the crops do not fill a batch, or the checkpoint is of another training.
    """
    torch.manual_seed(recipe.seed)
    width = features.embeddings.shape[1]
    heads = nn.ModuleList(
        EmbeddingHead(one.shape[1:], width, recipe.width) for one in features.maps
    )
    learnt, held = np.flatnonzero(~features.held), np.flatnonzero(features.held)
    steps = len(learnt) // recipe.batch
    if steps < 1:
        raise InputError(f"{len(learnt)} views of crops do not fill a batch of {recipe.batch}")
    optimiser = torch.optim.AdamW(
        heads.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps * recipe.epochs, pct_start=0.1
    )
    made = {"recipe": asdict(recipe), "images": f"{len(learnt)} views at {len(heads)} exits"}
    started = read_checkpoint(checkpoint, made, heads, optimiser, schedule)
    goals = torch.from_numpy(features.embeddings)
    for epoch in range(started, recipe.epochs):
        order = np.random.default_rng((recipe.seed, epoch)).permutation(learnt)
        heads.train()
        running, began = np.zeros(len(heads)), time.monotonic()
        for step in tqdm(
            range(steps), desc=f"epoch {epoch + 1}/{recipe.epochs}", disable=None, leave=False
        ):
            rows = np.sort(order[step * recipe.batch : (step + 1) * recipe.batch])
            losses = [
                _apart(head(_rows(one, rows)), goals[rows])
                for head, one in zip(heads, features.maps)
            ]
            optimiser.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            running += [loss.item() for loss in losses]
        write_checkpoint(checkpoint, made, epoch + 1, heads, optimiser, schedule)
        if epoch % 5 == 4 or epoch + 1 == recipe.epochs:
            shares = ", ".join(f"{1 - one:.3f}" for one in running / steps)
            line = f"epoch {epoch + 1}/{recipe.epochs}: cosine of the exits {shares}"
            if len(held):
                others = ", ".join(f"{one:.3f}" for one in _cosines(heads, features, held))
                line += f"; on {len(held)} views that they do not learn {others}"
            say(f"{line} ({time.monotonic() - began:.0f} s)")
    return [head for head in heads.eval() if isinstance(head, EmbeddingHead)]


def _rows(one: np.ndarray, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(one[rows], np.float32))


def _apart(found: Tensor, goal: Tensor) -> Tensor:
    return 1 - nn.functional.cosine_similarity(found, goal).mean()


def _cosines(heads: nn.ModuleList, features: CropFeatures, rows: np.ndarray) -> List[float]:
    heads.eval()
    sums = np.zeros(len(heads))
    with torch.inference_mode():
        for part in np.array_split(rows, max(1, len(rows) // 256)):
            goal = torch.from_numpy(features.embeddings[part])
            for place, (head, one) in enumerate(zip(heads, features.maps)):
                sums[place] += len(part) * (1 - _apart(head(_rows(one, part)), goal).item())
    return [float(value) for value in sums / len(rows)]


def train_embedding_exits(
    sources: Iterable[CropSource],
    find: Find,
    network: EmbeddingFile,
    wanted: Sequence[str | float],
    output: Path,
    recipe: HeadRecipe,
    checkpoints: Path,
    about: str,
    total: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Give an embedding network exits, and write them as a list of networks, or nothing.

    Parameters
    ----------
    sources : images and frames; they are read once, in the same order at every call
    find : the boxes of an image that show somebody
    network : as a list of networks has it; its file is left as it is
    wanted : of each exit the value where it sits, or its share of the network's multiply-adds
    output : gets `networks.json`, which lists NAME@1 and so on, the last of them the network's
        own answer, and a file for each
    checkpoints : a folder, from which a run that was stopped goes on; what is written there, with
        embeddings, is deleted at the end
    about : what the sources are, in a word; other ones are refused there

    Raises
    ------
    InputError
        when the network cannot be cut there, or crops and recipe do not do.
    EngineError
        when ONNX Runtime answers otherwise than it should.
    """
    assert network.input is not None
    if "@" in network.name:
        raise InputError(f"{network.name!r} has an exit's number; name a whole network")
    model = onnx.load(str(network.path))
    places = chosen_places(model, wanted, network.name)
    for number, place in enumerate(places, 1):
        say(
            f"{network.name}@{number} sits at {place.value}, behind {100 * place.share:.0f}% of "
            f"the network's multiply-adds, and sees {place.shape[1:]}"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        parts = cut(model, [place.value for place in places])
        engines = []
        for number, part in enumerate(parts):
            path = Path(aside) / f"{number}.onnx"
            onnx.save(part, str(path))
            engines.append(OnnxEngine(path))
        spec = network.input
        run = _chain(engines)
        features = crop_features(
            sources,
            find,
            lambda crop: preprocess(crop, spec),
            run,
            checkpoints / CROPS,
            {
                "sources": about,
                "network": sha256(network.path),
                "exits": [place.value for place in places],
                "views": recipe.views,
                "seed": recipe.seed,
            },
            recipe.views,
            recipe.seed,
            total,
        )
        beside = int(features.held.sum())
        say(f"{len(features.embeddings)} views of crops, {beside} of which nothing is learnt")
        heads = train_heads(features, recipe, checkpoints / HEADS, say)
        with folder_aside(output) as folder:
            _write(folder, network, model, parts, places, heads)
            _check(folder, network, len(parts), run)
        for engine in engines:
            engine.close()
    shutil.rmtree(checkpoints / CROPS)
    (checkpoints / HEADS).unlink()
    with suppress(OSError):
        checkpoints.rmdir()  # which stays where it holds something else
    say(f"{output} holds {', '.join(f'{network.name}@{n + 1}' for n in range(len(parts)))}")


def _chain(engines: Sequence[OnnxEngine]) -> Callable[[np.ndarray], List[np.ndarray]]:
    """What the network reads to what each part hands on; the last is the embedding, (width,)."""

    def run(given: np.ndarray) -> List[np.ndarray]:
        found = []
        for engine in engines:
            given = engine.run(given)[0]
            found.append(given)
        found[-1] = found[-1].reshape(-1)
        return found

    return run


def _write(
    folder: Path,
    network: EmbeddingFile,
    model: ModelProto,
    parts: Sequence[ModelProto],
    places: Sequence[CutPlace],
    heads: Sequence[EmbeddingHead],
) -> None:
    """Each part with its head as one file, and the list of them."""
    assert network.input is not None
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    entries = []
    for number, part in enumerate(parts, 1):
        name = f"{network.name}@{number}"
        path = folder / f"{name}.onnx"
        whole = part
        if number <= len(heads):
            place = places[number - 1]
            whole = _with_head(part, place, heads[number - 1], opset, folder)
        whole.ir_version = min(whole.ir_version, 8)  # the newest that ONNX Runtime 1.11 reads
        onnx.save(whole, str(path))
        entry: dict[str, Any] = {"name": name, "file": path.name}
        if number == 1:
            entry["input"] = input_to_json(network.input)
        else:
            entry["after"] = f"{network.name}@{number - 1}"
        entries.append(entry)
    write_json(folder / "networks.json", {"format": FORMAT, "networks": entries})


def _with_head(
    part: ModelProto, place: CutPlace, trained: EmbeddingHead, opset: int, folder: Path
) -> ModelProto:
    """A part that gives the embedding of its head first, and then what it hands on."""
    channels, height, width = place.shape[1:]
    pool = pooling(height, width)
    linear = trained.layers[-1]
    assert isinstance(linear, nn.Linear)
    shape = (channels, height // pool, width // pool)
    head = EmbeddingHead(shape, linear.out_features, linear.in_features // 2, pool)
    head.load_state_dict(trained.state_dict())
    path = folder / "head.partial.onnx"
    example = torch.zeros(1, channels, height, width)
    save_onnx(head, example, path, opset, source="state", outputs=["embedding"])
    model = onnx.load(str(path))
    path.unlink()
    model.ir_version = part.ir_version
    renamed = compose.add_prefix(model, "head/")
    whole = compose.merge_models(part, renamed, io_map=[(place.value, "head/state")])
    state = list(part.graph.output)
    whole.graph.output.extend(state)  # which the head now reads, and the next part as well
    checker.check_model(whole)
    return whole


def _check(
    folder: Path,
    network: EmbeddingFile,
    count: int,
    run: Callable[[np.ndarray], List[np.ndarray]],
) -> None:
    """Run the files one after the other, and hold the last embedding against the network's own."""
    assert network.input is not None
    pixels = np.random.default_rng(0).integers(0, 256, (*network.input.sides, 3), np.uint8)
    given = preprocess(pixels, network.input)
    for number in range(1, count + 1):
        engine = OnnxEngine(folder / f"{network.name}@{number}.onnx")
        answer, *states = engine.run(given)
        given = states[0] if states else answer
        engine.close()
    found, wanted = given.reshape(-1), run(preprocess(pixels, network.input))[-1]
    lengths = float(np.linalg.norm(found) * np.linalg.norm(wanted))
    apart = 1 - float(found @ wanted) / max(lengths, 1e-12)
    if not apart <= TOLERANCE:
        raise EngineError(
            f"the last exit of {network.name} differs from the network by {apart:.2g}, 1 - "
            f"cosine; no more than {TOLERANCE} is allowed"
        )
