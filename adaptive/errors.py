"""Every error that this library raises on purpose.

AdaptiveError
 |- InputError        what the user handed over cannot be used: an image, a table, an option
 |   |- ImageError    bytes that are no image that we can or will read
 |   |- TableError    a CSV or an outcome table
 |   `- BundleError   a bundle's folder, manifest or files
 |- EngineError       a runtime refused a network or failed to run it
 |   `- UnreachableError  a candidate on another server cannot be asked just now
 |- ServiceError      a server failed, or cannot be reached
 |   |- BusyError     it takes no more requests just now
 |   `- DeadlineError the answer would come too late
 |- MissingOpenCV     there is no OpenCV, or one that cannot be used
 `- MissingExtra      an optional stack is not installed; the message has the pip line
"""

from __future__ import annotations


class AdaptiveError(Exception):
    """The root: catch this to catch all that the library raises on purpose."""


class InputError(AdaptiveError, ValueError):
    """Something that the caller handed over cannot be used; the message says what and why."""


class ImageError(InputError):
    """An image cannot be decoded, or is over a limit."""


class TableError(InputError):
    """A CSV or outcome table is not what it must be; the message names file, row or column."""


class BundleError(InputError):
    """A bundle cannot be served as it is."""


class EngineError(AdaptiveError, RuntimeError):
    """A runtime refused a network, or failed while running it."""


class UnreachableError(EngineError):
    """A candidate on another server cannot be asked just now, or not to any use.

    Whoever drives a policy goes on as though the candidate were not there.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServiceError(AdaptiveError, RuntimeError):
    """A server failed on a request, or cannot be reached."""


class BusyError(ServiceError):
    """A server takes no more requests just now; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(ServiceError):
    """The time that a request was given has passed, or is too short."""


class MissingOpenCV(AdaptiveError, ImportError):
    """There is no OpenCV that can be used; the message says what brings one."""


class MissingExtra(AdaptiveError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, module: str, extra: str) -> None:
        from adaptive.installed import pip_line

        super().__init__(f"{what} needs {module}, which is not installed: {pip_line(extra)}")
