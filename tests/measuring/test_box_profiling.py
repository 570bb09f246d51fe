"""Detectors from labelled images to a table, a policy, a bundle, an evaluation and a server."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_candidates import LABELS, NEAR, box_candidates, entry, write_manifest
from click.testing import CliRunner, Result
from onnx_files import box_network
from PIL import Image

from adaptive import Bundle, Router
from adaptive.box_output import BoxMerge, BoxOutput
from adaptive.cli.bundle import command as bundle_command
from adaptive.cli.evaluate import command as evaluate_command
from adaptive.cli.profile import command as profile_command
from adaptive.cli.tune import command as tune_command
from adaptive.errors import AdaptiveError, TableError
from adaptive.evaluation.replay import replay
from adaptive.measuring.boxed import list_boxed
from adaptive.outcomes.boxes import TableBoxes, boxes_folder
from adaptive.outcomes.merged import MergedBoxes, told_of, with_merged
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.files import read_policy, write_policy
from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.coco import coco_rows
from adaptive.tasks.f1 import image_f1
from adaptive.tasks.learnt import Learnt
from adaptive.tasks.matching import match

COUNT = 132


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 64 x 64 of one colour each; an object is there where its channel is bright."""
    root = tmp_path_factory.mktemp("boxed")
    (root / "images").mkdir()
    draw = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(COUNT):
        colour = draw.integers(40, 256, 3)
        name = f"{number:03}.png"
        Image.new("RGB", (64, 64), tuple(colour.tolist())).save(root / "images" / name)
        images.append({"id": number + 5, "file_name": name, "width": 64, "height": 64})
        for kind in range(3):
            if colour[kind] + draw.normal(0, 40) < 128:
                continue
            x1, y1, x2, y2 = (NEAR[kind] * 2).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 5,
                    "category_id": kind + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 1, "name": label} for i, label in enumerate(LABELS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return box_candidates(tmp_path_factory.mktemp("detectors") / "candidates")


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def profile(folder: Path, data: Path, labels: Path, output: Path, *more: object) -> Result:
    arguments = ("--candidates", folder, "--images", data / "images", "--labels", labels)
    return run(profile_command, *arguments, "-o", output, *more)


@pytest.fixture(scope="module")
def table(folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("table") / "x.csv"
    result = profile(folder, data, data / "coco.json", output)
    assert result.exit_code == 0, result.output
    assert f"{output}: {COUNT} images, 2 candidates" in result.output
    return output


def test_the_table_has_f1_and_what_was_learnt(table: Path) -> None:
    read = OutcomeTable.read(table)
    assert read.quality_name == "f1"
    assert not read.binary
    assert read.meta["task"] == "detect"
    for name in read.candidates:
        own = read.of(name)
        assert 0.3 < own.quality.mean() < 1
        assert ((own.confidence >= 0) & (own.confidence <= 1)).all()
        assert (own.ms > 0).all()
        learnt = Learnt.from_json(read.meta["learnt"][name])
        assert 0.2 <= learnt.shown < 1


def test_boxes_lie_beside_it_with_coco_flags(table: Path, data: Path) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools, the judge, is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    read = OutcomeTable.read(table)
    boxes = TableBoxes.read(boxes_folder(table), read.candidates, len(read))
    ranking = boxes.ranking(read.candidates)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "coco.json"))
    ids = {image["file_name"]: number for number, image in truth.imgs.items()}
    draw = np.random.default_rng(1)
    for choice in (np.zeros(COUNT, int), np.ones(COUNT, int), draw.integers(0, 2, COUNT)):
        rows = [
            row
            for place, name in enumerate(read.images)
            for row in coco_rows(
                boxes.found[read.candidates[choice[place]]][place], ids[name], (1, 2, 3)
            )
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(truth, truth.loadRes(rows), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        assert np.allclose(astuple(ranking.summary(choice)), judge.stats, rtol=0, atol=1e-9)
    some = boxes.select(np.arange(0, COUNT, 3))
    assert some.matches["small"].images == len(some) == COUNT // 3


def test_yolo_and_voc_labels_give_the_same(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    content = json.loads((data / "coco.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    yolo, voc = tmp_path / "yolo", tmp_path / "voc"
    yolo.mkdir()
    voc.mkdir()
    for number, stem in names.items():
        own = [a for a in content["annotations"] if a["image_id"] == number]
        lines, objects = [], []
        for box in own:
            x, y, w, h = box["bbox"]
            kind = box["category_id"] - 1
            lines.append(f"{kind} {(x + w / 2) / 64} {(y + h / 2) / 64} {w / 64} {h / 64}")
            objects.append(
                f"<object><name>{LABELS[kind]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
                f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            )
        (yolo / f"{stem}.txt").write_text("\n".join(lines))
        (voc / f"{stem}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    known = {name: OutcomeTable.read(table).quality(name) for name in ("small", "large")}
    for source in (yolo, voc):
        output = tmp_path / f"{source.name}.csv"
        result = profile(folder, data, source, output)
        assert result.exit_code == 0, result.output
        read = OutcomeTable.read(output)
        for name, quality in known.items():
            np.testing.assert_allclose(read.quality(name), quality)


def test_flaws_are_listed_and_the_exit_code_is_one(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    content = json.loads((data / "coco.json").read_text())
    content["annotations"][0]["bbox"] = [100, 100, 5, 5]
    content["annotations"][1]["bbox"][2] = 0
    content["annotations"][2]["category_id"] = 9
    content["images"][1]["file_name"] = "absent.jpg"
    (tmp_path / "labels.json").write_text(json.dumps(content))
    result = profile(folder, data, tmp_path / "labels.json", tmp_path / "x.csv")
    assert result.exit_code == 1
    for says in (
        "1 images without labels: 001.png",
        "1 labels without their image: absent.jpg",
        "1 boxes of an unknown class",
        "1 boxes without area",
        "1 boxes that lie outside their image",
    ):
        assert f"left out: {says}" in result.output
    assert all(line.count("left out") < 2 for line in result.output.splitlines())
    assert len(OutcomeTable.read(tmp_path / "x.csv")) == COUNT - 1


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (None, "detectors are measured on true boxes: --labels names"),
        ("absent", "there are no labels at"),
        ("empty", "holds neither text files (YOLO) nor XML files (VOC)"),
        ("words.json", "label file"),
    ],
)
def test_labels_that_cannot_be_used(
    folder: Path, data: Path, tmp_path: Path, labels: str | None, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.json").write_text("no JSON")
    arguments = ["--candidates", folder, "--images", data / "images", "-o", tmp_path / "x.csv"]
    if labels is not None:
        arguments += ["--labels", tmp_path / labels]
    result = run(profile_command, *arguments)
    assert isinstance(result.exception, AdaptiveError)
    assert says in str(result.exception)
    assert not list(tmp_path.glob("x.*"))


def test_labels_without_a_box_measure_nothing(folder: Path, data: Path, tmp_path: Path) -> None:
    """A detector that shows nothing would be worth 1 on each of these images."""
    content = json.loads((data / "coco.json").read_text())
    labels, output = tmp_path / "labels.json", tmp_path / "x.csv"
    everything, tune = content["annotations"], {5 + row for row in _tuning_rows(content)}
    unknown = [{**one, "category_id": 9} for one in everything]
    elsewhere = [one for one in everything if one["image_id"] not in tune]
    for boxes, says in (
        ([], f"has no box in any of the {COUNT} images, so nothing tells what a detector is worth"),
        (unknown, f"left out: {len(unknown)} boxes of an unknown class: 000.png annotation"),
        (
            elsewhere,
            f"none of the {len(tune)} images that tune has a true box, and from those it is learnt",
        ),
    ):
        labels.write_text(json.dumps({**content, "annotations": boxes}))
        refused = profile(folder, data, labels, output)
        assert isinstance(refused.exception, AdaptiveError)
        assert says in str(refused.exception)
        assert not list(tmp_path.glob("x.*"))


def _tuning_rows(content: dict[str, Any]) -> list[int]:
    names = [image["file_name"] for image in content["images"]]
    return Split().rows(names, "tune").tolist()


def test_two_kinds_of_labels_in_one_folder(data: Path, tmp_path: Path) -> None:
    (tmp_path / "000.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "000.xml").write_text("<annotation/>")
    with pytest.raises(AdaptiveError, match=r"holds 1 text files \(YOLO\) and as many XML files"):
        list_boxed(data / "images", LABELS, tmp_path)
    (tmp_path / "001.txt").write_text("")
    assert len(list_boxed(data / "images", LABELS, tmp_path)) == 2


def test_a_byte_order_mark_is_none_of_the_labels(data: Path, tmp_path: Path) -> None:
    text = (data / "coco.json").read_text()
    (tmp_path / "labels.json").write_text(text, encoding="utf-8-sig")
    assert len(list_boxed(data / "images", LABELS, tmp_path / "labels.json")) == COUNT


def test_a_limit_and_notes(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "coco.json").read_text())
    content["annotations"][0]["bbox"][2] = 90
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = list_boxed(data / "images", LABELS, tmp_path / "labels.json", limit=7)
    assert len(found) == 7
    assert found.omitted == ()
    (note,) = found.notes
    assert note.startswith("1 boxes that reach beyond their image")


def test_from_the_table_to_a_served_router(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    policy, bundle = tmp_path / "policy.json", tmp_path / "bundle"
    result = run(tune_command, table, "--budget-ms", 1000, "--kind", "cascade", "-o", policy)
    assert result.exit_code == 0, result.output
    assert "% F1, cross-validated" in result.output
    base = ("--candidates", folder, "--policy", policy, "-o", bundle)
    refused = run(bundle_command, *base)
    assert isinstance(refused.exception, AdaptiveError)
    assert "goes by how sure boxes are, and nothing says it" in str(refused.exception)
    result = run(bundle_command, *base, "--table", table, "--merge", 0.4)
    assert result.exit_code == 0, result.output
    read = Bundle.read(bundle)
    assert read.merge is not None
    for candidate in read.candidates:
        assert isinstance(candidate.output, BoxOutput)
        learnt = Learnt.of(candidate.output)
        assert learnt is not None
        assert learnt.to_json() == OutcomeTable.read(table).meta["learnt"][candidate.name]
    with Router.load(bundle) as router:
        found = router.detect(data / "images" / "000.png")
    assert set(found.path) <= {"small", "large"}
    page, told = tmp_path / "r.html", tmp_path / "e.json"
    more = ("--json", told, "--report", page, "--images", data / "images")
    result = run(evaluate_command, bundle, table, *more)
    assert result.exit_code == 0, result.output
    assert "images: test" in result.output
    assert "oracle by F1" in result.output
    rows = json.loads(told.read_text())["boxes"]
    assert [own["name"] for own in rows][-2:] == ["oracle by F1", "all merged at 0.4"]
    assert all(0 <= own["ap"] <= 1 for own in rows)
    assert "F1" in page.read_text()
    live = run(evaluate_command, bundle, table, "--live", "--images", data / "images")
    assert live.exit_code == 0, live.output
    (count,) = re.findall(r"live: (\d+) images, F1", live.output)
    assert f"live and replay agree on {count} of {count}" in live.output


def test_merged_boxes_are_judged_as_they_are_served(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    """Replay and `evaluate` value what the router answers, not what the last detector said."""
    policy, certificate = tmp_path / "policy.json", tmp_path / "certificate.json"
    write_policy(Cascade(("small", "large"), thresholds=(1.0,)), policy)
    read = OutcomeTable.read(table)
    merged = with_merged(read, table, BoxMerge(0.4))
    worth = merged.path_quality(("small", "large"))
    assert np.abs(worth - read.quality("large")).max() > 0.1
    np.testing.assert_array_equal(merged.path_quality(("large",)), read.quality("large"))
    bundle = tmp_path / "bundle"
    base = ("--candidates", folder, "--policy", policy, "--table", table)
    assert run(bundle_command, *base, "-o", bundle, "--merge", 0.4).exit_code == 0
    boxes = TableBoxes.read(boxes_folder(table), read.candidates, len(read))
    with Router.load(bundle) as router:
        served = [router.detect(data / "images" / name) for name in read.images]
    assert all(one.path == ("small", "large") for one in served)
    f1 = image_f1(boxes.truth, match(boxes.true, served), 0.0)
    np.testing.assert_allclose(f1, worth, atol=1e-12)
    done = replay(read_policy(policy), merged.select(np.arange(10, 40)))
    np.testing.assert_array_equal(done.quality, worth[10:40])
    told = tmp_path / "e.json"
    result = run(evaluate_command, bundle, table, "--part", "all", "--json", told)
    assert result.exit_code == 0, result.output
    (line,) = (o for o in json.loads(told.read_text())["boxes"] if "policy" in o["name"])
    assert line["name"] == "policy: cascade, merged"
    assert line["f1"] == pytest.approx(worth.mean(), abs=1e-12)
    whole = Ranking(boxes.truth, [match(boxes.true, served)])
    assert line["ap"] >= whole.ap(np.zeros(COUNT, np.int64))  # unsure boxes count there too

    # what is promised of merged boxes is served merged, and nothing else is
    drop = ("--max-accuracy-drop", 0.9, "--certificate", certificate, "--force", "-o", policy)
    result = run(tune_command, table, "--merge", 0.4, "--kind", "cascade", *drop)
    assert result.exit_code == 0, result.output
    assert json.loads(certificate.read_text())["merge"] == 0.4
    again = (*base, "--certificate", certificate, "-o", tmp_path / "again")
    other = run(bundle_command, *again, "--merge", 0.3)
    assert isinstance(other.exception, AdaptiveError)
    assert "speaks of boxes that are merged at 0.4, and --merge is 0.3" in str(other.exception)
    assert run(bundle_command, *again).exit_code == 0
    assert Bundle.read(tmp_path / "again").merge == BoxMerge(0.4)
    # nor as the candidates' own folder says
    last = json.loads(certificate.read_text())
    del last["merge"]
    certificate.write_text(json.dumps(last))
    ask = ("--candidates", bundle, "--policy", policy, "--certificate", certificate)
    assert run(bundle_command, *ask, "-o", tmp_path / "apart").exit_code == 0
    assert Bundle.read(bundle).merge == BoxMerge(0.4)
    assert Bundle.read(tmp_path / "apart").merge is None


def test_from_which_chance_on_merged_boxes_are_shown_is_learnt(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    """Of the tuning part no other chance is better, and the test part has no say."""
    policy, told = tmp_path / "policy.json", tmp_path / "e.json"
    write_policy(Cascade(("small", "large"), thresholds=(1.0,)), policy)
    base = ("--candidates", folder, "--policy", policy, "--table", table)
    assert run(bundle_command, *base, "-o", tmp_path / "bundle").exit_code == 0
    result = run(evaluate_command, tmp_path / "bundle", table, "--json", told)
    assert result.exit_code == 0, result.output
    row = json.loads(told.read_text())["boxes"][-1]
    read = OutcomeTable.read(table)
    names, rows = read.candidates, Split().rows(read.images, "tune")
    chances = np.linspace(0, 1, 101)
    worth = [
        with_merged(read, table, BoxMerge(least)).path_quality(names)[rows].mean()
        for least in chances.tolist()
    ]
    boxes = TableBoxes.read(boxes_folder(table), names, len(read)).select(rows)
    best = MergedBoxes(boxes, told_of(read), BoxMerge(0.3)).best(names)
    shown = MergedBoxes(boxes, told_of(read), best).quality(names).mean()
    assert shown >= max(worth) - 1e-12
    assert row["name"] == f"all merged at {best.least:.2g}"
    test = with_merged(read, table, best).path_quality(names)
    assert row["f1"] == pytest.approx(test[Split().rows(read.images, "test")].mean(), abs=1e-12)


def test_a_promise_is_not_tested_on_images_that_taught_how_boxes_are_read(
    table: Path, tmp_path: Path
) -> None:
    ask = ("-o", tmp_path / "p.json", "--certificate", tmp_path / "c.json")
    drop = ("--max-accuracy-drop", 0.9, *ask)
    other = run(tune_command, table, "--split", "0.4,0.4,0.2", *drop)
    assert isinstance(other.exception, AdaptiveError)
    assert "whose tuning part taught how boxes are read" in str(other.exception)
    whole = run(tune_command, table, "--split", "all", "--budget-ms", 1000, *ask[:2])
    assert whole.exit_code == 0, whole.output
    for suffix in (".csv", ".json"):
        (tmp_path / f"y{suffix}").write_bytes(table.with_suffix(suffix).read_bytes())
    beside = run(tune_command, table, "--calibrate", tmp_path / "y.csv", "--force", *drop)
    assert isinstance(beside.exception, AdaptiveError)
    assert "as its own images taught to read them" in str(beside.exception)


def test_a_table_is_divided_as_when_its_boxes_were_read(table: Path, tmp_path: Path) -> None:
    """Without --split, what `adaptive profile` divided stays divided so."""
    for suffix in (".csv", ".json"):
        (tmp_path / f"y{suffix}").write_bytes(table.with_suffix(suffix).read_bytes())
    meta = json.loads((tmp_path / "y.json").read_text())
    meta["split"] = {"tune": 0.6, "calibrate": 0.2, "test": 0.2, "seed": 0}
    (tmp_path / "y.json").write_text(json.dumps(meta))
    ask = ("--budget-ms", 1000, "-o", tmp_path / "p.json")
    result = run(tune_command, tmp_path / "y.csv", *ask)
    assert result.exit_code == 0, result.output
    read = OutcomeTable.read(table)
    count = len(Split(0.6, 0.2, 0.2).rows(read.images, "tune"))
    assert result.output.startswith(f"{count} images tune, ")


def test_only_boxes_are_merged(table: Path, tmp_path: Path) -> None:
    for suffix in (".csv", ".json"):
        (tmp_path / f"y{suffix}").write_bytes(table.with_suffix(suffix).read_bytes())
    meta = json.loads((tmp_path / "y.json").read_text())
    del meta["task"]
    (tmp_path / "y.json").write_text(json.dumps(meta))
    ask = ("--budget-ms", 1000, "--merge", 0.4, "-o", tmp_path / "p.json")
    result = run(tune_command, tmp_path / "y.csv", *ask)
    assert isinstance(result.exception, AdaptiveError)
    assert "--merge is for detectors" in str(result.exception)


def test_merging_needs_the_boxes(table: Path, tmp_path: Path) -> None:
    for suffix in (".csv", ".json"):
        (tmp_path / f"y{suffix}").write_bytes(table.with_suffix(suffix).read_bytes())
    ask = (tmp_path / "y.csv", "--budget-ms", 1000, "--merge", 0.4, "-o", tmp_path / "p.json")
    result = run(tune_command, *ask)
    assert isinstance(result.exception, TableError)
    assert "merged from y.boxes, which does not lie beside" in str(result.exception)


def test_sizes_without_objects_have_no_precision(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    """The objects here are small and medium, of 32 by 32 pixels at most."""
    result = profile(folder, data, data / "coco.json", tmp_path / "x.csv")
    rows = [line.split() for line in result.output.splitlines() if line.startswith("  large")]
    assert rows[0][4].count("/") == 2
    assert rows[0][4].endswith("/-")
    assert "-100" not in result.output


def _tuning(table: Path) -> list[str]:
    from adaptive.outcomes.parts import Split

    images = OutcomeTable.read(table).images
    return [images[row] for row in Split().rows(images, "tune")]


def test_what_is_served_is_as_sure_as_the_table_says(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    """Of images that nothing was learnt from; those of the tuning part are judged by others."""
    from adaptive.policy.fixed import Fixed

    result = run(bundle_command, "--candidates", folder, "--table", table, "-o", tmp_path / "b")
    assert result.exit_code == 0, result.output
    read, tune = OutcomeTable.read(table), set(_tuning(table))
    with Router.load(tmp_path / "b", policy=Fixed(("large",))) as router:
        for place, name in enumerate(read.images):
            if name not in tune:
                found = router.detect(data / "images" / name)
                assert found.sure == pytest.approx(read.of("large").confidence[place])


def test_a_bundles_own_reading_is_kept(data: Path, tmp_path: Path) -> None:
    box_network(tmp_path / "net.onnx", NEAR, 32)
    write_manifest(tmp_path, [entry("net", tmp_path, shown=0.99)])
    result = profile(tmp_path, data, data / "coco.json", tmp_path / "x.csv")
    assert result.exit_code in (0, 1), result.output
    read = OutcomeTable.read(tmp_path / "x.csv")
    assert read.meta["learnt"] == {}
    assert read.quality("net").mean() < 0.4  # hardly any box is shown


def test_one_detector_is_not_served_otherwise_than_was_promised(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    """Below the score from which on its boxes are the answer, an answer is worth far less."""
    policy, certificate = tmp_path / "policy.json", tmp_path / "certificate.json"
    drop = ("--max-accuracy-drop", 0.9, "--certificate", certificate, "-o", policy)
    result = run(tune_command, table, "--kind", "fixed", *drop)
    assert result.exit_code == 0, result.output
    (name,) = read_policy(policy).candidates
    base = ("--candidates", folder, "--policy", policy, "-o", tmp_path / "bundle")
    promised = (*base, "--certificate", certificate)
    refused = run(bundle_command, *promised)
    assert "speaks of boxes as the outcome table taught" in str(refused.exception)
    other = tmp_path / "other.csv"
    lines = table.read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:-1]))
    meta = json.loads(table.with_suffix(".json").read_text())
    other.with_suffix(".json").write_text(json.dumps({**meta, "rows": meta["rows"] - 1}))
    refused = run(bundle_command, *promised, "--table", other)
    assert f"the certificate was not made from {other}" in str(refused.exception)
    result = run(bundle_command, *base)
    assert result.exit_code == 0, result.output
    assert f"boxes of {name} are its answer, so all of 0.2 or more are" in result.output
    result = run(evaluate_command, tmp_path / "bundle", table)
    assert "and serves all of 0.2 or more; x.csv takes those of" in result.output
    result = run(bundle_command, *promised, "--table", table, "--force")
    assert result.exit_code == 0, result.output
    assert "note" not in result.output
    assert "note" not in run(evaluate_command, tmp_path / "bundle", table).output


def test_a_bundle_is_judged_as_it_reads_boxes(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    """Not as the table does, where a bundle learnt of other images; as `--live` finds."""
    read = OutcomeTable.read(table)
    boxes = TableBoxes.read(boxes_folder(table), read.candidates, COUNT)
    meta = json.loads(table.with_suffix(".json").read_text())
    meta["learnt"]["large"]["shown"] = 0.9
    (tmp_path / "strict.csv").write_text(table.read_text())
    (tmp_path / "strict.json").write_text(json.dumps(meta))
    base = ("--candidates", folder, "--policy", "fixed:large", "-o", tmp_path / "strict")
    assert run(bundle_command, *base, "--table", tmp_path / "strict.csv").exit_code == 0
    worth = image_f1(boxes.truth, boxes.matches["large"], 0.9)
    assert worth.mean() < read.quality("large").mean() - 0.1
    told = tmp_path / "e.json"
    live = ("--part", "all", "--json", told, "--live", "--images", data / "images")
    result = run(evaluate_command, tmp_path / "strict", table, *live)
    assert result.exit_code == 0, result.output
    assert "reads boxes of large otherwise than x.csv; these figures are as the bundle" in (
        result.output
    )
    assert json.loads(told.read_text())["policy"]["f1"]["value"] == pytest.approx(worth.mean())
    assert f"live and replay agree on {COUNT} of {COUNT}" in result.output
    # a table without its boxes cannot be read otherwise
    result = run(evaluate_command, tmp_path / "strict", tmp_path / "strict.csv", "--part", "all")
    assert "otherwise" not in result.output
    (tmp_path / "alone.csv").write_text(table.read_text())
    (tmp_path / "alone.json").write_text(table.with_suffix(".json").read_text())
    result = run(evaluate_command, tmp_path / "strict", tmp_path / "alone.csv", "--part", "all")
    assert "alone.boxes is not beside it; these figures are as the table" in result.output


def test_a_reading_that_came_with_the_candidates_goes_into_the_next_bundle(
    folder: Path, data: Path, table: Path, tmp_path: Path
) -> None:
    """A table of a bundle that reads boxes already teaches nothing, and tells it on."""
    bundle = tmp_path / "bundle"
    base = ("--policy", "fixed:large", "--table")
    assert run(bundle_command, "--candidates", folder, *base, table, "-o", bundle).exit_code == 0
    second = tmp_path / "second.csv"
    assert profile(bundle, data, data / "coco.json", second).exit_code == 0
    assert OutcomeTable.read(second).meta["learnt"] == {}
    again = ("--candidates", folder, *base, second, "-o", tmp_path / "again")
    result = run(bundle_command, *again)
    assert result.exit_code == 0, result.output
    first = Bundle.read(bundle).candidate("large").output
    assert Bundle.read(tmp_path / "again").candidate("large").output == first


def test_a_stopped_run_goes_on(
    folder: Path, data: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive.measuring.box_profiling import BoxProfiler

    output, count = tmp_path / "x.csv", [0]
    whole = BoxProfiler.said

    def stop(self: BoxProfiler, *given: Any) -> dict[str, Any]:
        count[0] += 1
        if count[0] == 21:
            raise KeyboardInterrupt
        return whole(self, *given)

    monkeypatch.setattr(BoxProfiler, "said", stop)
    profile(folder, data, data / "coco.json", output)
    assert not output.exists()
    assert profile(folder, data, data / "coco.json", output).exit_code == 0
    assert count[0] == 21 + 2 * COUNT - 20
    first, second = OutcomeTable.read(table), OutcomeTable.read(output)
    for name in first.candidates:
        np.testing.assert_array_equal(first.quality(name), second.quality(name))


def test_times_alone(folder: Path) -> None:
    result = run(profile_command, "--latency-only", folder, "--limit", 3, "--force")
    assert result.exit_code == 0, result.output
    assert "times replaced by those of this machine" in result.output


@pytest.mark.parametrize("file", ["small.npy", "offsets/small.npy", "true/boxes.npy"])
def test_damaged_boxes_are_refused(table: Path, tmp_path: Path, file: str) -> None:
    import shutil

    copy = tmp_path / "x.boxes"
    shutil.copytree(boxes_folder(table), copy)
    (copy / file).write_bytes(b"nothing")
    with pytest.raises(TableError, match="is no array of boxes"):
        TableBoxes.read(copy, ("small", "large"), COUNT)
    np.save(copy / file, np.zeros(3))
    with pytest.raises(TableError):
        TableBoxes.read(copy, ("small", "large"), COUNT)
