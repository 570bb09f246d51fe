from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_candidates import NEAR, box_candidates, entry, write_manifest
from click.testing import CliRunner
from onnx_files import box_network
from PIL import Image

from adaptive import Bundle, BundleError, EngineError, InputError, Router
from adaptive.box_output import BoxMerge
from adaptive.bundle.bundle import write_bundle
from adaptive.cli.replay import command as replay_command
from adaptive.limits import Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.audited_table import AuditedTable
from adaptive.monitoring.counterfactual import counterfactual
from adaptive.monitoring.logged import Logged
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import Exponents
from adaptive.policy.fixed import Fixed
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import agreement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return box_candidates(tmp_path_factory.mktemp("detectors") / "candidates")


def image(red: int = 0, green: int = 0, blue: int = 0, height: int = 64, width: int = 64) -> Any:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


def test_boxes_are_in_pixels_of_the_image(folder: Path) -> None:
    with Router.load(folder, policy=Fixed(("large",))) as router:
        found = router.detect(image(red=255, green=128, height=64, width=64))
    np.testing.assert_allclose(found.boxes, NEAR[:2] * 2)
    np.testing.assert_allclose(found.scores, [1, 128 / 255], rtol=1e-6)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.classes.tolist() == [0, 1]
    assert found.labels == ("red", "green")
    assert found.size == (64, 64)
    assert (found.candidate, found.path) == ("large", ("large",))
    assert found.ms["total"] >= found.ms["large"] > 0
    assert found.reason == "every image goes to large"


@pytest.mark.parametrize("batch", [0, 1, "n"])
def test_networks_with_a_free_batch_a_fixed_one_or_none(batch: int | str, tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32, batch)
    write_manifest(tmp_path, [entry("net", tmp_path)])
    with Router.load(tmp_path) as router:
        found = router.detect(image(red=255, green=128))
    assert found.labels == ("red", "green")


def test_padding_is_taken_off(folder: Path) -> None:
    """An image of 64 x 128 lies in rows 8 to 24 of the input, at a quarter of its size."""
    with Router.load(folder, policy=Fixed(("large",))) as router:
        found = router.detect(image(255, 255, 255, height=64, width=128))
    assert found.size == (128, 64)
    # the padding is black, so the image is half as bright: all three are 0.5 sure
    assert sorted(found.classes.tolist()) == [1, 2]  # the red box lies in the padding
    boxes = dict(zip(found.classes.tolist(), found.boxes.tolist()))
    assert boxes[1] == [32, 0, 96, 64]
    assert boxes[2] == [64, 0, 128, 32]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_read_at_a_smaller_scale_and_told_in_its_own_pixels(
    folder: Path, orientation: int
) -> None:
    """Decoded at an eighth; turned by its EXIF, it is 3200 wide and 1600 high either way."""
    stored = (1600, 3200) if orientation == 1 else (3200, 1600)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(image(0, 255, 0, *stored)).save(stream, "JPEG", exif=exif)
    with Router.load(folder, policy=Fixed(("large",))) as router:
        assert router.decode(stream.getvalue()).pixels.shape[0] < 400
        found = router.detect(stream.getvalue())
    assert found.size == (3200, 1600)
    np.testing.assert_allclose(found.boxes, [[800, 0, 2400, 1600]], atol=1)


def test_a_cascade_goes_by_how_sure_the_boxes_are(folder: Path) -> None:
    policy = Cascade(("small", "large"), thresholds=(0.9,))
    with Router.load(folder, policy=policy) as router:
        sure = router.detect(image(red=250))
        unsure = router.detect(image(red=120))
    assert sure.path == ("small",)
    assert unsure.path == ("small", "large")
    assert unsure.candidate == "large"
    assert sure.sure is not None
    assert sure.sure > 0.9
    assert unsure.sure is not None
    assert unsure.sure < 0.9
    assert "large" in unsure.reason


