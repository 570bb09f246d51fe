"""The page: what is sent, and what a person sees of it in a real Chromium."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from box_candidates import box_candidates
from bright_and_dark import NAMES, mixture, photo
from chromium import Chromium, find_chromium
from onnx_files import colour_network
from PIL import Image
from served import served

from adaptive.bundle.bundle import Bundle, default_bundle, write_bundle, write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import sha256
from adaptive.policy.cascade import Cascade
from adaptive.policy.premodel import ByPremodel
from adaptive.serving.http import create_app
from adaptive.serving.keys import Keys
from adaptive.serving.page import FILES, content

KEY = "key-of-the-page-0123456789"
SENTENCE = "Asking the server what it serves"


@pytest.fixture(scope="module")
def bundle():
    return default_bundle()


@pytest.fixture(scope="module")
def server(bundle):
    with served(bundle, max_body_bytes=400_000) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium; `apt-get install chromium` brings one")
    with Chromium(program) as browser:
        yield browser


@pytest.fixture
def page(browser, server):
    with browser.page(f"http://127.0.0.1:{server.port}/") as page:
        page.wait(f"!document.body.innerText.includes({SENTENCE!r})")
        yield page
    assert not page.complaints
    assert {url.split("/")[2] for url in page.requests} == {f"127.0.0.1:{server.port}"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A clean image, a noisy one, a damaged one, and one that is too large."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    rows = np.linspace(0, 255, 96)[:, None, None]
    clean = np.broadcast_to(rows * np.array([0.4, 0.7, 1.0]), (96, 128, 3)).astype(np.uint8)
    clean = clean.copy()
    clean[50:70, 30:100] = (180, 40, 30)
    Image.fromarray(clean).save(folder / "clean.png")
    noisy = generator.integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noisy).save(folder / "noisy.jpg")
    whole = (folder / "noisy.jpg").read_bytes()
    (folder / "damaged.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "large.png").write_bytes(generator.bytes(500_000))
    return folder


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str):
    """Status, headers and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def prediction(port: int, image: Path) -> dict:
    status, _, body = ask(port, "POST", "/v1/classify?explain=2", image.read_bytes())
    assert status == 200
    return json.loads(body)


def answered(page, what: str = "") -> None:
    """Wait until an answer, or an error, stands on the page."""
    page.wait(
        "document.querySelector('#said').textContent && !document.querySelector('.stale')"
        f" && document.querySelector('#said').textContent.includes({what!r})"
    )


# ---- over HTTP


@pytest.mark.parametrize("path", FILES)
def test_files_are_sent_with_their_types_and_a_strict_policy(server, path):
    name, content_type = FILES[path]
    status, headers, body = ask(server.port, "GET", path)
    assert (status, body) == (200, content(name))
    assert headers["Content-Type"] == content_type
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"
    policy = dict(part.strip().split(" ", 1) for part in headers[POLICY].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert "unsafe" not in headers[POLICY]
    assert headers["ETag"].strip('"') in hashlib.sha256(body).hexdigest()


POLICY = "Content-Security-Policy"


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_known_is_not_sent_again(server, path):
    tag = ask(server.port, "GET", path)[1]["ETag"]
    status, headers, body = ask(server.port, "GET", path, **{"If-None-Match": tag})
    assert (status, body, headers["ETag"]) == (304, b"", tag)
    assert ask(server.port, "GET", path, **{"If-None-Match": '"other"'})[0] == 200


@pytest.mark.parametrize("path", FILES)
def test_files_take_get_and_head_alone(server, path):
    status, headers, body = ask(server.port, "HEAD", path)
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(content(FILES[path][0]))
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = ask(server.port, method, path)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_files_need_no_key_and_what_they_ask_for_does(bundle, tmp_path):
    (tmp_path / "keys").write_text(KEY + "\n")
    with served(bundle, keys=Keys(tmp_path / "keys")) as server:
        for path in FILES:
            assert ask(server.port, "GET", path)[0] == 200
            assert ask(server.port, "POST", path)[0] == 401
        for path in ("/v1/bundle", "/metrics", "/page", "/page.py", "/page/index.html"):
            assert ask(server.port, "GET", path)[0] == 401


def test_files_name_no_other_host_and_hold_nothing_inline():
    for name in (name for name, kind in FILES.values() if kind.startswith("text/")):
        text = content(name).decode()
        # A namespace is a name, and nothing is asked of it.
        assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", text)) <= {
            "http://www.w3.org/2000/svg"
        }
    html = content("index.html").decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.S) == [""]
    assert set(re.findall(r"(?:src|href)=\"([^\"#][^\"]*)\"", html)) - {"openapi.json"} == {
        *re.findall(r"href=\"(data:[^\"]*)\"", html),
        "page.css",
        "page.js",
    }


