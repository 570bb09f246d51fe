"""Features of a user's own: never filled in by name, and computed from the whole image."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest
from PIL import Image

from adaptive import Bundle, InputError, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.evaluation.replay import replay
from adaptive.features.extract import extract
from adaptive.features.schema import SCHEMA
from adaptive.images.decode import decode_working
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.counterfactual import counterfactual
from adaptive.monitoring.logged import Logged
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.registry import load_premodel
from adaptive.premodel.scaling import Scaling

NAMES = ("cheap", "strong")


def premodel_on(features: Sequence[str], schema: int | None) -> KNNChain:
    scaling = Scaling("standard", np.ones(len(features)), np.zeros(len(features)))
    values = np.random.default_rng(0).normal(size=(20, len(features)))
    outcomes = np.random.default_rng(1).integers(0, 2, (20, 2))
    return KNNChain.from_arrays(features, NAMES, scaling, scaling.grid(values), outcomes, 5, schema)


@pytest.fixture
def bundle_on(tiny_candidates: Path, tmp_path: Path):
    def make(features: Sequence[str], schema: int | None) -> Path:
        policy = ByPremodel(NAMES, premodel_on(features, schema))
        write_bundle(tmp_path / "bundle", Bundle.read(tiny_candidates), policy, names=NAMES)
        return tmp_path / "bundle"

    return make


def photograph(width: int, height: int) -> bytes:
    """A JPEG that a camera held sideways took: it lies, and says that it is to be turned."""
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    image = Image.fromarray(noise).resize((width, height))
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", exif=exif)
    return encoded.getvalue()


def test_own_columns_are_not_filled_in_by_name(bundle_on) -> None:
    bundle = bundle_on(("noise", "contrast"), None)
    with pytest.raises(InputError) as refused:
        Router.load(bundle)
    assert str(refused.value) == (
        "the premodel learned from columns of your own, ['noise', 'contrast']; give Router.load "
        "an extractor that computes them, or a command --extractor MODULE:FUNCTION, or, if "
        "`adaptive features` did, train again with --features-from adaptive"
    )
    with Router.load(bundle, extractor=lambda image: {"noise": 0.3, "contrast": 2}) as router:
        router.classify(photograph(64, 48))


def test_a_bundle_whose_policy_reads_no_features_is_served(bundle_on, tiny_images: Path) -> None:
    bundle = bundle_on(("noise",), None)
    with Router.load(bundle, policy=Cascade(NAMES, thresholds=(0.9,))) as router:
        answer = router.classify(tiny_images / "000.png", explain=True)
    assert answer.features is None


def test_an_extractor_gets_the_upright_image_at_its_own_size(bundle_on) -> None:
    seen = []

    def extractor(image: np.ndarray) -> dict[str, float]:
        seen.append(image)
        return {"mine": 1.0, "other": 2.0}

    data = photograph(2400, 1600)
    with Router.load(bundle_on(("mine",), None), extractor=extractor) as router:
        router.classify(data)
        router.classify_batch([data, data])
    assert [image.shape for image in seen] == [(2400, 1600, 3)] * 3
    upright = Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(seen[0], np.asarray(upright.convert("RGB")))


def test_an_extractor_is_asked_for_own_features_alone(bundle_on) -> None:
    data = photograph(640, 480)
    with Router.load(
        bundle_on(("contrast", "mine", "noise"), SCHEMA.version),
        extractor=lambda image: {"mine": 0.5, "noise": -1.0},
    ) as router:
        answer = router.classify(data)
    computed = extract(SCHEMA.crop(decode_working(data)), ("contrast", "noise"))
    assert answer.features == {"contrast": computed[0], "mine": 0.5, "noise": computed[1]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"other": 1.0}, "the extractor gave no features ['mine']; it gave ['other']"),
        (None, "the extractor gave None; a mapping"),
        ([1.0], "the extractor gave [1.0]; a mapping"),
        ({"mine": None}, "the extractor gave None as feature 'mine'; a finite number is needed"),
        ({"mine": "x"}, "the extractor gave 'x' as feature 'mine'; a finite number is needed"),
        ({"mine": float("nan")}, "the extractor gave nan as feature 'mine'; a finite number"),
    ],
)
def test_what_an_extractor_lacks_is_said(bundle_on, given: dict[str, float], says: str) -> None:
    router = Router.load(bundle_on(("mine",), None), extractor=lambda image: given)
    with router, pytest.raises(InputError) as refused:
        router.classify(photograph(64, 48))
    assert says in str(refused.value)


def test_own_features_have_no_place_in_the_librarys_range(bundle_on) -> None:
    with Router.load(bundle_on(("noise",), None), extractor=lambda image: {"noise": 0.3}) as router:
        answer = router.classify(photograph(64, 48), explain=True)
    assert answer.explanation.standing.among == "images"


def test_a_premodel_on_own_columns_does_not_read_the_librarys(tiny_table: OutcomeTable) -> None:
    ours = ByPremodel(NAMES, premodel_on(("noise",), SCHEMA.version))
    assert len(replay(ours, tiny_table).ran) == len(tiny_table)
    with pytest.raises(InputError, match="column 'noise' of the outcome table is this library's"):
        replay(ByPremodel(NAMES, premodel_on(("noise",), None)), tiny_table)


def test_a_column_that_was_added_is_not_the_librarys(tiny_table_path: Path, tmp_path: Path) -> None:
    lines = tiny_table_path.read_text().splitlines()
    header = lines[0].replace(",noise,", ",noisy,") + ",noise"
    rows = [f"{line},{number}.5" for number, line in enumerate(lines[1:])]
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    about = json.loads(tiny_table_path.with_suffix(".json").read_text())
    about["features"].remove("noise")
    path.with_suffix(".json").write_text(json.dumps(about))
    table = OutcomeTable.read(path)
    assert table.own_features == ("noisy", "noise")
    assert len(replay(ByPremodel(NAMES, premodel_on(("noise",), None)), table).ran) == len(table)
    with pytest.raises(InputError, match="column 'noise' of the outcome table is your own"):
        replay(ByPremodel(NAMES, premodel_on(("noise",), SCHEMA.version)), table)


def test_a_log_tells_own_features_from_the_librarys(
    bundle_on, tiny_images: Path, tmp_path: Path
) -> None:
    bundle, log = bundle_on(("noise",), None), tmp_path / "log.jsonl"
    with Router.load(
        bundle, log=log, extractor=lambda image: {"noise": 0.3}, audit=Audit(1.0, "all")
    ) as router:
        for number in range(5):
            router.classify(tiny_images / f"{number:03}.png")
    assert {json.loads(line)["schema"] for line in log.read_text().splitlines()} == {None}
    found = counterfactual(Bundle.read(bundle).policy, Logged.read(log))
    assert found.usable == 5
    with pytest.raises(InputError, match="no audited decision holds the features"):
        counterfactual(ByPremodel(NAMES, premodel_on(("noise",), SCHEMA.version)), Logged.read(log))


def test_where_features_come_from_is_saved(tmp_path: Path) -> None:
    for folder, schema, own in (("a", None, ("noise", "mine")), ("b", 1, ("mine",))):
        premodel_on(("noise", "mine"), schema).save(tmp_path / folder)
        assert load_premodel(tmp_path / folder).own_features == own
