"""The contract of an engine, and what a raw answer means."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from engines import ENGINES
from onnx_files import colour_network, first_exit, integer, model, node, second_exit, tensor, value

from adaptive import EngineError
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.engines.answers import probabilities
from adaptive.engines.engine import OnnxEngine, open_engine
from adaptive.installed import pip_line
from adaptive.policy.signals import SIGNALS

WEIGHTS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
DRAW = np.random.default_rng(1)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    colour_network(tmp_path / "net.onnx", WEIGHTS, 8)
    return tmp_path / "net.onnx"


@pytest.fixture(params=ENGINES)
def opens(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    return ENGINES[request.param]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_run_gives_a_row_an_image(opens: Any, network: Path, count: int) -> None:
    engine = opens(network)
    images = DRAW.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    outputs = engine.run(images)
    assert len(outputs) == 1
    assert outputs[0].shape == (count, 5)
    np.testing.assert_allclose(outputs[0], images.mean(axis=(1, 2)) @ WEIGHTS, rtol=1e-4, atol=1e-2)
    for row in range(count):
        np.testing.assert_allclose(
            engine.run(images[row : row + 1])[0][0], outputs[0][row], rtol=1e-5, atol=1e-4
        )
    engine.close()


def test_closed_engines_say_so_and_close_again(opens: Any, network: Path) -> None:
    engine = opens(network)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="engine 'net' is closed"):
        engine.run(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 9, 9, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 8, 8, 3), object),
    ],
    ids=lambda a: f"{a.dtype} {a.shape}",
)
def test_wrong_inputs_are_an_engine_error(opens: Any, network: Path, wrong: np.ndarray) -> None:
    engine = opens(network)
    with pytest.raises(EngineError, match="network 'net' failed on inputs") as caught:
        engine.run(wrong)
    assert "\n" not in str(caught.value)
    assert engine.run(np.zeros((1, 8, 8, 3), np.uint8))[0].shape == (1, 5)  # and it goes on


def refusal(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        OnnxEngine(path)
    assert "\n" not in str(caught.value)
    assert "onnxruntime::" not in str(caught.value)
    return str(caught.value)


def test_a_network_that_is_too_new_says_for_what_and_what_to_do(tmp_path: Path) -> None:
    """However long its path is."""
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    colour_network(folder / "net.onnx", WEIGHTS, 8, opset=99)
    assert re.search(
        r"net\.onnx \(opset 99\): its opset of ai\.onnx is 99, and this ONNX Runtime knows up to "
        r"(\d+); export it again with opset \1 or lower, or take a newer ONNX Runtime$",
        refusal(folder / "net.onnx"),
    )
    colour_network(folder / "old.onnx", WEIGHTS, 8)
    data = (folder / "old.onnx").read_bytes()
    assert data[0] == 8  # the field of the IR version
    (folder / "net.onnx").write_bytes(data[:1] + b"\x63" + data[2:])
    assert re.search(
        r"its IR version is 99, and this ONNX Runtime reads up to (\d+); set model\.ir_version = "
        r"\1 with the onnx package and save it again, or take a newer ONNX Runtime$",
        refusal(folder / "net.onnx"),
    )


def test_what_else_is_wrong_with_a_network_is_said_to_the_end(tmp_path: Path) -> None:
    model(
        tmp_path / "net.onnx",
        [node("Nonsense" * 40, ["input"], ["output"])],
        [value("input", "float32", ["n", 3])],
        [value("output", "float32", ["n", 3])],
    )
    said = refusal(tmp_path / "net.onnx")
    assert "): This is an invalid model" in said
    assert re.search(r"with domain_version of \d+$", said)


def test_another_number_of_inputs_is_an_engine_error(opens: Any, network: Path) -> None:
    engine = opens(network)
    image = np.zeros((1, 8, 8, 3), np.uint8)
    for inputs in ((), (image, image)):
        says = rf"'net' reads 1 inputs \['images'\], but was given {len(inputs)}"
        with pytest.raises(EngineError, match=says):
            engine.run(*inputs)


def test_exits_hand_on_their_state(opens: Any, tmp_path: Path) -> None:
    first_exit(tmp_path / "1.onnx", WEIGHTS[:, :3], 8)
    second_exit(tmp_path / "2.onnx", WEIGHTS[:, 2:])
    images = DRAW.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    answer, state = opens(tmp_path / "1.onnx").run(images)
    assert answer.shape == state.shape == (4, 3)
    second = opens(tmp_path / "2.onnx").run(state)[0]
    expected = images.mean(axis=(1, 2)) @ WEIGHTS[:, 2:]
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("content", [b"\x08\x08", b"\x08\x08:\x00B\x04\n\x00\x10\x0d"])
def test_a_file_that_the_runtime_refuses(opens: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(Exception, match=r"odd\.onnx") as caught:
        opens(tmp_path / "odd.onnx")
    assert "\n" not in str(caught.value)


def test_threads_run_at_the_same_time(opens: Any, network: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = opens(network)
    images = DRAW.integers(0, 256, (64, 1, 8, 8, 3)).astype(np.uint8)
    alone = [engine.run(image)[0] for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = [outputs[0] for outputs in pool.map(engine.run, images)]
    np.testing.assert_array_equal(alone, together)


# Held against the manifest


def candidate(
    file: str = "net.onnx", after: str | None = None, classes: int = 5, **spec: Any
) -> Candidate:
    plain: dict[str, Any] = {"size": 8, "dtype": "uint8", "layout": "NHWC", "resize": "stretch"}
    answer = OutputSpec(classes, "logits", spec.pop("background", False))
    return Candidate("net", file, "", InputSpec(**{**plain, **spec}), answer, after)


def test_a_network_that_is_what_its_entry_says(network: Path) -> None:
    open_engine(network, candidate()).close()
    colour_network(network, WEIGHTS, 16, "float32", "NCHW")
    open_engine(network, candidate(size=16, dtype="float32", layout="NCHW")).close()
    open_engine(
        network, candidate(size=16, dtype="float32", layout="NCHW", classes=4, background=True)
    ).close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": 9}, r"reads inputs of shape \['n', 8, 8, 3\], but candidate 'net' says NHWC of"),
        ({"layout": "NCHW"}, "says NCHW of size 8"),
        ({"dtype": "float32"}, r"reads tensor\(uint8\), but candidate 'net' says float32"),
        ({"classes": 4}, "has 5 outputs, but candidate 'net' says 4 classes$"),
        ({"background": True}, "has 5 outputs, but candidate 'net' says 5 classes and a backgr"),
    ],
)
def test_a_network_that_is_not(network: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineError, match=says):
        open_engine(network, candidate(**wrong))


def odd(path: Path, nodes: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> Path:
    return model(path, nodes, inputs, outputs, [tensor("w", np.ones((3, 5), np.float32))])


IMAGES = value("images", "uint8", ["n", 8, 8, 3])


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "says"),
    [
        (
            [node("Identity", ["images"], ["answer"])],
            [IMAGES],
            [value("answer", "uint8", ["n", 8, 8, 3])],
            r"answers with \['tensor\(uint8\)'\]; one of",
        ),
        (
            [node("Cast", ["images"], ["answer"], integer("to", 1))],
            [IMAGES, value("more", "float32", ["n"])],
            [value("answer", "float32", ["n", 8, 8, 3])],
            r"reads 2 inputs \['images', 'more'\]; a candidate reads one, the image",
        ),
        (
            [node("Cast", ["images"], ["answer"], integer("to", 1))],
            [value("images", "uint8", [4, 8, 8, 3])],
            [value("answer", "float32", [4, 8, 8, 3])],
            "has a fixed batch axis of 4; export it with a free one or 1",
        ),
        (
            [node("Cast", ["images"], ["answer"], integer("to", 1))],
            [IMAGES],
            [value("answer", "float32", ["n", 8, 8, 3])],
            "has 192 outputs, but candidate 'net' says 5 classes",
        ),
        (
            [node("Identity", ["w"], ["answer"])],
            [],
            [value("answer", "float32", [3, 5])],
            r"odd\.onnx",
        ),
    ],
    ids=["uint8 answer", "two inputs", "fixed batch", "192 numbers", "no input"],
)
def test_odd_networks(
    nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], says: str, tmp_path: Path
) -> None:
    path = odd(tmp_path / "odd.onnx", nodes, inputs, outputs)
    with pytest.raises(EngineError, match=says) as caught:
        open_engine(path, candidate("odd.onnx"))
    assert "odd.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_with_axes_of_length_one_are_taken(tmp_path: Path) -> None:
    """As a convolution gives them: (n, 5, 1, 1)."""
    path = tmp_path / "net.onnx"
    axes = tensor("axes", np.array([2, 3], np.int64))
    model(
        path,
        [
            node("Cast", ["images"], ["pixels"], integer("to", 1)),
            node("Flatten", ["pixels"], ["flat"]),
            node("MatMul", ["flat", "w"], ["scores"]),
            node("Unsqueeze", ["scores", "axes"], ["answer"]),
        ],
        [IMAGES],
        [value("answer", "float32", ["n", 5, 1, 1])],
        [tensor("w", np.ones((192, 5), np.float32)), axes],
    )
    engine = open_engine(path, candidate())
    raw = engine.run(np.zeros((2, 8, 8, 3), np.uint8))[0]
    assert raw.shape == (2, 5, 1, 1)
    assert probabilities(raw, OutputSpec(5)).shape == (2, 5)


# Probabilities


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_logits_against_a_plain_softmax(background: bool, dtype: Any) -> None:
    raw = (DRAW.normal(size=(6, 9)) * 5).astype(dtype)
    found = probabilities(raw, OutputSpec(9 - background, "logits", background))
    chances = np.exp(raw.astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    if background:
        chances = chances[:, 1:] / chances[:, 1:].sum(axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, chances, rtol=1e-4, atol=1e-6)


def test_probabilities_pass_and_a_background_is_left_out() -> None:
    raw = DRAW.dirichlet(np.ones(6), 4).astype(np.float32)
    np.testing.assert_array_equal(probabilities(raw, OutputSpec(6, "probabilities")), raw)
    found = probabilities(raw, OutputSpec(5, "probabilities", True))
    np.testing.assert_allclose(found, raw[:, 1:] / (1 - raw[:, :1]), rtol=1e-4)


def test_huge_logits_and_certain_backgrounds_stay_finite() -> None:
    raw = np.array([[1e30, 0, -1e30], [-1e38, -1e38, 1e38], [1000, 999, 998]], np.float32)
    found = probabilities(raw, OutputSpec(3))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    certain = probabilities(
        np.array([[1.0, 0, 0]], np.float32), OutputSpec(2, "probabilities", True)
    )
    assert np.isfinite(certain).all()


def test_rounding_is_cut_off_but_logits_called_probabilities_are_refused() -> None:
    kind = OutputSpec(3, "probabilities")
    near = np.array([[1.0005, -0.0005, 0.0]], np.float32)
    np.testing.assert_array_equal(probabilities(near, kind), [[1, 0, 0]])
    assert near.max() > 1  # the network's own array stays
    for raw in ([[3.2, -1.5, 0.1]], [[0.5, 0.4, -0.2]], [[2.0, 0.0, 0.0]]):
        with pytest.raises(EngineError, match="its manifest entry says probabilities, which lie"):
            probabilities(np.array(raw, np.float32), kind)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_answers_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    raw = np.array([[0.1, 0.9], [0.5, bad]], np.float32)
    with pytest.raises(EngineError, match="not finite ones"):
        probabilities(raw, OutputSpec(2, kind))


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_another_width_is_refused(width: int) -> None:
    with pytest.raises(EngineError, match=f"answered with {width} numbers an image; its manifest"):
        probabilities(np.zeros((2, width), np.float32), OutputSpec(3))


def test_no_images_give_no_rows() -> None:
    assert probabilities(np.zeros((0, 3), np.float32), OutputSpec(3)).shape == (0, 3)


def test_without_a_runtime_the_pip_line_is_given(network: Path) -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path\n"
        "from adaptive.engines.engine import OnnxEngine\n"
        "from adaptive.errors import MissingExtra\n"
        "try:\n    OnnxEngine(Path(sys.argv[1]))\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(network)], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == (
        f"running a network needs onnxruntime, which is not installed: {pip_line('cpu')}\n"
    )


@pytest.mark.parametrize("background", [False, True])
def test_probabilities_that_do_not_sum_to_one_are_scaled(background: bool) -> None:
    """Sigmoids of one class each; softmax rounded to eight bits; nothing at all."""
    raw = np.array([np.full(1000, 0.37), np.eye(1000)[5] * 0.9, np.zeros(1000)], np.float32)
    raw = np.hstack([np.zeros((3, int(background)), np.float32), raw])
    found = probabilities(raw, OutputSpec(1000, "probabilities", background))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[0], 1 / 1000, rtol=1e-5)
    np.testing.assert_array_equal(found[1], np.eye(1000)[5])
    np.testing.assert_allclose(found[2], 1 / 1000, rtol=1e-5)
    for signal in SIGNALS.values():
        values = signal(found)
        assert ((values >= -1e-6) & (values <= 1)).all()
        assert values[1] == values.max()
