"""Standard error as JSON lines, in processes of their own, since it is the process's."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

HANG_S = 30

BEGIN = (
    "import ctypes, os, sys, threading, warnings\n"
    "from adaptive.serving.logs import Lines, line\n"
    "from adaptive.serving.stderr import as_json\n"
    "lines = Lines()\n"
)


def said(program: str, *options: str, **more: Any) -> tuple[int, list[str]]:
    """Exit code and what a program writes to standard error."""
    done = subprocess.run(
        [sys.executable, *options, "-c", BEGIN + program],
        stderr=subprocess.PIPE,
        text=True,
        timeout=HANG_S,
        **more,
    )
    return done.returncode, done.stderr.splitlines()


def test_what_others_write_becomes_json_lines_and_afterwards_no_more() -> None:
    code, errors = said(
        "with as_json(lines):\n"
        "    lines.add(line({'status': 200}))\n"
        "    os.write(2, b'from C\\n')\n"
        "    os.write(2, b'\\x1b[1;31mred\\x1b[m\\n\\n  \\n')\n"
        "    print('printed', file=sys.stderr)\n"
        "    warnings.warn('odd\\ntag')\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start(); thread.join()\n"
        "    os.write(2, b'\\xff, with no end')\n"
        "lines.close()\n"
        "print('as before', file=sys.stderr)\n"
    )
    assert code == 0
    assert errors.pop() == "as before"
    found = [json.loads(text) for text in errors]
    assert {"status": 200, "time": found[0]["time"]} in found
    messages = [entry["message"] for entry in found if entry.get("logger") == "stderr"]
    assert messages[:3] == ["from C", "red", "printed"]
    assert "ZeroDivisionError: division by zero" in messages
    assert messages[-1] == "\ufffd, with no end"
    (warning,) = (entry for entry in found if entry.get("logger") == "py.warnings")
    assert "UserWarning: odd\ntag" in warning["message"]


def test_a_process_that_dies_says_where_and_what_was_said_before() -> None:
    code, errors = said(
        "with as_json(lines):\n"
        "    os.write(2, b'what is wrong\\n')\n"
        "    threading.Event().wait(0.5)\n"
        "    os.abort()\n"
    )
    assert code < 0
    assert json.loads(errors[0])["message"] == "what is wrong"
    assert "Fatal Python error: Aborted" in errors


def test_nobody_waits_for_what_is_not_read() -> None:
    """A runtime that holds the interpreter's lock writes more than there is room for."""
    code, errors = said(
        "libc = ctypes.PyDLL(None)\n"
        "with as_json(lines):\n"
        "    for _ in range(50):\n"
        "        libc.write(2, b'x' * 99_999 + b'\\n', 100_000)\n"
        "lines.close()\n"
    )
    assert code == 0
    assert 10 <= len(errors) <= 100
    assert {set(json.loads(text)["message"]) == {"x"} for text in errors} == {True}


def test_a_child_that_keeps_the_pipe_does_not_keep_the_process() -> None:
    code, errors = said(
        "import subprocess\n"
        "with as_json(lines):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "    os.write(2, b'said\\n')\n"
        "lines.close()\n"
        "child.communicate(b'\\n')\n"
    )
    assert code == 0
    assert [json.loads(text)["message"] for text in errors] == ["said"]


def test_without_standard_error_nothing_is_said_and_nothing_fails() -> None:
    code, errors = said("os.close(2)\nwith as_json(Lines()):\n    lines.add('1')\nlines.close()\n")
    assert (code, errors) == (0, ["1"])


def test_fault_handler_is_as_before() -> None:
    program = (
        "import faulthandler\nwith as_json(lines):\n    pass\nassert {}faulthandler.is_enabled()"
    )
    assert said(program.format("not ")) == (0, [])
    assert said(program.format(""), "-X", "faulthandler") == (0, [])
