"""Fixtures of the tests of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def seven(image_folder: Callable[..., Path]) -> Path:
    """Seven images of seven classes, so that top-5 says something."""
    return image_folder("seven", **dict.fromkeys(("ant", "bee", "cat", "dog", "eel", "fox", "gnu"), 1))
