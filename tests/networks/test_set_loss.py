from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="losses need torch, which a board does not have")

from adaptive.networks.detectors.set_loss import Objects, SetLoss

pytestmark = pytest.mark.train

#: Two objects: class 0 at the left, class 1 at the right.
TRUE = Objects(torch.tensor([0, 1]), torch.tensor([[0.0, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0]]))


def test_each_object_takes_the_answer_that_costs_least_in_sum() -> None:
    """By hand: answer 0 lies on the right object, answer 2 on the left one, answer 1 on neither."""
    boxes = torch.tensor([[[0.6, 0.0, 1.0, 1.0], [0.4, 0.4, 0.5, 0.5], [0.0, 0.0, 0.4, 1.0]]])
    logits = torch.zeros((1, 3, 2))
    loss = SetLoss(focal=True, centred=False, kind=0.0)
    assert loss([(logits, boxes)], [TRUE]).item() == pytest.approx(0.0, abs=1e-6)


def test_one_answer_is_not_given_to_two_objects() -> None:
    """Both objects would like answer 0; the second gets what is left, and that is paid for."""
    both = Objects(torch.tensor([0, 0]), torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]))
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    loss = SetLoss(focal=True, centred=False, kind=0.0, distance=1.0, overlap=0.0)
    # four coordinates are off by a half each, over two objects
    assert loss([(torch.zeros((1, 2, 1)), boxes)], [both]).item() == pytest.approx(2.0 / 2)


def test_class_decides_where_boxes_are_equal() -> None:
    boxes = torch.tensor([[[0.2, 0.5, 0.4, 1.0], [0.2, 0.5, 0.4, 1.0]]])  # centre and sides
    one = Objects(torch.tensor([1]), TRUE.boxes[:1])
    logits = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]])
    loss = SetLoss(focal=False, centred=True)
    # answer 1 is right, answer 0 should say nothing and says class 0: a tenth of that
    right, wrong = math.log(math.exp(9) + 2) - 9, math.log(math.exp(9) + 2)
    expected = (right + 0.1 * wrong) / 1.1
    assert loss([(logits, boxes)], [one]).item() == pytest.approx(expected, abs=1e-5)


def test_stages_add_up_and_an_empty_image_costs_its_classes_alone() -> None:
    empty = Objects(torch.zeros(0, dtype=torch.int64), torch.zeros((0, 4)))
    boxes = torch.full((1, 4, 4), 0.5)
    quiet, loud = torch.full((1, 4, 3), -9.0), torch.zeros((1, 4, 3))
    loss = SetLoss(focal=True, centred=False)
    assert loss([(quiet, boxes)], [empty]).item() == pytest.approx(0.0, abs=1e-4)
    once = loss([(loud, boxes)], [empty])
    # a focal loss of 0.75 * 0.5^2 * log 2 for each of twelve chances
    assert once.item() == pytest.approx(12 * 0.75 * 0.25 * math.log(2), rel=1e-5)
    assert loss([(loud, boxes)] * 3, [empty]).item() == pytest.approx(3 * once.item(), rel=1e-6)