def test_boxes_of_several_that_ran_are_merged_where_the_bundle_says_so(
    folder: Path, tmp_path: Path
) -> None:
    policy = Cascade(("small", "large"), thresholds=(0.99,))
    source = replace(Bundle.read(folder), merge=BoxMerge(0.3, 0.5))
    write_bundle(tmp_path / "bundle", source, policy)
    assert Bundle.read(tmp_path / "bundle").merge == BoxMerge(0.3, 0.5)
    with Router.load(tmp_path / "bundle") as router:
        found = router.detect(image(red=204, green=60))
    # both are as sure, so each side is the mean: 8 and 7 pixels of the input, two of the image each
    np.testing.assert_allclose(found.boxes, [[0, 0, 16, 15]])
    assert found.scores.tolist() == pytest.approx([0.8])
    assert found.labels == ("red",)  # green's 0.24 is below 0.3
    assert found.path == ("small", "large")
    assert found.reason.endswith("the boxes of small and large are merged")


def test_no_boxes_are_an_answer_and_an_abstention_is_none(folder: Path) -> None:
    with Router.load(folder, policy=Fixed(("large",))) as router:
        nothing = router.detect(image())
        late = router.detect(image(255), Limits(remaining_ms=50))
    assert len(nothing) == 0
    assert nothing.candidate == "large"
    assert nothing.sure == 1.0  # every chance of an object is 0
    assert not nothing.abstained
    assert late.candidate == "large"
    unsure = Fixed(("large",), abstain_below=0.9)
    with Router.load(folder, policy=unsure) as router:
        found = router.detect(image(red=120))
    assert found.abstained
    assert len(found) == 0
    assert "abstains" in found.reason


def test_scores_below_the_answers_own_are_looked_at_and_not_told(tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32)
    write_manifest(tmp_path, [entry("net", tmp_path, threshold=0.1, shown=0.5)])
    with Router.load(tmp_path) as router:
        found = router.detect(image(red=255, green=64))
    assert found.labels == ("red",)
    assert found.sure is not None
    assert found.sure < 1  # the green box may be an object that was missed


def test_a_class_map_says_which_class_is_which(tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32)
    write_manifest(tmp_path, [entry("net", tmp_path, class_map=["blue", None, 0])])
    with Router.load(tmp_path) as router:
        found = router.detect(image(255, 255, 255))
    assert sorted(found.labels) == ["blue", "red"]


def test_a_bundle_of_detectors_reads_back(folder: Path, tmp_path: Path) -> None:
    source = Bundle.read(folder)
    policy = Cascade(("small", "large"), thresholds=(0.9,))
    write_bundle(tmp_path / "bundle", source, policy, times={"small": 1.0, "large": 2.0})
    read = Bundle.read(tmp_path / "bundle")
    assert read.task == "detect"
    assert [c.output for c in read.candidates] == [c.output for c in source.candidates]
    assert [c.input for c in read.candidates] == [c.input for c in source.candidates]


def test_the_answer_as_json(folder: Path) -> None:
    with Router.load(folder) as router:
        found = router.detect(image(red=255), explain=True)
    said = json.loads(json.dumps(found.to_json(1)))
    assert said["boxes"] == [[0, 0, 16, 16]]
    assert said["labels"] == ["red"]
    assert said["size"] == [64, 64]
    assert said["reason"] == "every image goes to large"
    assert "features" not in found.to_json()


def test_each_task_refuses_the_other(folder: Path, tiny_candidates: Path) -> None:
    with Router.load(folder) as router:
        for call in (router.classify, lambda i: router.classify_batch([i])):
            with pytest.raises(InputError, match=r"cannot classify; it finds boxes: use Router\."):
                call(image())
    with Router.load(tiny_candidates) as router, pytest.raises(
        InputError, match=r"cannot detect; it classifies images: use Router\.classify"
    ):
        router.detect(image())


