"""The documentation as a built site: `make test-site` builds it and runs these tests; others skip them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The folder that MkDocs wrote.
_SITE = os.environ.get("SITE", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where no site was built, and say so."""
    if _SITE:
        return
    why = "the site was NOT tested; `make test-site` builds it with an environment of its own"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def site() -> Path:
    return Path(_SITE)
