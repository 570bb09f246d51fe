from __future__ import annotations

from typing import Sequence

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")

from torch import nn

from adaptive.errors import InputError
from adaptive.networks.costs import exit_costs, multiply_adds
from adaptive.networks.multiexit import Join, MultiExit, pooled_to, split_at
from adaptive.networks.small_exits import small_exits

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small gain nothing from more, and much is lost where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Block(nn.Module):
    """A residual block: two tensors pass in its middle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x).relu())


class Plain(nn.Module):
    """A network of the usual shape, with a layer that gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.block = Block(4)
        self.pair = Pair()
        self.again = nn.ReLU()
        self.last = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.block(self.again(self.stem(x))))
        a, b = self.pair(x)
        return self.last((a + b).mean(dim=(2, 3)))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, x + 1


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator).to(torch.uint8)


def chained(parts: Sequence[nn.Module], x: torch.Tensor) -> torch.Tensor:
    for part in parts:
        x = part(x)
    return x


@pytest.fixture
def plain() -> Plain:
    torch.manual_seed(0)
    return Plain().eval()


@pytest.mark.parametrize("joins", [True, False])
def test_forward_is_segment_by_segment(joins: bool) -> None:
    torch.manual_seed(0)
    network = small_exits(7, joins).eval()
    assert network.exits == 5
    with torch.inference_mode():
        whole = network(images())
        state = images()
        for k in range(network.exits):
            state = network.segment(k, state)
            assert isinstance(state, torch.Tensor)
            assert torch.equal(network.head(k, state), whole[k])
            assert whole[k].shape == (3, 7)


def test_single_networks_are_the_ways_to_the_exits() -> None:
    torch.manual_seed(0)
    network = small_exits(4, joins=False).eval()
    with torch.inference_mode():
        whole = network(images())
        for k in range(network.exits):
            assert torch.equal(network.single(k)(images()), whole[k])
    with pytest.raises(InputError, match="with joins cannot be taken apart"):
        small_exits(4, joins=True).single(0)


def test_join_pools_mixes_and_keeps_the_later_shape() -> None:
    earlier = torch.arange(32.0).reshape(1, 2, 4, 4)
    later = torch.randn(1, 3, 2, 2)
    assert pooled_to(earlier, later)[0, 0].tolist() == [[5.0, 7.0], [13.0, 15.0]]
    assert pooled_to(torch.rand(1, 2, 5, 5), later).shape == (1, 2, 2, 2)
    assert pooled_to(earlier, earlier) is earlier
    join = Join(2, 3).eval()
    with torch.no_grad():
        join.mix[0].weight.zero_()
        join.mix[0].weight[1, 0] = 1.0  # the second output is the first earlier channel
    found = join(earlier, later)
    assert found.shape == later.shape
    assert torch.allclose(found[0, 1], torch.tensor([[5.0, 7.0], [13.0, 15.0]]), rtol=1e-4)
    assert not found[0, [0, 2]].any()


def test_numbers_of_parts_must_fit() -> None:
    two = [nn.Identity(), nn.Identity()]
    with pytest.raises(InputError, match="2 segments and 1 heads"):
        MultiExit(two, [nn.Identity()])
    with pytest.raises(InputError, match="2 segments take 1 joins, got 2"):
        MultiExit(two, two, two)


def test_multiply_adds_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 5 x 5 places, 8 x 27 each
        nn.Conv2d(8, 8, 3, padding=1, groups=4),  # 5 x 5 places, 8 x 18 each
        nn.Flatten(),
        nn.Linear(200, 6),
    )
    expected = 25 * 8 * 27 + 25 * 8 * 18 + 200 * 6
    assert multiply_adds(network, torch.zeros(2, 3, 10, 10)) == expected


def test_costs_of_the_small_network_add_up() -> None:
    for joins in (True, False):
        network = small_exits(10, joins)
        costs = exit_costs(network, images(1))
        # Multiplication and addition counted apart: at most 15 million.
        assert 2 * costs.whole <= 15_000_000
        assert multiply_adds(network, images(1)) == costs.whole
        assert costs.segments[0] == 1024 * 16 * 27 + 64 * 32 * 16 * 9
        assert costs.heads[2] == 16 * 64 * 128 + 128 * 10
        assert list(costs.ways) == sorted(costs.ways)
        if not joins:
            singles = [multiply_adds(network.single(k), images(1)) for k in range(5)]
            assert singles == list(costs.ways)


