from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which a board does not have")

from adaptive.errors import InputError
from adaptive.networks.losses import ExitLoss, distillation, focal

pytestmark = pytest.mark.train


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


def test_focal_loss_with_gamma_0_is_cross_entropy(logits: torch.Tensor) -> None:
    expected = torch.nn.functional.cross_entropy(logits[0], LABELS)
    assert torch.allclose(focal(logits[0], LABELS, 0.0), expected)
    total = ExitLoss()(list(logits), LABELS)
    parts = sum(torch.nn.functional.cross_entropy(one, LABELS) for one in logits)
    assert torch.allclose(total, parts)


def test_focal_loss_by_hand() -> None:
    # two classes, the label's probability 0.8: -(0.2)^2 log 0.8
    logits = torch.tensor([[math.log(0.8), math.log(0.2)]])
    value = focal(logits, torch.tensor([0]), 2.0)
    assert value.item() == pytest.approx(-(0.2**2) * math.log(0.8), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_of_a_sure_answer_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    value = focal(logits, torch.tensor([0, 0]), gamma)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1, 0] < 0  # the wrong one still learns


def test_exits_count_by_their_weights(logits: torch.Tensor) -> None:
    single = [torch.nn.functional.cross_entropy(one, LABELS) for one in logits]
    value = ExitLoss(weights=(0.5, 0.0, 2.0))(list(logits), LABELS)
    assert torch.allclose(value, 0.5 * single[0] + 2 * single[2])
    assert torch.allclose(ExitLoss()(logits[1], LABELS), single[1])  # a plain network


def test_distillation_pulls_exits_to_the_last_and_not_the_last_to_them() -> None:
    early = torch.zeros(1, 3, requires_grad=True)
    last = torch.tensor([[0.0, 4.0, 0.0]], requires_grad=True)
    ExitLoss(weights=(1.0, 0.0), distil=1.0, temperature=2.0)([early, last], LABELS[:1]).backward()
    assert last.grad is None or not last.grad.any()
    # the gradient of a soft cross entropy times T^2: T (softmax(early / T) - softmax(last / T))
    expected = 2 * (torch.zeros(1, 3).softmax(1) - (last.detach() / 2).softmax(1))
    assert torch.allclose(early.grad, expected, atol=1e-6)
    same = distillation(last.detach(), last.detach(), 2.0)
    assert distillation(early.detach(), last, 2.0) > same


def test_the_last_exit_learns_from_labels_alone(logits: torch.Tensor) -> None:
    plain = ExitLoss(weights=(0.0, 0.0, 1.0))(list(logits), LABELS)
    assert torch.equal(ExitLoss((0.0, 0.0, 1.0), distil=0.7)(list(logits), LABELS), plain)


def test_a_teacher_takes_its_share_of_every_exit(logits: torch.Tensor) -> None:
    exits, teacher = list(logits[:2]), logits[2]
    near = sum(distillation(one, teacher, 3.0) for one in exits)
    plain = ExitLoss()(exits, LABELS)
    value = ExitLoss(teach=0.25)(exits, LABELS, teacher)
    assert torch.allclose(value, 0.75 * plain + 0.25 * near)
    with pytest.raises(InputError, match="needs the teacher's answers"):
        ExitLoss(teach=0.25)(exits, LABELS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"distil": 1.5}, "distillation"),
        ({"teach": -0.1}, "teacher's share"),
        ({"temperature": 0.0}, "temperature"),
        ({"weights": (0.0, 0.0)}, "not all zero"),
        ({"weights": (1.0, -1.0)}, "must be >= 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExitLoss(**settings)


def test_one_weight_for_each_exit(logits: torch.Tensor) -> None:
    with pytest.raises(InputError, match="2 weights were given for 3 exits"):
        ExitLoss(weights=(1.0, 1.0))(list(logits), LABELS)
