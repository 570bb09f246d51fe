"""Exits for an embedding network: where it is cut, what heads learn, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")
onnx = pytest.importorskip("onnx", reason="networks are cut with onnx")
pytest.importorskip("onnxruntime", reason="the exported network is checked with ONNX Runtime")

from onnx.reference import ReferenceEvaluator

from adaptive.cli.identify import command
from adaptive.errors import AdaptiveError, InputError
from adaptive.images.preprocess import preprocess
from adaptive.networks.embedding_crops import (
    CropFeatures,
    CropSource,
    blended,
    crop_features,
    pooling,
    views,
)
from adaptive.networks.embedding_exits import HeadRecipe, train_heads
from adaptive.networks.export import save_onnx
from adaptive.networks.onnx_cuts import chosen_places, cut, cut_places
from adaptive.video.embedding import open_embedders, read_embedding_files, whole_network
from adaptive.video.identified import embeddings_of, identify
from adaptive.video.identity import IdentityStore

pytestmark = pytest.mark.train

SIDE = 16


class Tiny(torch.nn.Module):
    """Two convolutions, a residual block and a matrix: 16 x 16 pixels to six numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.second = torch.nn.Conv2d(8, 12, 3, 2, 1)
        self.inner = torch.nn.Conv2d(12, 12, 3, 1, 1)
        self.last = torch.nn.Linear(12, 6)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        x = torch.relu(x + self.inner(torch.relu(self.inner(x))))
        return self.last(x.mean((2, 3)))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    example = torch.zeros(1, 3, SIDE, SIDE)
    save_onnx(Tiny(), example, folder / "tiny.onnx", source="crops", outputs=["embedding"])
    spec = {"dtype": "float32", "layout": "NCHW", "size": SIDE, "resize": "stretch", "scale": 255}
    entry = {"name": "tiny", "file": "tiny.onnx", "input": spec}
    (folder / "networks.json").write_text(json.dumps({"format": 1, "networks": [entry]}))
    return folder / "networks.json"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of stripes and spots of many colours."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for number in range(60):
        coarse = generator.integers(0, 256, (3, 3, 3), np.uint8)
        Image.fromarray(coarse).resize((24, 20), Image.Resampling.BILINEAR).save(
            folder / f"{number:02}.png"
        )
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["train-exits", *(str(a) for a in arguments)])


def arguments(networks: Path, photographs: Path, output: Path, *more: object) -> List[object]:
    small = ["--epochs=24", "--batch=16", "--views=3", "--width=16", "--threads=1"]
    own = [f"--networks={networks}", "--output", output, "--exits=0.2,0.4"]
    return [photographs, *own, *small, *more]


@pytest.fixture(scope="module")
def trained(networks: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "exits"
    result = run(*arguments(networks, photographs, output))
    assert result.exit_code == 0, result.output
    assert "tiny@1, tiny@2, tiny@3" in result.output
    assert not output.with_name("exits-checkpoints").exists()  # it held embeddings
    return output


def test_a_network_is_cut_where_one_map_is_handed_on(networks: Path) -> None:
    model = onnx.load(str(networks.parent / "tiny.onnx"))
    places = cut_places(model)
    first, second, inner = 27 * 8 * 64, 72 * 12 * 16, 108 * 12 * 16
    whole = first + second + 2 * inner + 72
    shapes = [place.shape for place in places]
    # after each convolution and its activation; nowhere within the residual block, whose input
    # is wanted at its end; after the sum, and after its activation
    assert shapes == [(1, 8, 8, 8)] * 2 + [(1, 12, 4, 4)] * 4
    shares = [first, first, first + second, first + second, whole - 72, whole - 72]
    assert [place.share for place in places] == pytest.approx([n / whole for n in shares])
    near = chosen_places(model, [0.2, 0.9])
    assert [place.value for place in near] == [places[1].value, places[5].value]
    assert chosen_places(model, [places[2].value])[0] == places[2]
    pixels = np.random.default_rng(0).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    given = pixels
    for part in cut(model, [place.value for place in near]):
        given = ReferenceEvaluator(part).run(None, {part.graph.input[0].name: given})
        given = given[0]
    (wanted,) = ReferenceEvaluator(model).run(None, {"crops": pixels})
    assert given == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (["nowhere"], "cannot be cut at 'nowhere'; it can at"),
        ([1.5], "a share of 1.5 is not between 0 and 1"),
        ([0.2, 0.21], "are not one place or several different ones"),
    ],
)
def test_places_that_are_not_there_are_refused(
    networks: Path, wanted: List[str | float], says: str
) -> None:
    model = onnx.load(str(networks.parent / "tiny.onnx"))
    with pytest.raises(InputError, match=says):
        chosen_places(model, wanted)


