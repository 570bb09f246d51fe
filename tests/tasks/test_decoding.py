"""What lies between a decoder's raw boxes and those in the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from adaptive.errors import EngineError, InputError
from adaptive.tasks.decoding import (
    COCO_NUMBERS,
    DECODERS,
    BoxSpec,
    Decoder,
    bound_options,
    class_map,
    detections,
)
from adaptive.tasks.placement import fitted, stretched
from adaptive.tasks.raw import Chances, Frame, Outputs

SAME = stretched((100, 200), (100, 200))


def outputs(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Rows of x1 y1 x2 y2 and the chances of two classes."""
    return {"out": np.array(rows, np.float32).reshape(-1, 6)}


def found(rows, **settings):
    spec = BoxSpec("proposals", 2, **settings)
    return detections(outputs(*rows), spec, (100, 200), SAME)


def test_the_best_class_of_each_box_is_kept_surest_first() -> None:
    answer = found([(0, 0, 9, 9, 0.3, 0.2), (50, 50, 60, 60, 0.1, 0.9), (0, 9, 5, 15, 0.04, 0)])
    assert answer.boxes.tolist() == [[50, 50, 60, 60], [0, 0, 9, 9]]
    assert np.allclose(answer.scores, [0.9, 0.3])
    assert answer.classes.tolist() == [1, 0]


def test_a_box_may_be_of_several_classes() -> None:
    answer = found([(0, 0, 9, 9, 0.3, 0.2)], several=True)
    assert answer.classes.tolist() == [0, 1]
    assert len(answer.boxes) == 2


def test_at_most_so_many_boxes_are_kept() -> None:
    rows = [(10 * i, 0, 10 * i + 9, 9, 0.1 + i / 20, 0) for i in range(10)]
    assert np.allclose(found(rows, most=2).scores, [0.55, 0.5])


def test_rivals_go_unless_every_box_is_to_stay() -> None:
    rows = [(0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0)]
    assert len(found(rows)) == 1
    assert len(found(rows, iou=0.95)) == 2
    assert len(found(rows[:1] * 2, iou=1)) == 2


def test_boxes_are_cut_off_at_the_edges_of_the_image() -> None:
    rows = [
        (-5, -5, 20, 20, 0.9, 0),
        (190, 90, 1e30, np.inf, 0.8, 0),
        (250, 10, 260, 20, 0.7, 0),  # outside
        (10, 30, 10, 40, 0.6, 0),  # without area
        (40, 30, 30, 40, 0.6, 0),  # the wrong way round
    ]
    assert found(rows).boxes.tolist() == [[0, 0, 20, 20], [190, 90, 200, 100]]


def test_padding_is_no_part_of_the_image() -> None:
    spec = BoxSpec("proposals", 2)
    rows = outputs((0, 0, 50, 100, 0.9, 0), (0, 0, 100, 20, 0.8, 0))
    answer = detections(rows, spec, (100, 100), fitted((100, 200), (100, 100)))
    assert answer.boxes.tolist() == [[0, 0, 100, 100]]  # the second lies in the padding


def test_classes_are_mapped_and_left_out() -> None:
    rows = [(0, 0, 9, 9, 0.3, 0.2), (50, 50, 60, 60, 0.1, 0.9)]
    assert found(rows, class_map=(-1, 7)).classes.tolist() == [7]
    # one label for two classes: its boxes are rivals
    rows = [(0, 0, 9, 9, 0.3, 0), (0, 0, 9, 9, 0, 0.9)]
    assert found(rows, class_map=(4, 4)).classes.tolist() == [4]


def test_coco_numbers_leave_gaps() -> None:
    assert len(COCO_NUMBERS) == 91
    assert sorted(COCO_NUMBERS)[11:] == list(range(80))
    assert [COCO_NUMBERS[n] for n in (0, 1, 11, 12, 13, 90)] == [-1, 0, 10, -1, 11, 79]


def test_class_maps_are_read_in_every_way() -> None:
    labels = ("cat", "dog")
    assert class_map("from 1", labels) == (-1, 0, 1)
    assert class_map(["dog", None, 0], labels) == (1, -1, 0)
    assert class_map("coco", [str(i) for i in range(80)]) == COCO_NUMBERS
    with pytest.raises(InputError, match="entry 1 of the class map is 'cow'"):
        class_map(["dog", "cow"], labels)
    with pytest.raises(InputError, match="entry 0 of the class map is 2"):
        class_map([2], labels)
    with pytest.raises(InputError, match="80 labels; here are 2"):
        class_map("coco", labels)
    with pytest.raises(InputError, match="is not 'coco', 'from 1' or a list"):
        class_map("voc", labels)


def final_answer(numbers, **settings):
    count = len(numbers)
    arrays = {
        "boxes": np.array([[0, 0, 9, 9]] * count, np.float32),
        "scores": np.full(count, 0.5, np.float32),
        "labels": np.array(numbers),
    }
    return detections(arrays, BoxSpec("final", 2, **settings), (100, 200), SAME)


