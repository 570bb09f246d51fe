"""Networks that take one image at a time, hand on what is no batch, or are not what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import pytest
from onnx_files import integer, ints, model, node, tensor, value

from adaptive import Bundle, EngineError, Router
from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.engines.answers import probabilities
from adaptive.engines.choose import Engines
from adaptive.engines.wanted import Wanted
from adaptive.files import sha256
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks

COLOURS = ("blue", "green", "red")
EXACT = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
SPEC = InputSpec(8, "uint8", "NHWC", "stretch")


def network(
    path: Path,
    nodes: Sequence[bytes],
    further: Sequence[bytes] = (),
    weights: Sequence[bytes] = (),
    scale: float = 0.02,
) -> Path:
    """The mean colour times a matrix, called `logits`, and these nodes after it."""
    head = [
        node("Cast", ["images"], ["pixels"], integer("to", 1)),
        node("ReduceMean", ["pixels"], ["colour"], ints("axes", [1, 2]), integer("keepdims", 0)),
        node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    return model(
        path,
        [*head, *nodes],
        [value("images", "uint8", ["n", 8, 8, 3])],
        [value("answer", "float32", ["m", "k"]), *further],
        [tensor("weights", EXACT * scale), *weights],
    )


def plain(path: Path) -> Path:
    return network(path, [node("Identity", ["logits"], ["answer"])])


def only_one(path: Path) -> Path:
    """Exported with a batch of one written into a reshape."""
    shape = tensor("shape", np.array([1, 3]))
    return network(path, [node("Reshape", ["logits", "shape"], ["answer"])], weights=[shape])


def only_the_first(path: Path) -> Path:
    """Takes a batch, and answers with one row."""
    weights = [tensor("zero", np.array([0]))]
    return network(path, [node("Gather", ["logits", "zero"], ["answer"])], weights=weights)


def of_the_batch(path: Path) -> Path:
    """Mixes the mean over the batch into every answer."""
    nodes = [
        node("ReduceMean", ["logits"], ["mean"], ints("axes", [0]), integer("keepdims", 1)),
        node("Sub", ["logits", "mean"], ["apart"]),
        node("Add", ["logits", "apart"], ["answer"]),
    ]
    return network(path, nodes)


def candidate(path: Path, kind: str = "logits", after: str | None = None) -> Candidate:
    name = path.stem if after is None else "net@2"
    return Candidate(name, path.name, sha256(path), SPEC, OutputSpec(3, kind), after)


def folder_of(folder: Path, *candidates: Candidate) -> Path:
    write_candidates(folder, candidates, COLOURS, candidates[-1].name)
    return folder


def images(count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(3)
    colours = draw.integers(0, 256, (count, 3))
    return [np.broadcast_to(c.astype(np.uint8), (8, 8, 3)).copy() for c in colours]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (only_one, "its network takes one image at a time"),
        (only_the_first, "its network takes one image at a time"),
        (of_the_batch, "its answer to an image depends on the others in the batch"),
    ],
)
def test_networks_that_batches_would_harm_run_one_by_one_and_say_so(
    make: Callable[[Path], Path],
    says: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(tmp_path, candidate(make(tmp_path / "net.onnx")))
    shown = images(9)
    with Router.load(folder, policy=Fixed(("net",))) as router:
        alone = [router.classify(image) for image in shown]
        together = router.classify_batch(shown, batch=4)
    assert [a.label for a in together] == [a.label for a in alone]
    np.testing.assert_allclose([a.score for a in together], [a.score for a in alone], rtol=1e-6)
    assert caplog.text.count(f"net runs on one image after the other: {says}") == 1
    assert capfd.readouterr().err == ""  # none of ONNX Runtime's own lines


def test_a_network_that_takes_batches_is_given_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = candidate(plain(tmp_path / "net.onnx"))
    opened = Engines().open([Wanted("net", tmp_path, made)])
    assert caplog.text == ""
    pixels = np.stack(images(5))
    (answer,) = opened["net"].run(pixels)
    np.testing.assert_allclose(answer, pixels.mean(axis=(1, 2)) @ EXACT * 0.02, rtol=1e-5)


def test_exits_after_one_that_runs_one_by_one_still_answer(tmp_path: Path) -> None:
    shape = tensor("shape", np.array([1, 3]))
    first = network(
        tmp_path / "net@1.onnx",
        [
            node("Reshape", ["logits", "shape"], ["answer"]),
            node("Identity", ["answer"], ["state"]),
        ],
        [value("state", "float32", ["n", 3])],
        [shape],
    )
    second = model(
        tmp_path / "net@2.onnx",
        [node("MatMul", ["state", "weights"], ["answer"])],
        [value("state", "float32", ["n", 3])],
        [value("answer", "float32", ["n", 3])],
        [tensor("weights", np.eye(3, dtype=np.float32) * 2)],
    )
    made = Candidate("net@1", first.name, sha256(first), SPEC, OutputSpec(3))
    folder = folder_of(tmp_path, made, candidate(second, after="net@1"))
    policy = Cascade(("net@1", "net@2"), thresholds=(0.9,))
    shown = images(7)
    with Router.load(folder, policy=policy) as router:
        alone = [router.classify(image) for image in shown]
        together = router.classify_batch(shown, batch=4)
        found = router.all_exits(shown, "net@2", batch=3)
    assert [a.path for a in together] == [a.path for a in alone]
    assert {len(a.path) for a in alone} == {1, 2}
    raw = np.stack(shown).mean(axis=(1, 2)) @ EXACT * 0.02
    np.testing.assert_allclose(found["net@2"], probabilities(raw * 2, OutputSpec(3)), rtol=1e-4)


# Further outputs


def with_further(path: Path, kind: str) -> Path:
    """A network whose second output is no row for each image."""
    nodes = [node("Identity", ["logits"], ["answer"])]
    if kind == "scalar":
        axes = ints("axes", [0, 1])
        nodes.append(node("ReduceMean", ["logits"], ["more"], axes, integer("keepdims", 0)))
        return network(path, nodes, [value("more", "float32", [])])
    if kind == "anchors":
        nodes.append(node("Identity", ["boxes"], ["more"]))
        boxes = tensor("boxes", np.zeros((10, 4), np.float32))
        return network(path, nodes, [value("more", "float32", [10, 4])], [boxes])
    assert kind == "sequence"
    nodes.append(node("SequenceConstruct", ["logits", "logits"], ["more"]))
    # a value of type sequence(tensor(float)), which `value` does not write
    of = b"\x0a\x04\x0a\x02\x08\x01"
    more = b"\x0a\x04more" + b"\x12" + bytes([len(of) + 2]) + b"\x22" + bytes([len(of)]) + of
    return network(path, nodes, [more])


KINDS = ("scalar", "anchors", "sequence")


@pytest.mark.parametrize("kind", KINDS)
def test_further_outputs_that_nobody_reads_are_not_kept(kind: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, candidate(with_further(tmp_path / "net.onnx", kind)))
    shown = images(5)
    with Router.load(folder, policy=Fixed(("net",))) as router:
        alone = [router.classify(image) for image in shown]
        assert [a.index for a in router.classify_batch(shown, batch=4)] == [a.index for a in alone]
        photo = Photo(router.decode(shown[0]))
        (photo,), _ = router._networks.run("net", [photo])
    assert photo.carried.get("net", ()) == ()


@pytest.mark.parametrize(
    ("kind", "what"),
    [("scalar", r"of shape \(\)"), ("anchors", r"of shape \(10, 4\)"), ("sequence", "list")],
)
def test_further_outputs_that_an_exit_reads_need_a_row_for_each_image(
    kind: str, what: str, tmp_path: Path
) -> None:
    first = with_further(tmp_path / "net@1.onnx", kind)
    second = model(
        tmp_path / "two.onnx",
        [node("Identity", ["more"], ["answer"])],
        [value("more", "float32", ["n", 3])],
        [value("answer", "float32", ["n", 3])],
    )
    made = Candidate("net@1", first.name, sha256(first), SPEC, OutputSpec(3))
    folder = folder_of(tmp_path, made, candidate(second, after="net@1"))
    says = f"further output 1 of 'net@1', which the next exit reads, is {what} for 1 images"
    with pytest.raises(EngineError, match=says):
        Networks.open(Bundle.read(folder), ("net@2",), 1)


def test_engines_that_are_handed_over_are_held_to_it_too(tmp_path: Path) -> None:
    class Given:
        def run(self, *inputs: np.ndarray) -> list[Any]:
            return [np.ones((1, 3)), np.float32(1)]

        def close(self) -> None:
            pass

    first, second = plain(tmp_path / "net@1.onnx"), plain(tmp_path / "net.onnx")
    made = Candidate("net@1", first.name, sha256(first), SPEC, OutputSpec(3))
    folder = folder_of(tmp_path, made, candidate(second, after="net@1"))
    engines = {"net@1": Given(), "net@2": Given()}
    router = Router(Bundle.read(folder), engines, Cascade(("net@1", "net@2"), thresholds=(0.9,)))
    with pytest.raises(EngineError, match="its first axis must be the batch"):
        router.classify(images(1)[0])


# What answers are said to be


def softmax(path: Path) -> Path:
    return network(path, [node("Softmax", ["logits"], ["answer"], integer("axis", 1))])


def sigmoid(path: Path) -> Path:
    return network(path, [node("Sigmoid", ["logits"], ["answer"])])


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (plain, "logits", None),
        (softmax, "probabilities", None),
        (softmax, "logits", "which are probabilities, but its manifest entry says logits"),
        (sigmoid, "probabilities", "which sum to 1; they are scaled until they do"),
        (sigmoid, "logits", None),
    ],
)
def test_answers_that_are_not_what_the_manifest_says(
    make: Callable[[Path], Path], kind: str, says: str | None, tmp_path: Path
) -> None:
    made = candidate(make(tmp_path / "net.onnx"), kind)
    engines = Engines()
    engines.open([Wanted("net", tmp_path, made)])
    if says is None:
        assert engines.doubts == {}
    else:
        assert says in engines.doubts["net"]
