"""Answer each image with the cheapest network that gets it right.

from adaptive import Router

router = Router.load("my-bundle")
print(router.classify("photo.jpg").label)
"""

from adaptive.bundle import Bundle
from adaptive.errors import (
    AdaptiveError,
    BundleError,
    EngineError,
    ImageError,
    InputError,
    MissingExtra,
    TableError,
)
from adaptive.limits import Limits
from adaptive.prediction import Prediction
from adaptive.router import Router

__all__ = [
    "AdaptiveError",
    "Bundle",
    "BundleError",
    "EngineError",
    "ImageError",
    "InputError",
    "Limits",
    "MissingExtra",
    "Prediction",
    "Router",
    "TableError",
]
