from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")
pytest.importorskip("onnx", reason="export needs onnx, which a board does not have")

from adaptive.errors import InputError
from adaptive.networks.augmentation import augment
from adaptive.networks.export import export_network
from adaptive.networks.images import ImageArrays, hold_out, read_folder
from adaptive.networks.small import DESIGNS
from adaptive.networks.training import TrainingRecipe, accuracy, train

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four images a class that a network can learn: dark and bright noise."""
    root = tmp_path_factory.mktemp("classes")
    generator = np.random.default_rng(0)
    for name, level in (("bright", 190), ("dark", 60)):
        (root / name).mkdir()
        for i in range(24):
            pixels = np.clip(generator.normal(level, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def images(folder: Path) -> ImageArrays:
    return read_folder(folder)


def test_read_folder_gives_names_labels_and_pixels(images: ImageArrays) -> None:
    assert images.classes == ["bright", "dark"]
    assert images.names[0] == "bright/00.png"
    assert images.images.shape == (48, 32, 32, 3)
    assert images.images[images.labels == 0].mean() > 150 > images.images[images.labels == 1].mean()


def test_read_folder_refuses_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 class folders"):
        read_folder(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="holds no image"):
        read_folder(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png is not a JPEG, PNG"):
        read_folder(tmp_path)


def test_hold_out_takes_equal_shares_and_keeps_the_rest() -> None:
    labels = np.repeat(np.arange(10), 50)
    kept, held = hold_out(labels, 100, seed=1)
    assert sorted([*kept, *held]) == list(range(500))
    assert np.bincount(labels[held]).tolist() == [10] * 10
    again = hold_out(labels, 100, seed=1)[1]
    assert again.tolist() == held.tolist()
    assert hold_out(labels, 100, seed=2)[1].tolist() != held.tolist()
    with pytest.raises(InputError, match="hold out 500 of 500"):
        hold_out(labels, 500, seed=1)


def test_augment_only_moves_mirrors_and_blanks() -> None:
    image = torch.arange(32 * 32 * 3, dtype=torch.int64).remainder(251).to(torch.uint8)
    batch = image.view(1, 32, 32, 3).repeat(64, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    same = augment(batch, 0, 0, generator)
    mirrored = [bool((s == batch[0].flip(1)).all()) for s in same]
    plain = [bool((s == batch[0]).all()) for s in same]
    assert all(m or p for m, p in zip(mirrored, plain))
    assert 15 < sum(mirrored) < 50
    moved = augment(batch, 4, 0, generator)
    assert moved.shape == batch.shape
    assert len({m.numpy().tobytes() for m in moved}) > 30
    blank = augment(torch.zeros((8, 32, 32, 3), dtype=torch.uint8), 0, 8, generator)
    assert set(blank.unique().tolist()) == {0, 117}


@pytest.mark.parametrize("design", DESIGNS)
def test_a_design_learns_and_exports_what_it_learned(
    design: str, images: ImageArrays, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    recipe = TrainingRecipe(epochs=6, batch=8, learning_rate=0.02, average=0.8)
    network = train(DESIGNS[design](2), images, recipe, tmp_path / "checkpoint.pt")
    assert accuracy(network, images)[0] > 0.9
    path = export_network(network, tmp_path / f"{design}.onnx", 32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": images.images[:7]})[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(images.images[:7])).numpy()
    assert got.shape == (7, 2)
    # Weights are stored in 16 bits.
    assert np.abs(got - expected).max() < 0.02 * max(1.0, np.abs(expected).max())


def test_a_stopped_run_resumes_to_the_same_weights(images: ImageArrays, tmp_path: Path) -> None:
    recipe = TrainingRecipe(epochs=3, batch=16, learning_rate=0.02)

    def fresh() -> torch.nn.Module:
        torch.manual_seed(5)
        return DESIGNS["mobilenet"](2)

    whole = train(fresh(), images, recipe, tmp_path / "whole.pt")

    class Stop(Exception):
        pass

    calls = []

    def stopping(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 4:  # three steps an epoch: in the middle of the second
            raise Stop
        return torch.nn.functional.cross_entropy(outputs, labels)

    with pytest.raises(Stop):
        train(fresh(), images, recipe, tmp_path / "stopped.pt", loss=stopping)
    resumed = train(fresh(), images, recipe, tmp_path / "stopped.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(images: ImageArrays, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    train(DESIGNS["mobilenet"](2), images, TrainingRecipe(epochs=1, batch=40), path)
    with pytest.raises(InputError, match="was made with"):
        train(DESIGNS["mobilenet"](2), images, TrainingRecipe(epochs=2, batch=40), path)


def test_too_few_images_for_a_batch_are_refused(images: ImageArrays, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not fill one batch"):
        train(DESIGNS["mobilenet"](2), images, TrainingRecipe(batch=49), tmp_path / "c.pt")
