"""`adaptive compress`: folders that profile and quantize take, going on after a stop, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

pytest.importorskip("torch", reason="networks are compressed with torch and onnx")
pytest.importorskip("onnx", reason="networks are compressed with torch and onnx")

import onnx
import torch

from adaptive import Router
from adaptive.bundle.bundle import Bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.cli.candidates import described
from adaptive.cli.compress import command
from adaptive.cli.quantize import command as quantize
from adaptive.errors import InputError
from adaptive.files import sha256
from adaptive.measuring.profiling import entry_of
from adaptive.networks.compression.counting import count
from adaptive.networks.copies import CopyRecipe, make_copies
from adaptive.networks.export import export_network
from adaptive.networks.small import SmallNetwork, conv_bn
from adaptive.outcomes.labelled import list_images
from adaptive.policy.fixed import Fixed

pytestmark = [pytest.mark.train, pytest.mark.slow]

COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candidates of one network, wide enough to be faster decomposed, and images of colours."""
    root = tmp_path_factory.mktemp("compress")
    torch.manual_seed(0)
    body = torch.nn.Sequential(conv_bn(3, 64, 3), conv_bn(64, 64, 3), conv_bn(64, 64, 3, 2))
    (root / "candidates").mkdir()
    path = root / "candidates" / "wide.onnx"
    export_network(SmallNetwork(body, 64, 3), path, 32, half_weights=False)
    one = Candidate(
        "wide", "wide.onnx", sha256(path), InputSpec(32, "uint8", "NHWC", "cover"), OutputSpec(3)
    )
    write_candidates(root / "candidates", [one], COLOURS, "wide")
    draw = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, name in enumerate(COLOURS):
            (root / part / name).mkdir(parents=True)
            for number in range(16):
                pixels = draw.normal(90, 25, (32, 32, 3))
                pixels[..., 2 - label] += 60
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(root / part / name / f"{number}.png")
    return root


