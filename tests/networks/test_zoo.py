from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator

import click
import numpy as np
import pytest
from click.testing import CliRunner

from adaptive.bundle.bundle import Bundle
from adaptive.cli.zoo import command
from adaptive.errors import InputError, MissingExtra
from adaptive.images.preprocess import preprocess
from adaptive.installed import pip_line
from adaptive.routing.router import Router


def run(*arguments: object) -> click.testing.Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def assert_refused(message: str, *arguments: object) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.output
    assert message in str(result.exception)


def test_the_zoo_without_torch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "adaptive.networks.zoo", raising=False)
    for arguments in (["list"], ["export", "resnet18", "-o", tmp_path / "zoo"]):
        result = run(*arguments)
        assert isinstance(result.exception, MissingExtra)
        assert pip_line("train") in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def torch_stack() -> Iterator[None]:
    for module in ("torch", "torchvision", "onnx"):
        pytest.importorskip(module, reason=f"the zoo needs {module}")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(torch_stack: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of two untrained candidates, and what was printed."""
    zoo = tmp_path_factory.mktemp("made") / "zoo"
    result = run("export", "squeezenet1_1", "mobilenet_v2", "-o", zoo, "--untrained")
    assert result.exit_code == 0, result.output
    return zoo, result.output


@pytest.mark.train
class TestWithTorch:
    @pytest.fixture(autouse=True)
    def _cache(self, torch_stack: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    @pytest.fixture
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from urllib.error import URLError

        import torch

        def download(*_: object, **__: object) -> None:
            raise URLError("Name or service not known")

        monkeypatch.setattr(torch.hub, "download_url_to_file", download)

    def test_untrained_networks_become_candidates(self, made: tuple[Path, str]) -> None:
        import onnx

        zoo, printed = made
        assert [line.split(":")[0] for line in printed.splitlines()] == [
            "squeezenet1_1",
            "mobilenet_v2",
        ]
        assert "short side 256, middle 224, random weights" in printed
        assert "short side 232, middle 224 (cut inside the network)" in printed
        bundle = Bundle.read(zoo)
        assert bundle.names == ("squeezenet1_1", "mobilenet_v2")
        assert bundle.labels[0] == "tench"
        assert len(bundle.labels) == 1000
        assert bundle.reference is None
        assert all(c.untrained for c in bundle.candidates)
        assert json.loads((zoo / "manifest.json").read_text())["candidates"][0]["untrained"]
        first, second = (c.input for c in bundle.candidates)
        assert (first.size, first.resize, first.dtype, first.layout) == (
            *(224, "crop"),
            *("float32", "NCHW"),
        )
        assert (second.size, second.resize) == (232, "cover")
        assert first.scale == 255
        assert first.mean == (0.485, 0.456, 0.406)
        assert first.std == (0.229, 0.224, 0.225)
        model = onnx.load(str(zoo / "mobilenet_v2.onnx"))
        assert model.opset_import[0].version == 13
        assert model.ir_version <= 8
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
        image = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
        with Router.load(zoo) as router:
            assert router.classify(image).candidate == "mobilenet_v2"

    @pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
    def test_onnx_runtime_answers_as_torch_does(self, made: tuple[Path, str], name: str) -> None:
        import torch

        from adaptive.engines.engine import open_engine
        from adaptive.networks.zoo import find, random_network

        entry = find([name])[0]
        candidate = Bundle.read(made[0]).candidate(name)
        short, side = candidate.input.size, entry.sides[1]
        inputs = torch.randn(3, 3, short, short)
        first = round((short - side) / 2)
        with torch.inference_mode():
            cut = slice(first, first + side)
            expected = random_network(entry)(inputs[:, :, cut, cut]).numpy()
        engine = open_engine(made[0] / candidate.file, candidate)
        answers = engine.run(inputs.numpy())[0]
        engine.close()
        assert answers.shape == (3, 1000)
        assert np.abs(answers - expected).max() < 1e-4
        assert np.abs(answers[0] - answers[1]).max() > 1e-3  # it depends on the image

    def test_random_weights_are_the_same_each_time(self) -> None:
        import torch

        from adaptive.networks.zoo import find, random_network

        entry = find(["squeezenet1_1"])[0]
        before = torch.random.get_rng_state()
        one, two = (random_network(entry).state_dict() for _ in range(2))
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_weights_that_lie_on_this_machine_are_used(
        self, tmp_path: Path, no_network: None
    ) -> None:
        import torch

        from adaptive.engines.engine import open_engine
        from adaptive.networks.zoo import (
            fetch_weights,
            find,
            load_network,
            random_network,
            weights_folder,
        )

        entry = find(["squeezenet1_1"])[0]
        network = random_network(entry, seed=5)
        inputs = torch.randn(3, 3, 224, 224)
        with torch.inference_mode():
            expected = network(inputs).numpy()
        cache = weights_folder()
        cache.mkdir(parents=True)
        torch.save(network.state_dict(), cache / "squeezenet1_1-b8a52dc0.pth")
        with torch.inference_mode():
            again = load_network(entry, fetch_weights(entry, cache))(inputs).numpy()
        assert np.array_equal(again, expected)
        folder = cache.rename(tmp_path / "elsewhere")
        zoo = tmp_path / "zoo"
        result = run("export", "squeezenet1_1", "-o", zoo, "--weights-dir", folder)
        assert result.exit_code == 0, result.output
        assert "published top-1 58.178 %" in result.output
        assert torch.hub.get_dir() == str(tmp_path / "hub")
        bundle = Bundle.read(zoo)
        assert not bundle.candidates[0].untrained
        assert bundle.reference == "squeezenet1_1"
        engine = open_engine(zoo / "squeezenet1_1.onnx", bundle.candidates[0])
        assert np.abs(engine.run(inputs.numpy())[0] - expected).max() < 1e-4
        engine.close()

    def test_without_weights_it_says_what_to_do_and_writes_nothing(
        self, tmp_path: Path, no_network: None
    ) -> None:
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "resnet50-0676ba61.pth").write_bytes(b"other weights of the same network")
        result = run("export", "resnet50", "-o", tmp_path / "zoo", "--weights-dir", folder)
        assert isinstance(result.exception, InputError)
        sentence = str(result.exception)
        assert f"resnet50 are not in {folder} and could not be downloaded" in sentence
        assert "Name or service not known" in sentence
        assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in sentence
        assert "resnet50:IMAGENET1K_V1" in sentence
        assert "--untrained" in sentence
        assert "\n" not in sentence
        assert list(tmp_path.iterdir()) == [folder]

    def test_files_that_hold_no_weights_of_the_network_are_refused(
        self, tmp_path: Path, no_network: None
    ) -> None:
        import torch

        folder = tmp_path / "weights"
        folder.mkdir()
        file = folder / "squeezenet1_1-b8a52dc0.pth"
        for content in (b"", b"no weights", {"a": torch.zeros(2)}, {"code": SimpleNamespace()}):
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                torch.save(content, file)
            asked = ["export", "squeezenet1_1", "-o", tmp_path / "zoo", "--weights-dir", folder]
            assert_refused("does not hold the weights of squeezenet1_1", *asked)
        assert list(tmp_path.iterdir()) == [folder]

    def test_names_and_folders_are_checked_first(self, tmp_path: Path) -> None:
        zoo = tmp_path / "zoo"
        assert_refused("'resnet5' is no", "export", "resnet5", "-o", zoo)
        assert_refused("'resnet50'", "export", "resnet5", "-o", zoo)
        assert_refused("is no", "export", "resnet50:V9", "-o", zoo)
        twice = ["resnet50", "resnet50:IMAGENET1K_V1"]
        assert_refused("named twice", "export", *twice, "-o", zoo)
        assert_refused("--opset 14", "export", "vit_b_32", "-o", zoo, "--untrained")
        absent = ["--weights-dir", tmp_path / "absent"]
        assert_refused("is no folder", "export", "resnet18", "-o", zoo, *absent)
        assert not zoo.exists()

    def test_an_existing_folder_is_added_to_with_force_only(
        self, tmp_path: Path, made: tuple[Path, str]
    ) -> None:
        zoo = tmp_path / "zoo"
        shutil.copytree(made[0], zoo)
        before = Bundle.read(zoo)
        more = ["export", "squeezenet1_1", "squeezenet1_0", "-o", zoo, "--untrained"]
        assert_refused("--force", *more)
        assert Bundle.read(zoo) == before
        added = run(*more, "--opset", 14, "--force")
        assert added.exit_code == 0, added.output
        after = Bundle.read(zoo)
        assert after.names == ("mobilenet_v2", "squeezenet1_1", "squeezenet1_0")
        assert after.candidate("mobilenet_v2") == before.candidate("mobilenet_v2")
        assert after.candidate("squeezenet1_1") != before.candidate("squeezenet1_1")
        assert [p.name for p in tmp_path.iterdir()] == ["zoo"]

    def test_force_replaces_nothing_but_folders_of_candidates(
        self, tmp_path: Path, tiny_bundle: Path, tiny_candidates: Path
    ) -> None:
        photos = tmp_path / "photos"
        photos.mkdir()
        (photos / "dear.jpg").write_bytes(b"")
        asked = ["export", "squeezenet1_1", "--untrained", "--force", "-o"]
        assert_refused("is no folder of candidates", *asked, photos)
        assert_refused("is no folder of candidates", *asked, photos / "dear.jpg")
        assert_refused("more than candidates", *asked, tiny_bundle)
        assert_refused("3 other classes", *asked, tiny_candidates)
        assert (photos / "dear.jpg").exists()

    def test_the_list_names_what_export_takes(self, tmp_path: Path) -> None:
        (tmp_path / "squeezenet1_0-b66bff10.pth").write_bytes(b"")
        result = run("list", "--weights-dir", tmp_path)
        lines = {line.split()[0]: line.split() for line in result.output.splitlines() if line}
        assert lines["inception_v3"][1:] == ["342/299", "27.2M", "77.29", "to", "download"]
        assert lines["resnet50:IMAGENET1K_V1"][1] == "256/224"
        assert lines["squeezenet1_0"][-1] == "here"
        assert {"mobilenet_v2", "googlenet", "resnet152", "efficientnet_b0"} <= lines.keys()

    @pytest.mark.parametrize(
        ("name", "size", "resize"),
        [
            ("inception_v3", 299, "crop"),
            ("googlenet", 224, "crop"),
            ("resnet50", 232, "cover"),
            ("efficientnet_b1", 255, "cover"),
            ("efficientnet_b2", 288, "cover"),
            ("efficientnet_v2_l", 480, "cover"),
        ],
    )
    def test_an_image_is_scaled_and_cut_as_torchvision_does(
        self, name: str, size: int, resize: str
    ) -> None:
        import torch
        from PIL import Image

        from adaptive.networks.zoo import CentreCrop, find

        entry = find([name])[0]
        assert (entry.input.size, entry.input.resize) == (size, resize)
        # each pixel says where it comes from, so that a shift or another scale shows
        rows, columns = np.mgrid[:600, :800]
        image = np.stack([columns // 4, rows // 4, (rows + columns) // 8], axis=-1)
        image = image.astype(np.uint8)
        ours = torch.from_numpy(preprocess(image, entry.input))
        if entry.cut_inside is not None:
            ours = CentreCrop(torch.nn.Identity(), size, entry.cut_inside)(ours)
        expected = entry.weights.transforms()(Image.fromarray(image))
        assert ours[0].shape == expected.shape
        levels = (ours[0] - expected) * torch.tensor(entry.input.std).view(3, 1, 1) * 255
        assert levels.abs().max() < 1.1  # of 200 grey levels: 0.6 % of the image's width
        assert levels.mean().abs() < 0.5

    @pytest.fixture
    def server(self) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/models/there"):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"weights")
                else:
                    self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/models"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_a_download_is_checked_and_leaves_nothing_half_done(
        self, tmp_path: Path, server: str
    ) -> None:
        from adaptive.networks.zoo import Pretrained, fetch_weights

        def fetch(file: str, base: str = server) -> Path:
            weights = SimpleNamespace(url=f"{base}/{file}", name="V1")
            return fetch_weights(Pretrained("small", weights, True), tmp_path / "cache")

        right = hashlib.sha256(b"weights").hexdigest()[:8]
        for file, base, reason in (
            ("there-00000000.pth", server, "invalid hash value"),
            ("absent-00000000.pth", server, "Not Found"),
            ("there-00000000.pth", "http://127.0.0.1:9/models", "refused"),
        ):
            with pytest.raises(InputError, match=rf"could not be downloaded \(.*{reason}"):
                fetch(file, base)
            assert list((tmp_path / "cache").iterdir()) == []
        assert fetch(f"there-{right}.pth").read_bytes() == b"weights"
        assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"there-{right}.pth"]
