"""MLServer: a runtime of one's own, named in model-settings.json; the network's file in NETWORK."""

import base64
import json
import os

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from network import Network


class Classifier(MLModel):
    """Images in base64 in, labels out, by the Open Inference Protocol."""

    async def load(self) -> bool:
        """Open the network."""
        self.network = Network(os.environ["NETWORK"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the images of one request."""
        texts = StringCodec.decode_input(payload.inputs[0])
        answers = [self.network.classify(base64.b64decode(text)) for text in texts]
        outputs = [
            StringCodec.encode_output("label", [answer["label"] for answer in answers]),
            StringCodec.encode_output("top5", [json.dumps(answer["top5"]) for answer in answers]),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