@pytest.mark.parametrize(
    "layers", [["stem"], ["block"], ["stem", "block"], ["again"], ["stem", "again", "last"]]
)
def test_parts_give_the_whole_networks_answer(plain: Plain, layers: list[str]) -> None:
    x = torch.randn(2, 3, 8, 8)
    parts = split_at(plain, layers, x)
    assert len(parts) == len(layers) + 1
    assert torch.equal(chained(parts, x), plain(x))
    own = {p.data_ptr() for p in plain.parameters()}
    assert all(p.data_ptr() in own for part in parts for p in part.parameters())


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["blok"], r"no layer 'blok'; there are \['block'"),
        (["block.first"], "cannot be cut behind layer 'block.first': 2 tensors pass"),
        (["block", "stem"], r"'stem' does not come behind 'block'.*\['stem', 'block'\]"),
        (["stem", "stem"], "named once"),
        (["unused"], "no single tensor comes out of layer 'unused'"),
        (["pair"], "no single tensor comes out of layer 'pair'"),
    ],
)
def test_a_layer_that_cannot_be_split_at_is_refused(
    plain: Plain, layers: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        split_at(plain, layers, torch.randn(2, 3, 8, 8))


def test_a_network_that_branches_on_its_values_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) if x.sum() > 0 else x

    with pytest.raises(InputError, match=r"torch\.fx cannot record Branching"):
        split_at(Branching(), ["layer"], torch.zeros(1))


@pytest.fixture(scope="module")
def torchvision_exits():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    from adaptive.networks import torchvision_exits

    return torchvision_exits


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_last_exit_of_a_torchvision_network_gives_its_own_logits(
    torchvision_exits, name: str, tmp_path
) -> None:
    import torchvision

    torch.manual_seed(0)
    own = torchvision.models.get_model(name, weights=None, num_classes=6).eval()
    torch.save(own.state_dict(), tmp_path / "weights.pt")
    network = torchvision_exits.torchvision_exits(
        name, 6, 64, joins=False, weights=str(tmp_path / "weights.pt")
    ).eval()
    pixels = images(2, 64)
    normalised = (
        pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(torchvision_exits.MEAN).view(1, 3, 1, 1)
    ) / torch.tensor(torchvision_exits.STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        found = network(pixels)
        assert [tuple(logits.shape) for logits in found] == [(2, 6)] * network.exits
        assert torch.allclose(found[-1], own(normalised), atol=1e-5)


def test_exits_of_resnet18_sit_where_they_are_asked_for(torchvision_exits) -> None:
    build = torchvision_exits.torchvision_exits
    network = build("resnet18", 3, 64, ["layer1.0", "layer3"], joins=True)
    assert network.exits == 3
    channels = [join.mix[0].in_channels for join in network.joins]
    assert channels == [64 + 256, 256 + 512]
    with pytest.raises(InputError, match=r"no layer 'layer7'"):
        build("resnet18", 3, 64, ["layer7"])
    with pytest.raises(InputError, match=r"2 tensors pass there"):
        build("resnet18", 3, 64, ["layer1.0.bn1"])
    with pytest.raises(InputError, match=r"sits behind 'layer4' anyway"):
        build("resnet18", 3, 64, ["layer4"])
    with pytest.raises(InputError, match=r"'vgg11' is not one of"):
        build("vgg11", 3)


def test_weights_that_do_not_fit_are_refused(torchvision_exits, tmp_path) -> None:
    build = torchvision_exits.torchvision_exits
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(InputError, match="does not hold a state_dict of resnet18"):
        build("resnet18", 3, 64, weights=str(tmp_path / "noise.pt"))
    with pytest.raises(InputError, match="no file and no weights of resnet18"):
        build("resnet18", 3, 64, weights="IMAGENET9K")
