"""Each decoder against boxes worked out by hand, and its words for outputs of another network."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import EngineError
from adaptive.tasks.decoders import detr, fastest, final, gfl, proposals, yolox
from adaptive.tasks.raw import Frame

FRAME = Frame((64, 64), 3)


def test_yolox_adds_the_cell_and_takes_exponentials() -> None:
    # cells of 8, 16 and 32 pixels: 64 + 16 + 4 rows
    values = np.zeros((1, 84, 8), np.float32)
    values[0, 8 * 2 + 3] = [0.5, 0.25, np.log(2), np.log(4), 0.5, 0.2, 0.8, 0.4]
    values[0, 64 + 16 + 1] = [0, 0, 0, 0, 1, 1, 0, 0]
    raw = yolox.decode({"output": values}, FRAME)
    # centre (3.5, 2.25) x 8, sides 16 and 32
    assert np.allclose(raw.boxes[19], [20, 2, 36, 34])
    assert np.allclose(raw.chances[19], [0.1, 0.4, 0.2])
    assert np.allclose(raw.boxes[81], [32 - 16, -16, 32 + 16, 16])
    assert raw.chances[81].tolist() == [1, 0, 0]


def test_yolox_takes_boxes_that_the_file_made() -> None:
    values = np.array([[[20, 10, 8, 4, 0.5, 0.5, 0, 1]]], np.float32)
    raw = yolox.decode({"output": values}, FRAME, decoded=True)
    assert raw.boxes.tolist() == [[16, 8, 24, 12]]
    assert raw.chances.tolist() == [[0.25, 0, 0.5]]


def test_yolox_with_a_fourth_level() -> None:
    values = np.zeros((1, 85, 8), np.float32)
    raw = yolox.decode({"output": values}, FRAME, strides=(8, 16, 32, 64))
    assert raw.boxes[84].tolist() == [-32, -32, 32, 32]


def distribution(distance: float, bins: int) -> np.ndarray:
    """Logits whose softmax has the mean `distance`, a whole number or half of one."""
    logits = np.full(bins, -50.0)
    logits[int(np.floor(distance))] = logits[int(np.ceil(distance))] = 0
    return logits


def nanodet(bins: int = 8, classes: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Chances and sides of three levels; cell (3, 2) of the first one has a box."""
    chances = [np.zeros((n, classes), np.float32) for n in (64, 16, 4)]
    sides = [np.zeros((n, 4 * bins), np.float32) for n in (64, 16, 4)]
    chances[0][2 * 8 + 3, 1] = 0.75
    sides[0][2 * 8 + 3] = np.concatenate([distribution(d, bins) for d in (1, 1.5, 2, 0.5)])
    return chances, sides


#: centre (3 x 8 + 3.5, 2 x 8 + 3.5), distances 8, 12, 16, 4
BOX = [27.5 - 8, 19.5 - 12, 27.5 + 16, 19.5 + 4]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (0, 3, 1, 4, 2, 5), (5, 1, 3, 0, 4, 2)])
def test_gfl_finds_its_outputs_by_shape(order: tuple[int, ...]) -> None:
    chances, sides = nanodet()
    arrays = [*chances, *sides]
    raw = gfl.decode({f"o{place}": arrays[place] for place in order}, FRAME)
    assert np.allclose(raw.boxes[19], BOX)
    assert raw.chances[19].tolist() == [0, 0.75, 0]
    assert raw.boxes.shape == (84, 4)


def test_gfl_takes_one_output_with_both() -> None:
    chances, sides = nanodet()
    both = np.concatenate([np.concatenate(chances), np.concatenate(sides)], axis=1)[np.newaxis]
    assert np.allclose(gfl.decode({"output": both}, FRAME).boxes[19], BOX)


def test_gfl_takes_as_many_classes_as_numbers_of_a_box() -> None:
    chances, sides = nanodet(classes=32)
    arrays = dict(zip("abcdef", [a for pair in zip(chances, sides) for a in pair]))
    raw = gfl.decode(arrays, Frame((64, 64), 32))
    assert np.allclose(raw.boxes[19], BOX)
    assert raw.chances[19, 1] == 0.75


