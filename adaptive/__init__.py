"""Answer each image with the cheapest network that gets it right.

from adaptive import Router

router = Router.load("my-bundle")
print(router.classify("photo.jpg").label)
"""

from os.path import dirname, isdir, join
from typing import TYPE_CHECKING

# In a checkout four folders of this package are links to those beside it. Where a checkout was
# unpacked without links, they are looked for there.
if not isdir(join(__path__[0], "premodel")):
    __path__.append(dirname(__path__[0]))

if TYPE_CHECKING:
    from adaptive.bundle.bundle import Bundle
    from adaptive.client.client import Client
    from adaptive.errors import (
        AdaptiveError,
        BundleError,
        BusyError,
        DeadlineError,
        EngineError,
        ImageError,
        InputError,
        MissingExtra,
        MissingOpenCV,
        ServiceError,
        TableError,
    )
    from adaptive.limits import Limits
    from adaptive.prediction import Prediction
    from adaptive.routing.router import Router
else:
    # Each name's module is loaded when the name is first asked for (PEP 562), so that a program
    # pays for what it uses: a client of a server needs no router.
    _ELSEWHERE = {
        "Bundle": "adaptive.bundle.bundle",
        "Client": "adaptive.client.client",
        "Limits": "adaptive.limits",
        "Prediction": "adaptive.prediction",
        "Router": "adaptive.routing.router",
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
    "MissingOpenCV",
    "Prediction",
    "Router",
    "ServiceError",
    "TableError",
]