def test_elements_that_the_program_names_are_on_the_page():
    html, program = content("index.html").decode(), content("page.js").decode()
    ids = re.findall(r"\sid=\"([\w-]+)\"", html)
    assert len(ids) == len(set(ids))
    named = set(re.findall(r"\$\(\"([\w-]+)\"\)", program))
    assert named
    assert named <= set(ids)
    referred = re.findall(r"(?:aria-labelledby|aria-describedby|for)=\"([\w-]+)\"", html)
    assert set(referred) <= set(ids)


def test_page_does_without_the_rest_of_the_server():
    from http_fixtures import PlainRouter

    answer = create_app(PlainRouter()).test_client().get("/")
    assert answer.status_code == 200
    assert answer.data == content("index.html")


# ---- in Chromium


def test_dropped_image_is_answered_with_its_reasons(page, server, images):
    page.drop("#drop", images / "clean.png")
    answered(page)
    own = prediction(server.port, images / "clean.png")
    assert page.text("#label") == own["label"]
    assert own["candidate"] in page.text("#by")
    assert f"{100 * own['score']:.1f}%" in page.text("#by")
    assert page.text("#sure").startswith(
        "A calibrated probability" if own["calibrated"] else "Not calibrated"
    )
    under = own["explanation"]["conditions"][0]
    assert page.text("#under") == (
        f"Judged as an image that is “{under['description']}” ({100 * under['probability']:.0f}%)."
    )
    assert page.text("#reason").lower() == own["reason"].lower() + "."
    best = page.run("[...document.querySelectorAll('#best tbody th')].map(e => e.innerText)")
    assert best == [one["label"] for one in own["top5"]]
    widths = page.run("[...document.querySelectorAll('#best .bar i')].map(e => e.style.width)")
    for width, one in zip(widths, own["top5"]):
        assert float(width.rstrip("%")) == pytest.approx(100 * one["score"], abs=0.1)
    way = page.run("[...document.querySelectorAll('#way li:not(.skipped)')].map(e => e.innerText)")
    steps = own["explanation"]["steps"]
    assert [text.split("\n")[0] for text in way] == own["path"]
    for text, step in zip(way, steps):
        assert f"{step['label']}, {100 * step['score']:.1f}%" in text
        assert f"margin {step['value']:.2f}" in text
    names = page.run("[...document.querySelectorAll('#features tbody th')].map(e => e.innerText)")
    assert [name.replace(" ", "_") for name in names] == list(own["features"])
    shares = own["explanation"]["standing"]["shares"]
    for name, width in zip(
        shares, page.run("[...document.querySelectorAll('#features i')].map(e => e.style.width)")
    ):
        assert float(width.rstrip("%")) == pytest.approx(100 * shares[name], abs=0.1)
    neighbours = (own["explanation"]["neighbours"] or {}).get("right", {})
    for number, (name, chance) in enumerate(own["votes"].items(), 1):
        line = f"#votes tbody tr:nth-child({number})"
        assert page.text(f"{line} th") == name
        assert page.text(f"{line} td:last-child").startswith(f"{100 * chance:.0f}%")
        if name in neighbours:
            right = neighbours[name]
            assert f"{sum(right)} of {len(right)}" in page.text(line)
            drawn = page.run(
                f"[...document.querySelectorAll('{line} .crowd i')].map(e => !e.matches('.wrong'))"
            )
            assert drawn == [vote == 1 for vote in right]