@pytest.mark.parametrize(("centre", "moved"), [("pixel", 0), ("middle", 0.5), ("corner", -3.5)])
def test_gfl_puts_the_centre_where_it_is_told(centre, moved: float) -> None:
    chances, sides = nanodet()
    outputs = dict(zip("abcdef", [*chances, *sides]))
    raw = gfl.decode(outputs, FRAME, centre=centre)
    assert np.allclose(raw.boxes[19], np.array(BOX) + moved)


def test_gfl_with_more_bins_and_logits() -> None:
    chances, sides = nanodet(bins=16)
    chances[0][19, 1] = np.log(3)
    raw = gfl.decode(dict(zip("abcdef", [*sides, *chances])), FRAME, bins=16, scores="logits")
    assert np.allclose(raw.boxes[19], BOX)
    assert np.allclose(raw.chances[19], [0.5, 0.75, 0.5])


def test_fastest_weighs_objectness_and_class() -> None:
    values = np.full((1, 8, 4, 4), 0.0, np.float32)
    values[0, :, 1, 2] = [0.5, 0, np.arctanh(0.5), 0, np.log(3), 0.1, 0.25, 0.05]
    raw = fastest.decode({"758": values}, FRAME)
    # centre ((2 + 0) / 4, (1 + 0.5) / 4), sides 1/2 and 3/4 of 64
    assert np.allclose(raw.boxes[6], [32 - 16, 24 - 24, 32 + 16, 24 + 24])
    assert np.allclose(raw.chances[6], 0.5**0.6 * np.array([0.1, 0.25, 0.05]) ** 0.4)


@pytest.mark.parametrize("names", [("pred_logits", "pred_boxes"), ("1", "0")])
def test_detr_leaves_out_the_chance_of_nothing(names: tuple[str, str]) -> None:
    logits = np.log(np.array([[[0.1, 0.2, 0.3, 0.3, 0.1]]], np.float32))
    boxes = np.array([[[0.5, 0.25, 0.5, 0.25]]], np.float32)
    raw = detr.decode(dict(zip(names, [logits, boxes])), Frame((40, 80), 4))
    assert np.allclose(raw.boxes, [[20, 5, 60, 15]])
    assert np.allclose(raw.chances, [[0.1, 0.2, 0.3, 0.3]])


def test_detr_without_nothing_takes_a_sigmoid_for_each_class() -> None:
    logits = np.array([[[0, np.log(3)]]], np.float32)
    boxes = np.array([[[1, 2, 3, 4]]], np.float32)
    raw = detr.decode(
        {"a": logits, "b": boxes}, Frame((40, 80), 2), nothing="none", form="xyxy", unit="pixels"
    )
    assert raw.boxes.tolist() == [[1, 2, 3, 4]]
    assert np.allclose(raw.chances, [[0.5, 0.75]])


def test_detr_with_three_classes_needs_the_names() -> None:
    logits, boxes = np.zeros((1, 5, 4), np.float32), np.ones((1, 5, 4), np.float32)
    outputs = {"logits": logits, "boxes": boxes}
    with pytest.raises(EngineError, match="name them"):
        detr.decode(outputs, FRAME)
    named = detr.decode(outputs, FRAME, boxes="boxes")
    assert np.allclose(named.chances, 0.25)


def test_proposals_of_two_outputs_with_a_background() -> None:
    chances = np.array([[[0.7, 0.1, 0.2]]], np.float32)
    boxes = np.array([[[0.25, 0.5, 0.5, 1]]], np.float32)
    raw = proposals.decode(
        {"scores": chances, "boxes": boxes},
        Frame((240, 320), 2),
        unit="shares",
        background="first",
    )
    assert raw.boxes.tolist() == [[80, 120, 160, 240]]
    assert np.allclose(raw.chances, [[0.1, 0.2]])


def test_proposals_of_one_output_that_lies_the_other_way_round() -> None:
    values = np.zeros((1, 7, 20), np.float32)
    values[0, :, 4] = [10, 20, 4, 8, 0.1, 0.6, 0.2]
    raw = proposals.decode({"output0": values}, FRAME, form="cxcywh")
    assert raw.boxes[4].tolist() == [8, 16, 12, 24]
    assert np.allclose(raw.chances[4], [0.1, 0.6, 0.2])


