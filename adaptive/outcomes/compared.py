"""Whether two outcome tables, and a reference, speak of one and the same quality."""

from __future__ import annotations

from adaptive.errors import InputError
from adaptive.outcomes.quality import quality_words
from adaptive.outcomes.table import OutcomeTable


def check_compared(tune: OutcomeTable, calibration: OutcomeTable, reference: str) -> None:
    """Raise InputError unless what is promised of one table can be found out on the other.

    Their qualities must be the same, and agreement must be that with the reference.
    """
    words = [quality_words(table.quality_name) for table in (tune, calibration)]
    if words[0] != words[1]:
        raise InputError(
            f"the table that tunes holds {words[0]}, and the one that calibrates {words[1]}; both "
            "must hold the same quality"
        )
    for table in (tune, calibration):
        if table.agrees_with not in (None, reference):
            raise InputError(
                f"the outcome table holds agreement with {table.agrees_with!r}, which tells "
                f"nothing of a drop below {reference!r}; leave --reference out"
            )
