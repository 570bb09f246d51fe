"""Extractors by name: whose features they are, and whether they are still the same program.

A bundle names the extractor that its premodel was trained with, and a hash of its source. That is
for telling: nothing that a bundle names is ever imported. What runs is what the user hands over.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Mapping, Protocol, Sequence, cast

import numpy as np

from adaptive.causes import reason
from adaptive.checks import shown
from adaptive.errors import InputError
from adaptive.files import sha256
from adaptive.images.decoded import warm_up_image

#: Short side of the grey image that tells which features an extractor gives, pixels.
GREY = 64


class Extractor(Protocol):
    """Computes the features that are a user's own, for a premodel that learned from them.

    It is asked for no others: what this library computed at training it computes here as well.
    """

    def __call__(self, image: np.ndarray) -> Mapping[str, float]:
        """Features by name.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8, RGB: the upright image at its own
            size, which a photograph is decoded to once more, for what networks see is smaller
        """


def extractor_named(text: str) -> Extractor:
    """Import what MODULE:FUNCTION or FILE.py:FUNCTION names; modules of the working folder too.

    Raises
    ------
    InputError
        when there is no such module or function, or it cannot be imported or called.
    """
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        raise InputError(
            f"extractor {text!r} names no function; MODULE:FUNCTION or FILE.py:FUNCTION does"
        )
    module = _from_file(Path(place), text) if place.endswith(".py") else _imported(place, text)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        what = "has no" if found is None else "cannot call its"
        raise InputError(f"extractor {text!r}: {module.__name__} {what} {name!r}")
    return cast(Extractor, found)


def origin_of(extractor: Extractor) -> dict[str, Any]:
    """What tells an extractor from another: its name, its module's version and a hash of its file.

    As JSON values; what cannot be found out is left out.
    """
    # an object that can be called is told by its class
    told: Any = extractor if hasattr(extractor, "__qualname__") else type(extractor)
    found = {"name": f"{told.__module__}:{told.__qualname__}"}
    module = sys.modules.get(told.__module__)
    version = getattr(module, "__version__", None)
    if isinstance(version, str):
        found["version"] = version
    try:
        file = inspect.getsourcefile(told) or getattr(module, "__file__", None)
    except TypeError:  # of what is built in
        file = getattr(module, "__file__", None)
    if file is not None and os.path.isfile(file):
        found["sha256"] = sha256(Path(file))
    return found


def changed(extractor: Extractor, trained: object) -> str | None:
    """That an extractor is another program than the one that a premodel was trained with, or None.

    trained : what `origin_of` said then, as a premodel's training holds it
    """
    if not isinstance(trained, Mapping):
        return None
    now = origin_of(extractor)
    for key, what in (("sha256", "source"), ("version", "version")):
        before, here = trained.get(key), now.get(key)
        if before and here and before != here:
            short = slice(None, 12 if key == "sha256" else None)
            return (
                f"the extractor {now['name']} has another {what} ({here[short]}) than "
                f"{trained.get('name')} had when the premodel was trained ({str(before)[short]}); "
                "if it computes other numbers, train again"
            )
    return None


def names_of(extractor: Extractor) -> tuple[str, ...]:
    """The features that an extractor gives, found out on a grey image.

    Raises
    ------
    InputError
        when it gives no mapping of names to finite numbers, or a name of this library's.
    """
    from adaptive.images.decode import decode

    grey = decode(warm_up_image(GREY))
    found = extractor(grey)
    if not isinstance(found, Mapping) or not found or not all(map(_is_column, found)):
        raise InputError(
            f"the extractor gave {shown(found)}; a mapping from features' names, without ':', to "
            "numbers is needed"
        )
    names = tuple(found)
    extracted(lambda _: found, grey, names)
    return names


def extracted(extractor: Extractor, pixels: np.ndarray, own: Sequence[str]) -> dict[str, float]:
    """What a user's extractor says of an image, checked."""
    values = extractor(pixels)
    if not isinstance(values, Mapping):
        raise InputError(
            f"the extractor gave {shown(values)}; a mapping from features to numbers is needed"
        )
    missing = [n for n in own if n not in values]
    if missing:
        raise InputError(f"the extractor gave no features {missing}; it gave {list(values)}")
    found = {}
    for name in own:
        try:
            found[name] = float(values[name])
        except (TypeError, ValueError):
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise InputError(
                f"the extractor gave {shown(values[name])} as feature {name!r}; a finite "
                "number is needed"
            )
    return found


def check_apart(own: tuple[str, ...], ours: tuple[str, ...]) -> None:
    """Refuse features of a user's own beside those of this library that bear the same names."""
    twice = [name for name in own if name in ours]
    if twice:
        raise InputError(
            f"the extractor gives {twice}, which are computed features of this library as well; "
            "rename them, or ask for no features of the library that are called so"
        )


def _is_column(name: object) -> bool:
    return isinstance(name, str) and bool(name) and ":" not in name and "," not in name


def _imported(name: str, text: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)  # last, so that it takes no installed module's place
    try:
        return importlib.import_module(name)
    except Exception as exc:  # another's module may fail in any way
        raise InputError(f"extractor {text!r} cannot be imported: {reason(exc)}") from exc


def _from_file(path: Path, text: str) -> ModuleType:
    if not path.is_file():
        raise InputError(f"extractor {text!r}: there is no file {path}")
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(path.resolve()):
            return loaded
        raise InputError(
            f"extractor {text!r}: another module is called {path.stem!r} already; rename the file"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"extractor {text!r}: {path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:  # another's module may fail in any way
        del sys.modules[path.stem]
        raise InputError(f"extractor {text!r} cannot be imported: {reason(exc)}") from exc
    return module