def test_proposals_with_objectness() -> None:
    values = np.array([[[10, 20, 4, 8, 0.5, 0.1, 0.6, 0.2]]], np.float32)
    raw = proposals.decode({"output": values}, FRAME, form="cxcywh", objectness=True)
    assert np.allclose(raw.chances, [[0.05, 0.3, 0.1]])


def test_proposals_of_logits() -> None:
    logits, boxes = np.array([[0.0, 0, np.log(2)]]), np.array([[1.0, 2, 3, 4]])
    outputs = {"b": boxes, "s": logits}
    assert np.allclose(
        proposals.decode(outputs, FRAME, kind="softmax").chances, [[0.25, 0.25, 0.5]]
    )
    assert np.allclose(proposals.decode(outputs, FRAME, kind="sigmoid").chances[0, 2], 2 / 3)


def test_proposals_with_an_axis_of_one_before_the_numbers() -> None:
    boxes, chances = np.ones((1, 6, 1, 4), np.float32), np.full((1, 6, 3), 0.5, np.float32)
    raw = proposals.decode({"boxes": boxes, "confs": chances}, FRAME)
    assert raw.boxes.shape == (6, 4)


def test_final_boxes_as_torchvision_writes_them() -> None:
    outputs = {
        "1": np.array([[1, 2, 3, 4]], np.float32),
        "2": np.array([17], np.int64),
        "3": np.array([0.5], np.float32),
    }
    raw = final.decode(outputs, FRAME)
    assert raw.boxes.tolist() == [[1, 2, 3, 4]]
    assert raw.scores.tolist() == [0.5]
    assert raw.classes.tolist() == [17]


def test_final_boxes_as_tensorflow_writes_them() -> None:
    outputs = {
        "num_detections:0": np.array([2], np.float32),
        "detection_boxes:0": np.array([[[0, 0.5, 1, 1]] * 4], np.float32),
        "detection_scores:0": np.array([[0.5, 0.25, 0, 0]], np.float32),
        "detection_classes:0": np.array([[1, 18, 1, 1]], np.float32),
    }
    raw = final.decode(outputs, FRAME, form="yxyx", unit="shares")
    assert raw.boxes.tolist() == [[32, 0, 64, 64]] * 2
    assert raw.classes.tolist() == [1, 18]


def test_final_boxes_where_there_are_none() -> None:
    outputs = {
        "boxes": np.empty((0, 4), np.float32),
        "labels": np.empty(0, np.int64),
        "scores": np.empty(0, np.float32),
    }
    assert final.decode(outputs, FRAME).boxes.shape == (0, 4)


def test_final_boxes_in_one_matrix() -> None:
    rows = np.array([[[1, 2, 3, 4, 0.5, 2]]], np.float32)
    raw = final.decode({"output0": rows}, FRAME)
    assert (raw.scores.tolist(), raw.classes.tolist()) == ([0.5], [2])
    rows = np.array([[0, 1, 2, 3, 4, 2, 0.5]], np.float32)
    raw = final.decode({"output": rows}, FRAME, columns=("skip", "box", "class", "score"))
    assert raw.boxes.tolist() == [[1, 2, 3, 4]]
    assert (raw.scores.tolist(), raw.classes.tolist()) == ([0.5], [2])


def test_final_outputs_that_shapes_do_not_tell_apart_need_names() -> None:
    outputs = {
        "a": np.array([[1, 2, 3, 4]], np.float32),
        "b": np.array([0.5], np.float32),
        "c": np.array([1.0], np.float32),
    }
    with pytest.raises(EngineError, match="name them with 'boxes', 'scores' and 'classes'"):
        final.decode(outputs, FRAME)
    assert final.decode(outputs, FRAME, classes="c").scores.tolist() == [0.5]


@pytest.mark.parametrize("decoder", [yolox, gfl, fastest, detr, proposals, final])
def test_outputs_of_another_network_are_refused_with_their_shapes(decoder) -> None:
    outputs = {"x": np.zeros((1, 3, 9, 9), np.float32), "y": np.zeros((1, 7), np.float32)}
    with pytest.raises(EngineError, match=r"\[1, 3, 9, 9\]|\(1, 3, 9, 9\)"):
        decoder.decode(outputs, FRAME)
