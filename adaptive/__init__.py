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
    from adaptive.candidate import InputSpec
    from adaptive.client.client import Client
    from adaptive.engines.choose import EngineOptions
    from adaptive.engines.engine import OnnxEngine
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
        UnreachableError,
    )
    from adaptive.evaluation.evaluation import evaluate
    from adaptive.images.pixels import Pixels
    from adaptive.images.video import VideoReader
    from adaptive.limits import Limits
    from adaptive.measuring.in_program import profile
    from adaptive.monitoring.audit import Audit
    from adaptive.outcomes.parts import Split
    from adaptive.outcomes.table import OutcomeTable
    from adaptive.policy.base import STOP, History, Policy
    from adaptive.policy.cascade import Cascade
    from adaptive.policy.files import read_policy, write_policy
    from adaptive.policy.fixed import Fixed, Random
    from adaptive.policy.hybrid import Hybrid
    from adaptive.policy.premodel import ByPremodel
    from adaptive.prediction import Prediction
    from adaptive.premodel.base import Premodel
    from adaptive.premodel.outcome_knn import OutcomeKNN
    from adaptive.premodel.registry import load_premodel
    from adaptive.routing.bucket import Bucket
    from adaptive.routing.models import Model
    from adaptive.routing.router import Router
    from adaptive.tuning.objectives import Tuner
else:
    # Each name's module is loaded when the name is first asked for (PEP 562), so that a program
    # pays for what it uses: a client of a server needs no router.
    _ELSEWHERE = {
        "Audit": "adaptive.monitoring.audit",
        "Bucket": "adaptive.routing.bucket",
        "Bundle": "adaptive.bundle.bundle",
        "ByPremodel": "adaptive.policy.premodel",
        "Cascade": "adaptive.policy.cascade",
        "Client": "adaptive.client.client",
        "EngineOptions": "adaptive.engines.choose",
        "Fixed": "adaptive.policy.fixed",
        "History": "adaptive.policy.base",
        "Hybrid": "adaptive.policy.hybrid",
        "InputSpec": "adaptive.candidate",
        "Limits": "adaptive.limits",
        "Model": "adaptive.routing.models",
        "OnnxEngine": "adaptive.engines.engine",
        "OutcomeKNN": "adaptive.premodel.outcome_knn",
        "OutcomeTable": "adaptive.outcomes.table",
        "Pixels": "adaptive.images.pixels",
        "Policy": "adaptive.policy.base",
        "Prediction": "adaptive.prediction",
        "Premodel": "adaptive.premodel.base",
        "Random": "adaptive.policy.fixed",
        "Router": "adaptive.routing.router",
        "STOP": "adaptive.policy.base",
        "Split": "adaptive.outcomes.parts",
        "Tuner": "adaptive.tuning.objectives",
        "VideoReader": "adaptive.images.video",
        "evaluate": "adaptive.evaluation.evaluation",
        "load_premodel": "adaptive.premodel.registry",
        "profile": "adaptive.measuring.in_program",
        "read_policy": "adaptive.policy.files",
        "write_policy": "adaptive.policy.files",
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
    "STOP",
    "AdaptiveError",
    "Audit",
    "Bucket",
    "Bundle",
    "BundleError",
    "BusyError",
    "ByPremodel",
    "Cascade",
    "Client",
    "DeadlineError",
    "EngineError",
    "EngineOptions",
    "Fixed",
    "History",
    "Hybrid",
    "ImageError",
    "InputError",
    "InputSpec",
    "Limits",
    "MissingExtra",
    "MissingOpenCV",
    "Model",
    "OnnxEngine",
    "OutcomeKNN",
    "OutcomeTable",
    "Pixels",
    "Policy",
    "Prediction",
    "Premodel",
    "Random",
    "Router",
    "ServiceError",
    "Split",
    "TableError",
    "Tuner",
    "UnreachableError",
    "VideoReader",
    "evaluate",
    "load_premodel",
    "profile",
    "read_policy",
    "write_policy",
]