def test_audits_hold_boxes_against_the_references(folder: Path, tmp_path: Path) -> None:
    """And a decision log becomes a table of F1 against the reference's boxes."""
    source = Bundle.read(folder)
    small, large = source.candidates
    blind = replace(small, output=replace(small.output, shown=0.6))  # to what is dim
    source = replace(source, candidates=(blind, large))
    write_bundle(tmp_path / "bundle", source, Fixed(("small",)), names=source.names)
    log = tmp_path / "log.jsonl"
    draw = np.random.default_rng(0)
    images = [image(*draw.integers(0, 256, 3).tolist()) for _ in range(60)]
    audit = Audit(1.0, "all")
    with Router.load(tmp_path / "bundle", audit=audit, log=log) as router:
        answers = [router.detect(one, Limits(remaining_ms=1e6)) for one in images]
    with Router.load(tmp_path / "bundle", policy=Fixed(("large",))) as router:
        best = [router.detect(one) for one in images]
    worth = [agreement(true, found) for true, found in zip(best, answers)]
    assert 0 < np.mean(worth) < 1
    assert audit.status()["audited"] == 60
    assert audit.status()["failures"] == 0
    assert audit.status()["disagreements"] == sum(one < 1 for one in worth)
    assert "audit" in answers[0].ms
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["agreement"] for line in lines] == pytest.approx(worth, abs=1e-6)
    own = [line["outcomes"]["small"]["agreement"] for line in lines]
    assert own == pytest.approx(worth, abs=1e-6)

    made = AuditedTable.of(Logged.read(log, Bundle.read(tmp_path / "bundle")))
    made.write(tmp_path / "x.csv")
    table = OutcomeTable.read(tmp_path / "x.csv")
    assert (table.quality_name, table.agrees_with) == ("f1_agreement", "large")
    assert sorted(table.quality("small")) == pytest.approx(sorted(worth), abs=1e-5)
    assert (table.quality("large") == 1).all()
    told = counterfactual(Fixed(("large",)), Logged.read(log))
    assert told.agreement.value == 1
    assert told.served_agreement.value == pytest.approx(np.mean(worth), abs=1e-6)
    assert told.gain is not None
    assert told.gain.value == pytest.approx(1 - np.mean(worth), abs=1e-6)


def test_a_log_of_merged_boxes_says_what_it_cannot_tell(folder: Path, tmp_path: Path) -> None:
    bundle, log = tmp_path / "bundle", tmp_path / "log.jsonl"
    source = replace(Bundle.read(folder), merge=BoxMerge(0.3))
    write_bundle(bundle, source, Cascade(("small", "large"), thresholds=(1.0,)))
    with Router.load(bundle, audit=Audit(1.0, "all"), log=log) as router:
        for red in range(0, 250, 50):
            router.detect(image(red))
    ask = [str(log), "--bundle", str(bundle)]
    merged = CliRunner().invoke(replay_command, [*ask, "--policy", "bundle"])
    assert merged.exit_code == 0, merged.output
    assert "note: the bundle merges the boxes of all that ran" in merged.output
    alone = CliRunner().invoke(replay_command, [*ask, "--policy", "fixed:small"])
    assert alone.exit_code == 0, alone.output
    assert "note: the bundle merges" not in alone.output


def test_agreement_is_f1_of_boxes() -> None:
    one = Detections.of([[0, 0, 8, 8], [8, 0, 16, 8]], [0.9, 0.8], [0, 1])
    assert agreement(one, one) == 1
    assert agreement(Detections.none(), Detections.none()) == 1
    assert agreement(one, Detections.none()) == 0
    assert agreement(one, one.only(np.array([True, False]))) == pytest.approx(2 / 3)


