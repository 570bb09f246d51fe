"""What several tests of the server start from; those that need something else say so themselves."""

from __future__ import annotations

import pytest
from served import whole_bundle

from adaptive.serving.service import Service


@pytest.fixture(scope="module")
def bundle(tiny_candidates, tmp_path_factory):
    """A bundle that holds every tiny candidate; two of them are in its policy."""
    return whole_bundle(tiny_candidates, tmp_path_factory.mktemp("bundles") / "whole")


@pytest.fixture(scope="module")
def service(bundle):
    """A service of that bundle, ready."""
    with Service(bundle) as service:
        service.ready.problem = None
        yield service
