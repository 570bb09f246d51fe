"""What all candidates together foresee of an answer, by which policies are compared."""

from __future__ import annotations

import itertools

import numpy as np

from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.gain import ALONE, describe
from adaptive.tuning.gains import BESIDE_RIDGES, FORESEEN_RIDGES, RIDGES, Regression
from adaptive.tuning.members import Members

NETWORKS = (("small", 0.7), ("medium", 1.1), ("large", 1.6))


def members_of(n: int, seed: int = 0, probabilities: bool = True) -> Members:
    """Three networks whose probabilities tell truly how likely each class is."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 8, n)
    outcomes, values = {}, {}
    for name, skill in NETWORKS:
        logits = generator.normal(0, 1, (n, 8))
        logits[np.arange(n), label] += 0.8 * skill
        each = np.exp(0.8 * skill * logits)  # Bayes' rule for noise of variance 1
        values[name] = (each / each.sum(axis=1, keepdims=True)).astype(np.float16)
        right = values[name].argmax(axis=1) == label
        outcomes[name] = Outcomes(right, right, values[name].max(axis=1).astype(float), np.ones(n))
    images = tuple(f"{row}.jpg" for row in range(n))
    nothing = np.zeros(n)
    table = OutcomeTable(
        images, label, (), np.zeros((n, 0)), outcomes, nothing, nothing,
        values if probabilities else {},
    )  # fmt: skip
    return Members.of(table, {name: float(cost) for cost, (name, _) in enumerate(NETWORKS, 1)})


def paths_of(members: Members) -> list[tuple[str, ...]]:
    return [p for k in (1, 2) for p in itertools.combinations(members.names, k)]


def test_what_is_foreseen_is_right_in_the_mean_and_scatters_less() -> None:
    members = members_of(4000)
    pairs = itertools.combinations(paths_of(members), 2)
    for one, other in pairs:
        seen = members.right(one, True).astype(float) - members.right(other, True)
        foreseen = members.foreseen(one, True) - members.foreseen(other, True)
        apart = seen - foreseen
        assert abs(apart.mean()) < 4 * apart.std() / np.sqrt(len(apart)), (one, other)
        assert foreseen.var() < 0.7 * seen.var(), (one, other)


def test_means_over_few_images_are_nearer_to_the_truth() -> None:
    """With 100 images the better of two pairs is told apart more surely than by their labels."""
    many = members_of(20_000, seed=1)
    one, other = ("small", "medium"), ("large",)
    truth = float((many.right(one, True).astype(float) - many.right(other, True)).mean())
    seen, foreseen = [], []
    for seed in range(30):
        few = members_of(100, seed=100 + seed)
        seen.append(np.mean(few.right(one, True).astype(float) - few.right(other, True)))
        foreseen.append(np.mean(few.foreseen(one, True) - few.foreseen(other, True)))
    wrong = [float(np.mean((np.array(each) - truth) ** 2)) for each in (seen, foreseen)]
    assert wrong[1] < 0.7 * wrong[0]


def test_without_probabilities_an_answer_is_worth_what_was_seen() -> None:
    members = members_of(200, probabilities=False)
    for path in paths_of(members):
        np.testing.assert_array_equal(
            members.foreseen(path, False), members.right(path, False).astype(np.float32)
        )


def ridge(Z: np.ndarray, y: np.ndarray, ridges: tuple[float, float, float]) -> np.ndarray:
    """Slowly: the least squares of images and penalties, one row each."""
    own = [ridges[0]] + [ridges[1]] * (ALONE - 1) + [ridges[2]] * (Z.shape[1] - ALONE)
    rows = np.concatenate([Z, np.diag(np.sqrt(own))])
    return np.linalg.lstsq(rows, np.concatenate([y, np.zeros((len(own), y.shape[1]))]), rcond=None)[
        0
    ]


def test_gains_are_fitted_to_what_is_foreseen_and_then_to_what_that_leaves() -> None:
    generator = np.random.default_rng(0)
    X = describe(generator.uniform(0, 1, 300), generator.normal(0, 1, (300, 2)))
    gained = generator.integers(-1, 2, (300, 2)).astype(float)
    likely = generator.normal(0, 0.3, (300, 2))
    fold = generator.permutation(300) % 5
    centre, spread = X.mean(axis=0), X.std(axis=0)
    centre[0], spread[0] = 0.0, 1.0
    Z = (X - centre) / spread

    def slowly(rows: np.ndarray, foreseen: bool) -> np.ndarray:
        if not foreseen:
            return ridge(Z[rows], gained[rows], RIDGES)
        beside = ridge(Z[rows], (gained - likely)[rows], BESIDE_RIDGES)
        return ridge(Z[rows], likely[rows], FORESEEN_RIDGES) + beside

    for foreseen in (False, True):
        crossed, served, plain = Regression(X, fold).fitted(gained, likely if foreseen else None)
        whole = slowly(np.ones(300, bool), foreseen)
        np.testing.assert_allclose(served, Z @ whole, atol=1e-6)
        np.testing.assert_allclose(X @ plain.T, served, atol=1e-6)
        for part in range(5):
            here = fold == part
            np.testing.assert_allclose(crossed[here], Z[here] @ slowly(~here, foreseen), atol=1e-6)
