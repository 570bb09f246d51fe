"""Answer each image with the cheapest network that gets it right.

from adaptive import Router

router = Router.load("my-bundle")
print(router.classify("photo.jpg").label)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
else:
    # Each name's module is loaded when the name is first asked for (PEP 562), so that a program
    # pays for what it uses: a client of a server needs no router.
    _ELSEWHERE = {
        "Bundle": "adaptive.bundle",
        "Client": "adaptive.client",
        "Limits": "adaptive.limits",
        "Prediction": "adaptive.prediction",
        "Router": "adaptive.router",
    }

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'adaptive' has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(_ELSEWHERE.get(name, "adaptive.errors")), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *__all__})


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
