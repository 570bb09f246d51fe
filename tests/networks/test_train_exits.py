from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")
pytest.importorskip("onnx", reason="export needs onnx, which a board does not have")
pytest.importorskip("onnxruntime", reason="the exported network is checked with ONNX Runtime")

from adaptive.bundle.bundle import Bundle
from adaptive.cli.train_exits import command
from adaptive.errors import InputError
from adaptive.networks.exit_training import ExitDesign

pytestmark = pytest.mark.train

EPOCHS = 4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are started here, since sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that a network can learn, dark and bright noise, 96 images each."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for part, count in (("train", 96), ("test", 12)):
        for name, level in (("bright", 190), ("dark", 60)):
            (root / part / name).mkdir(parents=True)
            for row in range(count):
                noise = generator.normal(level, 30, (32, 32, 3))
                pixels = np.clip(noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{row:02}.png")
    return root


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    return [
        str(data),
        f"--output={output}",
        f"--epochs={EPOCHS}",
        "--batch=16",
        "--learning-rate=0.02",
        "--held-out=32",
        *more,
    ]


def call(*given: str) -> str:
    """Run the command; its own errors are raised here as in `adaptive`."""
    result = CliRunner().invoke(command, list(given), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def hashes(folder: Path) -> dict[str, str]:
    return {candidate.name: candidate.sha256 for candidate in Bundle.read(folder).candidates}


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of exits that was trained in one go, and what was printed."""
    output = tmp_path_factory.mktemp("trained") / "exits"
    return output, call(*arguments(data, output))


def test_exits_become_candidates_that_follow_each_other(trained: tuple[Path, str]) -> None:
    folder, printed = trained
    bundle = Bundle.read(folder)
    assert [c.name for c in bundle.candidates] == [f"small@{k}" for k in range(1, 6)]
    assert [c.after for c in bundle.candidates] == [None, *(f"small@{k}" for k in range(1, 5))]
    assert bundle.labels == ("bright", "dark")
    assert "million multiply-adds" in printed
    shares = printed.split("24 test images: ")[1].split(" %")[0].split(", ")
    assert len(shares) == 5
    assert min(map(float, shares)) > 90


def test_held_out_images_are_listed(trained: tuple[Path, str], data: Path) -> None:
    with open(trained[0] / "held_out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    assert sum(row["label"] == "0" for row in rows) == 16
    assert all((data / "train" / row["image"]).exists() for row in rows)


def test_a_killed_run_goes_on_to_the_same_weights(
    data: Path, tmp_path: Path, trained: tuple[Path, str]
) -> None:
    output = tmp_path / "exits"
    checkpoint = tmp_path / "exits-checkpoints" / "small-0.pt"
    line = [sys.executable, "-m", "adaptive.cli", "train-exits", *arguments(data, output)]
    process = subprocess.Popen(
        line,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert 1 <= torch.load(checkpoint, weights_only=True)["epoch"] < EPOCHS
    assert not output.exists()
    call(*arguments(data, output))
    assert hashes(output) == hashes(trained[0])


def test_a_seed_decides_the_network() -> None:
    first, again, other = (ExitDesign().build(3, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["segments.1.body.0.0.weight"], other["segments.1.body.0.0.weight"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--held-out=16", "was made with images"),
        ("--loss=focal", "was made with loss"),
        ("--batch=8", "was made with recipe"),
        ("--no-join", "was made with another network"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    data: Path, tmp_path: Path, trained: tuple[Path, str], more: str, words: str
) -> None:
    checkpoints = trained[0].with_name("exits-checkpoints")
    with pytest.raises(InputError, match=words):
        call(*arguments(data, tmp_path / "exits", f"--checkpoints={checkpoints}", more))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--gamma=1"], "belongs to --loss focal"),
        (["--exits=layer1"], "has its own exits"),
        (["--exit-weights=1,2"], "2 exit weights were given for 5 exits"),
        (["--exit-weights=1,x"], "is not a list of numbers"),
        (["--distil=2"], "distillation"),
        (["--teach=0.5"], "belongs to --teacher"),
        (["--name=a@1"], "exit's number"),
        (["--held-out=192"], "hold out 192 of 192"),
        (["--size=36"], "9 x 9 to 5 x 5 positions"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    data: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        call(*arguments(data, tmp_path / "exits", *more))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept(data: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --force"):
        call(*arguments(data, trained[0]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="no bundle"):
        call(*arguments(data, tmp_path / "mine", "--force"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="torch sees no GPU"):
        call(*arguments(data, tmp_path / "exits", "--device=cuda"))


def test_mobilenet_with_an_exit_where_asked_for(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    output = tmp_path / "exits"
    more = ["--network=mobilenet_v2", "--size=16", "--name=net"]
    call(*arguments(data, output, *more, "--exits=features.3", "--loss=focal", "--epochs=1"))
    assert list(hashes(output)) == ["net@1", "net@2"]
    with pytest.raises(InputError, match=r"no layer 'features\.77'"):
        call(*arguments(data, tmp_path / "other", *more, "--exits=features.77"))


def write_teacher(path: Path, size: int = 32) -> Path:
    """A network that calls dark images bright (class 0) and bright ones dark."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Sub", ["middle", "column"], ["dark"]),
        helper.make_node("Sub", ["column", "middle"], ["bright"]),
        helper.make_node("Concat", ["dark", "bright"], ["logits"], axis=1),
    ]
    values = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("middle", TensorProto.FLOAT, [1, 1], [125.0]),
    ]
    source = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 3])
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "teacher", [source], [target], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def test_exits_learn_from_a_teacher_even_what_labels_deny(data: Path, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "teacher.onnx")
    output = tmp_path / "exits"
    printed = call(*arguments(data, output, f"--teacher={teacher}", "--teach=1"))
    shares = printed.split("24 test images: ")[1].split(" %")[0].split(", ")
    assert max(map(float, shares)) < 10


def test_a_teacher_that_sees_other_images_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a network")
    for teacher, words in (
        (write_teacher(tmp_path / "large.onnx", 64), "does not take uint8 images of shape"),
        (tmp_path / "text.onnx", "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            call(*arguments(data, tmp_path / "exits", f"--teacher={teacher}"))
        assert not (tmp_path / "exits").exists()
