"""The official client of the Open Inference Protocol, unchanged, against a real server."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import served

from adaptive import Router
from adaptive.bundle.bundle import Bundle
from adaptive.policy.fixed import Fixed

triton = pytest.importorskip(
    "tritonclient.http", reason="the official client is not installed: tritonclient[http]"
)
from tritonclient.utils import InferenceServerException

CANDIDATES = ("cheap", "strong", "net@1", "net@2")
MODELS = ("adaptive", *CANDIDATES)
CODINGS = (None, "gzip", "deflate")


@pytest.fixture(scope="module")
def server(bundle):
    with served(bundle) as server:
        yield server


@pytest.fixture
def client(server):
    address = server.url.replace("http://", "")
    with triton.InferenceServerClient(address, concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(tiny_images):
    return [(tiny_images / f"{row:03}.png").read_bytes() for row in range(12)]


@pytest.fixture(scope="module")
def expected(bundle, pictures):
    """What the library itself says: by model, a prediction for each picture."""
    found = {}
    with Router.load(bundle) as router:
        found["adaptive"] = [router.classify(picture) for picture in pictures]
    for name in CANDIDATES:
        with Router.load(bundle, policy=Fixed((name,))) as router:
            found[name] = [router.classify(picture) for picture in pictures]
    return found


def image_input(pictures, binary=True, shape=None):
    shape = [len(pictures)] if shape is None else shape
    tensor = triton.InferInput("image", shape, "BYTES")
    if not binary:
        pictures = [base64.b64encode(picture).decode() for picture in pictures]
    tensor.set_data_from_numpy(np.array(pictures, object).reshape(shape), binary_data=binary)
    return tensor


def texts(values):
    """BYTES come as bytes in binary form and as text in JSON."""
    return [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]


def test_server_is_live_ready_and_names_its_extensions(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert about["name"] == "adaptive"
    assert set(about["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "statistics",
    }


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("model", MODELS)
def test_model_says_what_it_reads_and_answers(client, model, version):
    assert client.is_model_ready(model, version)
    about = client.get_model_metadata(model, version)
    assert about["name"] == model
    assert about["versions"] == ["1"]
    assert about["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    config = client.get_model_config(model, version)
    assert config["name"] == model
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}]
    types = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
    assert config["output"] == [
        {"name": o["name"], "data_type": types[o["datatype"]], "dims": o["shape"][1:]}
        for o in about["outputs"]
    ]
    wanted = ["label", "candidate", "labels", "scores"]
    names = [o["name"] for o in about["outputs"]]
    assert names == (wanted if model == "adaptive" else ["label", "probabilities"])


@pytest.mark.parametrize("model", MODELS)
def test_answers_have_the_shapes_that_metadata_tells(client, pictures, model):
    told = {o["name"]: o for o in client.get_model_metadata(model)["outputs"]}
    result = client.infer(model, [image_input(pictures[:3], shape=[3, 1])])
    for output in result.get_response()["outputs"]:
        assert output["datatype"] == told[output["name"]]["datatype"]
        assert output["shape"] == [3, *told[output["name"]]["shape"][1:]]
    assert len(result.get_response()["outputs"]) == len(told)


@pytest.mark.parametrize("response_coding", CODINGS)
@pytest.mark.parametrize("request_coding", CODINGS)
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_every_form_of_a_request_gets_the_library_s_answer(
    client, pictures, expected, model, binary, request_coding, response_coding
):
    scores = "scores" if model == "adaptive" else "probabilities"
    wanted = [triton.InferRequestedOutput(name, binary) for name in ("label", scores)]
    result = client.infer(
        model,
        [image_input(pictures[:1], binary)],
        outputs=wanted,
        request_id="a request",
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    (answer,) = expected[model][:1]
    assert texts(result.as_numpy("label")) == [answer.label]
    values = result.as_numpy(scores)
    assert values.dtype == np.float32
    assert values.shape == (1, 3)
    best = np.sort(values[0])[::-1]
    np.testing.assert_allclose(best, [score for _, score in answer.top5], rtol=1e-6)
    response = result.get_response()
    assert response["id"] == "a request"
    assert (response["model_name"], response["model_version"]) == (model, "1")


@pytest.mark.parametrize("shape", [[12], [12, 1]])
@pytest.mark.parametrize("model", MODELS)
def test_the_client_s_default_request_answers_a_batch(client, pictures, expected, model, shape):
    result = client.infer(model, [image_input(pictures, shape=shape)])
    labels = result.as_numpy("label")
    assert labels.shape == tuple(shape)
    assert texts(labels) == [answer.label for answer in expected[model]]
    assert "id" not in result.get_response()
    if model == "adaptive":
        assert texts(result.as_numpy("candidate")) == [a.candidate for a in expected[model]]
        assert set(texts(result.as_numpy("candidate"))) == {"cheap", "strong"}
        names = [[label for label, _ in answer.top5] for answer in expected[model]]
        assert [texts(row) for row in result.as_numpy("labels")] == names
        scores = [[score for _, score in answer.top5] for answer in expected[model]]
        np.testing.assert_allclose(result.as_numpy("scores"), scores, rtol=1e-5)
    else:
        probabilities = result.as_numpy("probabilities")
        assert probabilities.argmax(axis=1).tolist() == [a.index for a in expected[model]]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("model", "output"),
    [("adaptive", "label"), ("adaptive", "scores")]
    + [(name, output) for name in CANDIDATES for output in ("label", "probabilities")],
)
def test_classification_names_the_best_classes(
    client, bundle, pictures, expected, model, output, binary
):
    labels = Bundle.read(bundle).labels
    for count in (1, 2, 99):
        wanted = triton.InferRequestedOutput(output, binary, class_count=count)
        result = client.infer(model, [image_input(pictures[:4])], outputs=[wanted])
        found = result.as_numpy(output)
        assert found.shape == (4, min(count, 3))
        for row, answer in zip(found, expected[model]):
            parts = [text.split(":") for text in texts(row)]
            names = [label for label, _ in answer.top5][:count]
            assert [label for _, _, label in parts] == names
            assert [labels[int(number)] for _, number, _ in parts] == names
            scores = [score for _, score in answer.top5][:count]
            np.testing.assert_allclose([float(p[0]) for p in parts], scores, atol=1e-6)


def test_asynchronous_requests_get_their_own_answers(client, pictures, expected):
    rows = [row % 12 for row in range(60)]
    asked = [client.async_infer("adaptive", [image_input([pictures[row]])]) for row in rows]
    for row, request in zip(rows, asked):
        answer = expected["adaptive"][row]
        result = request.get_result()
        assert texts(result.as_numpy("label")) == [answer.label]
        np.testing.assert_allclose(result.as_numpy("scores")[0, 0], answer.score, rtol=1e-5)


def test_clients_in_several_threads_get_their_own_answers(server, pictures, expected):
    def ask(model):
        with triton.InferenceServerClient(server.url.replace("http://", "")) as client:
            results = [client.infer(model, [image_input([picture])]) for picture in pictures]
            return [texts(result.as_numpy("label"))[0] for result in results]

    with ThreadPoolExecutor(len(MODELS)) as pool:
        for model, found in zip(MODELS, pool.map(ask, MODELS)):
            assert found == [answer.label for answer in expected[model]]


def test_repository_lists_loads_and_unloads(client, pictures):
    def states():
        return {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}

    assert states() == dict.fromkeys(MODELS, "READY")
    client.unload_model("net@1")
    assert states()["net@1"] == "UNAVAILABLE"
    assert not client.is_model_ready("net@1")
    with pytest.raises(InferenceServerException, match="not loaded") as refused:
        client.infer("net@1", [image_input(pictures[:1])])
    assert refused.value.status() == "409"
    client.infer("net@2", [image_input(pictures[:1])])  # which runs net@1 first
    client.load_model("net@1")
    assert states()["net@1"] == "READY"
    client.infer("net@1", [image_input(pictures[:1])])
    client.load_model("adaptive")  # reads the bundle again
    client.infer("adaptive", [image_input(pictures[:1])])


def test_statistics_count_what_was_asked(client, pictures):
    def of(model, version=""):
        (own,) = client.get_inference_statistics(model, version)["model_stats"]
        assert own["name"] == model
        return own

    before = of("strong")
    client.infer("strong", [image_input(pictures[:5])])
    with pytest.raises(InferenceServerException):
        client.infer("strong", [image_input([b"no image"])])
    after = of("strong", "1")
    assert after["inference_count"] == before["inference_count"] + 5
    assert after["execution_count"] == before["execution_count"] + 1
    for step in ("success", "fail", "compute_input", "compute_infer"):
        assert (
            after["inference_stats"][step]["count"] == before["inference_stats"][step]["count"] + 1
        )
        if step != "fail":
            assert after["inference_stats"][step]["ns"] > before["inference_stats"][step]["ns"]
    assert any(batch["batch_size"] == 5 for batch in after["batch_stats"])
    everything = client.get_inference_statistics()["model_stats"]
    assert [own["name"] for own in everything] == list(MODELS)


def requests(pictures):
    """Requests that must be refused: model, arguments, status, words of the sentence."""
    good = image_input(pictures[:1])
    output = triton.InferRequestedOutput

    def shared():
        tensor = triton.InferInput("image", [1], "BYTES")
        return tensor.set_shared_memory("region", 64)

    def numbers():
        tensor = triton.InferInput("image", [1], "FP32")
        return tensor.set_data_from_numpy(np.zeros(1, np.float32))

    def renamed():
        tensor = triton.InferInput("photo", [1], "BYTES")
        return tensor.set_data_from_numpy(np.array([b"x"], object))

    def plain_text():
        tensor = triton.InferInput("image", [1], "BYTES")
        return tensor.set_data_from_numpy(np.array([b"x!"], object), binary_data=False)

    return {
        "no image": ("cheap", {"inputs": [image_input([b"nothing"])]}, "400", "not a JPEG"),
        "one bad image": (
            "adaptive",
            {"inputs": [image_input([*pictures[:2], b"nothing"])]},
            "400",
            "not a JPEG",
        ),
        "unknown model": ("chep", {"inputs": [good]}, "404", "'cheap'"),
        "version": ("cheap", {"inputs": [good], "model_version": "2"}, "404", "no version '2'"),
        "output": ("cheap", {"inputs": [good], "outputs": [output("x")]}, "400", "no output 'x'"),
        "two inputs": ("cheap", {"inputs": [good, good]}, "400", "2 inputs"),
        "shared memory": ("cheap", {"inputs": [shared()]}, "400", "shared memory"),
        "numbers": ("cheap", {"inputs": [numbers()]}, "400", "'FP32'"),
        "name": ("cheap", {"inputs": [renamed()]}, "400", "'photo'"),
        "no base64": ("cheap", {"inputs": [plain_text()]}, "400", "base64"),
        "too many": ("cheap", {"inputs": [image_input(pictures * 3)]}, "400", "36 images"),
        "grid": ("cheap", {"inputs": [image_input(pictures[:4], shape=[2, 2])]}, "400", "[2, 2]"),
        "none": ("cheap", {"inputs": [image_input([], shape=[0])]}, "400", "0 images"),
        "classes of a name": (
            "adaptive",
            {"inputs": [good], "outputs": [output("candidate", class_count=2)]},
            "400",
            "'candidate' has no best classes",
        ),
    }


@pytest.mark.parametrize("name", requests([b"x"] * 12))
def test_a_refusal_is_a_sentence_with_its_status(client, pictures, name):
    model, arguments, status, words = requests(pictures)[name]
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, **arguments)
    assert refused.value.status() == status
    assert words in refused.value.message()
    client.infer("cheap", [image_input(pictures[:1])])


def test_what_is_not_offered_is_refused(client):
    calls = {
        "400": [
            lambda: client.unload_model("adaptive"),
            lambda: client.load_model("cheap", config="{}"),
            lambda: client.load_model("cheap", config="{}", files={"file:1/model.onnx": b"x"}),
        ],
        "404": [
            lambda: client.load_model("chep"),
            lambda: client.unload_model("chep"),
            lambda: client.get_model_metadata("chep"),
            lambda: client.get_model_config("chep"),
            lambda: client.get_inference_statistics("chep"),
            lambda: client.get_model_metadata("cheap", "7"),
            client.get_system_shared_memory_status,
            client.get_trace_settings,
        ],
    }
    for status, refused in calls.items():
        for call in refused:
            with pytest.raises(InferenceServerException) as error:
                call()
            assert error.value.status() == status
            assert "exception occurred in the client" not in error.value.message()
    assert not client.is_model_ready("chep")


def test_the_client_s_timeout_is_a_deadline(client, pictures):
    with pytest.raises(InferenceServerException) as late:
        client.infer("cheap", [image_input(pictures[:1])], timeout=1)
    assert late.value.status() == "504"
    client.infer("cheap", [image_input(pictures[:1])], timeout=30_000_000)


def test_raw_request_of_one_image_is_answered(client, pictures, expected):
    """What curl can send: the image alone, with a header that says there is no JSON."""
    response = client._post(
        "v2/models/strong/infer", pictures[0], {"Inference-Header-Content-Length": "0"}, None
    )
    result = triton.InferResult.from_response_body(response.read())
    assert texts(result.as_numpy("label")) == [expected["strong"][0].label]
