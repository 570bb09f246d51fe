"""The front end of experiments: over HTTP, and what a person sees of it in a real Chromium."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any, Iterator

import pytest
from chromium import Chromium, find_chromium
from fleet import text_of, until
from served import in_a_thread

from adaptive.experiments.begun import Begun
from adaptive.experiments.declared import declared
from adaptive.experiments.frontend import assemble
from adaptive.experiments.local import LocalEngine
from adaptive.experiments.plan import make_plan
from adaptive.experiments.run import run_plan
from adaptive.experiments.store import FolderStore
from adaptive.experiments.work import board_model
from adaptive.outcomes.table import OutcomeTable
from adaptive.serving.keys import Keys

KEY = "key-of-the-front-end-0123456789"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(photos: Path, tiny_candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of one experiment that is done."""
    folder = tmp_path_factory.mktemp("served")
    store = FolderStore(folder / "store")
    plan = make_plan(declared(text_of(photos, tiny_candidates), folder), folder, board_model())
    engine = LocalEngine(store, 1, board_model())
    run_plan(plan, store, engine, folder / "out")
    engine.close()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Any]:
    store = FolderStore(folder / "store")
    begun = Begun(folder / "files", store.url, None)
    with in_a_thread(assemble(store, begun, "127.0.0.1", 0)) as server:
        yield server
    begun.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium; `apt-get install chromium` brings one")
    with Chromium(program) as browser:
        yield browser


@pytest.fixture
def page(browser: Chromium, server: Any) -> Iterator[Any]:
    with browser.page(f"http://127.0.0.1:{server.port}/") as page:
        page.wait("!!document.querySelector('#list a')")
        yield page
    assert not page.complaints
    assert {url.split("/")[2] for url in page.requests} == {f"127.0.0.1:{server.port}"}


