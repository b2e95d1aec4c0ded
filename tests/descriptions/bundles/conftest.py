"""Fixtures of the bundle tests: places of every kind on this machine, and bundles in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sharing import PLACES, add, enter_environment, place_of, send

from abs_descriptions.bundles.repository import Repository


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Makes an environment that of this process."""
    return partial(enter_environment, monkeypatch)


@pytest.fixture(params=PLACES)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, enter: Callable[[dict[str, str]], None]
) -> Iterator[Repository]:
    """A place of every kind that can be pushed to."""
    with place_of(request.param, tmp_path) as (location, environment):
        enter(environment)
        yield Repository.open(location)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A shared folder with two versions of a bundle."""
    add(tmp_path / "a")
    add(tmp_path / "a", "A newer cat. " + "It goes on." * 300, "1.10.0")
    for version in ("1.0.0", "1.10.0"):
        send(tmp_path / "a", tmp_path / "shared", f"pets@{version}")
    return tmp_path / "shared"
