from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptive.errors import InputError
from adaptive.serving import keys as module
from adaptive.serving.keys import Keys

FIRST, SECOND = "first-key-of-the-camera", "second-key-0123456789"

#: Keys in a file: two encodings, a byte order mark, a space that is not one, and bytes.
UNSENDABLE = (
    "schlüssel-der-kamera".encode(),
    "schlüssel-der-kamera".encode("latin-1"),
    f"\ufeff{FIRST}".encode(),
    f"{FIRST}\u2028{FIRST}".encode(),
    f"{FIRST}\0".encode(),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# the camera\n{FIRST}\n\n")
    return path


@pytest.fixture
def at_once(monkeypatch):
    """The file is looked at for every request."""
    monkeypatch.setattr(module, "INTERVAL_S", -1.0)


@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        (f"Bearer {FIRST}", True),
        (f"bearer  {FIRST} ", True),
        (f"Bearer {FIRST}x", False),
        (f"Bearer {FIRST[:-1]}", False),
        (f"Bearer {SECOND}", False),
        (f"Basic {FIRST}", False),
        (FIRST, False),
        ("Bearer", False),
        ("Bearer # the camera", False),
        ("Bearer \xff\xfe", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_bearer_with_a_key_is_allowed(path, authorization, allowed):
    assert Keys(path).allow(authorization) is allowed


def test_every_key_is_compared_in_constant_time(path, monkeypatch):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    path.write_text(f"{FIRST}\n{SECOND}\n")
    keys = Keys(path)
    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    assert keys.allow(f"Bearer {FIRST}")
    assert not keys.allow("Bearer x")
    assert compared == [(32, 32)] * 4


def test_changed_file_is_read_again(path, at_once, caplog):
    keys = Keys(path)
    path.write_text(f"{FIRST}\n{SECOND}\n")
    assert keys.allow(f"Bearer {SECOND}")
    assert keys.allow(f"Bearer {FIRST}")
    replaced = path.with_name("fresh")
    replaced.write_text(f"{SECOND}\n")
    os.replace(replaced, path)
    assert not keys.allow(f"Bearer {FIRST}")
    assert keys.allow(f"Bearer {SECOND}")
    assert FIRST not in caplog.text
    assert SECOND not in caplog.text


def test_file_is_not_looked_at_for_every_request(path):
    keys = Keys(path)
    path.write_text(f"{SECOND}\n")
    assert keys.allow(f"Bearer {FIRST}")
    assert not keys.allow(f"Bearer {SECOND}")


def test_file_that_is_gone_or_damaged_leaves_the_last_keys(path, at_once, caplog):
    keys = Keys(path)
    path.unlink()
    assert keys.allow(f"Bearer {FIRST}")
    path.write_text("short\n")
    assert keys.allow(f"Bearer {FIRST}")
    assert keys.allow(f"Bearer {FIRST}")
    assert caplog.text.count("the last ones stay") == 2  # once for each problem
    assert "keys: No such file or directory" in caplog.text
    assert "Errno" not in caplog.text
    path.write_text(f"{SECOND}\n")
    assert keys.allow(f"Bearer {SECOND}")


@pytest.mark.parametrize("odd", UNSENDABLE)
def test_key_that_no_request_can_carry_is_refused(path, at_once, caplog, odd):
    keys = Keys(path)
    path.write_bytes(b"# f\xc3\xbcr die Kamera\n" + SECOND.encode() + b"\n" + odd + b"\n")
    assert keys.allow(f"Bearer {FIRST}")
    assert not keys.allow(f"Bearer {SECOND}")
    with pytest.raises(InputError, match=r"line 3 of .*keys holds a key that no request") as error:
        Keys(path)
    assert caplog.text.count(f"the last ones stay: {error.value}") == 1


def test_comments_may_have_any_characters(path):
    path.write_bytes(b"# f\xc3\xbcr \xff\n  " + FIRST.encode() + b"\r\n")
    assert Keys(path).allow(f"Bearer {FIRST}")


def test_file_that_was_emptied_lets_nobody_in(path, at_once):
    keys = Keys(path)
    path.write_text("# all taken back\n")
    assert not keys.allow(f"Bearer {FIRST}")
    assert not keys.allow("Bearer ")
    assert not keys.allow(None)


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", None])
def test_file_without_usable_keys_is_refused_at_the_start(path, text):
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError):
        Keys(path)
