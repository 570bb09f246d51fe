"""LitServe: `python litserve_app.py PORT`, with the network's file in NETWORK."""

import base64
import os
import sys
from typing import Any

import litserve
from network import Network


class Classifier(litserve.LitAPI):
    """Decode, run, encode, as its guide has it."""

    def setup(self, device: str) -> None:
        """Open the network in the worker's process."""
        self.network = Network(os.environ["NETWORK"])

    def decode_request(self, request):  # an annotation would make it another kind of request
        """The image in base64, within JSON."""
        return base64.b64decode(request["image"])

    def predict(self, x: bytes) -> Any:
        """Answer one image."""
        return self.network.classify(x)

    def encode_response(self, output: Any) -> Any:
        """As JSON."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
