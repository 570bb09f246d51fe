from __future__ import annotations

import json
import logging
import os
import threading

import pytest

from adaptive.errors import InputError
from adaptive.serving import logs
from adaptive.serving.logs import JsonLines, Lines, line
from adaptive.serving.record import Record, begin, end


def test_lines_of_several_threads_are_whole_and_none_is_lost(tmp_path):
    path = tmp_path / "requests.jsonl"
    lines = Lines(path)

    def write(number: int) -> None:
        for turn in range(200):
            lines.add(line({"number": number, "turn": turn}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()
    found = [json.loads(text) for text in path.read_text().splitlines()]
    assert len({(entry["number"], entry["turn"]) for entry in found}) == 1200
    assert lines.lost == 0


def test_line_begins_with_the_time_of_day():
    assert line({"a": 1}, 1_700_000_000.5) == '{"time":"2023-11-14T22:13:20.500Z","a":1}'


def test_lines_come_without_being_asked(tmp_path):
    path = tmp_path / "requests.jsonl"
    lines = Lines(path)
    lines.add("{}")
    pause = threading.Event()
    for _ in range(300):
        if path.read_text():
            break
        pause.wait(0.1)
    assert path.read_text() == "{}\n"
    lines.close()


def test_rotated_file_is_opened_anew(tmp_path):
    path = tmp_path / "requests.jsonl"
    lines = Lines(path)
    lines.add("1")
    lines.flush()
    os.replace(path, tmp_path / "requests.jsonl.1")
    lines.add("2")
    lines.reopen()
    lines.add("3")
    lines.close()
    assert (tmp_path / "requests.jsonl.1").read_text() == "1\n2\n"
    assert path.read_text() == "3\n"


def test_what_nobody_reads_is_counted_as_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MOST", 3)
    monkeypatch.setattr(logs, "INTERVAL_S", 30.0)
    lines = Lines(tmp_path / "requests.jsonl")
    for number in range(5):
        lines.add(str(number))
    assert lines.lost == 2


def test_full_disk_does_not_stop_anything():
    lines = Lines()
    lines._file = os.open("/dev/full", os.O_WRONLY)
    lines.add("{}")
    lines.flush()
    assert lines.lost == 1
    os.close(lines._file)


def test_file_that_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        Lines(tmp_path / "none" / "requests.jsonl")


def test_log_records_carry_the_request_that_they_belong_to(tmp_path):
    path = tmp_path / "requests.jsonl"
    lines = Lines(path)
    log = logging.getLogger("adaptive.test_logs")
    handler = JsonLines(lines)
    log.addHandler(handler)
    log.propagate = False
    try:
        log.warning("outside of %s", "all requests")
        begin(Record(0.0, "abc", None))
        try:
            raise ValueError("a\nb")
        except ValueError:
            log.exception("it failed")
        finally:
            end()
    finally:
        log.removeHandler(handler)
        lines.close()
    first, second = (json.loads(text) for text in path.read_text().splitlines())
    assert first["message"] == "outside of all requests"
    assert first["level"] == "warning"
    assert "request" not in first
    assert second["request"] == "abc"
    assert "ValueError" in second["traceback"]
