"""Conditions under which images were taken, found without labels, and what works under each."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping, Sequence

import numpy as np

from adaptive.columns import ONE, Columns, Many, One, columns_of, leading, sums
from adaptive.errors import InputError, MissingExtra
from adaptive.premodel.base import check_outcomes, single_row
from adaptive.premodel.calibration import constant, parts_of, prior_log_odds, sigmoid
from adaptive.premodel.estimator import Arrays, Estimator, Settings, check_whole
from adaptive.premodel.scaled import SCALING
from adaptive.premodel.scaling import STEPS, Scaling

#: the features that the mixture was designed on: what a camera does to an image, not what it shows
FEATURES = ("laplacian_deviation", "noise", "avg_brightness", "contrast", "brightness_rms")

#: numbers of conditions that are tried where none is given; more leave few images to each, and
#: likelihood goes on to rise with details that matter to no network
TRIED = (1, 2, 3, 4, 5, 6)

#: numbers tried beyond the best so far
PATIENCE = 2

#: fewest images a condition in the folds that it is fitted on
LEAST = 10

#: starts of each fit, of which the likeliest is taken
STARTS = 3

#: folds by which the number of conditions is chosen
FOLDS = 5

#: added to each variance of a condition, in squared standard deviations of the whole
SMOOTHING = 1e-3

#: a condition's rates count its own images and so many that are as all images are
SHRUNK = 10

#: a value that is logged has this share of its median added, so that 0 has a logarithm
FLOOR = 0.02

#: a condition's mean is told from all images' where it is so many standard deviations away
TELLING = 0.5

#: a feature further from the mean than so many standard deviations counts as that far
FAR = 3.0

#: feature -> what a low value and a high one are called
WORDS = {
    "avg_brightness": ("dark", "bright"),
    "brightness_rms": ("dark", "bright"),
    "noise": ("little noise", "noisy"),
    "laplacian_deviation": ("soft", "sharp"),
    "laplacian_variance": ("soft", "sharp"),
    "contrast": ("flat", "rich in contrast"),
}

#: what is said of one of several conditions that share all their words
MORE = {
    "dark": "darker",
    "bright": "brighter",
    "little noise": "less noise",
    "noisy": "noisier",
    "soft": "softer",
    "sharp": "sharper",
    "flat": "flatter",
    "rich in contrast": "richer in contrast",
}


class Mixture(Estimator):
    """A mixture of normal distributions over logarithms of a few features.

    Each component is a condition, such as "dark, noisy". The mixture is fitted without labels
    (expectation maximisation, Dempster et al. 1977), so a camera's own unlabelled images may take
    part. A candidate's chance is the mean of its rates of being right under the conditions,
    weighted with the image's posterior. Rates are shrunk to the rate over all images: a condition
    that few images belong to tells little.

    Features that are nowhere below 0 are logged, the others are taken as they are.

    Parameters
    ----------
    features, candidates, schema_version : as in `Premodel`
    k : number of conditions; by 5-fold held-out likelihood when left out, where a larger number
        must be better by more than two standard errors
    seed : of the start and of the folds
    unlabelled : ndarray (n, features) of further images that conditions are found on; not saved
    """

    kind = "mixture"
    SETTINGS: ClassVar[Settings] = {"k": (int, type(None)), "seed": (int,)}
    ARRAYS: ClassVar[Arrays] = {
        "floor": ("<f8", ("features",)),
        **SCALING,
        "weight": ("<f8", ("conditions",)),
        "mean": ("<f8", ("conditions", "features")),
        "factor": ("<f8", ("conditions", "features", "features")),
        "rate": ("<f8", ("conditions", "candidates")),
    }

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        k: int | None = None,
        seed: int = 0,
        schema_version: int | None = None,
        unlabelled: np.ndarray | None = None,
    ) -> None:
        super().__init__(features, candidates, schema_version)
        self.k = k
        self.seed = seed
        self.unlabelled = unlabelled

    def unfitted(self) -> Mixture:
        """Another one with the same settings, unlabelled images and number of conditions."""
        return Mixture(
            self.features,
            self.candidates,
            self.k or (self.conditions if hasattr(self, "arrays_") else None),
            self.seed,
            self.schema_version,
            self.unlabelled,
        )

    @property
    def conditions(self) -> int:
        """How many conditions there are."""
        self._check_fitted()
        return len(self.arrays_["weight"])

    @property
    def traits(self) -> int:
        """The conditions' probabilities, and the scaled logarithms of the features."""
        return self.conditions + len(self.features)

    def posterior(self, X: np.ndarray) -> np.ndarray:
        """Each condition's probability: shape (n, conditions), rows sum to 1.

        X : ndarray of shape (n, features), float64, finite
        """
        return self._on_columns(X, lambda own, math: self._shares(self._scaled(own, math), math))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The mean of a candidate's rates under the conditions; see `Premodel.predict`."""
        return self._on_columns(X, self._judged_right)

    def judge(self, X: np.ndarray) -> np.ndarray:
        """Chances, conditions' probabilities, scaled features; see `Premodel.judge`."""

        def ask(own: Columns, math: Many | One) -> Columns:
            scaled = self._scaled(own, math)
            shares = self._shares(scaled, math)
            near = [math.most(math.least(column, FAR), -FAR) for column in scaled]
            return [*self._by_condition(shares, math), *shares, *near]

        return self._on_columns(X, ask)

    def relearned(self, X: np.ndarray, outcomes: np.ndarray) -> Mixture:
        """The same conditions, with the rates of these images."""
        self._check_fitted()
        outcomes = check_outcomes(outcomes, len(X), self.candidates)
        arrays = {**self.arrays_, "rate": _rates(self.posterior(X), outcomes)}
        return Mixture.from_arrays(
            self.features, self.candidates, arrays, self.schema_version, **self.settings()
        )

    def descriptions(self) -> tuple[str, ...]:
        """Each condition in words, from where its features lie among all images'.

        Those of the same words are told apart by where they lie among each other.
        """
        self._check_fitted()
        weight, mean = self.arrays_["weight"], self.arrays_["mean"]
        centre = weight @ mean
        spread = np.sqrt(np.maximum(weight @ (mean - centre) ** 2, 1e-12))
        told = []
        for own in (mean - centre) / np.maximum(spread, TELLING / 2):
            words: list[str] = []
            for place in np.argsort(-np.abs(own), kind="stable").tolist():
                if abs(own[place]) < TELLING or len(words) == 3:
                    break
                word = self._word(place, own[place])
                if word not in words:
                    words.append(word)
            told.append(words)
        alike: dict[tuple[str, ...], list[int]] = {}
        for condition, words in enumerate(told):
            alike.setdefault(tuple(sorted(words)), []).append(condition)
        found = [", ".join(words) or "as most images are" for words in told]
        for group in alike.values():
            if len(group) > 1:
                text, away = found[group[0]], mean[group] - mean[group].mean(axis=0)
                for condition, own in zip(group, away):
                    place = int(np.abs(own).argmax())
                    word = self._word(place, own[place])
                    found[condition] = f"{text} ({MORE.get(word, word)})"
        seen: dict[str, int] = {}
        for condition, text in enumerate(found):
            seen[text] = seen.get(text, 0) + 1
            found[condition] = text if seen[text] == 1 else f"{text} ({seen[text]})"
        return tuple(found)

    def _word(self, place: int, value: float) -> str:
        name = self.features[place]
        low, high = WORDS.get(name, (f"low {name}", f"high {name}"))
        return low if value < 0 else high

    def words(self) -> list[str]:
        """A line for each condition: how common, what it looks like, how often who is right."""
        self._check_fitted()
        lines = [f"{self.conditions} conditions were found, without labels:"]
        for share, told, rates in zip(
            self.arrays_["weight"], self.descriptions(), self.arrays_["rate"]
        ):
            right = ", ".join(f"{n} {100 * r:.0f}%" for n, r in zip(self.candidates, rates))
            lines.append(f"  {100 * share:4.1f}% {told}; right: {right}")
        return lines

    def _check_settings(self) -> None:
        check_whole("seed", self.seed, 0)
        check_whole("k", self.k, 1, optional=True)

    def _train(
        self, X: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        seen = X
        if self.unlabelled is not None:
            if self.unlabelled.ndim != 2 or self.unlabelled.shape[1] != X.shape[1]:
                raise InputError(
                    f"the unlabelled images have features of shape {self.unlabelled.shape}; "
                    f"(images, {X.shape[1]}) is needed"
                )
            seen = np.concatenate([X, self.unlabelled])
        floor = np.where(
            (seen >= 0).all(axis=0), FLOOR * np.median(seen, axis=0) + np.finfo(np.float32).tiny, 0
        )
        logged = _matrix(seen, floor)
        scaling = Scaling.fit("standard", logged)
        Z = scaling.grid(logged) / STEPS
        model, held = _chosen(Z, self.k, self.seed)
        rate = _rates(model.predict_proba(Z[: len(X)]), outcomes)
        arrays = {
            "floor": floor,
            "scale": scaling.scale,
            "offset": scaling.offset,
            "weight": model.weights_,
            "mean": model.means_,
            "factor": model.precisions_cholesky_.transpose(0, 2, 1),
            "rate": rate,
        }
        chosen = {"conditions": len(rate), "held_out_log_likelihood": held}

        def ask(X: np.ndarray) -> np.ndarray:
            scaled = scaling.grid(_matrix(X, floor)) / STEPS
            return np.asarray(model.predict_proba(scaled) @ rate)

        return arrays, chosen, ask

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        if not (arrays["scale"] > 0).all():
            raise InputError("the scaling holds a scale that is not above 0")
        if not (arrays["floor"] >= 0).all():
            raise InputError("array 'floor' holds a number below 0")
        weight, rate = arrays["weight"], arrays["rate"]
        if not (weight > 0).all() or abs(weight.sum() - 1) > 1e-6:
            raise InputError("array 'weight' does not hold shares above 0 that sum to 1")
        if not ((rate >= 0) & (rate <= 1)).all():
            raise InputError("array 'rate' holds a number outside 0..1")
        diagonal = np.einsum("cff->cf", arrays["factor"])
        if not (diagonal > 0).all():
            raise InputError("array 'factor' holds a diagonal that is not above 0")
        self._scaling = Scaling("standard", arrays["scale"], arrays["offset"])
        self._floor = arrays["floor"].tolist()
        flat = np.log(weight) + np.log(diagonal).sum(axis=1)
        #: for each condition its constant, its mean and its factor times what is away from that
        self._normals = [
            (own, mean, sums([np.trim_zeros(row, "b").tolist() for row in rows]))
            for own, mean, rows in zip(flat.tolist(), arrays["mean"].tolist(), arrays["factor"])
        ]
        # Rates from the first condition's, so that those that are all alike come out as they are.
        self._first = rate[0].tolist()
        self._beyond = sums((rate - rate[0]).T.tolist())
        self._width = arrays["factor"].size

    def _on_columns(
        self, X: np.ndarray, ask: Callable[[Columns, Many | One], Columns]
    ) -> np.ndarray:
        """What `ask` says of the features' columns, as an array (n, columns)."""
        self._check_fitted()
        numbers = single_row(X, len(self.features))
        if numbers is not None:
            return np.array([ask(numbers, ONE)])

        def stacked(own: np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore"):
                return np.column_stack(ask(columns_of(own), Many(len(own))))

        return self._in_blocks(X, stacked)

    def _scaled(self, columns: Columns, math: Many | One) -> Columns:
        """The features' logarithms in standard deviations, on a grid that all machines share."""
        return [
            steps / STEPS
            for steps in self._scaling.columns(_logged(columns, self._floor, math), math)
        ]

    def _shares(self, scaled: Columns, math: Many | One) -> Columns:
        """Each condition's probability."""
        logs = []
        for flat, mean, distances in self._normals:
            square = 0.0
            for distance in distances(*[own - centre for own, centre in zip(scaled, mean)]):
                square = square + distance * distance
            logs.append(flat - 0.5 * square)
        highest = leading(logs, math)[1]
        shares = math.exps([log - highest for log in logs])
        total = shares[0]
        for share in shares[1:]:
            total = total + share
        return [share / total for share in shares]

    def _chances(self, X: np.ndarray) -> np.ndarray:
        return self.predict(X)

    def _judged_right(self, columns: Columns, math: Many | One) -> Columns:
        return self._by_condition(self._shares(self._scaled(columns, math), math), math)

    def _by_condition(self, shares: Columns, math: Many | One) -> Columns:
        return [
            math.least(math.most(first + beyond, 0.0), 1.0)
            for first, beyond in zip(self._first, self._beyond(*shares))
        ]

    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """ "conditions": each one's description and probability, most probable first."""
        shares = self.posterior(X)[0]
        told = self.descriptions()
        order = np.argsort(-shares, kind="stable").tolist()
        return {
            "conditions": [
                {"condition": c, "description": told[c], "probability": float(shares[c])}
                for c in order
            ]
        }


def _rates(shares: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """How often each candidate is right under each condition, shrunk to how often it is at all.

    One that was always right, or never, has the same rate under every condition.
    """
    overall = sigmoid(prior_log_odds(outcomes))
    rate = (shares.T @ outcomes + SHRUNK * overall) / (shares.sum(axis=0)[:, None] + SHRUNK)
    return np.asarray(np.where(constant(outcomes), overall, rate))


def _logged(columns: Columns, floor: Sequence[float], math: Many | One) -> Columns:
    """Logarithms of the columns whose floor is above 0, the others as they are."""
    kept = [math.most(c, 0.0) + low for c, low in zip(columns, floor) if low > 0]
    logs = iter(math.logs(kept))
    return [next(logs) if low > 0 else column for column, low in zip(columns, floor)]


def _matrix(X: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """As `_logged`, of an array (n, features)."""
    return np.column_stack(_logged(columns_of(X), floor.tolist(), Many(len(X))))


def _chosen(Z: np.ndarray, k: int | None, seed: int) -> tuple[Any, dict[str, float]]:
    """A fitted mixture, and the mean held-out log likelihood by the number of conditions."""
    try:
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits
    except ImportError as exc:
        raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc

    def fitted(count: int, rows: np.ndarray) -> Any:
        mixture = GaussianMixture(
            count, reg_covar=SMOOTHING, n_init=STARTS, max_iter=300, random_state=seed
        )
        with threadpool_limits(1):  # the matrices are small: threads would wait for each other
            return mixture.fit(rows)

    if k is not None:
        if k > len(Z):
            raise InputError(f"{len(Z)} images are too few for {k} conditions")
        return fitted(k, Z), {}
    part = parts_of(len(Z), FOLDS, seed)
    best, held, scores = 1, {}, np.empty(0)
    for count in TRIED:
        few = count > 1 and count * LEAST * FOLDS > len(Z) * (FOLDS - 1)
        if few or count > best + PATIENCE:
            break
        own = np.empty(len(Z))
        for fold in range(FOLDS):
            own[part == fold] = fitted(count, Z[part != fold]).score_samples(Z[part == fold])
        held[str(count)] = float(own.mean())
        if count > 1:
            lead = own - scores
            if lead.mean() <= 2 * lead.std() / np.sqrt(len(lead)):
                continue
        best, scores = count, own
    return fitted(best, Z), held
