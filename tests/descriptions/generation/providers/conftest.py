"""A server with the Batch API for the tests of providers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from batch_requests import echo
from servers import BatchServer, serving


@pytest.fixture
def batch_api(no_ambient_key: None) -> Iterator[BatchServer]:
    with serving(BatchServer(execute=echo)) as state:
        yield state
