"""Segments on disk against the network that they were cut from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need torch, which a board does not have")
onnx = pytest.importorskip("onnx", reason="export needs onnx, which a board does not have")

from onnx_files import colour_network
from torch import Tensor, nn

from adaptive import Bundle, EngineError, InputError, Router
from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import sha256
from adaptive.networks.small import conv_bn
from adaptive.networks.split import export_exits
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed

pytestmark = pytest.mark.train

SPEC = InputSpec(16, "uint8", "NHWC", "cover")
LABELS = ("blue", "green", "red")


class Exits(nn.Module):
    """Three exits; the state is one tensor."""

    exits = 3

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [conv_bn(3, 16, 3, 2), conv_bn(16, 24, 3, 2), nn.Sequential(conv_bn(24, 24, 3))]
        )
        self.heads = nn.ModuleList([nn.Linear(c, len(LABELS)) for c in (16, 24, 24)])

    def segment(self, k: int, x: Tensor) -> Tensor:
        if k == 0:
            x = x.permute(0, 3, 1, 2).float() / 255
        y: Tensor = self.parts[k](x)
        return y

    def head(self, k: int, state: Tensor) -> Tensor:
        y: Tensor = self.heads[k](state.mean(dim=(2, 3)))
        return y

    def forward(self, images: Tensor) -> list[Tensor]:
        state, found = images, []
        for k in range(self.exits):
            state = self.segment(k, state)
            found.append(self.head(k, state))
        return found


@pytest.fixture(scope="module")
def network() -> Exits:
    torch.manual_seed(0)
    made = Exits()
    with torch.no_grad():  # so that batch normalisation has something to fold
        made.train()(torch.randint(0, 256, (8, 16, 16, 3)).to(torch.uint8))
    return made


@pytest.fixture(scope="module")
def folder(network: Exits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("split") / "candidates"
    export_exits(network, made, "net", LABELS, SPEC)
    return made


def expected(network: Exits, images: np.ndarray) -> list[np.ndarray]:
    was = network.training
    with torch.no_grad():
        found = [torch.softmax(o, 1).numpy() for o in network.eval()(torch.from_numpy(images))]
    network.train(was)
    return found


def test_segments_one_after_the_other_are_the_network(network: Exits, folder: Path) -> None:
    assert network.training  # it was left as it is
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    wanted = expected(network, images)
    policy = Cascade(("net@1", "net@2", "net@3"), thresholds=(0.5, 0.5))
    with Router.load(folder, policy=policy) as router:
        found = router.all_exits(images, "net@3")
    for values, own in zip(found.values(), wanted):
        np.testing.assert_allclose(values, own, atol=2e-3)  # weights are kept in 16 bits
    for k in range(3):
        with Router.load(folder, policy=Fixed((f"net@{k + 1}",))) as router:
            answers = router.classify_batch(images)
        np.testing.assert_allclose([a.score for a in answers], wanted[k].max(axis=1), atol=2e-3)
        assert set(answers[0].ms) == {
            "decode", "total", f"net@{k + 1}", *(f"net@{i + 1}:through" for i in range(k))
        }  # fmt: skip


def test_each_file_holds_its_own_part_alone(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "labels.txt",
        "manifest.json",
        "net@1.onnx",
        "net@1.through.onnx",
        "net@2.onnx",
        "net@2.through.onnx",
        "net@3.onnx",
    ]
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for path in folder.glob("*.onnx"):
        model = onnx.load(str(path))
        assert model.opset_import[0].version <= 16
        assert model.ir_version <= 8
        weights = {w.name: tuple(w.dims) for w in model.graph.initializer}
        shapes[path.name] = {n: d for n, d in weights.items() if len(d) in (2, 4)}
        assert not any(w.data_type == 1 and np.prod(w.dims) >= 256 for w in model.graph.initializer)
    convolutions = {n: [d for d in s.values() if len(d) == 4] for n, s in shapes.items()}
    linear = {n: [d for d in s.values() if len(d) == 2] for n, s in shapes.items()}
    assert convolutions["net@2.onnx"] == convolutions["net@2.through.onnx"] == [(24, 16, 3, 3)]
    assert len(linear["net@2.onnx"]) == 1
    assert linear["net@2.through.onnx"] == []
    read = Bundle.read(folder)
    assert [(c.name, c.after) for c in read.candidates] == [
        ("net@1", None), ("net@2", "net@1"), ("net@3", "net@2")
    ]  # fmt: skip
    assert read.reference == "net@3"
    assert read.candidate("net@3").through is None


def test_32_bit_weights_agree_to_rounding(network: Exits, tmp_path: Path) -> None:
    folder = tmp_path / "exact"
    export_exits(network, folder, "net", LABELS, SPEC, half_weights=False)
    images = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3), np.uint8)
    policy = Cascade(("net@1", "net@2", "net@3"), thresholds=(0.5, 0.5))
    with Router.load(folder, policy=policy) as router:
        found = router.all_exits(images, "net@3")
    for values, own in zip(found.values(), expected(network, images)):
        np.testing.assert_allclose(values, own, atol=1e-5)


def test_exits_join_a_folder_of_candidates(network: Exits, tmp_path: Path) -> None:
    colour_network(tmp_path / "small.onnx", np.eye(3), 16)
    small = Candidate(
        "small", "small.onnx", sha256(tmp_path / "small.onnx"), SPEC, OutputSpec(len(LABELS))
    )
    write_candidates(tmp_path, [small], LABELS, reference="small")
    export_exits(network, tmp_path, "net", LABELS, SPEC)
    read = Bundle.read(tmp_path)
    assert read.names == ("small", "net@1", "net@2", "net@3")
    assert read.reference == "small"
    with pytest.raises(InputError, match=r"has \['net@1', 'net@2', 'net@3'\] already"):
        export_exits(network, tmp_path, "net", LABELS, SPEC)
    export_exits(network, tmp_path, "other", LABELS, SPEC)
    export_exits(network, tmp_path, "net", LABELS, SPEC, force=True)
    assert Bundle.read(tmp_path).names[-3:] == ("net@1", "net@2", "net@3")
    with pytest.raises(InputError, match="is about 3 other classes than net"):
        export_exits(network, tmp_path, "net", ("a", "b", "c"), SPEC, force=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="mine exists and is no folder of candidates"):
        export_exits(network, mine, "net", LABELS, SPEC)


class Spoils(Exits):
    """The head of the first exit changes the state that the second goes on from."""

    def head(self, k: int, state: Tensor) -> Tensor:
        return super().head(k, state.mul_(-1) if k == 0 else state)


class Pair(Exits):
    """Hands on two tensors."""

    def segment(self, k: int, x: Tensor) -> Tensor:
        state = super().segment(k, x[0] if isinstance(x, tuple) else x)
        return (state, state) if k == 0 else state  # type: ignore[return-value]

    def head(self, k: int, state: Tensor) -> Tensor:
        return super().head(k, state[0] if isinstance(state, tuple) else state)


class Unwritable(Exits):
    """Its head needs an operation that ONNX does not have at this opset."""

    def head(self, k: int, state: Tensor) -> Tensor:
        return super().head(k, torch.fft.fft(state).real)


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        (Spoils, EngineError, "exit 2 of net@3, reached without heads differs from torch by"),
        (Pair, InputError, "segment 1 hands on a tuple; a network can be split only where one"),
        (Unwritable, InputError, r"net@1\.onnx cannot be written as ONNX: "),
    ],
)
def test_what_cannot_be_split_is_refused_and_leaves_nothing(
    kind: type[Exits], error: type[Exception], says: str, network: Exits, tmp_path: Path
) -> None:
    odd = kind()
    odd.load_state_dict(network.state_dict())
    with pytest.raises(error, match=says) as caught:
        export_exits(odd, tmp_path / "new", "net", LABELS, SPEC)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_labels_must_fit_the_logits(network: Exits, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives 3 logits; there are 4 labels"):
        export_exits(network, tmp_path / "new", "net", (*LABELS, "more"), SPEC)


def test_normalised_images_in_planes(tmp_path: Path) -> None:
    """A first segment that reads float32 NCHW, as torchvision's networks do."""

    class Planes(Exits):
        def segment(self, k: int, x: Tensor) -> Tensor:
            y: Tensor = self.parts[k](x)
            return y

    torch.manual_seed(1)
    spec = InputSpec(16, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), scale=255.0)
    export_exits(Planes(), tmp_path / "new", "net", LABELS, spec)
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["candidates"][2]["input"]["layout"] == "NCHW"
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with Router.load(tmp_path / "new", policy=Fixed(("net@3",))) as router:
        assert router.classify(image).label in LABELS