def ask(port: int, method: str, path: str, value: object = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = None if value is None else json.dumps(value)
    sent = {"Content-Type": "application/json"} if body else {}
    try:
        connection.request(method, path, body, {**sent, **headers})
        answer = connection.getresponse()
        content = answer.read()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content
    finally:
        connection.close()


def test_runs_report_and_images_over_http(server: Any, folder: Path) -> None:
    port = server.port
    status, told = ask(port, "GET", "/api/runs")
    assert status == 200
    (run,) = [r for r in told["runs"] if r["name"] == "tried"]
    assert (run["state"], run["done"], run["total"]) == ("done", 5, 5)
    status, report = ask(port, "GET", "/api/runs/tried/report")
    assert [row[0] for row in report["tables"][0]["parts"][1]["rows"]] == ["fixed-strong"]
    assert report["tables"][0]["about"].startswith("23 images; times after decoding, measured on 4")
    table = OutcomeTable.read(folder / "out" / "outcomes.csv")
    status, found = ask(port, "GET", "/api/runs/tried/images?table=outcomes&shard=1&missed=cheap")
    own = {i["image"]: i for i in found["images"]}
    wrong = {
        name for name, right in zip(table.images[6:12], table.quality("cheap")[6:12]) if not right
    }
    assert set(own) == wrong
    assert found["of"] == 6
    status, content = ask(port, "GET", "/api/runs/tried/image?table=outcomes&shard=0&index=2")
    assert content[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/runs/other", 404, "no experiment 'other'"),
        ("/api/runs/tried/images?table=no", 400, "no table 'no'"),
        ("/api/runs/tried/images?table=outcomes&shard=4", 400, "shards 0 to 3"),
        ("/api/runs/tried/images?table=outcomes&missed=x", 400, "none of the candidates"),
        ("/api/runs/tried/image?table=outcomes&index=77", 400, "images 0 to 5"),
        ("/api/runs/tried/image?table=outcomes&index=-1", 400, "no whole number"),
        ("/api/nothing", 404, "not found"),
        ("/api/runs/%00", 404, "no experiment '\\x00'"),
        ("/api/runs/..", 404, "no experiment '..'"),
        ("/api/runs/../report", 404, "no experiment '..'"),
        (f"/api/runs/{'x' * 300}/report", 404, "no experiment 'xxx"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(
    server: Any, path: str, status: int, words: str
) -> None:
    found, told = ask(server.port, "GET", path)
    assert found == status
    assert words in told["error"]


def test_without_keys_nothing_is_begun_from_elsewhere(server: Any) -> None:
    for headers in (
        {"Host": "evil.example:80"},
        {"X-Forwarded-For": "10.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        status, told = ask(server.port, "POST", "/api/runs", {"file": ""}, **headers)
        assert status == 403
        assert "this machine alone" in told["error"]
    # A port of its own has no number in a browser's Host.
    for host in ("localhost", "127.0.0.1", "[::1]:80", "LOCALHOST:1"):
        assert ask(server.port, "POST", "/api/check", {"file": ""}, Host=host)[0] == 200
    status, told = ask(server.port, "POST", "/api/check", None)
    assert status == 400
    status, told = ask(server.port, "POST", "/api/check", {"file": "name = 1"})
    assert [p["line"] for p in told["problems"]] == [1, 1, 1]
    status, told = ask(server.port, "POST", "/api/runs", {"file": "title = '\ud800'"})
    assert (status, told["error"]) == (400, "the file has half a character, which no text has")


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(
    photos: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    (tmp_path / "files").write_text("a file where a folder should be")
    begun = Begun(tmp_path / "files", store.url, None)
    with in_a_thread(assemble(store, begun, "127.0.0.1", 0)) as server:
        text = text_of(photos, tiny_candidates)
        status, told = ask(server.port, "POST", "/api/runs", {"file": text})
    assert status == 503
    assert "tried.toml cannot be written" in told["error"]


def test_keys_are_asked_for(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY + "\n")
    store = FolderStore(folder / "store")
    begun = Begun(tmp_path / "files", store.url, None)
    with in_a_thread(assemble(store, begun, "127.0.0.1", 0, Keys(tmp_path / "keys"))) as server:
        assert ask(server.port, "GET", "/")[0] == 200
        assert ask(server.port, "GET", "/healthz")[0] == 200
        assert ask(server.port, "GET", "/api/runs")[0] == 401
        key = {"Authorization": f"Bearer {KEY}"}
        assert ask(server.port, "GET", "/api/runs", **key)[0] == 200
        assert ask(server.port, "POST", "/api/check", {"file": "x"})[0] == 401


def test_a_finished_run_is_read_by_keyboard(page: Any, folder: Path) -> None:
    page.run("document.querySelector('#list a').focus()")
    page.key("Enter", "\r")
    page.wait("!!document.querySelector('#report table')")
    assert page.text("#run-name") == "tried"
    assert page.text("#counts") == "done: 5 of 5 shards"
    assert "fixed-strong" in page.text("#report")
    page.wait("document.querySelector('#picture').naturalWidth == 640")
    assert page.text("#place") == "1 of 6 in shard 1 of 4"
    page.key("ArrowRight")
    page.wait("document.querySelector('#place').textContent.startsWith('2 of 6')")
    page.wait("document.querySelector('#caption').textContent.startsWith('001.png is green')")
    page.run(
        "(() => { const s = document.querySelector('#missed'); s.value = 'cheap';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    page.wait("!document.querySelector('#caption').textContent.includes('Nobody')")
    table = OutcomeTable.read(folder / "out" / "outcomes.csv")
    missed = int((~table.quality("cheap")[:6]).sum())
    if missed:
        page.wait(f"document.querySelector('#place').textContent.startsWith('1 of {missed} ')")
        assert "Missed by" in page.text("#caption")
        assert "cheap" in page.text("#caption")
    else:
        page.wait("document.querySelector('#place').textContent.startsWith('none of 6')")


def test_the_form_writes_the_file_says_what_is_wrong_and_runs_it(
    page: Any, server: Any, photos: Path, tiny_candidates: Path
) -> None:
    page.run("location.hash = '#new'")
    page.wait("!!document.querySelector('#problems li')")
    assert "has no name" in page.text("#problems")
    values = {
        "name": "typed",
        "images": photos,
        "labels": photos / "labels.csv",
        "limit": "12",
        "folder": tiny_candidates,
        "features": "paper7",
        "times": "2",
    }
    for field, value in values.items():
        page.run(f"document.querySelector('#f-{field}').focus()")
        page.type(str(value))
    page.wait("!document.querySelector('#problems li')")
    text = page.run("document.querySelector('#file').value")
    assert 'name = "typed"' in text
    assert f'[data]\nimages = "{photos}"' in text
    assert "limit = 12" in text
    page.click("#begin")
    page.wait("location.hash == '#runs'")
    until(lambda: ask(server.port, "GET", "/api/runs/typed")[0] == 200, "the run")
    until(lambda: ask(server.port, "GET", "/api/runs/typed")[1]["state"] == "done", "its end")
    page.run("location.hash = '#run/typed'")
    page.wait("!!document.querySelector('#report table')")
    assert ask(server.port, "GET", "/api/runs/typed")[1]["tables"][0]["images"] == 12


@pytest.mark.parametrize("place", ["#runs", "#run/tried", "#new"])
def test_a_phone_needs_no_sideways_scrolling(page: Any, place: str) -> None:
    page.resize(320, 700, 2.0, mobile=True)
    page.run(f"location.hash = {place!r}")
    ready = {"#runs": "#list a", "#run/tried": "#report table", "#new": "#problems li"}[place]
    page.wait(f"!!document.querySelector({ready!r})")
    assert page.run("document.documentElement.scrollWidth") == 320
    small = page.run(
        "[...document.querySelectorAll('button, input, select')].filter(e => e.checkVisibility())"
        ".filter(e => e.getBoundingClientRect().height < 44).map(e => e.id)"
    )
    assert small == []
