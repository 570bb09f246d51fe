from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import (
    block,
    colour_network,
    external_tensor,
    model,
    node,
    number,
    tensor,
    value,
    varint,
)

from adaptive import BundleError
from adaptive.engines.onnxfile import OnnxHeader, read_header

IMAGES = value("images", "float32", ["n", 3])


def network(path: Path, nodes: list[bytes], weights: list[bytes] | None = None) -> Path:
    return model(path, nodes, [IMAGES], [value("answer", "float32", ["n", 3])], weights or [])


def attribute(name: str, field: int, content: bytes) -> bytes:
    return block(1, name) + block(field, content)


@pytest.mark.parametrize("opset", [1, 7, 13, 16, 21, 99, 300])
def test_opset_is_read(opset: int, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    colour_network(path, np.eye(3), 8, opset=opset)
    assert read_header(path) == OnnxHeader(opset, ())


def test_opset_is_that_of_the_default_domain(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    colour_network(path, np.eye(3), 8, opset=12)
    other = block(8, block(1, "ai.onnx.ml") + number(2, 3))
    path.write_bytes(other + path.read_bytes() + other)
    assert read_header(path).opset == 12


def test_weights_are_not_taken_for_structure(tmp_path: Path) -> None:
    """Weights that look like external data are bytes."""
    fake = external_tensor("w", (1,), "/etc/passwd")
    raw = np.frombuffer(fake, np.uint8)
    path = network(tmp_path / "net.onnx", [], [tensor("raw", raw)])
    assert read_header(path).external == ()


def test_external_names_wherever_a_tensor_may_stand(tmp_path: Path) -> None:
    def outside(name: str) -> bytes:
        return external_tensor("w", (1,), name)

    inner = block(5, outside("in a graph")) + block(
        1, node("Constant", [], ["x"], attribute("value", 5, outside("in a node of a graph")))
    )
    nodes = [
        node("Constant", [], ["a"], attribute("value", 5, outside("in an attribute"))),
        node("Constant", [], ["b"], attribute("values", 10, outside("in a list"))),
        node("If", ["c"], ["d"], attribute("then_branch", 6, inner)),
        node("Scan", ["c"], ["e"], attribute("bodies", 11, block(5, outside("in graphs")))),
        node("Constant", [], ["f"], attribute("sparse", 22, block(1, outside("in sparse values")))),
        node("Constant", [], ["g"], attribute("sparses", 23, block(2, outside("in indices")))),
    ]
    path = network(tmp_path / "net.onnx", nodes, [outside("a weight"), outside("a weight")])
    sparse = block(7, block(15, block(1, outside("a sparse weight"))))
    body = node("Constant", [], ["h"], attribute("value", 5, outside("in a function")))
    default = attribute("alpha", 5, outside("in a default"))
    function = block(25, block(1, "f") + block(7, body) + block(11, default))
    path.write_bytes(path.read_bytes() + sparse + function)
    assert set(read_header(path).external) == {
        "in an attribute", "in a list", "in a graph", "in a node of a graph", "in graphs",
        "in sparse values", "in indices", "a weight", "a sparse weight", "in a function",
        "in a default",
    }  # fmt: skip


def test_an_entry_that_names_two_places_gives_both(tmp_path: Path) -> None:
    entries = [block(13, block(1, "location") + block(2, name)) for name in ("one", "two")]
    path = network(tmp_path / "net.onnx", [], [block(8, "w") + b"".join(entries)])
    assert read_header(path).external == ("one", "two")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\x08",
        b"hello, this is text",
        b"PK\x03\x04" + bytes(50),
        number(1, 8),
        block(7, b""),
        block(7, b"")[:-1] + b"\xff\xff\xff\xff\x0f",
        b"\xff" * 64,
        block(8, block(1, "") + number(2, 0)),
        block(8, block(1, "") + block(2, "13")),
        block(8, block(1, b"\xff\xfe") + number(2, 13)),
        varint(8 << 3 | 3),
        varint(0 << 3) + b"\0" + block(8, block(1, "") + number(2, 13)),
    ],
)
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"odd\.onnx is not an ONNX file"):
        read_header(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(BundleError, match="cannot be read"):
            read_header(path)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner = b""
    for _ in range(3000):
        inner = block(1, node("If", [], [], attribute("then_branch", 6, inner)))
    path = network(tmp_path / "deep.onnx", [])
    path.write_bytes(path.read_bytes() + block(7, inner))
    with pytest.raises(BundleError, match=r"deep\.onnx is not an ONNX file"):
        read_header(path)


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    try:
        header = read_header(path)
    except BundleError:
        return
    assert header.opset >= 1


@pytest.mark.train
def test_agrees_with_the_onnx_package(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
    path = tmp_path / "net.onnx"
    weights = [tensor(f"w{i}", np.ones((3, 3), np.float32)) for i in range(5)]
    network(path, [node("MatMul", ["images", "w0"], ["answer"])], weights)
    loaded = onnx.load(str(path))
    onnx.save_model(
        loaded,
        str(tmp_path / "saved.onnx"),
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    found = read_header(tmp_path / "saved.onnx")
    saved = onnx.load(str(tmp_path / "saved.onnx"), load_external_data=False)
    expected = {
        entry.value
        for weight in saved.graph.initializer
        for entry in weight.external_data
        if entry.key == "location"
    }
    assert set(found.external) == expected
    assert len(expected) == 5
    assert found.opset == saved.opset_import[0].version


@pytest.mark.data
def test_real_networks(data: Path) -> None:
    for path in sorted((data / "imagenet" / "models").glob("*.onnx")):
        assert read_header(path) == OnnxHeader(13, ())
