"""Who is on an image, over HTTP: behind keys only, without names in logs, and really forgotten."""

from __future__ import annotations

import io
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from openapi_schema import violation
from persons import colour_identities
from PIL import Image
from served import served

from adaptive.cli.serve import command as serve
from adaptive.client.client import Client
from adaptive.errors import ImageError, InputError
from adaptive.serving.assembly import Endpoint
from adaptive.serving.http import create_app
from adaptive.serving.identities import Identities
from adaptive.serving.keys import Keys
from adaptive.serving.logs import Lines
from adaptive.serving.service import Service
from adaptive.video.identity import IdentityStore, editing

KEY, OTHER = "a-key-of-many-letters", "another-key-of-many-letters"


def picture(*colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(stream, "PNG")
    return stream.getvalue()


ANN, BOB, NOBODY = picture(200, 20, 20), picture(20, 200, 20), picture(0, 0, 0)


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    return colour_identities(tmp_path)


@pytest.fixture
def client(service: Service, identities: Identities) -> FlaskClient:
    return create_app(service, secured=True, identities=identities).test_client()


def who(client: FlaskClient, image: bytes, query: str = "") -> Dict[str, Any]:
    (person,) = client.post(f"/v1/identify{query}", data=image).get_json()["people"]
    return dict(person)


def test_persons_are_added_found_renamed_merged_and_forgotten(client: FlaskClient) -> None:
    answer = client.post("/v1/identities/Ann%2FLee", data=ANN)
    assert answer.get_json() == {"name": "Ann/Lee", "embeddings": 1}
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.post("/v1/identities/Ann%2FLee", data=ANN).get_json()["embeddings"] == 2
    found = who(client, ANN)
    assert (found["name"], found["known"], found["by"]) == ("Ann/Lee", True, "colour")
    assert found["box"] == [0, 0, 24, 16]
    assert found["distance"] == pytest.approx(0, abs=1e-5)
    stranger = who(client, BOB)
    assert (stranger["name"], stranger["known"], stranger["new"]) == (None, False, False)
    assert client.get("/v1/identities").get_json()["names"] == {"Ann/Lee": 2}
    new = who(client, BOB, "?learn=1")
    assert (new["name"], new["known"], new["new"]) == ("unknown-1", False, True)
    renamed = client.post("/v1/identities", json={"rename": "unknown-1", "to": "Bob"})
    assert renamed.get_json() == {"name": "Bob", "embeddings": 1}
    assert who(client, BOB)["known"]
    merged = client.post("/v1/identities", json={"merge": "Ann/Lee", "into": "Bob"})
    assert merged.get_json() == {"name": "Bob", "embeddings": 3}
    assert client.delete("/v1/identities/Bob").get_json() == {"forgotten": "Bob"}
    assert who(client, BOB)["name"] is None
    assert client.post("/v1/identify", data=NOBODY).get_json()["people"] == []


def test_boxes_are_in_pixels_of_the_image_as_it_was_sent(client: FlaskClient) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2400, 1600), (200, 20, 20)).save(stream, "JPEG")
    answer = client.post("/v1/identify", data=stream.getvalue()).get_json()
    assert answer["size"] == [2400, 1600]
    assert answer["people"][0]["box"] == [0, 0, 2400, 1600]


def test_what_is_forgotten_is_in_no_file(client: FlaskClient, identities: Identities) -> None:
    client.post("/v1/identities/Zaphod", data=ANN)
    unit = np.array([200, 20, 20], np.float32) / np.linalg.norm(np.float32([200, 20, 20]))
    assert unit.astype(np.float32).tobytes() in identities.path.read_bytes()
    client.delete("/v1/identities/Zaphod")
    for file in identities.path.parent.iterdir():
        assert b"Zaphod" not in file.read_bytes()
        assert unit.astype(np.float32).tobytes() not in file.read_bytes()
    assert "Zaphod" not in client.get("/v1/identities").get_data(as_text=True)


