from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")
pytest.importorskip("onnx", reason="export needs onnx, which a board does not have")

from adaptive import Router
from adaptive.cli.train_together import command
from adaptive.errors import InputError, ServiceError
from adaptive.networks.federated import together
from adaptive.networks.federated.baselines import federated_average
from adaptive.networks.federated.edge import Edge
from adaptive.networks.federated.group import answer_bytes, learn_together, read_answers
from adaptive.networks.federated.halves import ServerNetwork, joined
from adaptive.networks.federated.messages import (
    Contribution,
    PackedMaps,
    from_bytes,
    pack,
    to_bytes,
)
from adaptive.networks.federated.over_http import GroupClient, Meeting
from adaptive.networks.federated.parts import deal, read_split
from adaptive.networks.federated.recipe import GroupRecipe
from adaptive.networks.federated.server import GroupServer
from adaptive.networks.images import ImageArrays
from adaptive.policy.fixed import Fixed

pytestmark = pytest.mark.train

CLASSES = ["bright", "dark"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photographs(count: int, seed: int) -> ImageArrays:
    """Dark and bright noise of 16 x 16 pixels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    level = np.where(labels, 60, 190)[:, None, None, None]
    pixels = np.clip(generator.normal(level, 30, (count, 16, 16, 3)), 0, 255)
    return ImageArrays([f"{k}.png" for k in range(count)], pixels.astype(np.uint8), labels, CLASSES)


def recipe(**changes) -> GroupRecipe:
    return GroupRecipe(**{"rounds": 2, "server_epochs": 1, "batch": 4, "shift": 1, **changes})


def group(folder: Path | None = None, **changes) -> tuple[list[Edge], GroupServer]:
    how = recipe(**changes)
    edges = [
        Edge(f"edge-{k}", photographs(8, k), how, folder and folder / f"edge-{k}.pt")
        for k in (1, 2)
    ]
    return edges, GroupServer(CLASSES, how, folder and folder / "server.pt")


def weights(edges: list[Edge], server: GroupServer) -> dict[str, torch.Tensor]:
    networks = {edge.name: edge.network for edge in edges}
    found = {f"server.{k}": v for k, v in server.network.state_dict().items()}
    for name, network in networks.items():
        found.update({f"{name}.{k}": v for k, v in network.state_dict().items()})
    return found


def contents(data: bytes) -> dict:
    found = Contribution.from_bytes(data, 2)
    return {name: getattr(found, name) for name in ("maps", "logits", "labels")}


def quiet(line: str) -> None:
    pass


def _maps(edge: Edge) -> np.ndarray:
    """What the server unpacks of what an edge sends in the first round."""
    sent = edge.contribution(1)
    return sent.maps.unpack(slice(0, len(sent.maps)))


class TestMessages:
    @pytest.mark.parametrize(("kind", "at_most"), [("float32", 0.0), ("float16", 2e-3)])
    def test_maps_arrive_as_they_were_sent(self, kind, at_most):
        maps = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
        assert np.abs(pack(maps, kind).unpack() - maps).max() <= at_most

    def test_eight_bits_are_at_most_half_a_step_of_their_channel_off(self):
        maps = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
        maps[1, 1] = 7.0  # a channel that is the same everywhere
        packed = pack(maps, "int8")
        step = (maps.max(axis=(2, 3)) - maps.min(axis=(2, 3))) / 255
        off = np.abs(packed.unpack() - maps).max(axis=(2, 3))
        assert packed.values.dtype == np.uint8
        assert (off <= 0.501 * step + 1e-6).all()
        assert off[1, 1] == 0
        rows = np.array([2, 0])
        assert np.array_equal(packed.unpack(rows), packed.unpack()[rows])

    def test_a_contribution_comes_back_from_its_bytes(self):
        sent = self.contribution("int8")
        found = Contribution.from_bytes(sent.to_bytes(), 2)
        assert (found.edge, found.round) == ("a", 3)
        for name in ("values", "scale", "offset"):
            assert np.array_equal(getattr(found.maps, name), getattr(sent.maps, name))
        assert np.array_equal(found.logits, sent.logits)
        assert np.array_equal(found.labels, sent.labels)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"labels": np.array([0, 2])}, "labels from 0 to 2; there are 2 classes"),
            ({"labels": np.array([0, 1, 1])}, "logits of float32, shape (2, 2), for 3 labels"),
            ({"logits": np.zeros((2, 3), np.float32)}, "shape (2, 3), for 2 labels of 2 classes"),
            ({"logits": np.full((2, 2), np.nan, np.float32)}, "logits that are no numbers"),
            ({"maps": PackedMaps(np.zeros((2, 16, 4), np.float32))}, "shape (2, 16, 4)"),
            ({"maps": PackedMaps(np.zeros((2, 16, 4, 4), np.uint8))}, "without a scale"),
            ({"maps": PackedMaps(np.full((2, 16, 4, 4), np.inf, np.float16))}, "no numbers"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_name(self, change, said):
        sent = self.contribution("float32")
        broken = Contribution(**{**sent.__dict__, **change})
        with pytest.raises(InputError) as refused:
            Contribution.from_bytes(broken.to_bytes(), 2)
        assert said in str(refused.value)

    def test_another_number_of_classes_is_refused(self):
        with pytest.raises(InputError, match="for 2 labels of 5 classes"):
            Contribution.from_bytes(self.contribution("float32").to_bytes(), 5)

    @given(st.binary(max_size=200), st.integers(0, 400))
    def test_broken_bytes_are_refused_and_nothing_else(self, noise, place):
        whole = to_bytes({"a": np.zeros(3)})
        for data in (noise, whole[:place], whole[:place] + noise + whole[place + len(noise) :]):
            try:
                found = from_bytes(data)
            except InputError:
                continue
            assert all(isinstance(value, np.ndarray) for value in found.values())

    def test_nothing_is_unpickled_or_inflated(self):
        file = io.BytesIO()
        np.savez(file, a=np.array([{"an": "object"}], dtype=object))
        with pytest.raises(InputError):
            from_bytes(file.getvalue())
        file = io.BytesIO()
        np.savez_compressed(file, a=np.zeros(10**6))
        with pytest.raises(InputError, match="compressed"):
            from_bytes(file.getvalue())

    @staticmethod
    def contribution(kind: str) -> Contribution:
        maps = np.random.default_rng(1).normal(size=(2, 16, 4, 4)).astype(np.float32)
        logits = np.array([[1, 0], [0, 1]], np.float32)
        return Contribution("a", 3, pack(maps, kind), logits, np.array([0, 1]))


class TestSplits:
    @given(st.integers(2, 6), st.sampled_from([None, 1.0, 10.0]), st.integers(0, 20))
    def test_every_image_belongs_to_one_edge(self, edges, alpha, seed):
        labels = np.arange(600) % 5
        dealt = deal(labels, edges, alpha, seed)
        assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(600))
        if alpha is None:
            sizes = [np.bincount(labels[rows], minlength=5) for rows in dealt]
            assert np.ptp(sizes, axis=0).max() <= 1

    def test_smaller_alphas_make_edges_less_alike(self):
        labels = np.arange(4000) % 10

        def unlike(alpha):
            rows = deal(labels, 4, alpha, 0)
            shares = np.array([np.bincount(labels[r], minlength=10) / 400 for r in rows])
            return np.abs(shares - 0.25).mean()

        assert unlike(0.5) > 2 * unlike(10.0) > 0

    @pytest.mark.parametrize("text", ["", "dirichlet", "dirichlet:0", "dirichlet:nan", "iid:1"])
    def test_other_splits_are_refused(self, text):
        with pytest.raises(InputError, match="iid or dirichlet:ALPHA"):
            read_split(text)

    def test_too_many_edges_are_refused(self):
        with pytest.raises(InputError, match="an edge would get 1"):
            deal(np.arange(6) % 2, 4, None, 0)


class TestRounds:
    def test_a_stopped_run_comes_to_the_same_weights(self, tmp_path):
        edges, server = group()
        learn_together(edges, server, quiet, progress=False)
        stopped, at_work = group(tmp_path)
        stopped[0].learn(1, None)  # stopped in the middle of the first round
        for _ in range(3):  # and anew from the files each time
            stopped, at_work = group(tmp_path)
            if not at_work.done:
                self.one_round(stopped, at_work)
        assert at_work.done
        for name, value in weights(edges, server).items():
            assert torch.equal(value, weights(stopped, at_work)[name]), name

    @staticmethod
    def one_round(edges, server):
        number = server.round
        for edge in edges:
            if edge.rounds < number:
                data = answer_bytes(server, edge.name)
                edge.learn(number, None if data is None else read_answers(data, number))
            server.take(edge.contribution(number))
        server.learn()

    def test_another_recipe_does_not_go_on(self, tmp_path):
        learn_together(*group(tmp_path), quiet, progress=False)
        with pytest.raises(InputError, match="was made with"):
            group(tmp_path, alpha=0.5)

    def test_other_images_or_classes_do_not_go_on(self, tmp_path):
        edges, server = group(tmp_path)
        learn_together(edges, server, quiet, progress=False)
        with pytest.raises(InputError, match=r"edge-1\.pt was made with images .* delete it"):
            Edge("edge-1", photographs(8, 7), recipe(), tmp_path / "edge-1.pt")
        with pytest.raises(InputError, match=r"server\.pt was made with classes .* delete it"):
            GroupServer(["a", "b", "c"], recipe(), tmp_path / "server.pt")

    def test_a_rate_that_leads_nowhere_is_said(self, tmp_path):
        edges, _ = group(tmp_path, learning_rate=1e9, edge_epochs=8)
        with pytest.raises(InputError, match=r"no number any more.* learning rate than 1e\+09"):
            edges[0].learn(1, None)
        assert not (tmp_path / "edge-1.pt").exists()

    def test_answers_reach_the_edges_unless_told_otherwise(self):
        with_them, without = group(), group(way_back=False)
        for edges, server in (with_them, without):
            learn_together(edges, server, quiet, progress=False)
        same = [
            torch.equal(a, b)
            for a, b in zip(
                with_them[0][0].network.state_dict().values(),
                without[0][0].network.state_dict().values(),
            )
        ]
        assert not all(same)
        assert without[1].answers("edge-1") is None
        number, logits = with_them[1].answers("edge-1")
        assert (number, logits.shape) == (2, (8, 2))

    def test_the_first_round_has_no_answers_and_later_ones_are_of_the_same_pixels(self):
        edges, server = group()
        self.one_round(edges, server)
        sent = edges[0].contribution(1)  # the network has not changed since
        expected = server.logits(sent.maps)
        found = read_answers(answer_bytes(server, "edge-1"), 2)
        assert np.allclose(found, expected, atol=1e-5)
        assert read_answers(answer_bytes(server, "edge-1"), 3) is None

    def test_bytes_are_counted_as_they_travel(self):
        edges, server = group(maps="int8", rounds=1)
        traffic = learn_together(edges, server, quiet, progress=False)
        maps = 8 * 16 * 16 * 16
        assert maps < traffic.up["edge-1"] < maps + 5000
        assert traffic.down == {}  # nothing goes back before the first round is over

    def test_what_learns_together_tells_dark_from_bright(self):
        how = recipe(rounds=8, edge_epochs=2, batch=8, learning_rate=0.02)
        edges = [Edge(f"edge-{k}", photographs(32, k), how) for k in (1, 2)]
        server = GroupServer(CLASSES, how)
        learn_together(edges, server, quiet, progress=False)
        fresh = photographs(40, 99)
        network = joined(edges[0].network, server.network).eval()
        with torch.no_grad():
            answers = network(torch.from_numpy(fresh.images))
        for logits in answers:
            assert (logits.argmax(1).numpy() == fresh.labels).mean() > 0.9

    def test_a_balanced_loss_is_right_about_images_that_tell_nothing(self):
        labels = np.repeat([0, 1], [9, 1])
        leaning = recipe(balanced=True).leaning(labels, 3)
        assert leaning.exp().tolist() == pytest.approx([9 / 11, 1 / 11, 1 / 11])
        indifferent = torch.zeros(10, 3, requires_grad=True)
        own = recipe(balanced=True).loss(indifferent, torch.from_numpy(labels), None, leaning)
        own.backward()
        # Nothing pulls either class up: what is wrong is only the class that counts as one image.
        assert indifferent.grad.sum(0).tolist() == pytest.approx([-9 / 110, -1 / 110, 1 / 11])
        assert recipe().leaning(labels, 3) is None

    def test_a_server_balances_every_image_by_its_own_edge(self, monkeypatch):
        edges, server = group(balanced=True)
        edges[0].labels[:] = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
        edges[1].labels[:] = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0])
        for edge in edges:
            server.take(edge.contribution(1))
        seen = []
        monkeypatch.setattr(
            server.learner, "step", lambda *a: seen.append((a[0].numpy(), a[4].numpy())) or 0.0
        )
        server.learn()
        owners = {m.tobytes(): k for k, e in enumerate(edges) for m in _maps(e)}
        rows = [pair for maps, leans in seen for pair in zip(maps, leans)]
        assert {owners[m.tobytes()] for m, _ in rows} == {0, 1}
        for maps, leaning in rows:
            wanted = [[0.75, 0.25], [0.25, 0.75]][owners[maps.tobytes()]]
            assert np.exp(leaning).tolist() == pytest.approx(wanted)

    def test_bfloat16_computes_otherwise_and_hands_over_float32(self):
        exact, short = group(rounds=1), group(rounds=1, bfloat16=True)
        for edges, server in (exact, short):
            learn_together(edges, server, quiet, progress=False)
        found, wanted = weights(*short), weights(*exact)
        apart = [(found[key] - wanted[key]).abs().max().item() for key in wanted]
        assert {value.dtype for value in found.values()} <= {torch.float32, torch.int64}
        assert 0 < max(apart) < 0.1
        edges, server = short
        sent = edges[0].contribution(1)
        assert sent.logits.dtype == server.answers("edge-1")[1].dtype == np.float32
        assert sent.maps.values.dtype == np.float16

    def test_what_bfloat16_taught_is_measured_in_float32(self):
        server = group()[1]
        packed = PackedMaps(np.random.default_rng(0).normal(size=(4, 16, 8, 8)).astype("float32"))
        exact = server.logits(packed)
        short = group(bfloat16=True)[1]
        assert np.array_equal(short.logits(packed), exact)
        with short.learner.autocast():
            assert not np.array_equal(short.logits(packed), exact)

    def test_another_round_and_other_maps_are_refused(self):
        edges, server = group()
        edges[0].learn(1, None)
        with pytest.raises(InputError, match="sends round 2; this is round 1"):
            server.take(edges[0].contribution(2))
        sent = edges[0].contribution(1)
        narrow = PackedMaps(sent.maps.values[:, :8])
        with pytest.raises(InputError, match="feature maps of shape"):
            server.take(Contribution("edge-1", 1, narrow, sent.logits, sent.labels))
        with pytest.raises(InputError, match="no edge has sent anything in round 1"):
            server.learn()

    def test_answers_about_another_number_of_images_are_refused(self):
        edges, _ = group()
        with pytest.raises(InputError, match="has 8 images and got answers about 7"):
            edges[0].learn(1, np.zeros((7, 2)))

    def test_depths_of_that_family_alone(self):
        assert sum(isinstance(m, torch.nn.Conv2d) for m in ServerNetwork(2, 20).modules()) == 18
        with pytest.raises(InputError, match="6 n \\+ 2 layers"):
            ServerNetwork(2, 18)

    @pytest.mark.parametrize(
        "change",
        [
            {"rounds": 0},
            {"batch": 1},
            {"maps": "int4"},
            {"temperature": 0.0},
            {"alpha": -1},
            {"learning_rate": 0.0},
            {"learning_rate": float("nan")},
            {"learning_rate": float("inf")},
        ],
    )
    def test_other_recipes_are_refused(self, change):
        with pytest.raises(InputError):
            recipe(**change)


def test_average_weighs_edges_by_their_images():
    edges, _ = group(rounds=1)
    small = Edge("small", photographs(4, 5), recipe(rounds=1))
    apart = [
        Edge(e.name, photographs(n, s), e.recipe) for e, n, s in ((edges[0], 8, 1), (small, 4, 5))
    ]
    for edge in apart:
        edge.learn(1, None)
    wanted = [(8 * a + 4 * b) / 12 for a, b in zip(*(e.network.parameters() for e in apart))]
    averaged = federated_average([edges[0], small], recipe(rounds=1), quiet)
    for found, value in zip(averaged.network.parameters(), wanted):
        assert torch.allclose(found, value, atol=1e-6)
    state = averaged.network.state_dict().values()
    assert averaged.bytes == 2 * sum(v.numel() * v.element_size() for v in state)


class TestOverHttp:
    def test_comes_to_the_same_weights_as_in_one_process(self):
        edges, server = group()
        learn_together(edges, server, quiet, progress=False)
        apart, remote = group()
        meeting = Meeting(remote, 2, key="secret", say=quiet)
        http = meeting.listen()
        url = f"http://127.0.0.1:{http.server_port}"
        threads = [
            threading.Thread(target=GroupClient(url, "secret").take_part, args=(e, CLASSES, quiet))
            for e in apart
        ]
        for thread in threads:
            thread.start()
        meeting.run(progress=False)
        for thread in threads:
            thread.join(30)
        http.shutdown()
        for name, value in weights(edges, server).items():
            assert torch.equal(value, weights(apart, remote)[name]), name
        assert meeting.traffic.up["edge-1"] > 2 * 8 * 16 * 16 * 16

    def test_who_falls_out_is_not_waited_for_and_comes_back(self):
        edges, server = group(rounds=3)
        lines = []
        meeting = Meeting(server, 2, patience_s=0.2, say=lines.append)
        http = meeting.listen()
        url = f"http://127.0.0.1:{http.server_port}"
        client = GroupClient(url)
        held = threading.Thread(target=meeting.run, args=(False,))
        held.start()
        worker = threading.Thread(target=client.take_part, args=(edges[0], CLASSES, quiet))
        worker.start()
        while not lines:  # the first round ends without the second edge
            time.sleep(0.05)
        GroupClient(url).take_part(edges[1], CLASSES, quiet)
        for thread in (held, worker):
            thread.join(60)
        http.shutdown()
        assert server.done
        assert lines[0].endswith("without 1 edges")
        assert edges[1].rounds >= 2

    def test_a_round_is_not_announced_before_it_is_taken(self, monkeypatch):
        edges, server = group(rounds=3)
        save = server.learner.save

        def slowly(about):  # as with many answers on a slow disk
            time.sleep(0.6)
            save(about)

        monkeypatch.setattr(server.learner, "save", slowly)
        meeting = Meeting(server, 2, say=quiet)
        http = meeting.listen()
        url = f"http://127.0.0.1:{http.server_port}"
        work = [threading.Thread(target=meeting.run, args=(False,), daemon=True)]
        work += [
            threading.Thread(
                target=GroupClient(url).take_part, args=(edge, CLASSES, quiet), daemon=True
            )
            for edge in edges
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join(30)
        http.shutdown()
        assert server.done
        assert [edge.rounds for edge in edges] == [3, 3]

    @pytest.fixture
    def url(self):
        _, server = group()
        http = Meeting(server, 1, key="secret", say=quiet).listen()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()

    def test_an_edge_of_other_classes_is_told(self, url):
        edge = group()[0][0]
        with pytest.raises(InputError, match="has 3 classes; this group learns 2: bright, dark"):
            GroupClient(url, "secret").take_part(edge, ["a", "b", "c"], quiet)

    def test_a_key_is_asked_for(self, url):
        with pytest.raises(InputError, match="asks for its key"):
            GroupClient(url, "other").recipe()

    def test_broken_contributions_are_refused_and_the_round_stands(self, url):
        client, edge = GroupClient(url, "secret"), group()[0][0]
        with pytest.raises(InputError, match="holds no named arrays"):
            client._call("PUT", "/v1/edges/edge-1/rounds/1", b"noise")
        edge.learn(1, None)
        sent = edge.contribution(1).to_bytes()
        with pytest.raises(InputError, match="sends what edge 'edge-1' made"):
            client._call("PUT", "/v1/edges/edge-9/rounds/1", sent)
        with pytest.raises(InputError, match="made in round 1"):
            client._call("PUT", "/v1/edges/edge-1/rounds/2", sent)
        late = Contribution("edge-1", 7, **contents(sent)).to_bytes()
        assert client._call("PUT", "/v1/edges/edge-1/rounds/7", late).status == 409
        assert client._call("PUT", "/v1/edges/edge-1/rounds/1", sent).status == 204

    def test_a_server_that_is_not_there(self):
        with pytest.raises(ServiceError, match="has not answered for 0 s"):
            GroupClient("http://127.0.0.1:9", patience_s=0.0).recipe()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for part, count, seed in (("train", 40, 0), ("test", 8, 1)):
        found = photographs(count, seed)
        for row, (pixels, label) in enumerate(zip(found.images, found.labels)):
            folder = root / part / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat(np.repeat(pixels, 2, 0), 2, 1)).save(folder / f"{row}.png")
    return root


ARGUMENTS = (
    "--edges=2",
    "--rounds=2",
    "--server-epochs=1",
    "--batch=8",
    "--held-out=8",
    "--threads=1",
)


def test_command_leaves_what_each_edge_can_serve(data, tmp_path):
    output = tmp_path / "group"
    done = CliRunner().invoke(command, [str(data), f"--output={output}", *ARGUMENTS])
    assert done.exit_code == 0, done.output
    assert "top-1 on 8 test images, mean of the edges, with the server" in done.output
    assert len((output / "held_out.csv").read_text().splitlines()) == 9
    for edge in ("edge-1", "edge-2"):
        with Router.load(output / edge, policy=Fixed(["group@2"])) as router:
            answer = router.classify(next((data / "test" / "dark").iterdir()))
            assert answer.candidate == "group@2"
    with pytest.raises(InputError, match="--force"):
        CliRunner().invoke(
            command, [str(data), f"--output={output}", *ARGUMENTS], catch_exceptions=False
        )


def test_command_hands_bfloat16_on(data, tmp_path):
    arguments = [str(data), f"--output={tmp_path / 'group'}", *ARGUMENTS, "--bfloat16"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    saved = torch.load(tmp_path / "group-checkpoints" / "server.pt", weights_only=True)
    assert saved["made"]["recipe"]["bfloat16"] is True


def test_an_edge_that_never_took_part_is_left_out(data, tmp_path, monkeypatch):
    def without_one(server, shares, plan, checkpoints, threads, say):
        meeting = Meeting(server, plan.edges, 0.1, say=say)
        http = meeting.listen()
        there = Edge("edge-1", shares[0], server.recipe, checkpoints / "edge-1.pt")
        client = GroupClient(f"http://127.0.0.1:{http.server_port}")
        worker = threading.Thread(target=client.take_part, args=(there, CLASSES, quiet))
        worker.start()
        meeting.run(progress=False)
        worker.join(60)
        http.shutdown()
        return meeting.traffic

    monkeypatch.setattr(together, "_as_processes", without_one)
    output = tmp_path / "group"
    arguments = [str(data), f"--output={output}", "--processes", *ARGUMENTS]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 1, done.output
    assert "left out: edge-2 took part in no round" in done.output
    assert sorted(p.name for p in output.iterdir()) == ["edge-1", "held_out.csv"]


@pytest.mark.slow
def test_processes_that_are_killed_go_on_to_the_weights_of_one_process(data, tmp_path):
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    arguments = [str(data), *ARGUMENTS]
    done = CliRunner().invoke(command, [*arguments, f"--output={plain}"])
    assert done.exit_code == 0, done.output
    run = [sys.executable, "-m", "adaptive", "train-together", "--processes", *arguments]
    with subprocess.Popen([*run, f"--output={killed}"], start_new_session=True) as process:
        while not (tmp_path / "killed-checkpoints" / "server.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    subprocess.run([*run, f"--output={killed}"], check=True, timeout=300)
    for name in ("server.pt", "edge-1.pt", "edge-2.pt"):
        found, wanted = (
            torch.load(tmp_path / f"{run}-checkpoints" / name, weights_only=True)["network"]
            for run in ("killed", "plain")
        )
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), name
