"""OpenCV, whichever build of it is installed: every module takes `cv2` from here.

A wheel of OpenCV is an extra and not a requirement, since a Jetson brings one of its own that
knows its cameras. Where there is none, or one that is too old or cannot be loaded, this says so
with the cure.
"""

from __future__ import annotations

import re

from adaptive.causes import reason
from adaptive.errors import MissingOpenCV

__all__ = ["cv2"]

#: The oldest that will do, and what brings one.
OLDEST = (4, 5)
CURE = (
    "pip install opencv-python-headless, or on a Jetson use its own: apt-get install "
    "python3-opencv, and a virtual environment made with --system-site-packages"
)


try:
    import cv2
except ModuleNotFoundError as error:
    if error.name != "cv2":
        raise
    raise MissingOpenCV(f"images need OpenCV (cv2 4.5 or newer), and there is none: {CURE}") from (
        error
    )
except (ImportError, AttributeError) as error:
    raise MissingOpenCV(
        f"OpenCV is installed and cannot be loaded: {reason(error)}; one that was built for "
        "numpy 1, as a Jetson's, needs 'numpy<2', and a wheel with windows needs libgl1 (the "
        "headless one does not)"
    ) from error

if tuple(int(part) for part in re.findall(r"\d+", cv2.__version__)[:2]) < OLDEST:
    raise MissingOpenCV(
        f"OpenCV {cv2.__version__} is too old, 4.5 is the oldest that will do: {CURE}"
    )
