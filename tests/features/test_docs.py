from __future__ import annotations

from pathlib import Path

import pytest

from adaptive.features.catalogue import Feature
from adaptive.features.schema import SCHEMA

DOCS = Path(__file__).parents[2] / "docs" / "features.md"


@pytest.mark.parametrize("feature", SCHEMA.features, ids=SCHEMA.names)
def test_docs_table_says_what_the_schema_says(feature: Feature) -> None:
    row = (
        f"| `{feature.name}` | {feature.unit} | {feature.low:g} to {feature.high:g} "
        f"| {feature.formula} | {feature.undefined} | {feature.source} |"
    )
    assert row in DOCS.read_text(encoding="utf-8").splitlines()