def test_decisions_are_logged(folder: Path, tmp_path: Path) -> None:
    with Router.load(folder, log=tmp_path / "log.jsonl") as router:
        router.detect(image(red=255), request_id="seven")
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["request"], said["candidate"], said["label"]) == ("seven", "large", None)
    assert said["outcomes"]["large"]["ms"] > 0


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"decoder": "yolo"}, "decoder 'yolo' is not one of"),
        ({"threshold": 2}, "threshold of a detector is 2.0; 0..1 is allowed"),
        ({"iou": -1}, "iou of a detector is -1.0; 0..1 is allowed"),
        ({"most": 0}, "most of a detector is 0; a whole number >= 1 is needed"),
        ({"options": {"forms": 1}}, "decoder 'proposals' has no option 'forms'"),
        ({"class_map": "voc"}, "class map 'voc' is not 'coco', 'from 1' or a list"),
        ({"class_map": ["red", "green", "pink"]}, "entry 2 of the class map is 'pink'"),
        ({"class_map": ["red"]}, None),
        ({"classes": 5}, "has 5 classes, but there are 3 labels; a class map says which"),
        ({"nms": 0.5}, "has ['nms'], which boxes have not"),
        ({"sureness": {"luck": 1.0}}, "goes by 'luck', which is no signal"),
        ({"score_map": {"scores": [0.0, 1.0], "chances": [1.0, 0.0]}}, "map of scores"),
        ({"kind": "logits"}, "is for the task 'classify', but the manifest's task is 'detect'"),
    ],
)
def test_manifests_that_cannot_be(output: dict[str, Any], says: str | None, tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32)
    own = entry("net", tmp_path, **output)
    if output.get("kind") == "logits":
        own["output"] = {"kind": "logits", "classes": 3}
    write_manifest(tmp_path, [own])
    if says is None:  # the network then knows one class, and its outputs have three
        with pytest.raises(EngineError, match="candidate 'net': "):
            Router.load(tmp_path)
        return
    with pytest.raises(BundleError) as caught:
        Bundle.read(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_task_that_is_none(tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32)
    write_manifest(tmp_path, [entry("net", tmp_path)], task="segment")
    with pytest.raises(BundleError, match="task 'segment' is not one of"):
        Bundle.read(tmp_path)
    write_manifest(tmp_path, [entry("net", tmp_path)], task="classify")
    with pytest.raises(BundleError, match="is for the task 'detect', but the manifest's task is"):
        Bundle.read(tmp_path)


def test_another_decoders_outputs_are_refused_when_the_network_is_opened(tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32)
    write_manifest(tmp_path, [entry("net", tmp_path, decoder="yolox")])
    with pytest.raises(EngineError, match="candidate 'net': ") as caught:
        Router.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_threads_and_batches_find_the_same(folder: Path) -> None:
    from adaptive.routing.generation import Generation, Settings

    ran: list[str] = []
    generation = Generation(
        folder,
        Settings(window_ms=1, max_batch=4, models="policy"),
        lambda _: None,
        lambda name, *_: ran.append(name),
    )
    photos = generation.photos("large", [_png(image(255)), _png(image(0, 255))])
    output = generation.run("large", photos)
    assert output.boxes is not None
    assert [found.classes.tolist() for found in output.boxes] == [[0], [1]]
    assert ran == ["large"]
    generation.retire()


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "policy",
    [
        Cascade(("small", "large"), thresholds=(0.5,), signal="margin"),
        Cascade(("small", "large"), thresholds=(0.5,), combine="geometric"),
        Fixed(("large",), abstain_below=0.5, exponents=(Exponents((0,), (2.0,)),)),
    ],
)
def test_a_policy_that_reads_probabilities_is_refused_before_any_image(
    folder: Path, tmp_path: Path, policy: Any
) -> None:
    with pytest.raises(InputError, match="policy reads probabilities, and detectors tell only"):
        Router.load(folder, policy=policy)
    with pytest.raises(InputError, match="policy reads probabilities, and detectors tell only"):
        write_bundle(tmp_path / "bundle", Bundle.read(folder), policy)
    assert not (tmp_path / "bundle").exists()
