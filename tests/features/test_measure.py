from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import ImageError, InputError
from adaptive.features import measure as measure_module
from adaptive.features.measure import measure
from adaptive.features.schema import PAPER7, resolve_names


def test_every_feature_has_a_share(scene: np.ndarray) -> None:
    for spec in ("paper7", "all+extra", ["noise"]):
        shares = measure(scene, spec, repeats=2)
        assert tuple(shares) == resolve_names(spec)
        assert all(share > 0 for share in shares.values())


def test_a_shared_stage_is_split_evenly(scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    # every reading of the clock is a second later than the last
    monkeypatch.setattr(measure_module, "perf_counter", lambda: float(next(ticks)))
    shares = measure(scene, ["hue1", "hue2", "contrast"], repeats=3)
    # three stages of 1 s: hue for two, grey and brightness for one; 4 s between them for all
    assert shares == pytest.approx(
        {"hue1": 500 + 4000 / 3, "hue2": 500 + 4000 / 3, "contrast": 2000 + 4000 / 3}
    )


def test_shares_depend_on_the_company(scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(measure_module, "perf_counter", lambda: float(next(ticks)))
    alone = measure(scene, ["edge_length1"], repeats=1)
    together = measure(scene, ["edge_length1", "edge_length2"], repeats=1)
    assert together["edge_length1"] == pytest.approx(alone["edge_length1"] / 2)


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, None])
def test_repeats_must_be_a_positive_number(scene: np.ndarray, repeats: object) -> None:
    with pytest.raises(InputError, match="is not a whole number >= 1"):
        measure(scene, PAPER7, repeats)  # type: ignore[arg-type]


def test_what_extract_refuses_is_refused(scene: np.ndarray) -> None:
    with pytest.raises(ImageError, match="is no image"):
        measure(scene[:, :, 0], PAPER7)
    with pytest.raises(InputError, match="'size' is unknown"):
        measure(scene, ["size"])
