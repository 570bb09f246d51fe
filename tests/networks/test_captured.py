"""Training on a GPU, where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")

from adaptive.networks import captured
from adaptive.networks.images import ImageArrays
from adaptive.networks.losses import ExitLoss
from adaptive.networks.small_exits import small_exits
from adaptive.networks.training import TrainingRecipe, accuracy, train

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]


def coloured(count: int = 512) -> ImageArrays:
    """Noise whose class is its brightest colour."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, count)
    images = generator.integers(0, 120, (count, 32, 32, 3)).astype(np.uint8)
    images[np.arange(count), :, :, labels] += 60
    return ImageArrays([str(k) for k in range(count)], images, labels, ["r", "g", "b"])


def trained(
    folder: Path, epochs: int = 3, network: torch.nn.Module | None = None
) -> torch.nn.Module:
    torch.manual_seed(0)
    recipe = TrainingRecipe(epochs=epochs, batch=64, learning_rate=0.1)
    own = small_exits(3) if network is None else network
    return train(own, coloured(), recipe, folder / "run.pt", loss=ExitLoss(), device="cuda")


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().float().cpu().flatten() for p in network.parameters()])


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


def test_a_network_that_reads_from_the_gpu_is_trained_step_by_step(tmp_path, capsys):
    network = trained(tmp_path, epochs=10, network=Reading())
    assert "training step by step" in capsys.readouterr().out
    assert accuracy(network, coloured(), "cuda")[0] > 0.9