def test_cascade_without_a_premodel_shows_thresholds_alone(browser, tiny_bundle, tiny_images):
    with served(tiny_bundle) as server:
        own = [prediction(server.port, path) for path in sorted(tiny_images.glob("*.png"))[:12]]
        longest = max(range(len(own)), key=lambda number: len(own[number]["path"]))
        assert own[longest]["path"] == ["cheap", "strong"]
        with browser.page(f"http://127.0.0.1:{server.port}/") as page:
            page.choose("#file", tiny_images / f"{longest:03}.png")
            answered(page)
            value = own[longest]["explanation"]["steps"][0]["value"]
            assert page.text("#way .why") == f"top {value:.2f}, below 0.90: strong is asked"
            assert page.run("document.querySelector('#way .meter b').style.left") == "90%"
            assert not page.seen("#why")
            assert page.seen("#edges")
            assert page.text("#single-head") == "strong alone" or page.text("#single-head") == ""
            page.click("#compare")
            page.wait("document.querySelector('#compared').textContent.includes('alone says')")
            assert page.text("#single-head") == "strong alone"
        page.look()
        assert not page.complaints


def test_times_are_held_against_the_best_single_network(page, images):
    page.choose("#file", images / "noisy.jpg")
    answered(page)
    rows = page.run(
        "[...document.querySelectorAll('#times tbody tr')].map(r =>"
        " [...r.cells].map(c => c.innerText))"
    )
    own, alone = [{row[0]: row[k] for row in rows if row[k]} for k in (1, 2)]
    extra = {name: own.pop(name) for name in list(own) if "for this page only" in name}
    assert {name.split(" (")[0] for name in extra} == {"features", "premodel"}  # no policy's
    assert {"decode", "mobilenet", "rest"} <= set(own)
    assert set(alone) == {"decode", "resnet", "together"}
    for shown in (own, alone):  # each is rounded to the digits it is shown with
        rounding = sum(0.5001 * 10.0 ** -len(ms.partition(".")[2]) for ms in shown.values())
        together = float(shown.pop("together"))
        assert together == pytest.approx(sum(map(float, shown.values())), abs=rounding)
    assert page.run("document.querySelectorAll('#stacks .stack').length") == 2
    page.click("#compare")
    page.wait("document.querySelector('#compared').textContent.includes('alone says')")
    assert page.text("#compared").startswith("resnet alone says ")
    assert page.text("#single-how").startswith("resnet: measured here")


def test_edge_map_is_the_servers_own(page, server, images):
    page.choose("#file", images / "clean.png")
    answered(page)
    page.wait("document.querySelector('#edges').naturalWidth")
    size = page.run(
        "[document.querySelector('#edges').naturalWidth,"
        " document.querySelector('#edges').naturalHeight]"
    )
    assert size == [128, 96]
    assert page.run(
        "(() => { const c = document.createElement('canvas'); c.width = 128; c.height = 96;"
        " const d = c.getContext('2d'); d.drawImage(document.querySelector('#edges'), 0, 0);"
        " return [...d.getImageData(0, 0, 128, 96).data].filter((v, i) => i % 4 == 0 && v).length;"
        " })()"
    ) == edge_count(images / "clean.png")


def edge_count(path: Path) -> int:
    from adaptive.features.brightness import grey
    from adaptive.features.edges import edges, gradient

    with Image.open(path) as image:
        return int(np.count_nonzero(edges(gradient(grey(np.asarray(image.convert("RGB")))))))


