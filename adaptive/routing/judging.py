"""What is known of images before a network runs: features, and the premodel's chances."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import NamedTuple, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.errors import InputError
from adaptive.images.decoded import DecodedImage
from adaptive.policy.base import Policy
from adaptive.premodel.base import Premodel
from adaptive.routing.extractors import Extractor, changed, extracted
from adaptive.routing.photo import Photo
from adaptive.routing.spread import spread

log = logging.getLogger("adaptive.routing.judging")


class Described(NamedTuple):
    """Photos with what their features took, and those features, ndarray (n, d)."""

    photos: list[Photo]
    features: np.ndarray


class JudgedImage(NamedTuple):
    """Photos with what judging took, and what is known of them before a network runs.

    Attributes
    ----------
    features : ndarray (n, d); None where the policy goes by none
    chances : ndarray (n, m), the premodel's numbers, in the policy's order; None where the policy
        has no premodel
    """

    photos: Sequence[Photo]
    features: np.ndarray | None = None
    chances: np.ndarray | None = None


class Voted(NamedTuple):
    """A photo with what judging it afterwards took, and what that found.

    Attributes
    ----------
    features : ndarray (1, d)
    votes : the premodel's numbers by candidate of the bundle; None where it learned from
        features that were computed otherwise
    """

    photo: Photo
    features: np.ndarray
    votes: dict[str, float] | None


class Judging:
    """Judges images for a policy, and for those who want to know more than it does.

    Parameters
    ----------
    bundle : its premodel tells what the policy does not ask
    policy : whether it goes by features, and by what premodel
    extractor : computes those features that are a user's own
    threads : that compute the features of several images

    Attributes
    ----------
    premodel : the policy's own, or else the bundle's
    names : of the features, none where they cannot be computed
    needed : whether the policy goes by them

    Raises
    ------
    InputError
        when the policy goes by features that cannot be computed.
    """

    def __init__(
        self,
        bundle: Bundle,
        policy: Policy,
        extractor: Extractor | None,
        threads: int,
    ) -> None:
        self.premodel = premodel = policy.premodel or bundle.premodel
        self.names = computable(premodel, policy.needs_features, extractor)
        if extractor is not None and premodel is not None:
            differs = changed(extractor, premodel.training_.get("extractor"))
            if differs is not None:
                log.warning("%s", differs)
        self.needed = bool(self.names) and policy.needs_features
        self._bundle = bundle
        self._policy = policy
        own = () if premodel is None else premodel.own_features
        self._features = partial(timed_features, names=self.names, own=own, extractor=extractor)
        self._threads = threads

    def judge(self, photos: Sequence[Photo]) -> JudgedImage:
        """Features and the premodel's chances, where the policy needs them."""
        if not self.needed:
            return JudgedImage(photos)
        described, features = self.describe(photos)
        began = perf_counter()
        chances = self._policy.chances(features)
        if chances is None:
            return JudgedImage(described, features)
        spent = (perf_counter() - began) * 1e3 / len(photos)
        judged = [photo._replace(ms={**photo.ms, "premodel": spent}) for photo in described]
        return JudgedImage(judged, features, chances)

    def describe(self, photos: Sequence[Photo]) -> Described:
        """The features alone, of one photo or more."""
        found = spread(self._features, [photo.image for photo in photos], self._threads)
        described = []
        for photo, (_, ms) in zip(photos, found):
            image = photo.image if photo.image.native is None else photo.image.without_native()
            described.append(photo._replace(image=image, ms={**photo.ms, "features": ms}))
        return Described(described, np.array([features for features, _ in found]))

    def vote(self, photo: Photo) -> Voted | None:
        """What the bundle's premodel says where the policy asks none; None where it can't."""
        from adaptive.features.schema import SCHEMA

        if self.premodel is None or not self.names or self.needed:
            return None
        (photo,), features = self.describe([photo])
        if self.premodel.schema_version not in (None, SCHEMA.version):
            return Voted(photo, features, None)
        began = perf_counter()
        chances = self.premodel.predict(features)[0]
        spent = (perf_counter() - began) * 1e3
        photo = photo._replace(ms={**photo.ms, "premodel": spent})
        known = zip(self.premodel.candidates, chances.tolist())
        votes = {name: chance for name, chance in known if name in self._bundle.names}
        return Voted(photo, features, votes)


def timed_features(
    image: DecodedImage,
    names: Sequence[str],
    own: Sequence[str] = (),
    extractor: Extractor | None = None,
) -> tuple[np.ndarray, float]:
    """The named features of one image, shape (len(names),), and the milliseconds that they took.

    own : of the names, those that are the extractor's
    """
    began = perf_counter()
    found: dict[str, float] = {}
    if own and extractor is not None:
        assert image.native is not None
        found = extracted(extractor, image.native(), own)
    ours = tuple(n for n in names if n not in found)
    features = np.empty(0)
    if ours:
        from adaptive.features.extract import extract
        from adaptive.features.schema import SCHEMA

        features = extract(SCHEMA.crop(image.working), ours)
    if found:
        found.update(zip(ours, features.tolist()))
        features = np.array([found[n] for n in names])
    return features, (perf_counter() - began) * 1e3


def computable(
    premodel: Premodel | None, needed: bool, extractor: Extractor | None
) -> tuple[str, ...]:
    """Names of the features that a premodel reads; none where they cannot be computed.

    Raises
    ------
    InputError
        when they are `needed` and cannot be computed.
    """
    if premodel is None:
        return ()
    from adaptive.features.schema import SCHEMA

    own = [] if extractor is not None else list(premodel.own_features)
    if own and needed:
        trained = premodel.training_.get("extractor")
        named = trained.get("name") if isinstance(trained, dict) else None
        cure = "give Router.load an extractor that computes them"
        cure += f", or a command --extractor {named or 'MODULE:FUNCTION'}"
        if set(own) <= set(SCHEMA.names):
            cure += ", or, if `adaptive features` did, train again with --features-from adaptive"
        raise InputError(f"the premodel learned from columns of your own, {own}; {cure}")
    version = premodel.schema_version
    if version is not None and version != SCHEMA.version and needed:
        raise InputError(
            f"the premodel was trained on feature schema {version}, this version computes "
            f"schema {SCHEMA.version}; train it again"
        )
    return () if own else tuple(premodel.features)
