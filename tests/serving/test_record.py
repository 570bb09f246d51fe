from __future__ import annotations

import re
import threading

import pytest

from adaptive.serving import record as module
from adaptive.serving.record import Record

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_client_names_its_request():
    assert Record(0.0, "camera-3/118", None).id == "camera-3/118"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, 'a"b', "a\x7f", "\xe4"])
def test_other_names_are_replaced(given):
    first, second = Record(0.0, given, None).id, Record(0.0, given, None).id
    assert re.fullmatch(r"[0-9a-f]{10}-\d+", first)
    assert first != second


def test_trace_is_passed_on_with_a_span_of_our_own():
    record = Record(0.0, None, f"00-{TRACE}-{PARENT}-01")
    assert (record.trace, record.parent, record.flags) == (TRACE, PARENT, "01")
    found = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", record.traceparent)
    assert found
    assert found[1] not in (PARENT, "0" * 16)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
    ],
)
def test_what_is_no_trace_is_left_out(given):
    record = Record(0.0, None, given)
    assert record.trace is None
    assert record.traceparent is None


def test_later_version_with_more_to_say_is_understood():
    record = Record(0.0, None, f"01-{TRACE}-{PARENT}-00-what-comes-later")
    assert record.traceparent.startswith(f"00-{TRACE}-")


def test_each_thread_has_its_own_request():
    seen = []

    def work(name: str) -> None:
        assert module.current() is None
        module.begin(Record(0.0, name, None))
        barrier.wait(30)
        seen.append((name, module.current().id))
        module.end()
        assert module.current() is None

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(seen) == [(f"r{n}", f"r{n}") for n in range(4)]