def test_exits_learn_the_last_embedding_and_the_last_is_the_networks_own(
    networks: Path, trained: Path
) -> None:
    (whole,) = open_embedders(networks)
    exits = open_embedders(trained / "networks.json")
    assert [e.network.name for e in exits] == ["tiny@1", "tiny@2", "tiny@3"]
    assert [e.after for e in exits] == [None, "tiny@1", "tiny@2"]
    assert len({e.network.print for e in exits}) == 3
    generator = np.random.default_rng(9)
    cosines = np.zeros((40, 2))
    for row in cosines:
        coarse = Image.fromarray(generator.integers(0, 256, (3, 3, 3), np.uint8))
        crop = np.asarray(coarse.resize((24, 20), Image.Resampling.BILINEAR))
        found = dict(embeddings_of(exits, crop))
        (own, *_) = whole.run(crop)
        assert found["tiny@3"] == pytest.approx(own, abs=1e-5)
        for place, name in enumerate(("tiny@1", "tiny@2")):
            one = found[name]
            row[place] = one @ own / np.linalg.norm(one) / np.linalg.norm(own)
    assert cosines.mean(axis=0).min() > 0.85  # of crops that no head has seen


def test_later_parts_run_only_where_earlier_exits_do_not_match(trained: Path) -> None:
    exits = open_embedders(trained / "networks.json")
    store = IdentityStore([e.network for e in exits], {"tiny@1": 1e-4, "tiny@3": 0.5})
    red, dark = np.full((20, 20, 3), (220, 30, 10), np.uint8), np.zeros((20, 20, 3), np.uint8)
    store.add("red", dict(embeddings_of(exits, red)))
    assert identify(store, exits, red).path == ("tiny@1",)
    assert identify(store, exits, dark).path == ("tiny@1", "tiny@2", "tiny@3")