def test_errors_are_the_servers_sentences(page, images):
    page.choose("#file", images / "damaged.jpg")
    page.wait("document.querySelector('#problem').textContent")
    assert page.text("#problem") == "The image is damaged or cut off and cannot be decoded."
    assert not page.seen("#label")
    page.choose("#file", images / "large.png")
    page.wait("document.querySelector('#problem').textContent.includes('longer')")
    assert "400000 bytes" in page.text("#problem")
    page.choose("#file", images / "clean.png")
    answered(page)
    assert page.text("#problem") == ""
    page.look()
    # The browser itself notes each refused request.
    assert [c for c in page.complaints if "status of 4" not in c] == []
    page.complaints.clear()


def test_keyboard_reaches_everything_and_the_focus_is_seen(page, images):
    page.choose("#file", images / "clean.png")
    answered(page)
    page.run("scrollTo(0, 0); document.activeElement.blur()")
    reached: list[str] = []
    while "BODY" not in reached:  # behind the last it begins again
        page.key("Tab")
        name, outlined = page.run(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.id || e.name || e.className || e.tagName,"
            " s.outlineStyle != 'none' && parseFloat(s.outlineWidth) >= 2]; })()"
        )
        assert outlined or name == "BODY", name
        reached.append(name)
    for name in ("skip", "choose", "camera", "prefer", "compare", "pause"):
        assert name in reached, reached
    page.run("document.querySelector('#pause').focus()")
    page.key("Enter", "\r")
    assert page.run("document.querySelector('#pause').ariaPressed") == "true"
    page.run("document.querySelector('[name=prefer]:checked').focus()")
    page.key("ArrowRight")
    answered(page)
    assert page.run("document.querySelector('[name=prefer]:checked').value") == "accurate"
    page.wait("document.querySelectorAll('#way li:not(.skipped)').length == 3")


def test_preference_goes_along_with_the_image(page, server, images):
    page.click("input[value=fast]")
    page.choose("#file", images / "noisy.jpg")
    answered(page)
    image = (images / "noisy.jpg").read_bytes()
    status, _, body = ask(server.port, "POST", "/v1/classify", image, **{"X-Prefer": "fast"})
    assert status == 200
    assert page.text("#by b") == json.loads(body)["candidate"]


def test_busy_server_is_named_and_asked_again(page, images):
    page.run(
        "window.real = window.fetch; window.fetch = async (path, options) =>"
        " String(path).includes('classify') ? new Response('{\"error\": \"too much to do\"}',"
        " {status: 503, headers: {'Retry-After': '3'}}) : window.real(path, options); true"
    )
    page.choose("#file", images / "clean.png")
    page.wait("document.querySelector('#problem').textContent")
    assert page.text("#problem p") == "Too much to do. Try again in 3 s."
    page.run("window.fetch = window.real; true")
    page.click("#problem button")
    answered(page)
    assert page.text("#problem") == ""


def test_escape_gives_a_request_up(page, images):
    page.run(
        "window.real = window.fetch; window.fetch = (path, options) =>"
        " String(path).includes('classify') ? new Promise((_, fail) =>"
        " options.signal.addEventListener('abort', () => { window.gone = true;"
        " fail(options.signal.reason); })) : window.real(path, options); true"
    )
    page.choose("#file", images / "clean.png")
    page.wait("document.querySelector('#state').textContent == 'Asking…'")
    page.key("Escape")
    page.wait("window.gone")
    assert page.text("#state") == "Cancelled."
    assert page.text("#problem") == ""


def test_pasted_image_is_answered_and_a_newer_one_wins(page, images):
    paste = (
        "(() => { const make = async () => { const c = document.createElement('canvas');"
        " c.width = c.height = 64; c.getContext('2d').fillRect(0, 0, 40, 40);"
        " return new Promise(d => c.toBlob(d)); };"
        " return make().then(blob => { for (const name of ['first.png', 'second.png']) {"
        " const data = new DataTransfer(); data.items.add(new File([blob], name,"
        " {type: 'image/png'}));"
        " dispatchEvent(new ClipboardEvent('paste', {clipboardData: data})); } }); })()"
    )
    page.run(paste)
    answered(page)
    assert page.run("document.querySelector('#picture').alt") == "Your image, second.png"
    assert page.text("#problem") == ""


