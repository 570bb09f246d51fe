"""Answer each image with the cheapest network that gets it right.

from adaptive import Router

router = Router.load("my-bundle")
print(router.classify("photo.jpg").label)
"""

from adaptive.bundle import Bundle
from adaptive.client import Client
from adaptive.errors import (
    AdaptiveError,
    BundleError,
    BusyError,
    DeadlineError,
    EngineError,
    ImageError,
    InputError,
    MissingExtra,
    ServiceError,
    TableError,
)
from adaptive.limits import Limits
from adaptive.prediction import Prediction
from adaptive.router import Router

__all__ = [
    "AdaptiveError",
    "Bundle",
    "BundleError",
    "BusyError",
    "Client",
    "DeadlineError",
    "EngineError",
    "ImageError",
    "InputError",
    "Limits",
    "MissingExtra",
    "Prediction",
    "Router",
    "ServiceError",
    "TableError",
]