@pytest.mark.slow
def test_a_stopped_training_goes_on_and_ends_as_one_that_was_not(
    networks: Path, trained: Path, photographs: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    output = tmp_path / "exits"
    from adaptive.networks import embedding_exits

    wrote: List[int] = []
    write = embedding_exits.write_checkpoint

    def stop(path: Path, made: Any, epoch: int, *parts: object) -> None:
        write(path, made, epoch, *parts)
        wrote.append(epoch)
        if len(wrote) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(embedding_exits, "write_checkpoint", stop)
    own = output.with_name("exits-checkpoints")
    own.mkdir()
    (own / "letter.txt").write_text("dear")
    assert run(*arguments(networks, photographs, output)).exit_code != 0
    assert not output.exists()
    assert (own / "heads.pt").exists()
    result = run(*arguments(networks, photographs, output))
    assert result.exit_code == 0, result.output
    assert wrote == list(range(1, 25))
    assert [path.name for path in own.iterdir()] == ["letter.txt"]  # nothing else is deleted
    for file in trained.iterdir():
        assert (output / file.name).read_bytes() == file.read_bytes()


Source = Callable[[], List[CropSource]]


def sources() -> List[CropSource]:
    generator = np.random.default_rng(1)
    return [CropSource(generator.integers(0, 256, (20, 20, 3), np.uint8)) for _ in range(120)]


def test_what_was_made_of_crops_is_not_made_again(tmp_path: Path) -> None:
    looked: List[int] = []

    def ask(most: int) -> CropFeatures:
        def find(image: np.ndarray) -> List[Any]:
            looked.append(1)
            if len(looked) > most:
                raise KeyboardInterrupt
            return [(2, 2, 18, 18)]

        def network(given: np.ndarray) -> List[np.ndarray]:
            return [given.transpose(2, 0, 1)[None, :, :16, :16], given.mean((0, 1))]

        def prepare(crop: np.ndarray) -> np.ndarray:
            return np.asarray(np.resize(crop, (16, 16, 3)), np.float32)

        folder = tmp_path / "crops"
        return crop_features(sources(), find, prepare, network, folder, "these", 2, 0)

    with pytest.raises(KeyboardInterrupt):
        ask(70)
    assert len(looked) == 71
    found = ask(1000)
    assert len(looked) == 71 + 120 - 50  # fifty sources were written when it was stopped
    assert found.maps[0].shape == (240, 3, 16, 16)
    assert np.linalg.norm(found.embeddings, axis=1) == pytest.approx(1, abs=1e-6)
    assert found.held.reshape(120, 2).all(axis=1).tolist() == [n % 10 == 9 for n in range(120)]
    first = sources()[0].image[2:18, 2:18]
    assert found.maps[0][0] == pytest.approx(first.transpose(2, 0, 1), abs=0.2)
    assert ask(0).embeddings == pytest.approx(found.embeddings)  # nobody is looked at again
    with pytest.raises(InputError, match="is of other crops, networks or exits"):
        crop_features([], lambda _: [], lambda c: c, lambda c: [], tmp_path / "crops", "x", 2, 0)


def test_views_are_of_the_crop_and_blends_of_two() -> None:
    image = np.arange(60 * 80 * 3, dtype=np.uint32).reshape(60, 80, 3).astype(np.uint8)
    generator = np.random.default_rng(0)
    found = views(image, (10, 10, 50, 40), 6, generator)
    assert len(found) == 6
    assert (found[0] == image[10:40, 10:50]).all()
    assert all(24 <= view.shape[0] <= 36 and 34 <= view.shape[1] <= 46 for view in found)
    one, other = np.zeros((1, 4, 4), np.float32), np.ones((1, 4, 4), np.float32)
    mixed = blended([one, one, one], [other], generator)
    assert mixed[0].max() == mixed[2].max() == 0
    assert 0.3 <= mixed[1].min() == mixed[1].max() <= 0.7
    assert blended([one.astype(np.uint8)] * 2, [200 * other], generator)[1].dtype == np.uint8


def test_maps_are_pooled_to_sides_of_sixteen_at_most() -> None:
    assert [pooling(*sides) for sides in ((28, 24), (14, 12), (64, 32), (17, 17), (1, 1))] == [
        2, 1, 4, 17, 1,
    ]  # fmt: skip


def test_heads_of_too_few_crops_are_refused(tmp_path: Path) -> None:
    features = CropFeatures(
        [np.zeros((4, 2, 4, 4), np.float16)], np.ones((4, 3), np.float32), np.zeros(4, bool)
    )
    with pytest.raises(InputError, match="4 views of crops do not fill a batch of 128"):
        train_heads(features, HeadRecipe(), tmp_path / "heads.pt")
    with pytest.raises(InputError, match="must be >= 1"):
        HeadRecipe(views=0)


def test_what_cannot_be_trained_is_refused(
    networks: Path, photographs: Path, trained: Path, tmp_path: Path
) -> None:
    for more, says in (
        (arguments(networks, photographs, trained), "--force"),
        ([f"--networks={networks}", "--output", tmp_path / "x"], "there are no images"),
        (arguments(networks, photographs, tmp_path / "x", "--network=y"), "no network 'y'"),
        (arguments(networks, photographs, tmp_path / "x", "--exits=here"), "cannot be cut"),
        (
            arguments(trained / "networks.json", photographs, tmp_path / "x"),
            "say which one gets exits",
        ),
    ):
        result = run(*more)
        assert isinstance(result.exception, AdaptiveError), result.output
        assert says in str(result.exception)
        assert not (tmp_path / "x").exists()


def test_lists_of_networks_that_do_not_fit_are_refused(trained: Path, tmp_path: Path) -> None:
    entries = json.loads((trained / "networks.json").read_text())["networks"]
    for changed, says in (
        ([entries[1], entries[0]], "comes after 'tiny@1', which does not stand before it"),
        ([entries[0], entries[0]], "two networks 'tiny@1'"),
        ([], "lists no network"),
    ):
        path = trained / "other.json"
        path.write_text(json.dumps({"format": 1, "networks": changed}))
        with pytest.raises(InputError, match=says):
            read_embedding_files(path)
        path.unlink()
    files = read_embedding_files(trained / "networks.json")
    assert whole_network(files[:1], None) == files[0]
    with pytest.raises(InputError, match="goes on from 'tiny@1'; a whole network is needed"):
        whole_network(files, "tiny@2")
    assert preprocess(np.zeros((4, 4, 3), np.uint8), files[0].input).shape == (1, 3, SIDE, SIDE)
