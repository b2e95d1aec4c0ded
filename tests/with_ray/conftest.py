"""Leaves these tests out of the suite: `make test-ray` runs them, for some minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where it was not asked for, and say so."""
    if os.environ.get("ABS_TEST_RAY"):
        return
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason="many faults of Ray were NOT tested; `make test-ray` does"))