def test_a_change_by_somebody_else_counts_at_once(
    client: FlaskClient, identities: Identities
) -> None:
    client.post("/v1/identities/Ann", data=ANN)
    assert who(client, ANN)["name"] == "Ann"
    with editing(identities.path) as store:
        store.forget("Ann")
    assert who(client, ANN)["name"] is None
    with editing(identities.path):
        busy = client.post("/v1/identities/Ann", data=ANN)
    assert busy.status_code == 503
    assert int(busy.headers["Retry-After"]) >= 1
    identities.path.write_bytes(b"nothing")
    assert client.get("/v1/identities").status_code == 503


def test_many_threads_change_one_store(client: FlaskClient, identities: Identities) -> None:
    client.post("/v1/identities/Ann", data=ANN)
    workers = [
        threading.Thread(target=lambda: [identities.identify(ANN, learn=True) for _ in range(5)])
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert IdentityStore.read(identities.path).names() == {"Ann": 21}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "says"),
    [
        ("POST", "/v1/identify", {"data": b"nothing"}, 400, "is not a JPEG"),
        ("POST", "/v1/identify", {"data": b""}, 400, "no body"),
        ("POST", "/v1/identify?learn=2", {"data": ANN}, 400, "learn=0 and learn=1"),
        ("POST", "/v1/identities/Ann", {"data": NOBODY}, 400, "shows nobody"),
        ("POST", "/v1/identities/unknown-7", {"data": ANN}, 400, "somebody unknown"),
        ("POST", "/v1/identities/" + 201 * "x", {"data": ANN}, 400, "is no name"),
        ("DELETE", "/v1/identities/Ann", {}, 404, "no such name"),
        ("POST", "/v1/identities", {"json": {"rename": "Ann", "to": "Bob"}}, 404, "no such name"),
        ("POST", "/v1/identities", {"json": {"rename": "Ann"}}, 400, '{"rename": NAME'),
        ("POST", "/v1/identities", {"json": ["rename"]}, 400, "must be an object"),
        ("POST", "/v1/identities", {"data": b"{"}, 400, "is not JSON"),
        ("PUT", "/v1/identities/Ann", {"data": ANN}, 405, "does not take PUT"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    client: FlaskClient, method: str, path: str, sent: Dict[str, Any], status: int, says: str
) -> None:
    answer = client.open(path, method=method, **sent)
    assert answer.status_code == status, answer.data
    assert says in answer.get_json()["error"]


def test_a_name_that_no_file_can_hold_is_refused(client: FlaskClient) -> None:
    client.post("/v1/identities/Ann", data=ANN)
    body = b'{"rename": "Ann", "to": "\\ud800"}'
    answer = client.post("/v1/identities", data=body)
    assert answer.status_code == 400
    assert "half a letter" in answer.get_json()["error"]
    assert client.get("/v1/identities").get_json()["names"] == {"Ann": 1}


def test_answers_are_as_they_are_described(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    client.post("/v1/identities/Ann", data=ANN)
    asked = [
        ("/v1/identify", "post", {"data": ANN}),
        ("/v1/identify", "post", {"data": BOB}),
        ("/v1/identify", "post", {"data": BOB, "query_string": "learn=1"}),
        ("/v1/identities", "get", {}),
        ("/v1/identities", "post", {"json": {"rename": "unknown-1", "to": "Bob"}}),
        ("/v1/identities", "post", {"json": {"merge": "Ann", "into": "Bob"}}),
        ("/v1/identities/{name}", "post", {"data": ANN}),
        ("/v1/identities/{name}", "delete", {}),
    ]
    for path, method, sent in asked:
        answer = client.open(path.replace("{name}", "Ann"), method=method.upper(), **sent)
        assert answer.status_code == 200, answer.data
        told = document["paths"][path][method]
        assert told["security"] == [{"bearer": []}]
        schema = told["responses"]["200"]["content"]["application/json"]["schema"]
        assert violation(answer.get_json(), schema, document) is None
        if "json" in sent:
            schema = told["requestBody"]["content"]["application/json"]["schema"]
            assert violation(sent["json"], schema, document) is None


def test_a_server_without_a_store_knows_nobody(service: Service) -> None:
    client = create_app(service).test_client()
    for method, path in (("POST", "/v1/identify"), ("GET", "/v1/identities")):
        assert client.open(path, method=method, data=ANN).status_code == 404
    assert not [p for p in client.get("/openapi.json").get_json()["paths"] if "identi" in p]


@pytest.fixture
def keys(tmp_path: Path) -> Dict[str, Keys]:
    for name, key in (("all", KEY), ("persons", OTHER)):
        (tmp_path / name).write_text(key + "\n")
    return {name: Keys(tmp_path / name) for name in ("all", "persons")}


def test_names_are_in_no_log_and_no_metric(
    bundle: Path, identities: Identities, keys: Dict[str, Keys], tmp_path: Path
) -> None:
    log = tmp_path / "requests.jsonl"
    lines = Lines(log)
    with served(bundle, identities=identities, keys=keys["all"], lines=lines) as server:
        with Client(server.url, api_key=KEY) as client:
            client.add_identity("Zaphod B.", ANN)
            assert client.identify(ANN)["people"][0]["name"] == "Zaphod B."
            assert client.identities()["names"] == {"Zaphod B.": 1}
            client.rename_identity("Zaphod B.", "Trillian/2")
            client.add_identity("Arthur", BOB)
            client.merge_identity("Arthur", "Trillian/2")
            client.forget_identity("Trillian/2")
            with pytest.raises(InputError, match="no such name"):
                client.forget_identity("Trillian/2")
            with pytest.raises(ImageError, match="is not a JPEG"):
                client.identify(b"nothing")
            assert client.identities()["names"] == {}
        request = urllib.request.Request(
            f"{server.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(request) as answer:
            metrics = answer.read().decode()
        for path in ("/v1/identify", "/v1/identities", "/v1/identities/Ford"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{server.url}{path}")
            assert refused.value.code == 401
            refused.value.close()
    lines.close()
    written = log.read_text()
    assert '"path":"/v1/identities/NAME"' in written
    for name in ("Zaphod", "Trillian", "Arthur", "Ford"):
        assert name not in written
        assert name not in metrics
    assert 'kind="identify"' in metrics
    assert 'kind="identities"' in metrics


def test_keys_of_their_own_for_persons(
    bundle: Path, identities: Identities, keys: Dict[str, Keys]
) -> None:
    with served(
        bundle, identities=identities, keys=keys["all"], identity_keys=keys["persons"]
    ) as server:
        with Client(server.url, api_key=OTHER) as client:
            assert client.identify(ANN)["people"][0]["name"] is None
            with pytest.raises(InputError, match="wants a key"):
                client.bundle()
        with Client(server.url, api_key=KEY) as client:
            client.bundle()
            with pytest.raises(InputError, match="this key may not ask about persons"):
                client.identities()


def test_without_keys_it_is_refused(
    identities: Identities, keys: Dict[str, Keys], tmp_path: Path
) -> None:
    networks = tmp_path / "networks.json"
    with pytest.raises(InputError, match="behind keys only; give --keys too"):
        Endpoint(identities=identities)
    with pytest.raises(InputError, match="without a store"):
        Endpoint(keys=keys["all"], identity_keys=keys["persons"])
    store = f"--identities={identities.path}"
    for options, says in (
        ([store, f"--identity-networks={networks}"], "give --keys too"),
        ([store, f"--keys={tmp_path / 'all'}"], "needs --identity-networks"),
        ([f"--identity-networks={networks}"], "without --identities"),
    ):
        result = CliRunner().invoke(serve, options)
        assert isinstance(result.exception, InputError)
        assert says in str(result.exception)
