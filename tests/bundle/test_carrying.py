"""A bundle on its way through a store, here a folder that fsspec reaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("fsspec", reason="the extra fleet is not installed")

from adaptive.bundle.bundle import MANIFEST, Bundle
from adaptive.bundle.carrying import pull, push
from adaptive.errors import BundleError, InputError
from adaptive.files import sha256


@pytest.fixture
def place(tiny_bundle: Path, tmp_path: Path) -> str:
    url = (tmp_path / "store" / "plants").as_uri()
    assert push(tiny_bundle, url) == sha256(tiny_bundle / MANIFEST)
    return url


def test_bundle_arrives_as_it_was(tiny_bundle: Path, place: str, tmp_path: Path) -> None:
    got = pull(place, tmp_path / "got", sha256(tiny_bundle / MANIFEST))
    files = {p.relative_to(tiny_bundle): p.read_bytes() for p in tiny_bundle.rglob("*.*")}
    assert files == {p.relative_to(got.folder): p.read_bytes() for p in got.folder.rglob("*.*")}
    assert got.policy == Bundle.read(tiny_bundle).policy


def test_other_bundle_than_is_meant_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="another bundle than is meant"):
        pull(place, tmp_path / "got", "0" * 64)
    assert not (tmp_path / "got").exists()


def test_altered_file_leaves_nothing_behind(place: str, tmp_path: Path) -> None:
    file = tmp_path / "store" / "plants" / "labels.txt"
    file.write_text("red\ngreen\nblue\n")
    with pytest.raises(BundleError, match="altered"):
        pull(place, tmp_path / "got")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_lost_file_keeps_the_bundle_that_is_there(place: str, tmp_path: Path) -> None:
    pull(place, tmp_path / "got")
    before = sha256(tmp_path / "got" / MANIFEST)
    (tmp_path / "store" / "plants" / "policy.json").unlink()
    with pytest.raises(InputError, match=r"has no 'policy\.json'"):
        pull(place, tmp_path / "got", force=True)
    assert sha256(tmp_path / "got" / MANIFEST) == before
    with pytest.raises(InputError, match="--force"):
        pull(place, tmp_path / "got")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", "a\\b"])
def test_name_that_leaves_the_folder_is_refused(place: str, tmp_path: Path, name: str) -> None:
    manifest = tmp_path / "store" / "plants" / MANIFEST
    value = json.loads(manifest.read_text())
    value["candidates"][0]["file"] = name
    manifest.write_text(json.dumps(value))
    with pytest.raises(BundleError, match="leaves its folder"):
        pull(place, tmp_path / "got")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"candidates": 3}'])
def test_manifest_of_no_bundle_is_refused(place: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "store" / "plants" / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match="none of a bundle"):
        pull(place, tmp_path / "got")


def test_place_that_nobody_reaches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        pull("carrier-pigeon://loft", tmp_path / "got")
    with pytest.raises(InputError, match=r"has no 'manifest\.json'"):
        pull((tmp_path / "nowhere").as_uri(), tmp_path / "got")
