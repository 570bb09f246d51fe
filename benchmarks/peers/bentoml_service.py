"""BentoML: `bentoml serve bentoml_service:Classifier`, with the network's file in NETWORK."""

import os
from pathlib import Path
from typing import Any

import bentoml
from network import Network


@bentoml.service(workers=1)
class Classifier:
    """One image in, its classes out."""

    def __init__(self) -> None:
        self.network = Network(os.environ["NETWORK"])

    @bentoml.api(route="/classify")
    def classify(self, image: Path) -> Any:
        """Answer the file of the form."""
        return self.network.classify(image.read_bytes())
