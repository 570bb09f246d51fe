"""Training on a GPU, where there is one."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")

from adaptive.networks import captured
from adaptive.networks.images import ImageArrays
from adaptive.networks.losses import ExitLoss
from adaptive.networks.small import DESIGNS
from adaptive.networks.small_exits import small_exits
from adaptive.networks.training import TrainingRecipe, accuracy, train

pytestmark = pytest.mark.train
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


def coloured(count: int = 512) -> ImageArrays:
    """Noise whose class is its brightest colour."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, count)
    images = generator.integers(0, 120, (count, 32, 32, 3)).astype(np.uint8)
    images[np.arange(count), :, :, labels] += 60
    return ImageArrays([str(k) for k in range(count)], images, labels, ["r", "g", "b"])


def trained(
    folder: Path, epochs: int = 3, network: torch.nn.Module | None = None, count: int = 512
) -> torch.nn.Module:
    torch.manual_seed(0)
    recipe = TrainingRecipe(epochs=epochs, batch=64, learning_rate=0.1)
    own = small_exits(3) if network is None else network
    return train(own, coloured(count), recipe, folder / "run.pt", loss=ExitLoss(), device="cuda")


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().float().cpu().flatten() for p in network.parameters()])


@on_a_gpu
def test_a_captured_step_trains_as_one_by_one(tmp_path, monkeypatch, capsys):
    whole = trained(tmp_path / "whole")
    assert "step by step" not in capsys.readouterr().out

    def refuse(*arguments: object, **options: object) -> float:
        raise captured.NotCaptured("refused")

    monkeypatch.setattr(captured.CapturedSteps, "epoch", refuse)
    single = trained(tmp_path / "single")
    assert "training step by step: refused" in capsys.readouterr().out
    assert min(accuracy(whole, coloured(), "cuda")) > 0.95
    apart = (weights(whole) - weights(single)).norm() / weights(single).norm()
    assert apart < 0.02


@on_a_gpu
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    straight = trained(tmp_path / "straight")
    real, calls = captured.CapturedSteps.epoch, []

    def stop_in_the_third(self: captured.CapturedSteps, *goals: object, **options: str) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *goals, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(captured.CapturedSteps, "epoch", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped")
    monkeypatch.undo()
    torch.testing.assert_close(weights(trained(tmp_path / "stopped")), weights(straight))


class Reading(torch.nn.Module):
    """Looks at its images before it answers, so that a step cannot be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.float().mean(dim=(1, 2))
        return self.layer(means / max(1.0, float(means.max())))


@on_a_gpu
def test_a_network_that_reads_from_the_gpu_is_trained_step_by_step(tmp_path, capsys):
    network = trained(tmp_path, epochs=10, network=Reading())
    assert "training step by step" in capsys.readouterr().out
    assert accuracy(network, coloured(), "cuda")[0] > 0.9


@on_a_gpu
def test_an_epoch_of_one_step_is_captured(tmp_path, capsys):
    network = trained(tmp_path, epochs=20, count=64)
    assert "step by step" not in capsys.readouterr().out
    assert accuracy(network, coloured(64), "cuda")[-1] > 0.8


class Replayed:
    """Stands for a CUDA graph where there is no GPU: its step runs when it is replayed."""

    steps: captured.CapturedSteps

    def replay(self) -> None:
        self.steps._step()


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (2, 1), (1, 3), (5, 3)])
def test_what_warms_up_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, steps: int, epochs: int
) -> None:
    """Weights, average and losses are those of steps one by one, on the CPU."""

    @contextmanager
    def nothing_runs(_: Replayed) -> Iterator[None]:  # as what is captured does not
        with Replayed.steps._unchanged():
            yield

    def random_state(device: torch.device) -> torch.Tensor:
        return torch.get_rng_state()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda one: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)
    monkeypatch.setattr(torch.cuda, "graph", nothing_runs)
    monkeypatch.setattr(torch.cuda, "get_rng_state", random_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, _: torch.set_rng_state(state))

    batch, total = 8, epochs * steps
    data = coloured(steps * batch)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    rates = torch.linspace(0.1, 0.01, total)
    follow = torch.linspace(1.0, 0.2, total)
    loss = torch.nn.functional.cross_entropy
    found = []
    for one_by_one in (False, True):
        torch.manual_seed(0)
        network: Any = DESIGNS["mobilenet"](3).train()
        averaged = torch.optim.swa_utils.AveragedModel(network, use_buffers=True)
        rate = torch.tensor(0.1)
        sgd = torch.optim.SGD(
            network.parameters(), lr=rate, momentum=0.9, nesterov=True, foreach=False
        )

        def forward(seen: torch.Tensor, goals: torch.Tensor, own: Any = network) -> torch.Tensor:
            return loss(own(seen), goals)

        run = captured.CapturedSteps(
            network, averaged, sgd, forward, rates, follow, batch, steps, 0
        )
        Replayed.steps = run
        if one_by_one:  # without a graph, and so without what warms up
            monkeypatch.setattr(run, "_capture", Replayed)
        losses = [run.epoch(images, labels, title="") for _ in range(epochs)]
        state = torch.cat([v.flatten().float() for v in averaged.state_dict().values()])
        found.append((losses, state))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    assert len(set(found[0][0])) == epochs
