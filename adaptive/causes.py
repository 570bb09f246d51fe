"""Why another library failed, as one short line of its error."""

from __future__ import annotations

import re

#: Characters that are kept of a reason; of a longer one the middle goes, since what was wrong
#: stands at the beginning or at the end.
MOST = 300

#: The place in the library's own source that many errors from C++ begin with.
_PLACE = re.compile(r"\S+\.(?:cc|cpp|cxx|cu|cuh|h|hpp):\d+:? ")

#: What stands before the parameters of a function in C++; one without a namespace is left, since
#: it may as well be what is said.
_NAME = re.compile(
    r"(?:[\w:<>~,&*=\s-]|\{anonymous\}|\(anonymous namespace\))*::[\w:<>~,&*={}\s-]*(?<!\s)(?=\()"
)

#: The parameters behind `operator()`.
_OPERATOR = re.compile(r"(?=\()")

#: What may follow them.
_AFTER = re.compile(r"\s*(?:const|noexcept|mutable|override)\b")


def reason(error: BaseException, skip: re.Pattern[str] | None = None, most: int = MOST) -> str:
    """The first line of an error, without signatures of C++ and no longer than `most`.

    skip : what is left out where a line begins with it
    """
    lines = str(error).strip().splitlines() or [""]
    begin = None if skip is None else skip.match(lines[0])
    text = without_signatures(lines[0] if begin is None else lines[0][begin.end() :])
    text = text.strip() or type(error).__name__
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def without_signatures(text: str) -> str:
    """A line without source files of C++ and the signatures behind them."""
    kept = ""
    while True:
        place = _PLACE.search(text)
        if place is None:
            return kept + text
        kept += text[: place.start()]
        text = text[_end_of_signature(text, place.end()) :].lstrip()


def _end_of_signature(text: str, begin: int) -> int:
    """Where the signature ends that begins there; `begin` where none does."""
    end = begin
    name = _NAME.match(text, begin)
    while name is not None:
        closing = _closing(text, name.end())
        if closing is None:
            return end
        end = closing
        name = _OPERATOR.match(text, end)
    after = _AFTER.match(text, end) if end > begin else None
    end = end if after is None else after.end()
    if end > begin and text[end:].lstrip().startswith("[with "):  # of a template
        closing = _closing(text, text.index("[with ", end))
        end = end if closing is None else closing
    return end


def _closing(text: str, begin: int) -> int | None:
    """Where the bracket that opens at `begin` is closed again; None where it is not."""
    depth = 0
    for place in range(begin, len(text)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return None
