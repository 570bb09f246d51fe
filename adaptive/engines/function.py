"""Functions, torch modules and other callables of a program, run as engines are."""

from __future__ import annotations

import sys
from typing import Any, Callable, Sequence

import numpy as np

from adaptive.causes import reason
from adaptive.checks import shown
from adaptive.errors import AdaptiveError, EngineError, InputError


class FunctionEngine:
    """Something that answers a batch of images when it is called.

    Parameters
    ----------
    name : of the candidate, for messages
    function : is called with a batch: one array, or a list of images of any size. A torch module
        is given a tensor on its own device, without gradients.
    most : how many images it takes at a time; None for any number
    whenever_closed : is called by `close`

    Raises
    ------
    InputError
        when it cannot be called, or is a torch module in training mode.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any], Any],
        most: int | None = None,
        whenever_closed: Callable[[], object] | None = None,
    ) -> None:
        if not callable(function):
            raise InputError(
                f"candidate {name!r} is {shown(function)}, which cannot be called with a batch of "
                "images"
            )
        self.name = name
        self._most = most
        self._whenever_closed = whenever_closed
        self._open = True
        self._call: Callable[[Any], Any]
        self._call = _of_torch(name, function) if _is_torch_module(function) else function

    def run(self, *inputs: np.ndarray) -> list[Any]:
        """What the function returns for one batch, as the only output.

        Raises
        ------
        EngineError
            when the function fails, or gives what is no array of one row an image.
        """
        return [self.rows(inputs[0], self._array)]

    def pairs(self, batch: np.ndarray) -> list[tuple[Any, float]]:
        """For a function that answers with something of its own: (answer, confidence) an image.

        Raises
        ------
        EngineError
            when the function fails, or gives anything else.
        """
        found: list[tuple[Any, float]] = self.rows(batch, self._pairs)
        return found

    def rows(self, batch: np.ndarray, read: Callable[[Any, int], Any]) -> Any:
        """Call the function on no more rows at a time than it takes; join what `read` makes."""
        if not self._open:
            raise EngineError(f"candidate {self.name!r} is closed")
        count = len(batch)
        most = self._most or count
        parts = []
        for first in range(0, count, most):
            part = batch[first : first + most]
            try:
                # images that are of any size each come as a list
                said = self._call(list(part) if part.dtype == object else part)
            except AdaptiveError:
                raise
            except Exception as exc:  # another's function may fail in any way
                raise EngineError(
                    f"candidate {self.name!r} failed on a batch of {len(part)}: "
                    f"{type(exc).__name__}: {reason(exc)}"
                ) from exc
            parts.append(read(said, len(part)))
        if len(parts) == 1:
            return parts[0]
        if isinstance(parts[0], np.ndarray):
            return np.concatenate(parts)
        return [row for part in parts for row in part]

    def close(self) -> None:
        """Tell the function's owner; it cannot be run afterwards."""
        if self._open and self._whenever_closed is not None:
            self._whenever_closed()
        self._open = False

    def _array(self, said: Any, count: int) -> np.ndarray:
        try:
            if said is None:  # which numpy takes for a NaN
                raise TypeError("None is no array")
            found = np.asarray(_on_host(said), np.float32)
        except (TypeError, ValueError) as exc:
            raise EngineError(
                f"candidate {self.name!r} answered with {shown(said)}; an array of numbers with "
                "one row an image is needed"
            ) from exc
        if found.ndim < 2 or len(found) != count:
            raise EngineError(
                f"candidate {self.name!r} answered with an array of shape {found.shape} for "
                f"{count} images; ({count}, classes) is needed"
            )
        return found

    def _pairs(self, said: Any, count: int) -> list[tuple[Any, float]]:
        if not isinstance(said, Sequence) or isinstance(said, (str, bytes)) or len(said) != count:
            raise EngineError(
                f"candidate {self.name!r} answered with {shown(said)} for {count} images; a list "
                "of one pair an image, (answer, confidence), is needed"
            )
        found = []
        for pair in said:
            try:
                answer, confidence = pair
                sure = float(confidence)
            except (TypeError, ValueError) as exc:
                raise EngineError(
                    f"candidate {self.name!r} answered an image with {shown(pair)}; a pair, "
                    "(answer, confidence), is needed"
                ) from exc
            if not 0 <= sure <= 1:
                raise EngineError(
                    f"candidate {self.name!r} is {sure:g} confident; that is a number from 0 to 1"
                )
            found.append((answer, sure))
        return found


def _is_torch_module(function: object) -> bool:
    """Whether it is a torch module; torch, which has made it if it is one, is not loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(function, torch.nn.Module)


def _of_torch(name: str, module: Any) -> Callable[[Any], Any]:
    """A function on arrays that runs a torch module on its own device, without gradients."""
    torch: Any = sys.modules["torch"]
    if module.training:
        raise InputError(
            f"candidate {name!r} is a torch module in training mode; call its eval() first"
        )
    weight = next(iter(module.parameters()), None)
    device = "cpu" if weight is None else weight.device

    def call(batch: Any) -> Any:
        if isinstance(batch, list):
            raise InputError(
                f"candidate {name!r} is a torch module, which reads tensors; say how images are "
                "prepared for it, input=InputSpec(...)"
            )
        with torch.no_grad():
            return module(torch.from_numpy(np.ascontiguousarray(batch)).to(device))

    return call


def _on_host(said: Any) -> Any:
    """A tensor, wherever it lies, as what numpy can read; anything else as it is."""
    for verb in ("detach", "cpu"):
        step = getattr(said, verb, None)
        if not callable(step):
            break
        said = step()
    if hasattr(said, "float") and hasattr(said, "is_floating_point"):
        return said.float().numpy()  # bfloat16, which numpy does not know
    return said