def test_final_boxes_are_nobodys_rivals_and_a_class_below_0_is_no_box() -> None:
    assert final_answer([1, 1, -1]).classes.tolist() == [1, 1]


def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match="class 2; it has 2, from 0 to 1; a class map says"):
        final_answer([0, 2])
    assert final_answer([1, 2], class_map=(-1, 0, 1)).classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((0, 0, 9, 9, np.nan, 0.2), "scores that are not finite"),
        ((0, 0, 9, 9, np.inf, 0.2), "scores that are not finite"),
        ((0, 0, 9, 9, 3.5, 0.2), "may need to be told that they are logits"),
        ((0, np.nan, 9, 9, 0.3, 0.2), "boxes that are no numbers"),
    ],
)
def test_answers_that_are_no_boxes_are_refused(row: tuple[float, ...], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        found([row])


def test_rounding_above_one_is_taken_off() -> None:
    assert found([(0, 0, 9, 9, 1.0005, 0)]).scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decoder": "yolo"}, "decoder 'yolo' is not one of .*'yolox'"),
        ({"classes": 0}, "classes of a detector is 0"),
        ({"most": True}, "most of a detector is True"),
        ({"threshold": 1.5}, "threshold of a detector is 1.5"),
        ({"iou": -0.1}, "iou of a detector is -0.1"),
        ({"class_map": (0,)}, "has 1 entries; the network has 2 classes"),
        ({"options": {"stride": [8]}}, "has no option 'stride'; it has .*'strides'"),
        ({"options": {"strides": 8}}, r"option 'strides' .* is 8; it must be like \(8, 16, 32\)"),
        ({"options": {"strides": [8, "x"]}}, "must be like"),
        ({"options": {"strides": [0]}}, "must be like"),
        ({"options": {"decoded": 1}}, "must be like False"),
        ({"decoder": "gfl", "options": {"centre": "left"}}, "must be one of .*'middle'"),
        ({"decoder": "final", "options": {"form": "yxwh"}}, "must be one of .*'yxyx'"),
    ],
)
def test_entries_that_cannot_be_meant_are_refused(settings, said: str) -> None:
    with pytest.raises(InputError, match=said):
        BoxSpec(**{"decoder": "yolox", "classes": 2, **settings})


def test_every_option_of_every_decoder_has_a_default_that_is_taken() -> None:
    import inspect

    for name, decoder in DECODERS.items():
        for option, parameter in inspect.signature(decoder.decode).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                given = parameter.default
                value = list(given) if isinstance(given, tuple) else given
                assert bound_options(name, {option: value}) == {option: given}


def corners_of_the_input(
    outputs: Outputs, frame: Frame, *, corner: Literal["first", "last"] = "first", side: float = 8.0
) -> Chances:
    """A stranger's decoder: one box in a corner."""
    height, width = frame.size
    first = (0.0, 0.0) if corner == "first" else (width - side, height - side)
    box = [*first, first[0] + side, first[1] + side]
    return Chances(np.array([box]), outputs["said"])


def test_a_stranger_adds_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECODERS, "corner", Decoder(corners_of_the_input))
    arrays = {"said": np.array([[0.1, 0.9]])}
    spec = BoxSpec("corner", 2, options={"corner": "last", "side": 10})
    answer = detections(arrays, spec, (100, 200), SAME)
    assert answer.boxes.tolist() == [[190, 90, 200, 100]]
    assert answer.classes.tolist() == [1]
    with pytest.raises(InputError, match=r"must be one of .*'first', 'last'"):
        BoxSpec("corner", 2, options={"corner": "middle"})


def test_a_strangers_decoder_that_makes_no_boxes_is_named(monkeypatch) -> None:
    monkeypatch.setitem(
        DECODERS, "odd", Decoder(lambda outputs, frame: Chances(np.ones((2, 4)), np.ones((3, 2))))
    )
    with pytest.raises(EngineError, match=r"decoder 'odd' made boxes of the shape \(2, 4\)"):
        detections({}, BoxSpec("odd", 2), (100, 200), SAME)


@pytest.mark.parametrize("apart", [True, False])
def test_of_very_many_boxes_the_same_stay(monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    """Whether the surest are enough, or all overlap and the others must be looked at too."""
    from adaptive.tasks import decoding

    draw = np.random.default_rng(3)
    corner = draw.uniform(0, 300, (6000, 2)) if apart else draw.uniform(0, 3, (6000, 2))
    boxes = np.concatenate([corner, corner + draw.uniform(20, 40, (6000, 2))], axis=1)
    outputs = {
        "boxes": boxes[np.newaxis].astype(np.float32),
        "scores": draw.choice(np.linspace(0.1, 0.9, 900), (1, 6000, 3)).astype(np.float32),
    }
    spec = BoxSpec("proposals", 3, several=True, most=50)
    placement = stretched((400, 400), (400, 400))
    quick = detections(outputs, spec, (400, 400), placement)
    monkeypatch.setattr(decoding, "_FIRST", 10**6)
    assert quick == detections(outputs, spec, (400, 400), placement)
    assert (len(quick) == 50) == apart