def test_narrow_screen_needs_no_sideways_scrolling(page, images):
    page.resize(320, 700, 2.0, mobile=True)
    page.choose("#file", images / "noisy.jpg")
    answered(page)
    assert page.run("document.documentElement.scrollWidth") == 320
    wide = page.run(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 320"
        " && !e.closest('.wide') && !e.closest('.unseen')).map(e => e.id || e.className)"
    )
    assert wide == []
    small = page.run(
        "[...document.querySelectorAll('button, input, fieldset label')]"
        ".filter(e => e.checkVisibility() && !e.closest('label') || e.matches('label'))"
        ".filter(e => e.getBoundingClientRect().height < 44).map(e => e.id || e.outerHTML)"
    )
    assert small == []


def test_key_is_asked_for_once_and_kept_in_the_tab(browser, bundle, images, tmp_path):
    (tmp_path / "keys").write_text(KEY + "\n")
    with served(bundle, keys=Keys(tmp_path / "keys")) as server, browser.page(
        f"http://127.0.0.1:{server.port}/"
    ) as page:
        page.wait("document.querySelector('#key-form').checkVisibility()")
        page.choose("#file", images / "clean.png")
        page.wait("document.querySelector('#problem').textContent.includes('key')")
        page.run("document.querySelector('#key').focus()")
        page.type("a-wrong-key-0123456789")
        page.key("Enter", "\r")
        page.wait("document.querySelector('#key-title').textContent.includes('not accept')")
        page.wait("document.querySelector('#key-form').checkVisibility()")
        page.run("document.querySelector('#key').focus()")
        page.type(KEY)
        page.key("Enter", "\r")
        answered(page)
        assert not page.seen("#key-form")
        assert page.run("Object.values(sessionStorage)") == [KEY]
        assert page.run("[document.cookie, localStorage.length, location.search]") == ["", 0, ""]
        page.wait("document.querySelectorAll('#live tbody tr').length == 3")


def test_camera_is_classified_by_hand_and_continuously(page, server):
    page.click("#camera")
    page.wait("document.querySelector('#video').videoWidth")
    page.run("document.querySelector('#video').checkVisibility()")
    assert page.run("document.activeElement.id") == "shoot"
    page.key("Enter", "\r")
    answered(page)
    page.look()
    before = asked_for(page)
    page.run(
        "window.most = 0; window.now = 0; const real = window.fetch;"
        " window.fetch = async (path, options) => {"
        "  if (!String(path).includes('classify')) return real(path, options);"
        "  window.most = Math.max(window.most, ++window.now);"
        "  try { return await real(path, options); } finally { window.now--; } }; true"
    )
    page.click("#continuous")
    page.wait(
        "performance.getEntriesByType('resource')"
        f".filter(e => e.name.includes('classify')).length >= {before + 3}"
    )
    assert page.run("window.most") == 1
    page.run("window.tracks = document.querySelector('#video').srcObject.getTracks(); true")
    page.key("Escape")
    page.wait("window.tracks.every(track => track.readyState == 'ended')")
    assert not page.seen("#video")
    assert page.seen("#camera")


def asked_for(page) -> int:
    return sum("classify" in url for url in page.requests)


def test_without_a_camera_the_page_says_why(browser, server):
    """As over http from another host, where browsers have no `mediaDevices`."""
    script = (
        "Object.defineProperty(Navigator.prototype, 'mediaDevices', {value: undefined});"
        "Object.defineProperty(window, 'isSecureContext', {value: false});"
    )
    with browser.page(f"http://127.0.0.1:{server.port}/", script=script) as page:
        page.wait("document.querySelector('#no-camera').textContent")
        assert "https" in page.text("#no-camera")
        assert not page.seen("#camera")