def called(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(
        command, [str(folder / "candidates"), *options], catch_exceptions=True
    )


@pytest.fixture(scope="module")
def decomposed(folder: Path) -> Path:
    output = folder / "smaller"
    few = ["--repair", "12", "--check", "12"]
    images = ["--images", str(folder / "test"), *few]
    result = called(folder, "-o", str(output), "--tucker", "--keep", "0.4", *images)
    assert result.exit_code == 0, result.output
    assert "fewer" in result.output
    return output


def test_a_decomposed_copy_is_a_candidate_that_says_how_it_was_made(decomposed: Path) -> None:
    bundle = Bundle.read(decomposed)
    copy = bundle.candidate("wide-tucker40")
    assert copy.made is not None
    assert "0.4 of the weights' variance kept" in copy.made
    assert "repaired on 12 images without labels" in copy.made
    assert described(copy).endswith(copy.made)
    assert "; " not in described(bundle.candidate("wide"))
    assert entry_of(copy)["made"] == copy.made
    assert bundle.candidate("wide").made is None
    assert "made" not in entry_of(bundle.candidate("wide"))
    about = json.loads((decomposed / "compressed.json").read_text())
    assert len(about["images"]["repair"]) == len(about["images"]["check"]) == 12
    assert not set(about["images"]["repair"]) & set(about["images"]["check"])
    line = about["copies"][1]
    ranks = [rank for both in line["details"]["ranks"].values() for rank in both]
    assert f"of ranks {min(ranks)} to {max(ranks)}" in copy.made
    model = onnx.load(str(decomposed / copy.file))
    assert line["multiply_adds"] == count(model).multiply_adds
    assert line["multiply_adds"] < about["copies"][0]["multiply_adds"]
    assert [p.value for p in model.metadata_props if p.key == "made"] == [copy.made]


def test_a_copy_of_a_copy_says_both(decomposed: Path, folder: Path, tmp_path: Path) -> None:
    images = list_images(folder / "test", COLOURS)
    recipe = CopyRecipe(int8=("cpu",), calibrate=8)
    output = tmp_path / "eight"
    make_copies(Bundle.read(decomposed), images, output, recipe, ["wide-tucker40"])
    made = Bundle.read(output).candidate("wide-tucker40-int8").made
    assert made is not None
    assert made.startswith("int8 of wide-tucker40; before that Tucker and SVD of wide")


def test_a_stopped_run_takes_what_was_made(decomposed: Path, folder: Path, tmp_path: Path) -> None:
    work = folder / "smaller-work"
    before = (work / "wide-tucker40.onnx").stat().st_mtime_ns
    options = ["--keep", "0.4", "--repair", "12", "--check", "12", "--work", str(work)]
    output = tmp_path / "again"
    images = ["--images", str(folder / "test")]
    result = called(folder, "-o", str(output), "--tucker", *options, *images)
    assert result.exit_code == 0, result.output
    assert (work / "wide-tucker40.onnx").stat().st_mtime_ns == before
    assert sha256(output / "wide-tucker40.onnx") == sha256(decomposed / "wide-tucker40.onnx")


def test_a_decomposed_copy_is_fine_tuned_on_training_images(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    options = ["--epochs", "10", "--learning-rate", "0.1", "--batch", "11"]
    options += ["--data", str(folder), "--repair", "12", "--check", "24"]
    result = called(folder, "-o", str(output), "--tucker", "--keep", "0.4", *options)
    assert result.exit_code == 0, result.output
    copy = Bundle.read(output).candidate("wide-tucker40")
    assert copy.made is not None
    assert "fine-tuned for 10 epochs on 44 images" in copy.made  # a tenth guides the search
    own, tuned = json.loads((output / "compressed.json").read_text())["copies"]
    assert tuned["details"]["ranks"]
    assert tuned["multiply_adds"] < own["multiply_adds"]
    # the original has random weights, so only training tells the colours apart
    assert tuned["top1"] > max(0.6, own["top1"])
    model = onnx.load(str(output / copy.file))
    assert max(entry.version for entry in model.opset_import) <= 16
    images = list_images(folder / "test", COLOURS)
    with Router.load(output, policy=Fixed([copy.name])) as router:
        right = [
            router.classify(images.root / name).index == label
            for name, label in zip(images.names, images.labels)
        ]
    assert np.mean(right) > 0.6


@pytest.fixture(scope="module")
def pruned(folder: Path) -> Path:
    output = folder / "pruned"
    options = ["--importance", "l1", "--iterations", "1", "--epochs", "1", "--batch", "16"]
    limits = ["--max-loss", "1", "--check", "12", "--repair", "4", "--share", "0.5"]
    result = called(folder, "-o", str(output), "--prune", "--data", str(folder), *options, *limits)
    assert result.exit_code == 0, result.output
    return output


def test_pruning_from_the_command_line(pruned: Path) -> None:
    about = json.loads((pruned / "compressed.json").read_text())
    details = about["copies"][1]["details"]
    assert set(details["widths"].values()) == {32}
    made = Bundle.read(pruned).candidate("wide-pruned").made
    assert made is not None
    widths = about["copies"][1]["details"]["widths"].values()
    assert f"down to {', '.join(map(str, widths))}, fine-tuned" in made


def test_a_pruned_copy_in_eight_bits_answers_as_it_does(
    pruned: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "eight"
    options = ["--int8", "cpu", "--only", "wide-pruned", "--calibrate", "12", "--check", "30"]
    result = CliRunner().invoke(
        quantize, [str(pruned), "-o", str(output), "--images", str(folder / "test"), *options]
    )
    assert result.exit_code == 0, result.output
    bundle = Bundle.read(output)
    assert {c.name for c in bundle.candidates} == {"wide", "wide-pruned", "wide-pruned-int8"}
    made = bundle.candidate("wide-pruned-int8").made
    assert made is not None
    assert made.startswith("int8 of wide-pruned; before that filters of wide pruned by l1")
    own, eight = json.loads((output / "copies.json").read_text())["copies"]
    assert (own["name"], eight["of"]) == ("wide-pruned", "wide-pruned")
    assert eight["agreement"] >= 0.9
    assert eight["megabytes"] < own["megabytes"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give --tucker or --prune"),
        (["--tucker", "--prune"], "give --tucker or --prune"),
        (["--tucker"], "give --data with training images, or --images"),
        (["--prune", "--images", "x"], "--prune trains"),
        (["--prune", "--data", "x", "--keep", "0.5"], "--keep belongs to --tucker"),
        (["--tucker", "--images", "x", "--keep", "1.5"], "share of variance to keep"),
        (["--tucker", "--images", "x", "--max-loss", "-1"], "cannot be kept to"),
        (
            ["--prune", "--data", "x", "--importance", "mask", "--mask-epochs", "2"],
            "--mask-epochs '2' is not two numbers",
        ),
        (["--prune", "--data", "x", "--vote", "0.9"], "belong to --prune --importance mask"),
        (["--prune", "--data", "x", "--mask-epochs", "1,1"], "belong to --prune --importance mask"),
        (["--prune", "--data", "x", "--device", "gpu"], "--device gpu is not known"),
        (["--prune", "--data", "x", "--device", "meta"], "trained on cpu or cuda"),
        (["--prune", "--data", "x", "--device", "cuda:99"], "--device cuda:99: torch sees"),
    ],
)
def test_options_that_do_not_go_together(
    folder: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    output = tmp_path / "none"
    result = called(folder, "-o", str(output), *options)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert not output.exists()


def test_too_few_images_are_said(folder: Path, tmp_path: Path) -> None:
    options = ["--images", str(folder / "test"), "--repair", "40", "--search", "20"]
    result = called(folder, "-o", str(tmp_path / "none"), "--tucker", *options)
    assert "48 images are too few" in str(result.exception)
