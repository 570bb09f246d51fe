"""Conditions that are found without labels, on images whose conditions are made here."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.premodel.fit import fit_mixture
from adaptive.premodel.mixture import FEATURES, Mixture

NAMES = ("small", "large")


def images(n=900, seed=0):
    """Bright, dark and noisy images: features, which is which, and who is right."""
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    generator = np.random.default_rng(seed)
    condition = generator.integers(0, 3, n)
    X = np.exp(generator.normal(0, 0.15, (n, 5)) + np.log([30, 4, 120, 40, 130]))
    X[condition == 1, 2:] *= 0.2
    X[condition == 2, 1] *= 8
    chance = np.array([[0.5, 0.9], [0.4, 0.8], [0.8, 0.3]])[condition]
    return X, condition, (generator.random((n, 2)) < chance).astype(np.uint8)


def test_conditions_are_found_and_described():
    X, condition, outcomes = images()
    premodel = fit_mixture(X, outcomes, FEATURES, NAMES).premodel
    assert premodel.conditions == 3
    shares = premodel.posterior(X)
    own = [int(shares[condition == c].mean(axis=0).argmax()) for c in range(3)]
    assert sorted(own) == [0, 1, 2]
    assert (shares.argmax(axis=1) == np.array(own)[condition]).mean() > 0.99
    told = premodel.descriptions()
    assert "dark" in told[own[1]]
    assert "noisy" in told[own[2]]
    rates = premodel.arrays_["rate"][own]
    np.testing.assert_allclose(rates[2], [0.8, 0.3], atol=0.08)


def test_chances_are_rates_weighted_by_the_posterior():
    X, _, outcomes = images(300)
    premodel = Mixture(FEATURES, NAMES, k=3).fit(X, outcomes)
    expected = premodel.posterior(X) @ premodel.arrays_["rate"]
    np.testing.assert_allclose(premodel.predict(X), expected, atol=1e-12)


def test_posterior_agrees_with_scikit_learn_far_away_too():
    X, _, outcomes = images(300)
    X[:3] *= [[1e6], [1e-6], [0]]
    premodel = Mixture(FEATURES, NAMES, k=3)
    theirs = premodel.learn(X, outcomes)
    np.testing.assert_allclose(premodel.predict(X), theirs(X), atol=1e-9)


def test_conditions_of_the_same_words_are_told_apart():
    # Two of four are dark and noisy, and one of these is darker.
    mean = np.array([[0, -2, -3, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, -2, -2, 0, 0.0]])
    mean[:, 1] *= -1
    arrays = {
        "floor": np.ones(5),
        "scale": np.ones(5),
        "offset": np.zeros(5),
        "weight": np.full(4, 0.25),
        "mean": mean,
        "factor": np.stack([np.eye(5)] * 4),
        "rate": np.full((4, 2), 0.5),
    }
    told = Mixture.from_arrays(FEATURES, NAMES, arrays, 1, k=None, seed=0).descriptions()
    assert len(set(told)) == 4
    assert told[0] == "dark, noisy (darker)"
    assert told[3] == "dark, noisy (brighter)"
    assert told[2] == f"{told[1]} (2)"  # which differ in nothing


def test_unlabelled_images_make_conditions_that_labelled_ones_have_not():
    X, condition, outcomes = images(900)
    seen = condition < 2
    alone = fit_mixture(X[seen], outcomes[seen], FEATURES, NAMES).premodel
    both = fit_mixture(X[seen], outcomes[seen], FEATURES, NAMES, unlabelled=X[~seen]).premodel
    assert (alone.conditions, both.conditions) == (2, 3)
    foreign = both.posterior(X[~seen]).mean(axis=0).argmax()
    # Nobody knows who is right there, so as often as at all.
    overall = outcomes[seen].mean(axis=0)
    np.testing.assert_allclose(both.arrays_["rate"][foreign], overall, atol=0.02)
    with pytest.raises(InputError, match="features have shape"):
        fit_mixture(X, outcomes, FEATURES, NAMES, unlabelled=X[:, :3])


def test_one_cloud_is_one_condition():
    X, condition, outcomes = images(900)
    plain = condition == 0
    assert fit_mixture(X[plain], outcomes[plain], FEATURES, NAMES).premodel.conditions == 1


def test_relearned_keeps_conditions_and_forgets_rates():
    X, _, outcomes = images(300)
    premodel = fit_mixture(X, outcomes, FEATURES, NAMES).premodel
    twin = premodel.relearned(X, np.zeros_like(outcomes))
    np.testing.assert_array_equal(twin.posterior(X), premodel.posterior(X))
    assert twin.predict(X).max() < 0.05


def test_explain_tells_the_conditions():
    X, condition, outcomes = images(300)
    premodel = fit_mixture(X, outcomes, FEATURES, NAMES).premodel
    dark = premodel.explain(X[condition == 1][0])["conditions"]
    assert "dark" in dark[0]["description"]
    assert dark[0]["probability"] > 0.9
    assert sum(one["probability"] for one in dark) == pytest.approx(1)


def test_a_folder_of_unlabelled_images_becomes_conditions_and_a_policy(adaptive, tmp_path):
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(0)
    (tmp_path / "camera").mkdir()
    for row in range(120):
        base = generator.integers(60, 200, (8, 8, 3)).astype(np.float32)
        image = cv2.resize(base, (64, 64), interpolation=cv2.INTER_CUBIC)
        image = image * (0.15 if row % 3 == 1 else 1)
        image = image + (40 if row % 3 == 2 else 2) * generator.normal(size=image.shape)
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "camera" / f"{row:03}.png"), pixels)
    camera = tmp_path / "camera.csv"
    code, _, err = adaptive(
        "features", tmp_path / "camera", "-o", camera, "--features", ",".join(FEATURES)
    )
    assert code == 0, err
    # Labelled are only the first, and which network was best on them.
    lines = camera.read_text().splitlines()
    best = ["best", *("small" if row % 3 == 2 else "large" for row in range(60))]
    labelled = tmp_path / "labelled.csv"
    rows = [f"{line},{word}" for line, word in zip(lines[:61], best)]
    labelled.write_text("\n".join(rows) + "\n")
    labelled.with_suffix(".json").write_text(camera.with_suffix(".json").read_text())
    arguments = ("train", labelled, "-o", tmp_path / "p", "--order", "small,large")
    code, out, err = adaptive(*arguments, "--classifier", "mixture", "--unlabelled", camera)
    assert code == 0, err
    assert "conditions were found, without labels" in out
    assert "dark" in out
    assert "noisy" in out
    code, _, err = adaptive(*arguments, "--unlabelled", camera, "--force")
    assert code == 2
    assert "--unlabelled is for --classifier mixture only" in err
    camera.with_suffix(".json").unlink()
    code, _, err = adaptive(
        *arguments, "--classifier", "mixture", "--unlabelled", camera, "--force"
    )
    assert code == 2
    assert "compute both alike" in err