def test_live_strip_tells_what_the_server_counts(page, server, images):
    before = counted(server)
    page.choose("#file", images / "clean.png")
    answered(page)
    page.wait(
        "[...document.querySelectorAll('#live tbody tr')].reduce((sum, r) =>"
        " sum + Number(r.cells[1].innerText), 0) >= 1"
    )
    assert counted(server) == before + 1
    rows = page.run("[...document.querySelectorAll('#live tbody th')].map(e => e.innerText)")
    assert rows[:3] == ["mobilenet", "inception", "resnet"]
    page.click("#pause")
    page.look()
    asked = sum("metrics" in url for url in page.requests)
    page.run("document.dispatchEvent(new Event('visibilitychange'))")
    page.run("new Promise(done => setTimeout(done, 100))")
    page.look()
    assert sum("metrics" in url for url in page.requests) == asked


def counted(server) -> int:
    text = ask(server.port, "GET", "/metrics")[2].decode()
    return sum(map(int, re.findall(r"^adaptive_answers_total\{[^}]*\} (\d+)", text, re.M)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, server, images, scheme):
    """Contrast of 4.5 and more (WCAG 2 AA) wherever there is text."""
    url = f"http://127.0.0.1:{server.port}/"
    with browser.page(url, prefers_color_scheme=scheme) as page:
        page.choose("#file", images / "noisy.jpg")
        answered(page)
        found = page.run(CONTRASTS)
        assert len(found) > 60
        assert [one for one in found if one[0] < 4.5] == []


#: For each element with text of its own: contrast with its ground, text.
CONTRASTS = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const own = parse(getComputedStyle(e).backgroundColor);
      if (own.length == 3 || own[3] == 1) return own;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() &&
    [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()))
    .map(e => {
      const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim()];
    });
})()"""


SAMPLES = {"cat": "cat", "ship": "ship", "horse": "horse", "coffee": "automobile"}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_small_and_answered_as_the_page_is_made_to_show(server, name):
    body = content(f"sample-{name}.jpg")
    assert len(body) < 40_000
    _, _, said = ask(server.port, "POST", "/v1/classify", body)
    assert json.loads(said)["label"] == SAMPLES[name]
    assert f"sample-{name}.jpg" in content("samples.txt").decode()


def test_the_default_names_its_classes_and_offers_samples(page):
    assert page.text("#classes") == (
        "It knows 10 classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship and "
        "truck. Whatever an image shows, it names one of these."
    )
    assert page.run("document.querySelectorAll('#samples button').length") == len(SAMPLES)
    page.run("document.querySelector('#samples button').click()")
    answered(page, "cat")
    assert page.text("#label") == "cat"
    page.wait("document.querySelector('#samples img').naturalWidth > 0")
    assert "CC0" in page.text("#sources-of-samples")


def test_a_users_own_bundle_names_its_first_classes_and_offers_no_samples(
    browser, bundle, tmp_path
):
    own = tmp_path / "own"
    shutil.copytree(bundle, own)
    with served(own) as server:
        with browser.page(f"http://127.0.0.1:{server.port}/") as page:
            page.wait("!document.querySelector('#classes').hidden")
            assert page.text("#classes").startswith("It knows 10 classes: airplane, ")
            assert page.run("document.querySelector('#samples').hidden")
            assert page.run("document.querySelectorAll('#samples button').length") == 0
        assert not any("sample" in url for url in page.requests)


def test_of_many_classes_the_first_are_named(browser, bundle, tmp_path):
    labels = [f"n{number:08} thing{number}, other name" for number in range(1200)]
    folder = tmp_path / "many"
    folder.mkdir()
    colour_network(folder / "one.onnx", np.ones((3, len(labels)), np.float32), 8)
    network = Candidate(
        "one",
        "one.onnx",
        sha256(folder / "one.onnx"),
        InputSpec(8, "uint8", "NHWC", "stretch"),
        OutputSpec(len(labels)),
    )
    write_candidates(folder, [network], labels, reference="one")
    with served(folder) as server, browser.page(f"http://127.0.0.1:{server.port}/") as page:
        page.wait("!document.querySelector('#classes').hidden")
        assert page.text("#classes") == (
            "It knows 1,200 classes, such as thing0, thing1, thing2, thing3 and thing4. "
            "Whatever an image shows, it names one of these."
        )


def test_what_a_bundle_knows_is_described(server, bundle):
    _, _, body = ask(server.port, "GET", "/v1/bundle")
    told = json.loads(body)
    assert (told["labels"], told["embedded"]) == (10, True)
    assert told["first_labels"] == list(Bundle.read(bundle).labels)


def test_conditions_are_listed_and_the_image_is_judged_under_one(browser, tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    premodel = mixture(of="training")
    stream = io.BytesIO()
    Image.fromarray(photo(False, 0)).resize((72, 72)).save(stream, "JPEG")
    picture = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    premodel.training_["examples"] = [[picture], ["https://elsewhere.example/a.jpg"]]
    write_bundle(folder, Bundle.read(tiny_bundle), ByPremodel(NAMES, premodel))
    dark = tmp_path / "dark.png"
    Image.fromarray(photo(True, 0)).save(dark)
    cells = "[...document.querySelectorAll('#conditions tbody tr')].map(r => r.innerText)"
    with served(folder) as server, browser.page(f"http://127.0.0.1:{server.port}/") as page:
        page.wait("!document.querySelector('#conditions-card').hidden")
        bright, darker = (row.split("\t") for row in page.run(cells))
        assert bright[1:5] == ["90%", "–", "–", "–"]
        assert "dark" in darker[0]
        assert page.text("#conditions-before") == "In training"
        for _ in range(12):
            assert ask(server.port, "POST", "/v1/classify", dark.read_bytes())[0] == 200
        page.drop("#drop", dark)
        answered(page)
        assert page.text("#under") == f"Judged as an image that is “{darker[0]}” (99%)."
        page.wait("document.querySelector('#conditions-now.changed') !== null")
        assert page.text("#conditions-now").startswith("Since ")
        assert page.text("#conditions-now").endswith("; training had 10%.")
        assert page.run(cells)[1].split("\t")[1:5] == ["10%", "100%", "100%", "99%"]
        assert page.run("document.querySelector('#conditions .under th').innerText") == darker[0]
        page.wait("document.querySelector('#conditions img').naturalWidth === 72")
        assert page.run("document.querySelectorAll('#conditions img').length") == 1


def test_boxes_are_drawn_over_the_image_and_who_found_them_is_told(browser, tmp_path):
    folder = box_candidates(tmp_path / "candidates")
    policy = Cascade(("small", "large"), thresholds=(0.9,))
    write_bundle(tmp_path / "bundle", Bundle.read(folder), policy)
    Image.new("RGB", (128, 64), (0, 255, 200)).save(tmp_path / "image.png")
    with served(tmp_path / "bundle") as server:
        url = f"http://127.0.0.1:{server.port}/"
        with browser.page(url) as page:
            page.wait(f"!document.body.innerText.includes({SENTENCE!r})")
            page.drop("#drop", tmp_path / "image.png")
            page.wait("document.querySelector('#label').innerText !== ''")
            assert page.text("#label") == "1 green, 1 blue"
            assert page.text("#by").startswith("Found by large, expected to be ")
            assert [page.text(f"#best tbody tr:nth-child({row}) th") for row in (1, 2)] == [
                "green",
                "blue",
            ]
            places = page.run(
                "[...document.querySelectorAll('#boxes span')].map((own) =>"
                " [own.style.left, own.style.top, own.style.width, own.style.height,"
                " own.innerText.trim()])"
            )
            # the padding of the input, half of it, is black: half as sure
            assert places == [
                ["50%", "0%", "50%", "50%", "blue 39%"],
                ["25%", "0%", "50%", "100%", "green 50%"],
            ]
            over, under = page.run(
                "['#boxes', '#picture'].map((name) => {"
                " const own = document.querySelector(name).getBoundingClientRect();"
                " return [own.left, own.top, own.width, own.height].map(Math.round); })"
            )
            assert over == under
            page.click("#compare")
            page.wait("document.querySelector('#compared').innerText.includes('alone says')")
            assert "large alone says 1 green, 1 blue" in page.text("#compared")
        assert not page.complaints
